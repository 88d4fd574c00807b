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

use super::current::Current;
use super::{Service, page};
use crate::hub::{LocalRoom, Watch};
use crate::session::{Membership, Session, Standing};

/// A member that is behind.
#[derive(Debug)]
pub(super) struct CatchUp {
    /// Over its room since before the first read.
    pub(super) watch: Watch,
    /// Its standing.
    pub(super) membership: Arc<Membership>,
    /// What it has.
    pub(super) from: Offset,
    /// What is to follow the history.
    pub(super) current: Current,
}

/// Between two looks at a peer that lags, or at a broker that does not answer.
const PAUSE: Duration = Duration::from_millis(20);

impl Service {
    pub(super) fn spawn_catch_up(&self, session: Arc<Session>, task: CatchUp) {
        let service = self.clone();
        self.0.tasks.spawn(async move { service.catch_up(&session, task).await });
    }

    async fn catch_up(&self, session: &Session, task: CatchUp) {
        let CatchUp { watch, membership, from: mut cursor, mut current } = task;
        let (local, membership) = (watch.room(), membership.as_ref());
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
            if !history.has_more {
                current.send(session);
                if go_live(session, local, membership, cursor, &mut current) {
                    return;
                }
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

/// Goes over to live events if nothing is missing, behind the newest of what came meanwhile.
fn go_live(
    session: &Session,
    local: &LocalRoom,
    membership: &Membership,
    cursor: Offset,
    current: &mut Current,
) -> bool {
    let seated = local.hold();
    let level = seated.at().is_none_or(|at| at <= cursor);
    if level && is_behind(membership) {
        current.update(&seated.came(), local.room());
        current.send(session);
        membership.set_ahead(current.stamps().filter(|stamp| seated.is_to_come(*stamp)));
        membership.set(Standing::Live(cursor));
    }
    level
}

fn send(session: &Session, membership: &Membership, room: &Room, entry: &Entry) {
    let Some(at) = entry.places.iter().position(|p| p.room == *room) else { return };
    let (Some(link), Ok(envelope)) = (entry.places[at].link(), Envelope::of(entry)) else { return };
    let alone = entry.places.len() + entry.earlier.len() == 1;
    session.lane().push_if(|| {
        let first = is_behind(membership) && (alone || session.first_copy(entry, 1 << at));
        membership.set(Standing::CatchingUp(link.offset));
        first.then(|| session.dialect().frame(&envelope, &[&entry.places[at]]))
    });
}
