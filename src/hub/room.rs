//! One room on this node: its members and how far it has been delivered. One lock holds both, so that a member is added
//! before or after a position moves, never during it; why that is enough is in `service/join.rs`.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hallway_rooms::entry::{ChainLink, Entry, Stamp};
use hallway_rooms::event::EventId;
use hallway_rooms::history::RoomFacts;
use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;
use hallway_rooms::position::{Arrival, Position};
use parking_lot::{Mutex, MutexGuard};
use slab::Slab;

use super::latest::LatestDelivered;
use super::totals::RoomTotals;
use crate::session::{JoinedMembership, Membership, Session};

/// Members whose memory is fetched together before the first of them is served: few enough that it is still at hand
/// when the last one is.
const AHEAD: usize = 16;

/// How long a room that could not be read stays closed, at first.
const FIRST_REST: Duration = Duration::from_secs(1);
/// And at the longest: then one more attempt at it costs the other rooms a second.
const LONGEST_REST: Duration = Duration::from_mins(1);

/// Whether a room may still be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoomAccess {
    /// Not subscribed yet.
    Shut,
    /// Subscribed.
    Open,
    /// Unsubscribed: callers that waited must ask the hub again.
    Gone,
}

/// A room with its local members.
#[derive(Debug)]
pub struct LocalRoom {
    room: Room,
    /// Its members on the whole node, and elsewhere.
    totals: Arc<RoomTotals>,
    /// Held across the subscription, so that a room is subscribed once and not unsubscribed meanwhile.
    opening: tokio::sync::Mutex<RoomAccess>,
    state: Mutex<RoomStanding>,
}

#[derive(Debug)]
struct RoomStanding {
    /// In slots that stay the same, so that a leave needs no search and a walk can pause.
    members: Slab<Member>,
    /// None while the room is not open: nothing can be said of what arrives.
    position: Option<Position>,
    /// Up to here every member's wire has been handed everything.
    served: Offset,
    /// Fan-outs of the room so far, and how many of them are done with it: they go one after the other.
    fan_outs: (u64, u64),
    /// The newest offset that arrived before the position was known.
    early: Option<Offset>,
    /// From when the delay before it is unsubscribed counts.
    empty_since: Instant,
    /// Until when it is not to be opened again, and how often that was so in a row: it could not be read.
    rests: Option<(Instant, u32)>,
    /// `latest` events have no position, so what was passed on is kept by key.
    passed: LatestDelivered,
}

/// A session in a room.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) session: Arc<Session>,
    pub(super) membership: Arc<Membership>,
}

/// A room that cannot move while this is held: its position, and what a join or leave does with it.
#[derive(Debug)]
pub struct LockedRoom<'a> {
    state: MutexGuard<'a, RoomStanding>,
    totals: &'a RoomTotals,
}

impl LocalRoom {
    pub(super) fn new(room: Room, totals: Arc<RoomTotals>) -> Self {
        let state = RoomStanding {
            members: Slab::new(),
            position: None,
            served: Offset::default(),
            fan_outs: (0, 0),
            early: None,
            empty_since: Instant::now(),
            rests: None,
            passed: LatestDelivered::default(),
        };
        Self { room, totals, opening: tokio::sync::Mutex::new(RoomAccess::Shut), state: Mutex::new(state) }
    }

    /// Its key.
    #[must_use]
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// How many sessions of this event loop are in it.
    #[must_use]
    pub fn size(&self) -> usize {
        self.state.lock().members.len()
    }

    /// Stops the room for a moment.
    #[must_use]
    pub fn lock_room(&self) -> LockedRoom<'_> {
        LockedRoom { state: self.state.lock(), totals: &self.totals }
    }

    /// Closes a room that cannot be read, for longer each time that this happens in a row. Gives its members.
    pub(super) fn close_for_a_while(&self) -> Vec<Member> {
        let mut state = self.state.lock();
        // One that was read for a while in between begins anew.
        let lately = state.rests.filter(|(until, _)| until.elapsed() < LONGEST_REST);
        let times = lately.map_or(0, |(_, times)| times + 1);
        let rest = (FIRST_REST * 2_u32.saturating_pow(times.min(10))).min(LONGEST_REST);
        state.rests = Some((Instant::now() + rest, times));
        state.position = None;
        state.members.iter().map(|(_, member)| member.clone()).collect()
    }

    /// Whether it could not be read a moment ago.
    pub(super) fn is_resting(&self) -> bool {
        self.state.lock().rests.is_some_and(|(until, _)| Instant::now() < until)
    }

    pub(super) fn is_open(&self) -> bool {
        self.state.lock().position.is_some()
    }

    pub(super) async fn lock_opening(&self) -> tokio::sync::MutexGuard<'_, RoomAccess> {
        self.opening.lock().await
    }

    pub(super) fn try_opening(&self) -> Option<tokio::sync::MutexGuard<'_, RoomAccess>> {
        self.opening.try_lock().ok()
    }

    /// Begins at the head. True when something newer arrived before, which then must be read from the history.
    pub(super) fn start_at_head(&self, facts: &RoomFacts) -> bool {
        let mut state = self.state.lock();
        let head = facts.head();
        state.position = Some(Position::from_facts(facts));
        state.served = head;
        // What came before a quiet head may have been stored behind the look at the room, by a clock that was set back.
        state.early.take().is_some_and(|early| early > head || facts.last.is_none())
    }

    /// What an entry means here; none while the room is not open.
    pub(super) fn judge_arrival(&self, link: ChainLink, id: &EventId) -> Option<Arrival> {
        let mut state = self.state.lock();
        if let Some(position) = &state.position {
            return Some(position.classify_entry(link, id));
        }
        // The room is being opened: whether the head covers this entry shows when it is known.
        state.early = state.early.max(Some(link.offset));
        None
    }

    /// Notes that something was missed. A room that is being opened is then to be read, as when something newer has arrived.
    pub(super) fn note_missed(&self) {
        let mut state = self.state.lock();
        if state.position.is_none() {
            state.early = Some(Offset { ms: u64::MAX, n: u64::MAX });
        }
    }

    pub(super) fn advance_to(&self, link: ChainLink, id: &EventId) {
        if let Some(position) = &mut self.state.lock().position {
            position.advance_to(link, id);
        }
    }

    /// Notes that every member has been handed what the position says.
    pub(super) fn mark_served(&self) {
        let mut state = self.state.lock();
        state.served = state.position.as_ref().map_or(state.served, Position::delivered_offset);
    }

    /// The turn of a fan-out that begins behind all others of the room.
    pub(super) fn take_turn(&self) -> u64 {
        let mut state = self.state.lock();
        let turn = state.fan_outs.0;
        state.fan_outs.0 += 1;
        turn
    }

    /// Whether the fan-outs before this turn are done with the room.
    pub(super) fn is_turn(&self, turn: u64) -> bool {
        self.state.lock().fan_outs.1 == turn
    }

    /// Notes that a fan-out is done with the room: every member has been handed what lies up to `last`.
    pub(super) fn end_turn(&self, last: Offset) {
        let mut state = self.state.lock();
        state.fan_outs.1 += 1;
        // A room that was set back meanwhile stands before it.
        if state.position.as_ref().is_some_and(|position| last <= position.delivered_offset()) {
            state.served = state.served.max(last);
        }
    }

    pub(super) fn position(&self) -> Option<Position> {
        self.state.lock().position.clone()
    }

    pub(super) fn delivered_offset(&self) -> Option<Offset> {
        self.state.lock().position.as_ref().map(Position::delivered_offset)
    }

    pub(super) fn extend_silence(&self, at: Offset, to: Offset) {
        if let Some(position) = self.state.lock().position.as_mut().filter(|p| p.delivered_offset() == at) {
            position.note_silence(to);
        }
    }

    /// Takes an earlier place, and its members with it: what is stored next may lie before the one they had.
    pub(super) fn rewind_to(&self, to: Offset) {
        let mut state = self.state.lock();
        let Some(position) = &mut state.position else { return };
        position.rewind_to(to);
        state.served = state.served.min(to);
        state.members.iter().for_each(|(_, member)| member.membership.rewind_to(to));
    }

    pub(super) fn skip_to(&self, to: Offset) {
        if let Some(position) = &mut self.state.lock().position {
            position.skip_to(to);
        }
    }

    /// What it has passed on of `latest` events.
    pub(super) fn with_latest<T>(&self, look: impl FnOnce(&mut LatestDelivered) -> T) -> T {
        look(&mut self.state.lock().passed)
    }

    /// Whether one of its members is in another room as well.
    pub(super) fn shares_member(&self, other: &Room) -> bool {
        self.state.lock().members.iter().any(|(_, member)| member.session.membership_in(other).is_some())
    }

    pub(super) fn members(&self) -> Vec<Member> {
        self.state.lock().members.iter().map(|(_, member)| member.clone()).collect()
    }

    /// Calls `each` for the members in the slots `from..to`, under the lock of the room. Whether there are members in later
    /// ones.
    // Inlined, as all of the way to the socket: it is gone for each member of each event.
    #[inline]
    pub(super) fn for_each(&self, from: usize, to: usize, mut each: impl FnMut(&Member)) -> bool {
        let state = self.state.lock();
        let members_of = |slots: Range<usize>| slots.filter_map(|slot| state.members.get(slot));
        for first in (from..to).step_by(AHEAD) {
            let group = first..to.min(first + AHEAD);
            members_of(group.clone()).for_each(|member| member.session.lane().prefetch_state());
            members_of(group).for_each(&mut each);
        }
        // The first question spares a search where all slots have been walked.
        to < state.members.capacity() && state.members.iter().next_back().is_some_and(|(last, _)| to <= last)
    }

    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        (state.members.is_empty() && !state.passed.is_watched()).then_some(state.empty_since)
    }
}

impl LockedRoom<'_> {
    /// The newest offset delivered here, if the room is open.
    #[must_use]
    pub fn delivered_offset(&self) -> Option<Offset> {
        self.state.position.as_ref().map(Position::delivered_offset)
    }

    /// Up to here every member's wire has been handed everything.
    #[must_use]
    pub fn served_offset(&self) -> Offset {
        self.state.served
    }

    /// How many sessions of this event loop are in it.
    #[must_use]
    pub fn size(&self) -> usize {
        self.state.members.len()
    }

    /// How many sessions are in it on all nodes, as far as is known.
    #[must_use]
    pub fn size_everywhere(&self) -> usize {
        self.totals.size_everywhere()
    }

    /// Adds a session as a member; `None` in a room that was unsubscribed, which must be opened again first.
    pub fn add_member(&mut self, session: Arc<Session>, membership: Arc<Membership>) -> Option<JoinedMembership> {
        self.state.position.as_ref()?;
        let slot = self.state.members.insert(Member { session, membership: membership.clone() });
        self.totals.add_member();
        Some(JoinedMembership { membership, slot })
    }

    /// The newest `latest` event of each key that came during a watch; see [`LatestWatch`](super::LatestWatch).
    #[must_use]
    pub fn latest_while_watched(&self) -> Vec<Entry> {
        self.state.passed.entries_since_watch()
    }

    /// Whether a `latest` event has yet to be passed on here.
    #[must_use]
    pub fn is_to_come(&self, stamp: Stamp) -> bool {
        self.state.passed.is_news(stamp)
    }

    /// Whether a session reads its current events before it joins.
    pub(super) fn is_watched(&self) -> bool {
        self.state.passed.is_watched()
    }

    /// Lets the room go.
    pub(super) fn close_room(&mut self) {
        self.state.position = None;
    }

    /// Replaces a membership by its successor, in the same slot.
    pub fn replace_membership(&mut self, before: &JoinedMembership, next: Arc<Membership>) {
        let mine = self.state.members.get_mut(before.slot);
        if let Some(member) = mine.filter(|member| Arc::ptr_eq(&member.membership, &before.membership)) {
            member.membership = next;
        }
    }

    /// Removes a member.
    pub fn remove_member(&mut self, joined: &JoinedMembership) {
        let same = |m: &Member| Arc::ptr_eq(&m.membership, &joined.membership);
        // Its slot may have been given to another one since.
        if self.state.members.get(joined.slot).is_some_and(same) {
            self.state.members.remove(joined.slot);
            self.totals.remove_member();
            self.state.empty_since = Instant::now();
        }
    }
}
