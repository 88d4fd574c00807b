//! Reading the rooms of one command: each is subscribed first and read second, and the histories are merged.

use std::sync::Arc;

use futures_util::future::join_all;
use hallway_rooms::entry::Entry;
use hallway_rooms::history::Start;
use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;
use tokio::time::Instant;

use super::members::{JoinAttempt, JoinedAs, Joining, RoomMembership};
use super::{Admitted, JudgedCommand};
use crate::broker::{Resumed, Unavailable};
use crate::hub::LatestWatch;
use crate::service::current::CurrentEvents;
use crate::service::page;
use crate::service::reader::{AT_ONCE, MergedReader, ReadShare};
use crate::service::row::EventRow;
use crate::service::wait_budget::step_until;
use crate::service::{PendingReply, Service};
use crate::session::Session;

/// Reads of rooms that keep moving on, before the member is added as one that is behind, and of rooms whose histories are
/// trimmed meanwhile, before the answer says so.
const READS: u32 = 4;

/// The result of reading one room.
struct RoomView {
    watch: LatestWatch,
    seen: ViewKind,
}

enum ViewKind {
    /// The session is a member already and asks for no history.
    Kept,
    /// The head of a room joined without a start.
    Head(Offset),
    /// The missed events, and the `latest` ones.
    Missed(Resumed, Vec<Entry>),
}

impl Service {
    /// Reads the rooms, then adds the session to all of them with its answer.
    ///
    /// # Errors
    /// The rooms that could not be read. The session has joined none of the rooms then.
    pub(super) async fn read_and_enter_all(
        &self,
        session: &Arc<Session>,
        asked: &JudgedCommand,
        answer: &mut PendingReply,
    ) -> Result<(), Vec<Room>> {
        let mut torn_reads = 0;
        while !session.is_finished() {
            let views = self.view_all(session, asked).await?;
            let mut joining = Box::new(self.begin_joining(&asked.admitted, views, answer.is_wanted()));
            let mut reads = 0;
            loop {
                // Without an answer there is no page to fill: everything missed is sent by the catch-up.
                if answer.is_wanted() {
                    let read = self.read_row(&mut joining.reader, &mut joining.row, asked.until).await;
                    let torn = read.map_err(|_| asked.rooms())?;
                    // A history was trimmed between two reads. What the answer told before the hole would be had without
                    // being recorded, and might come again by another room: all is read anew, from what is left on.
                    if !torn.is_empty() && torn_reads < READS {
                        torn_reads += 1;
                        break;
                    }
                    joining.torn.extend(torn);
                }
                joining.may_wait = reads < READS;
                joining = match self.enter_all(session, joining, &asked.verdicts, answer) {
                    JoinAttempt::Seated => return Ok(()),
                    JoinAttempt::Moved(again) => again,
                    // A room was closed between the read and the lock: everything is opened and read again.
                    JoinAttempt::Gone => break,
                };
                reads += 1;
            }
        }
        Ok(())
    }

    async fn view_all(&self, session: &Session, asked: &JudgedCommand) -> Result<Vec<RoomView>, Vec<Room>> {
        // Only rooms with a history share the page's bytes.
        let missed = asked.admitted.iter().filter(|one| one.from.is_some()).count();
        let share = ReadShare::for_rooms(missed, self.0.limits.page_bytes);
        let (mut views, mut failed) = (Vec::with_capacity(asked.admitted.len()), Vec::new());
        for some in asked.admitted.chunks(AT_ONCE) {
            // Each batch has the minimum step time: a broker that answers the first ones slowly is alive.
            let looked = some.iter().map(|one| step_until(asked.until, self.view_room(session, one, share)));
            for (one, view) in some.iter().zip(join_all(looked).await) {
                match view {
                    Ok(view) => views.push(view),
                    Err(Unavailable(_)) => failed.push(one.room.clone()),
                }
            }
            // It is the broker and not these rooms: the others would have to be waited for in vain, one after the other.
            if !failed.is_empty() && (views.is_empty() || Instant::now() >= asked.until) {
                return Err(asked.rooms());
            }
        }
        if failed.is_empty() { Ok(views) } else { Err(failed) }
    }

    async fn view_room(&self, session: &Session, one: &Admitted, share: ReadShare) -> Result<RoomView, Unavailable> {
        let watch = LatestWatch::for_room(&self.0.hubs.of_session(session).open_room(&one.room).await?);
        // Others' member counts ride along with each read and never fail the join.
        let others = self.members_elsewhere(&one.room);
        let seen = match one.from {
            Some(from) => {
                let reads = async {
                    tokio::try_join!(self.read_share(&one.room, from, share), self.0.broker.latest(&one.room))
                };
                let (read, _) = tokio::join!(reads, others);
                let (history, latest) = read?;
                ViewKind::Missed(history, latest)
            }
            None if session.membership_in(&one.room).is_some() => {
                others.await;
                ViewKind::Kept
            }
            None => {
                let (facts, _) = tokio::join!(self.0.broker.facts_of(&one.room), others);
                ViewKind::Head(facts?.head())
            }
        };
        Ok(RoomView { watch, seen })
    }

    fn begin_joining(&self, admitted: &[Admitted], views: Vec<RoomView>, sent: bool) -> Joining {
        let share = ReadShare::for_rooms(views.len(), self.0.limits.page_bytes);
        let (mut reader, mut current, mut parts) = (MergedReader::new(share), CurrentEvents::default(), Vec::new());
        for (one, view) in admitted.iter().zip(views) {
            let stand = match view.seen {
                ViewKind::Kept => JoinedAs::Kept,
                // A room with a history goes through the merge, so that events shared with other rooms are delivered
                // once.
                ViewKind::Head(head) if self.0.classes.class_of(&one.room).has_history() => {
                    JoinedAs::New { number: reader.add_at(one.room.clone(), head), since: head }
                }
                ViewKind::Head(head) => JoinedAs::Plain(head),
                ViewKind::Missed(history, latest) => {
                    current.update_from(&latest, &one.room);
                    come_back(&mut reader, one, history, sent)
                }
            };
            parts.push(RoomMembership { watch: view.watch, stand });
        }
        let row = EventRow::new(current, self.0.limits.page_bytes);
        Joining { parts, reader, row, torn: Vec::new(), may_wait: true }
    }
}

/// Adds the missed events of a room to the reader. Without an answer all of them are sent as event frames, and an
/// incomplete history is left out, since its gap could not be reported.
fn come_back(reader: &mut MergedReader, one: &Admitted, history: Resumed, sent: bool) -> JoinedAs {
    let complete = history.complete;
    let asked = one.from.map(Start::exclusive_offset).unwrap_or_default();
    // The history goes into the reply, so the page that was read is the first part of the merge.
    if sent {
        let since = page::complete_since(&history, &one.room, Start::After(asked));
        return JoinedAs::Back { number: reader.add_read(one.room.clone(), asked, history), since, complete };
    }
    // A timestamp is not an offset, so reading on behind it is impossible: a client that missed nothing starts at the
    // head.
    if complete && history.entries.is_empty() && !history.has_more {
        let number = reader.add_at(one.room.clone(), history.facts.head());
        return JoinedAs::Back { number, since: asked, complete };
    }
    // Read anew by the catch-up, from the requested start or, after a gap, from the end of what is there.
    let since = if complete { asked } else { history.reader_offset(&one.room) };
    JoinedAs::Back { number: reader.add(one.room.clone(), since), since, complete }
}
