//! Joining a room from an offset although the session is a member already.
//!
//! **What could go wrong.** The answer has the events that were in the history when it was read. An event between
//! that and the answer would come live by the existing membership, and a second time by the catch-up that continues
//! from the read.
//!
//! **Why it does not.** The membership is paused before the read: it keeps its position and gets no delivery. Events
//! from then on are in the answer or follow it, once and in the order of the room. Pausing is one act under the lock
//! of the member's wire, for all rooms of a command. Frames are made under that lock too, so each event was delivered
//! by all of these rooms or by none.
//!
//! When the room is not joined after all, the paused membership goes on from its position: at once if nothing came,
//! otherwise by catching up.

use std::sync::Arc;

use hallway_rooms::key::Room;

use super::Service;
use super::catch_up::{CatchUp, CatchUpRoom};
use super::current::CurrentEvents;
use super::reader::{MergedReader, ReadShare};
use crate::hub::{LatestWatch, LocalRoom, LockedRoom};
use crate::session::{MemberDelivery, Membership, Session};

/// Memberships whose delivery is paused, in the order of their rooms' keys.
#[derive(Debug)]
pub(super) struct PausedMemberships(Vec<CatchUpRoom>);

impl Service {
    /// Pauses delivery in those of the rooms that the session is a member of. The rooms come in the order of their
    /// keys.
    pub(super) fn pause_rooms<'a>(
        &self,
        session: &Arc<Session>,
        rooms: impl Iterator<Item = &'a Room>,
    ) -> PausedMemberships {
        let mine = rooms.filter(|room| session.membership_in(room).is_some());
        let watches: Vec<LatestWatch> =
            mine.filter_map(|room| Some(LatestWatch::for_room(&self.0.hub.find(room)?))).collect();
        let parked = park_all(session, &watches);
        let seats = watches.into_iter().zip(parked);
        PausedMemberships(seats.filter_map(|(watch, seat)| Some(CatchUpRoom { watch, membership: seat? })).collect())
    }

    /// Resumes the memberships that the command did not replace.
    pub(super) fn resume_parked(&self, session: &Arc<Session>, PausedMemberships(mut seats): PausedMemberships) {
        let place = |seat: &CatchUpRoom| match seat.membership.current_standing() {
            MemberDelivery::CatchingUp(to) => Some(to),
            // Replaced by the join, or left by another command: not this function's business any more.
            MemberDelivery::Live(_) | MemberDelivery::Left => None,
        };
        seats.retain(|seat| place(seat).is_some());
        if seats.is_empty() {
            return;
        }
        // The catch-up and a live room may both bring a shared event.
        session.remember_ids();
        let mut reader = MergedReader::new(ReadShare::for_rooms(seats.len(), self.0.limits.page_bytes));
        for seat in &seats {
            // Counts as read up to here: where nothing came, no read is needed.
            reader.add_at(seat.watch.room().room().clone(), place(seat).unwrap_or_default());
        }
        let mut task = CatchUp { seats, reader, current: CurrentEvents::default() };
        // The common case is a refusal with nothing missed, which needs no task.
        if !task.go_live(session) {
            self.spawn_catch_up(session.clone(), task);
        }
    }
}

/// Pauses under the room locks. Returns the paused membership per room, where there is one.
fn park_all(session: &Arc<Session>, watches: &[LatestWatch]) -> Vec<Option<Arc<Membership>>> {
    let mut held: Vec<(&LocalRoom, LockedRoom<'_>)> =
        watches.iter().map(|w| (&**w.room(), w.room().lock_room())).collect();
    let mut parked = Vec::new();
    session.lane().push_if(|| {
        let park = |(local, seated): &(&LocalRoom, LockedRoom<'_>)| {
            seated.delivered_offset().and_then(|_| session.replace_membership(local.room()))
        };
        parked = held.iter().map(park).collect();
        None
    });
    // The closure does not run on a closed transport, and the result must line up with the rooms.
    parked.resize(watches.len(), None);
    let seats = parked.into_iter().zip(&mut held).map(|(parked, (_, seated))| {
        let (before, next) = parked?;
        seated.replace_membership(&before, next.clone());
        Some(next)
    });
    seats.collect()
}
