//! Joining again, from a place on, a room that one is in.
//!
//! **What could go wrong.** The answer tells what the history had when it was read. What comes between that and the answer
//! would be brought live by the seat that the member has, and again behind the answer, by whatever reads on from there.
//!
//! **Why it does not.** Before the read the seat is parked: it keeps its place, and hears nothing. So what comes from then on
//! is in the answer or behind it, once and in the order of the room. Parking is one act under the lock of the member's wire,
//! for all rooms of a command: a frame is made under that lock too, so each event was brought by these rooms or by none.
//! If the room is not joined after all, the parked seat goes on from its place, at once if nothing came, else by catching up.

use std::sync::Arc;

use hallway_rooms::key::Room;

use super::Service;
use super::catch_up::{CatchUp, Seat};
use super::current::Current;
use super::reader::{Reader, Share};
use crate::hub::{LocalRoom, Seated, Watch};
use crate::session::{Joined, Membership, Session, Standing};

/// Seats that hear nothing, in the order of their rooms' keys.
#[derive(Debug)]
pub(super) struct Parked(Vec<Seat>);

impl Service {
    /// Parks a session's seats in those of these rooms that it is in, given in the order of their keys.
    pub(super) fn park<'a>(&self, session: &Arc<Session>, rooms: impl Iterator<Item = &'a Room>) -> Parked {
        let mine = rooms.filter(|room| session.joined(room).is_some());
        let watches: Vec<Watch> = mine.filter_map(|room| Some(Watch::over(&self.0.hub.find(room)?))).collect();
        let parked = park_all(session, &watches);
        let seats = watches.into_iter().zip(parked);
        Parked(seats.filter_map(|(watch, seat)| Some(Seat { watch, membership: seat? })).collect())
    }

    /// Has those seats go on that were not taken anew meanwhile.
    pub(super) fn resume_parked(&self, session: &Arc<Session>, Parked(mut seats): Parked) {
        let place = |seat: &Seat| match seat.membership.standing() {
            Standing::CatchingUp(to) => Some(to),
            Standing::Live(_) | Standing::Left => None,
        };
        seats.retain(|seat| place(seat).is_some());
        if seats.is_empty() {
            return;
        }
        session.remember_ids();
        let mut reader = Reader::new(Share::of(seats.len(), self.0.limits.page_bytes));
        for seat in &seats {
            // Taken to have been read up to there: where nothing came, no read is needed.
            reader.add_at(seat.watch.room().room().clone(), place(seat).unwrap_or_default());
        }
        let mut task = CatchUp { seats, reader, current: Current::default() };
        if !task.go_live(session) {
            self.spawn_catch_up(session.clone(), task);
        }
    }
}

/// Gives the parked seat of each room, where there is one.
fn park_all(session: &Arc<Session>, watches: &[Watch]) -> Vec<Option<Arc<Membership>>> {
    let mut held: Vec<(&LocalRoom, Seated<'_>)> = watches.iter().map(|w| (&**w.room(), w.room().hold())).collect();
    // A room that was closed has no seats to give.
    let seat = |(local, seated): &(&LocalRoom, Seated<'_>)| seated.at().and_then(|_| session.joined(local.room()));
    let before: Vec<Option<Joined>> = held.iter().map(seat).collect();
    let mut after = vec![None; before.len()];
    session.lane().push_if(|| {
        after = before.iter().map(|joined| joined.as_ref()?.membership.succeed()).collect();
        None
    });
    for (((local, seated), before), after) in held.iter_mut().zip(before).zip(&mut after) {
        let (Some(before), Some(next)) = (before, after.clone()) else { continue };
        seated.leave(&before);
        let joined = seated.enter(session.clone(), next);
        if !joined.is_some_and(|joined| is_taken(session, local.room(), &before, seated, joined)) {
            *after = None;
        }
    }
    after
}

/// Puts a seat in the place of the one before. False, and it is given back, where the session has left the room or ended.
fn is_taken(session: &Session, room: &Room, before: &Joined, seated: &mut Seated<'_>, next: Joined) -> bool {
    let put = |next: Joined| {
        session.with_rooms(|rooms| {
            let mine = rooms.get_mut(room).filter(|mine| Arc::ptr_eq(&mine.membership, &before.membership));
            mine.map(|mine| *mine = next).is_some()
        })
    };
    let is_put = put(next.clone());
    if !is_put {
        seated.leave(&next);
    }
    is_put
}
