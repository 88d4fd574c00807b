//! Catching up: a member that missed more than one page, or whose room moved on while it was read to, gets the rest
//! from the history as ordinary events, in order, and then goes live without a seam.

use std::sync::Arc;
use std::time::Duration;

use hallway_rooms::close::Close;
use hallway_rooms::entry::Entry;
use hallway_rooms::envelope::Envelope;
use hallway_rooms::history::From;
use hallway_rooms::key::Room;
use hallway_rooms::limits::PAGE_EVENTS;
use hallway_rooms::offset::Offset;

use super::{Service, page};
use crate::hub::LocalRoom;
use crate::session::{Membership, Session, Standing};

/// Between two looks at a peer that lags, or at a broker that does not answer.
const PAUSE: Duration = Duration::from_millis(20);

impl Service {
    pub(super) fn spawn_catch_up(
        &self,
        session: Arc<Session>,
        local: Arc<LocalRoom>,
        membership: Arc<Membership>,
        from: Offset,
    ) {
        let service = self.clone();
        let task = async move { service.catch_up(&session, &local, &membership, from).await };
        self.0.tasks.spawn(task);
    }

    async fn catch_up(&self, session: &Session, local: &LocalRoom, membership: &Membership, from: Offset) {
        let mut cursor = from;
        while is_behind(membership) && !session.is_finished() {
            let turn = session.reading().await;
            self.room_for_more(session).await;
            if session.is_finished() {
                return;
            }
            let read = self.0.broker.history(local.room(), From::After(cursor), PAGE_EVENTS).await;
            let Ok(mut history) = read else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            if !history.complete {
                if is_behind(membership) {
                    session.close(Close::HistoryLost);
                }
                return;
            }
            page::cut(&mut history, self.0.limits.page_bytes);
            for entry in &history.entries {
                self.room_for_more(session).await;
                send(session, membership, local.room(), entry);
            }
            cursor = history.offset(local.room()).max(cursor);
            membership.set(Standing::CatchingUp(cursor));
            if !history.has_more && go_live(local, membership, cursor) {
                return;
            }
            drop(turn);
            if history.entries.is_empty() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Waits until little waits for a peer, so that what is read for it does not drive it over its bound.
    pub(super) async fn room_for_more(&self, session: &Session) {
        while session.lane().wire().is_crowded() && !session.is_finished() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn is_behind(membership: &Membership) -> bool {
    matches!(membership.standing(), Standing::CatchingUp(_))
}

fn go_live(local: &LocalRoom, membership: &Membership, cursor: Offset) -> bool {
    let seated = local.hold();
    let level = seated.at().is_none_or(|at| at <= cursor);
    if level {
        membership.set(Standing::Live(cursor));
    }
    level
}

fn send(session: &Session, membership: &Membership, room: &Room, entry: &Entry) {
    let Some(at) = entry.places.iter().position(|p| p.room == *room) else { return };
    let (Some(link), Ok(envelope)) = (entry.places[at].link, Envelope::of(entry)) else { return };
    let alone = entry.places.len() + entry.earlier.len() == 1;
    session.lane().push_if(|| {
        let first = is_behind(membership) && (alone || session.first_copy(entry, 1 << at));
        membership.set(Standing::CatchingUp(link.offset));
        first.then(|| session.dialect().frame(&envelope, &[&entry.places[at]]))
    });
}
