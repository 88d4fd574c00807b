//! Positions: how far a node has delivered a room, and what an arriving entry means for it.
//!
//! **The problem.** Entries of a room come by several ways: live, from a read of the history, a second time after a
//! reconnect. Some are lost. Each is to be delivered once and in the order of the room, and a lost one must be noticed.
//!
//! **The rule.** An entry names its own offset and `prev`, the room's last offset before it. The position knows `at`,
//! the newest offset delivered, and [`Position::classify_entry`] compares:
//!
//! - *Newer than `at`, with `prev` at or before `reach`:* [`Arrival::Next`]. The broker says that it stored nothing
//!   between `prev` and this entry, and this node has delivered all up to `reach`, so nothing is missing.
//! - *Newer, with `prev` behind `reach`:* [`Arrival::Gap`]. There is an entry at `prev` that was not delivered.
//! - *Not newer:* a second copy, [`Arrival::Seen`], unless its id is unknown. An unknown id comes after a failover or
//!   from a clock that was set back: the broker gave an offset below one that it had given before. That is
//!   [`Arrival::Late`].
//!
//! An offset alone cannot tell a second copy from a late entry, so the last `RECENT` ids are kept. `floor` is where
//! they begin: at or before it nothing can be told, and all is taken as seen. So memory is bounded, and the price is
//! that a late entry more than `RECENT` deliveries old is dropped, which is better than a copy of everything that old.
//!
//! `reach` is `at`, or later where the broker was seen to have stored nothing since. A broker forgets the last offset
//! of a quiet room, and the next entry names a `prev` of that silence. Without the proof it would look like a gap.
//!
//! **What a fault does to it.** A broker that lost its newest entries moves `at` back ([`Position::rewind_to`]), and what
//! it stores next hangs on the earlier offset. The ids stay: a publisher that retries has its event stored again at a
//! new offset, and that is [`Arrival::Again`], which moves the position and reaches no member. A history that was
//! trimmed moves `at` forward ([`Position::skip_to`]), and the floor with it: what lies between is lost even if a copy
//! turns up.
//!
//! **Example.** `at` is 10-0. 12-0 after 10-0 is next. 15-0 after 13-0 is a gap; the history has 13-0 after 12-0, which
//! is next, and then 15-0. 13-0 comes once more and is seen. After a failover the broker has 12-0 as its last: a rewind
//! to 12-0. 16-0 after 12-0 with the id of 15-0 is there again. 11-0 after 10-0 with an unknown id is late.

use std::collections::VecDeque;

use crate::entry::ChainLink;
use crate::event::EventId;
use crate::history::RoomFacts;
use crate::offset::Offset;

/// Deliveries a position remembers by id, to tell a late entry from a second copy.
const RECENT: usize = 128;

/// What an arriving entry is to a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The next one: deliver it.
    Next,
    /// Something before it is missing: read the history first.
    Gap,
    /// Not newer by offset but never seen, as after a failover: deliver it where it stands.
    Late,
    /// A second copy, or too old to tell: drop it.
    Seen,
    /// Stored again by a broker that had forgotten it: the position moves on, no member gets it twice.
    Again,
}

/// How far a node has delivered a room.
#[derive(Clone, Debug)]
pub struct Position {
    /// The newest offset delivered: what an arriving `prev` is compared with.
    at: Offset,
    /// Everything at or before this is past, whatever its id.
    floor: Offset,
    /// Nothing was stored between `at` and here.
    silent_to: Offset,
    /// Whether the broker ever forgot something that was delivered.
    rewound: bool,
    /// Offsets and ids of the last deliveries, oldest first: what an offset alone cannot tell.
    recent: VecDeque<(Offset, u64)>,
}

impl Position {
    /// Begins at a head: all up to it is past.
    #[must_use]
    pub fn new(head: Offset) -> Self {
        Self { at: head, floor: head, silent_to: head, rewound: false, recent: VecDeque::new() }
    }

    /// Begins at a room's head. Before that of a quiet room nothing is past but what is older than all data: what comes from
    /// there is of a broker whose clock was set back.
    #[must_use]
    pub fn from_facts(facts: &RoomFacts) -> Self {
        let head = Self::new(facts.head());
        if facts.last.is_some() { head } else { Self { floor: facts.born_offset().min(head.at), ..head } }
    }

    /// The newest offset delivered.
    #[must_use]
    pub fn delivered_offset(&self) -> Offset {
        self.at
    }

    /// All up to here is past; between here and [`delivered_offset`](Self::delivered_offset) every delivered id is remembered.
    #[must_use]
    pub fn past_offset(&self) -> Offset {
        self.floor
    }

    /// Up to here nothing is missing: the newest offset delivered, or later where silence was proven.
    #[must_use]
    pub fn complete_offset(&self) -> Offset {
        self.at.max(self.silent_to)
    }

    /// Notes that the broker was seen to have stored nothing between the position and `to`. A room that is silent for
    /// longer than offsets are remembered would look like one with a gap otherwise.
    pub fn note_silence(&mut self, to: Offset) {
        self.silent_to = self.silent_to.max(to);
    }

    /// What an entry is to this room.
    #[must_use]
    pub fn classify_entry(&self, link: ChainLink, id: &EventId) -> Arrival {
        if link.offset > self.at {
            // Only a broker that forgot can store an id again behind the position; the others save the search.
            if self.rewound && link.prev <= self.complete_offset() && self.was_delivered(id) {
                return Arrival::Again;
            }
            return if link.prev <= self.complete_offset() { Arrival::Next } else { Arrival::Gap };
        }
        let known = link.offset <= self.floor || self.was_delivered(id);
        if known { Arrival::Seen } else { Arrival::Late }
    }

    /// Notes that an entry was delivered, or passed over for good.
    pub fn advance_to(&mut self, link: ChainLink, id: &EventId) {
        self.at = self.at.max(link.offset);
        // With the oldest id goes the means to tell its copies, so all up to there counts as past.
        if self.recent.len() == RECENT
            && let Some((oldest, _)) = self.recent.pop_front()
        {
            self.floor = self.floor.max(oldest);
        }
        self.recent.push_back((link.offset, id.digest()));
    }

    /// Takes an earlier place, because the broker forgot its newest entries. What was delivered is still known.
    pub fn rewind_to(&mut self, to: Offset) {
        self.at = to;
        self.silent_to = to;
        self.rewound = true;
    }

    /// Takes a later place, because what lies between is lost: should some of it still arrive, it is past.
    pub fn skip_to(&mut self, to: Offset) {
        self.at = to;
        self.silent_to = to;
        self.floor = self.floor.max(to);
    }

    fn was_delivered(&self, id: &EventId) -> bool {
        let digest = id.digest();
        self.recent.iter().any(|(_, known)| *known == digest)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn id(n: u64) -> EventId {
        format!("e{n}").parse().expect("an id")
    }

    fn link(ms: u64, prev: u64) -> ChainLink {
        ChainLink { offset: Offset::first_of_ms(ms), prev: Offset::first_of_ms(prev) }
    }

    #[test]
    fn a_link_that_hangs_on_the_position_is_next_and_one_that_does_not_is_a_gap() {
        let position = Position::new(Offset::first_of_ms(10));
        assert_eq!(position.classify_entry(link(12, 10), &id(1)), Arrival::Next);
        assert_eq!(position.classify_entry(link(12, 3), &id(1)), Arrival::Next);
        assert_eq!(position.classify_entry(link(12, 11), &id(1)), Arrival::Gap);
    }

    #[test]
    fn proven_silence_is_no_gap() {
        let mut position = Position::new(Offset::first_of_ms(10));
        position.note_silence(Offset::first_of_ms(50));
        assert_eq!(position.delivered_offset(), Offset::first_of_ms(10));
        assert_eq!(position.classify_entry(link(60, 50), &id(1)), Arrival::Next);
        assert_eq!(position.classify_entry(link(60, 51), &id(1)), Arrival::Gap);
    }

    #[test]
    fn a_second_copy_is_seen_and_an_unknown_id_is_late() {
        let mut position = Position::new(Offset::first_of_ms(10));
        position.advance_to(link(12, 10), &id(1));
        assert_eq!(position.classify_entry(link(12, 10), &id(1)), Arrival::Seen);
        assert_eq!(position.classify_entry(link(11, 10), &id(2)), Arrival::Late);
        assert_eq!(position.classify_entry(link(10, 9), &id(3)), Arrival::Seen);
    }

    #[test]
    fn what_a_cut_passed_over_is_past_and_what_a_rewind_did_is_not() {
        let mut position = Position::new(Offset::first_of_ms(10));
        position.skip_to(Offset::first_of_ms(50));
        assert_eq!(position.classify_entry(link(40, 30), &id(1)), Arrival::Seen);
        assert_eq!(position.classify_entry(link(51, 50), &id(2)), Arrival::Next);
        position.advance_to(link(70, 60), &id(3));
        position.rewind_to(Offset::first_of_ms(60));
        assert_eq!(position.classify_entry(link(55, 51), &id(4)), Arrival::Late);
        assert_eq!(position.classify_entry(link(80, 60), &id(3)), Arrival::Again);
        assert_eq!(position.classify_entry(link(80, 60), &id(5)), Arrival::Next);
    }

    #[test]
    fn before_the_head_of_a_quiet_room_nothing_is_past() {
        let (now_ms, memory) = (1_000_000, Duration::from_hours(1));
        let facts = RoomFacts { now_ms, birth_ms: Some(300), last: None, memory, memory_since_ms: 300, twice: None };
        let mut position = Position::from_facts(&facts);
        assert_eq!(position.classify_entry(link(299, 0), &id(9)), Arrival::Seen);
        assert_eq!(position.classify_entry(link(400, 0), &id(1)), Arrival::Late);
        position.advance_to(link(400, 0), &id(1));
        assert_eq!(position.classify_entry(link(400, 0), &id(1)), Arrival::Seen);
        assert_eq!(position.classify_entry(link(401, 400), &id(2)), Arrival::Late);
        assert_eq!(position.classify_entry(link(now_ms, 400), &id(3)), Arrival::Next);
    }

    #[test]
    fn what_the_window_no_longer_covers_is_past() {
        let mut position = Position::new(Offset::first_of_ms(0));
        for n in 1..=200 {
            position.advance_to(link(n, n - 1), &id(n));
        }
        assert_eq!(position.classify_entry(link(50, 49), &id(999)), Arrival::Seen);
        assert_eq!(position.classify_entry(link(150, 149), &id(999)), Arrival::Late);
        assert_eq!(position.classify_entry(link(150, 149), &id(150)), Arrival::Seen);
    }
}
