//! Joining several rooms in one act: their missed events come in one order, and their live events after them.
//!
//! **What could go wrong.** A missed event of rooms A and B is in both histories. Read one after the other, they
//! deliver it twice, and out of order against the events of one of them. And while a client catches up in A, a live
//! event of both rooms would come by B, before older events of A.
//!
//! **Why it does not.** Every room is subscribed before it is read, so an event stored after the read reaches the
//! hub. The histories are merged (`rooms/src/merge.rs`). At any moment the delivered offsets are a cut through all
//! rooms: an event that is pending in two of them is on one side of the cut in both. Then the locks of all rooms are
//! taken, in the order of their keys. The hub moves a room's position under its lock, and passes the event on to the
//! room's members after that. With all locks held there are two cases:
//!
//! - *No position is newer than the delivered offset of its room.* An event that was delivered is delivered in all of
//!   these rooms. If the hub comes to it only now, it is older than the member's offset in each of them. An event that
//!   was not delivered is newer than the offset in each of them, and so newer than every position: the hub has moved
//!   none of these rooms to it, and finds the member in all of them when it does, which gives one frame with all
//!   offsets. So the member goes live in all rooms at once, and the reply is queued before the locks are released.
//! - *A position is newer.* The events in between were passed on to other members, and are in the history. They are
//!   read, and the locks are taken again. In busy rooms, or when the page is full, the member is added as one that
//!   catches up, in all rooms of the command, and goes live in one act by the same two cases (`catch_up.rs`).
//!
//! A room that is joined without a start has no past: where its position is newer, the member begins there. A room
//! that the member is in already keeps its membership if no history is requested. An event of it that was delivered
//! here does not come again, because the member remembers from which offset on these rooms were delivered to it.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use hallway_rooms::close::{Close, Refusal};
use hallway_rooms::history::Start;
use hallway_rooms::key::Room;
use metrics::counter;
use tokio::time::Instant;

use super::reader::AT_ONCE;
use super::{PendingReply, Service, reply};
use crate::metrics::limit::Limit;
use crate::session::Session;

mod members;
mod view;

/// Attempts at rooms of which some can be read and others cannot. After that the unreadable ones are refused: the
/// fault is theirs and not the broker's.
const LOOKS: u32 = 4;

/// One room of a join command.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedRoom {
    /// The key, as the client wrote it.
    pub room: String,
    /// Where to begin, or the refusal of a `from` that cannot be parsed.
    pub from: Result<Option<Start>, Refusal>,
}

/// A room that may be joined, with where to begin.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    pub(super) room: Room,
    pub(super) from: Option<Start>,
}

/// The outcome per room of the command, under the name that the client used.
type RoomVerdicts = Vec<(String, Result<Room, Refusal>)>;

/// A command whose rooms have been checked.
#[derive(Debug)]
struct JudgedCommand {
    /// In the order of their keys, the lock order.
    admitted: Vec<Admitted>,
    /// In the order of the command, in which the answer lists them.
    verdicts: RoomVerdicts,
    /// End of the wait budget for the broker.
    until: Instant,
}

impl Service {
    /// Makes a session a member of several rooms in one act, with the missed events of all of them. A refused room is
    /// reported and does not keep the session out of the others. Without an answer it behaves as
    /// [`join_room`](Self::join_room).
    pub async fn join_rooms(&self, session: &Arc<Session>, wanted: Vec<WantedRoom>, mut answer: PendingReply) {
        // Refused as a whole before any work: the list is the client's, and each entry costs a policy check.
        if wanted.len() > self.0.limits.rooms_per_socket {
            Limit::RoomsPerSocket.note_reached();
            return refuse_join(session, &mut answer, Refusal::TooManyRooms);
        }
        let (verdicts, admitted) = self.judge_all(session, wanted, &answer).await;
        let mut turn = None;
        // Only histories are subject to the fair queue; a join at the heads costs next to nothing.
        if admitted.iter().any(|one| one.from.is_some()) {
            self.room_for_more(session).await;
            turn = self.turn_to_answer(session, &answer).await;
        }
        // A room without `from` keeps its membership, so it goes on delivering during the reads.
        let again = admitted.iter().filter(|one| one.from.is_some());
        let paused = self.pause_rooms(session, again.map(|one| &one.room));
        let asked = JudgedCommand { admitted, verdicts, until: self.join_deadline(&answer) };
        let joined = self.join_admitted(session, asked, &mut answer).await;
        self.end_turn(session, turn);
        self.resume_paused(session, paused);
        let (Err(refusal), false) = (joined, session.is_finished()) else { return };
        if !answer.is_wanted() {
            // The client has no ack callback and would believe that it is a member.
            counter!(crate::metrics::JOINS_REFUSED, "reason" => refusal.code()).increment(1);
            return session.close_transport(Close::JoinUnavailable);
        }
        refuse_join(session, &mut answer, refusal);
    }

    async fn join_admitted(
        &self,
        session: &Arc<Session>,
        mut asked: JudgedCommand,
        answer: &mut PendingReply,
    ) -> Result<(), Refusal> {
        let mut views = 0;
        loop {
            let Err(failed) = self.read_and_enter_all(session, &asked, answer).await else { return Ok(()) };
            // All rooms failing points at the broker, which is waited for. A join without an answer waits in any
            // case: a refusal cannot be reported.
            let is_partial = failed.len() < asked.admitted.len() && answer.is_wanted();
            views += u32::from(is_partial);
            if is_partial && views >= LOOKS {
                asked.give_up(&failed);
            } else if !self.tries_again(session, asked.until, Some(Refusal::Unavailable)).await {
                return Err(Refusal::Unavailable);
            }
        }
    }

    /// Checks every room of a command by itself. A room that is named twice is joined once, from the earlier start.
    async fn judge_all(
        &self,
        session: &Session,
        wanted: Vec<WantedRoom>,
        answer: &PendingReply,
    ) -> (RoomVerdicts, Vec<Admitted>) {
        let mut verdicts: RoomVerdicts = Vec::with_capacity(wanted.len());
        // In batches, so that one command with many rooms does not flood the authorizer.
        for some in wanted.chunks(AT_ONCE) {
            let judged = join_all(some.iter().map(|one| self.judge_one(session, one, answer))).await;
            verdicts.extend(some.iter().map(|one| one.room.clone()).zip(judged));
        }
        let mut admitted: Vec<Admitted> = Vec::new();
        // Counted from the rooms that the session has: joining those again takes no further slot.
        let mut rooms: HashSet<Room> = session.with_rooms(|rooms| rooms.keys().cloned().collect());
        for ((_, verdict), one) in verdicts.iter_mut().zip(&wanted) {
            let (Ok(room), Ok(from)) = (&*verdict, one.from) else { continue };
            // A repetition: one membership, with the longer of the two histories.
            if let Some(known) = admitted.iter_mut().find(|known| known.room == *room) {
                known.from = earlier_start(known.from, from);
            } else if rooms.contains(room) || rooms.len() < self.0.limits.rooms_per_socket {
                rooms.insert(room.clone());
                admitted.push(Admitted { room: room.clone(), from });
            } else {
                Limit::RoomsPerSocket.note_reached();
                *verdict = Err(Refusal::TooManyRooms);
            }
        }
        for refusal in verdicts.iter().filter_map(|(_, verdict)| verdict.as_ref().err()) {
            counter!(crate::metrics::JOINS_REFUSED, "reason" => refusal.code()).increment(1);
        }
        // The locks of several rooms are taken in this order, by all code.
        admitted.sort_by(|one, other| one.room.cmp(&other.room));
        (verdicts, admitted)
    }

    async fn judge_one(&self, session: &Session, wanted: &WantedRoom, answer: &PendingReply) -> Result<Room, Refusal> {
        let from = wanted.from?;
        let room = self.check_admission(session, &wanted.room, answer).await?;
        if from.is_some() && !self.0.classes.class_of(&room).has_history() {
            return Err(Refusal::HistoryDisabled);
        }
        Ok(room)
    }
}

fn refuse_join(session: &Session, answer: &mut PendingReply, refusal: Refusal) {
    counter!(crate::metrics::JOINS_REFUSED, "reason" => refusal.code()).increment(1);
    answer.send_answer(session, &reply::refused(refusal));
}

/// Of two starts of one room, the one that covers more.
fn earlier_start(one: Option<Start>, other: Option<Start>) -> Option<Start> {
    [one, other].into_iter().flatten().min_by_key(|from| from.exclusive_offset())
}

impl JudgedCommand {
    fn rooms(&self) -> Vec<Room> {
        self.admitted.iter().map(|one| one.room.clone()).collect()
    }

    /// Goes on without the rooms that cannot be read while others can.
    fn give_up(&mut self, failed: &[Room]) {
        self.admitted.retain(|one| !failed.contains(&one.room));
        for (_, verdict) in &mut self.verdicts {
            if verdict.as_ref().is_ok_and(|room| failed.contains(room)) {
                counter!(crate::metrics::JOINS_REFUSED, "reason" => Refusal::Unavailable.code()).increment(1);
                *verdict = Err(Refusal::Unavailable);
            }
        }
    }
}
