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
use crate::session::{Membership, Session, Standing};

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
    let mut parked = Vec::new();
    session.lane().push_if(|| {
        // A room that was closed has no seats to give.
        let park = |(local, seated): &(&LocalRoom, Seated<'_>)| seated.at().and_then(|_| session.succeed(local.room()));
        parked = held.iter().map(park).collect();
        None
    });
    // Nothing is parked where the transport is closed.
    parked.resize(watches.len(), None);
    let seats = parked.into_iter().zip(&mut held).map(|(parked, (_, seated))| {
        let (before, next) = parked?;
        seated.follow(&before, next.clone());
        Some(next)
    });
    seats.collect()
}
