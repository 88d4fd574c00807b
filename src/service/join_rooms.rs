//! Joining several rooms in one act, so that what was missed of all of them comes in one order, and what is new behind it.
//!
//! **What could go wrong.** An event of rooms A and B that was missed is in both histories. Read one after the other, it
//! is told twice, and out of order against what one of them had before it. And while a client catches up in A, a live
//! event of both would come by B, before what is older in A.
//!
//! **Why it does not.** Every room is subscribed before it is read, so what is stored behind the read reaches the hub.
//! The histories are merged (`rooms/src/merge.rs`): at any moment the offsets up to which the rooms have been told are a cut
//! through all of them, with every event that is news in two of them on one side of both. Then the locks of all the rooms
//! are taken, in the order of their keys. The hub moves a room's position under its lock, and passes an event on to whoever
//! sits in any of its rooms behind that. With all locks held there are two cases:
//!
//! - *No position is newer than what was told of its room.* An event that was told is told in all of these rooms; should
//!   the hub only now come to it, it is old by the offset that the member has, in each of them. An event that was not told
//!   is newer than the offset in each of them, and so newer than every position: the hub has moved none of these rooms to
//!   it, and finds the member in all of them when it does, which gives one frame with all the offsets. So the member goes
//!   live in all rooms at once, and the reply is queued before the locks are let go.
//! - *A position is newer.* What lies between was passed on to others, and is in the history. It is read, and the locks
//!   are taken again; in busy rooms, or when the page is full, the member is seated as one that catches up, in all rooms of
//!   the command, and goes live in one act by the same two cases (`catch_up.rs`).
//!
//! A room joined without a place to begin at has no past: where its position is newer, it begins there. One that the member
//! is in already keeps its place if nothing is asked of it; an event that it brings and that was told here does not come
//! again, because the member remembers from where on it was told of these rooms.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use hallway_rooms::close::{Close, Refusal};
use hallway_rooms::history::From;
use hallway_rooms::key::Room;
use metrics::counter;
use tokio::time::Instant;

use super::reader::AT_ONCE;
use super::{Answer, Service, reply};
use crate::metrics::limit::Limit;
use crate::session::Session;

mod look;
mod seats;

/// How often rooms are looked at of which some can be read and others cannot, before those are given up: that is no
/// outage but their own trouble.
const LOOKS: u32 = 4;

/// One room of a command.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Its key, as the client wrote it.
    pub room: String,
    /// From where on, if what the client wrote of that can be read.
    pub from: Result<Option<From>, Refusal>,
}

/// A room that may be joined, with the place to begin at.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    pub(super) room: Room,
    pub(super) from: Option<From>,
}

/// What is answered for each room of the command: which of those that are joined it is, or why it is not.
type Verdicts = Vec<(String, Result<Room, Refusal>)>;

/// A command that has been judged.
#[derive(Debug)]
struct Asked {
    /// In the order of their keys.
    admitted: Vec<Admitted>,
    verdicts: Verdicts,
    /// Until when to wait for the broker.
    until: Instant,
}

impl Service {
    /// Lets a session into several rooms in one act, with what it missed in all of them. A room that is refused is said, and
    /// keeps out none of the others. Without an answer as [`join`](Self::join).
    pub async fn join_rooms(&self, session: &Arc<Session>, wanted: Vec<Wanted>, mut answer: Answer) {
        if wanted.len() > self.0.limits.rooms_per_socket {
            Limit::RoomsPerSocket.reached();
            return refuse(session, &mut answer, Refusal::TooManyRooms);
        }
        let (verdicts, admitted) = self.judge_all(session, wanted, &answer).await;
        let mut turn = None;
        if admitted.iter().any(|one| one.from.is_some()) {
            self.room_for_more(session).await;
            turn = self.turn_to_answer(session, &answer).await;
        }
        let again = admitted.iter().filter(|one| one.from.is_some());
        let parked = self.park(session, again.map(|one| &one.room));
        let asked = Asked { admitted, verdicts, until: self.patience(&answer) };
        let joined = self.join_admitted(session, asked, &mut answer).await;
        self.end_turn(session, turn);
        self.resume_parked(session, parked);
        let (Err(refusal), false) = (joined, session.is_finished()) else { return };
        if !answer.is_wanted() {
            counter!(crate::metrics::JOINS_REFUSED, "reason" => refusal.code()).increment(1);
            return session.close(Close::JoinUnavailable);
        }
        refuse(session, &mut answer, refusal);
    }

    async fn join_admitted(
        &self,
        session: &Arc<Session>,
        mut asked: Asked,
        answer: &mut Answer,
    ) -> Result<(), Refusal> {
        let mut looks = 0;
        loop {
            let Err(failed) = self.look_and_seat(session, &asked, answer).await else { return Ok(()) };
            let is_partial = failed.len() < asked.admitted.len() && answer.is_wanted();
            looks += u32::from(is_partial);
            if is_partial && looks >= LOOKS {
                asked.give_up(&failed);
            } else if !self.tries_again(session, asked.until, Some(Refusal::Unavailable)).await {
                return Err(Refusal::Unavailable);
            }
        }
    }

    /// Judges every room of a command by itself. One that is named twice is joined once, from the earlier place.
    async fn judge_all(&self, session: &Session, wanted: Vec<Wanted>, answer: &Answer) -> (Verdicts, Vec<Admitted>) {
        let mut verdicts: Verdicts = Vec::with_capacity(wanted.len());
        for some in wanted.chunks(AT_ONCE) {
            let judged = join_all(some.iter().map(|one| self.judge_one(session, one, answer))).await;
            verdicts.extend(some.iter().map(|one| one.room.clone()).zip(judged));
        }
        let mut admitted: Vec<Admitted> = Vec::new();
        let mut rooms: HashSet<Room> = session.with_rooms(|rooms| rooms.keys().cloned().collect());
        for ((_, verdict), one) in verdicts.iter_mut().zip(&wanted) {
            let (Ok(room), Ok(from)) = (&*verdict, one.from) else { continue };
            if let Some(known) = admitted.iter_mut().find(|known| known.room == *room) {
                known.from = earlier(known.from, from);
            } else if rooms.contains(room) || rooms.len() < self.0.limits.rooms_per_socket {
                rooms.insert(room.clone());
                admitted.push(Admitted { room: room.clone(), from });
            } else {
                Limit::RoomsPerSocket.reached();
                *verdict = Err(Refusal::TooManyRooms);
            }
        }
        for refusal in verdicts.iter().filter_map(|(_, verdict)| verdict.as_ref().err()) {
            counter!(crate::metrics::JOINS_REFUSED, "reason" => refusal.code()).increment(1);
        }
        admitted.sort_by(|one, other| one.room.cmp(&other.room));
        (verdicts, admitted)
    }

    async fn judge_one(&self, session: &Session, wanted: &Wanted, answer: &Answer) -> Result<Room, Refusal> {
        let from = wanted.from?;
        let room = self.admitted(session, &wanted.room, answer).await?;
        if from.is_some() && !self.0.classes.of(&room).has_history() {
            return Err(Refusal::HistoryDisabled);
        }
        Ok(room)
    }
}

fn refuse(session: &Session, answer: &mut Answer, refusal: Refusal) {
    counter!(crate::metrics::JOINS_REFUSED, "reason" => refusal.code()).increment(1);
    answer.give(session, &reply::refused(refusal));
}

/// Of two places that a client wants a room from, the one that asks for more.
fn earlier(one: Option<From>, other: Option<From>) -> Option<From> {
    [one, other].into_iter().flatten().min_by_key(|from| from.exclusive())
}

impl Asked {
    fn rooms(&self) -> Vec<Room> {
        self.admitted.iter().map(|one| one.room.clone()).collect()
    }

    /// Goes on without rooms that cannot be read while others can.
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
