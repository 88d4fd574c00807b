//! Copies: how each event reaches a session once, however many ways bring it.
//!
//! **The problem.** Delivery is at least once up to here: whatever can be lost is sent or read again. A session is to get
//! each event once. One event has one id, but an offset of its own in each of its rooms. A second copy comes from:
//!
//! 1. *The publisher's retry, or a second ingest of one entry.* Within `history.id_window` the broker stores an id once
//!    per room. A retry that names further rooms is stored in those, and [`Entry::earlier`] says where the id stood
//!    before: a session that had it there is not sent it again.
//! 2. *A broker that lost its newest entries.* A retry is stored again, at another offset. The room's ids tell
//!    (`Position`, in `rooms/src/position.rs`).
//! 3. *Healing beside live delivery, a channel beside the other channels of one event.* The same offset comes twice. The
//!    room's position tells. An event that no room stores has no offset, so [`Recent`] keeps its id on the hub's task.
//! 4. *A resume beside live delivery, in one room.* [`Membership::accept_news`](super::Membership::accept_news) compares offsets: what
//!    the answer told is not newer than where the membership begins.
//! 5. *A resume in one room beside live delivery in another, of an event of both.* Each room alone finds it new. So it is
//!    compared with what the session's other memberships have had ([`Session::arrived_by_another`]), and with the rooms
//!    that it has just left, because a room that is left takes its membership with it.
//! 6. *Two histories of which one has given the event another offset.* No offset tells, so the last ids do.
//!
//! **Why it is right.** Offsets decide wherever there are any: a membership has had exactly what lies between `since` and
//! its standing, both moved in the act that queues the frame. Ids decide only where an offset cannot (2, 3 without one, 6),
//! and their windows are bounded. A copy that comes later than a window is sent twice, and none is ever held back
//! wrongly: an id is noted when its frame is made.
//!
//! **What it costs.** 5 and 6 need a history beside live delivery. A session that has never been told one remembers nothing
//! and asks nothing: one flag. An event of one room asks nothing either ([`comes_one_way`]).
//!
//! **Example.** An event is at 12-0 in A and 7-0 in B. The session is live in A at 11-0 and joins B from 5-0; the answer
//! tells B up to 7-0. Live delivery comes by A: 12-0 is newer than 11-0. But B has had 7-0, so no frame is made.
//!
//! **What stays elsewhere.** `Position` keeps its ids: it asks whether a *room* has had an entry, which is a rule of the
//! chain. `Membership` keeps `since` and its standing, which are also its cursor. [`Entry::earlier`] is the broker's word.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

use hallway_rooms::entry::Entry;
use hallway_rooms::event::EventId;
use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;
use parking_lot::Mutex;

use super::{RoomTable, Session};

/// Ids of events in several rooms that a session which caught up remembers: more than are under way at once.
const REMEMBERED_IDS: usize = 256;

/// Rooms that a session has left and remembers: those around one moment.
const REMEMBERED_STAYS: usize = 16;

/// What a session keeps to recognise second copies. Empty, without an allocation, until it is told a history.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// Whether a history was ever told beside live delivery; read for each event of several rooms, so without a lock.
    remembers: AtomicBool,
    /// Made on first use: most sessions leave no room and are told no history.
    kept: Mutex<Option<Box<KeptCopies>>>,
}

#[derive(Debug, Default)]
struct KeptCopies {
    /// Last ids, oldest first; made when a room first had to be caught up, because no other session needs them.
    once: Option<VecDeque<u64>>,
    /// Rooms left lately, newest first, because their memberships can no longer be asked.
    left: VecDeque<Stay>,
}

/// A room that was left, and between which offsets everything came.
#[derive(Debug)]
struct Stay {
    room: Room,
    since: Offset,
    to: Offset,
}

/// Whether an event can reach a session by one way only: it has one room. Nothing needs to be asked then.
#[must_use]
pub fn comes_one_way(entry: &Entry) -> bool {
    entry.places.len() + entry.earlier.len() == 1
}

impl Copies {
    /// Notes a room that was left, and between which offsets everything of it came.
    pub(super) fn note_left(&self, room: &Room, (since, to): (Offset, Offset)) {
        let mut kept = self.kept.lock();
        let left = &mut kept.get_or_insert_default().left;
        left.truncate(REMEMBERED_STAYS - 1);
        left.push_front(Stay { room: room.clone(), since, to });
    }

    fn remember_ids(&self) {
        self.kept.lock().get_or_insert_default().once.get_or_insert_default();
    }

    fn remember_places(&self) {
        self.kept.lock().iter_mut().for_each(|kept| kept.left.clear());
        self.remembers.store(true, Ordering::Release);
    }

    fn arrived_earlier(rooms: &RoomTable, entry: &Entry) -> bool {
        let had = |(room, offset): &(Room, Offset)| rooms.get(room).is_some_and(|j| j.membership.has_had(*offset));
        entry.earlier.iter().any(had)
    }

    fn arrived_by_another(&self, rooms: &RoomTable, entry: &Entry, mask: u64) -> bool {
        let kept = self.kept.lock();
        let left = kept.as_ref().map(|kept| &kept.left);
        let had = |room: &Room, at: Offset| {
            rooms.get(room).is_some_and(|joined| joined.membership.has_had(at))
                || left.into_iter().flatten().any(|stay| stay.room == *room && stay.since < at && at <= stay.to)
        };
        let others = entry.places.iter().enumerate().filter(|(i, _)| mask & (1 << i) == 0);
        others.filter_map(|(_, place)| Some((&place.room, place.link()?.offset))).any(|(room, at)| had(room, at))
    }

    /// Whether an id is new; noted from here on.
    fn first_time(&self, id: &EventId) -> bool {
        let digest = id.digest();
        let mut kept = self.kept.lock();
        // Without a history that was caught up with, offsets tell all copies.
        let Some(ids) = kept.as_mut().and_then(|kept| kept.once.as_mut()) else { return true };
        if ids.contains(&digest) {
            return false;
        }
        if ids.len() == REMEMBERED_IDS {
            ids.pop_front();
        }
        ids.push_back(digest);
        true
    }
}

impl Session {
    /// From here on remembers ids of events in several rooms, since two ways may bring them. A room that was left before has
    /// nothing to do with it: who joins another one from an offset on asks for what came by the first one too.
    pub fn remember_ids(&self) {
        self.copies.remember_ids();
        self.remember_places();
    }

    /// From here on an event is news only if no other of its rooms has brought it: what was told from a history may come
    /// live by a room that it was not told of.
    pub fn remember_places(&self) {
        self.copies.remember_places();
    }

    /// Whether an event in several rooms, which comes by those of `mask` (a bit per place), has not come another way:
    /// by another of its rooms, whose position tells, also if it has just left it, or by one that the last ids tell.
    #[must_use]
    pub fn first_copy(&self, entry: &Entry, mask: u64) -> bool {
        if !entry.earlier.is_empty() && Copies::arrived_earlier(&self.rooms.lock(), entry) {
            return false;
        }
        // No history has it, so no second way can: the hub has seen to its channels.
        if entry.places.iter().all(|place| place.link().is_none()) {
            return true;
        }
        // The id last, because asking notes it: an event that a room has had must not use up a place in the window.
        !self.copies.remembers.load(Ordering::Acquire)
            || !self.arrived_by_another(entry, mask) && self.copies.first_time(&entry.id)
    }

    /// Whether an event in several rooms, which comes by those of `mask`, has come by another of them: its position tells,
    /// also if the room has just been left.
    #[must_use]
    pub fn arrived_by_another(&self, entry: &Entry, mask: u64) -> bool {
        self.copies.arrived_by_another(&self.rooms.lock(), entry, mask)
    }
}

/// The last events that no room stores, for the hub's task: such an event comes once per channel of its rooms, and has
/// no offset that would tell the copies.
#[derive(Debug, Default)]
pub struct Recent {
    /// The ids of `order`, because it is asked for each such event.
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Recent {
    /// Events in flight between the first and the last channel of one.
    const KEPT: usize = 1024;

    /// Whether this is its first copy.
    pub fn note_first_copy(&mut self, entry: &Entry) -> bool {
        let digest = entry.id.digest();
        if !self.known.insert(digest) {
            return false;
        }
        if self.order.len() == Self::KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(digest);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> EventId {
        format!("e{n}").parse().expect("an id")
    }

    #[test]
    fn without_a_history_no_id_is_kept_and_every_one_is_new() {
        let copies = Copies::default();
        assert!(copies.first_time(&id(1)) && copies.first_time(&id(1)));
        assert!(copies.kept.lock().is_none());
    }

    #[test]
    fn an_id_is_new_once_within_the_window() {
        let copies = Copies::default();
        copies.remember_ids();
        assert!((0..=REMEMBERED_IDS).all(|n| copies.first_time(&id(n))));
        assert!(!copies.first_time(&id(1)), "it is the oldest in the window");
        assert!(copies.first_time(&id(0)), "it has fallen out");
    }

    #[test]
    fn of_rooms_that_were_left_the_last_ones_are_kept_until_a_history_is_told() {
        let copies = Copies::default();
        let retention = hallway_rooms::class::Retention { max_events: 9, ttl: std::time::Duration::from_secs(9) };
        let classes = hallway_rooms::class::Classes::built_in(retention, std::time::Duration::from_secs(99));
        let room = classes.find_room("zone:z").expect("a room");
        for n in 0..2 * REMEMBERED_STAYS as u64 {
            copies.note_left(&room, (Offset::first_of_ms(n), Offset::first_of_ms(n + 1)));
        }
        let left = |look: fn(&VecDeque<Stay>) -> Option<Offset>| look(&copies.kept.lock().as_ref().expect("kept").left);
        assert_eq!(copies.kept.lock().as_ref().map(|kept| kept.left.len()), Some(REMEMBERED_STAYS));
        assert_eq!(left(|left| left.front().map(|stay| stay.since)), Some(Offset::first_of_ms(31)));
        copies.remember_places();
        assert_eq!(left(|left| left.front().map(|stay| stay.since)), None);
    }
}
