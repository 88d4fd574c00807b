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
            mine.filter_map(|room| Some(LatestWatch::for_room(&self.0.hubs.of_session(session).find(room)?))).collect();
        let paused = pause_all(session, &watches);
        let members = watches.into_iter().zip(paused);
        PausedMemberships(
            members.filter_map(|(watch, member)| Some(CatchUpRoom { watch, membership: member? })).collect(),
        )
    }

    /// Resumes the memberships that the command did not replace.
    pub(super) fn resume_paused(&self, session: &Arc<Session>, PausedMemberships(mut members): PausedMemberships) {
        let place = |member: &CatchUpRoom| match member.membership.current_standing() {
            MemberDelivery::CatchingUp(to) => Some(to),
            // Replaced by the join, or left by another command: not this function's business any more.
            MemberDelivery::Live(_) | MemberDelivery::Left => None,
        };
        members.retain(|member| place(member).is_some());
        if members.is_empty() {
            return;
        }
        // The catch-up and a live room may both bring a shared event.
        session.remember_ids();
        let mut reader = MergedReader::new(ReadShare::for_rooms(members.len(), self.0.limits.page_bytes));
        for member in &members {
            // Counts as read up to here: where nothing came, no read is needed.
            reader.add_at(member.watch.room().room().clone(), place(member).unwrap_or_default());
        }
        let mut task = CatchUp { members, reader, current: CurrentEvents::default() };
        // The common case is a refusal with nothing missed, which needs no task.
        if !task.go_live(session) {
            self.spawn_catch_up(session.clone(), task);
        }
    }
}

/// Pauses under the room locks. Returns the paused membership per room, where there is one.
fn pause_all(session: &Arc<Session>, watches: &[LatestWatch]) -> Vec<Option<Arc<Membership>>> {
    let mut held: Vec<(&LocalRoom, LockedRoom<'_>)> =
        watches.iter().map(|w| (&**w.room(), w.room().lock_room())).collect();
    let mut paused = Vec::new();
    session.lane().push_if(|| {
        let pause = |(local, locked): &(&LocalRoom, LockedRoom<'_>)| {
            locked.delivered_offset().and_then(|_| session.replace_membership(local.room()))
        };
        paused = held.iter().map(pause).collect();
        None
    });
    // The closure does not run on a closed transport, and the result must line up with the rooms.
    paused.resize(watches.len(), None);
    let members = paused.into_iter().zip(&mut held).map(|(paused, (_, locked))| {
        let (before, next) = paused?;
        locked.replace_membership(&before, next.clone());
        Some(next)
    });
    members.collect()
}
