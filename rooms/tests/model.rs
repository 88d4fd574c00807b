//! Resumes and positions against a room that forgets nothing: what is called complete must be, and what is must be
//! called so.
//!
//! What the rules are not meant to bear, and so is left out: a clock set back by more than the quiet head's minute, or
//! to before the birth, and data lost in the very millisecond in which it was stored.

use std::time::Duration;

use hallway_rooms::entry::ChainLink;
use hallway_rooms::event::EventId;
use hallway_rooms::history::{AHEAD_MS, RoomFacts, Start, leeway_ms};
use hallway_rooms::limits::QUIET_HEAD_MS;
use hallway_rooms::offset::Offset;
use hallway_rooms::position::{Arrival, Position};
use proptest::prelude::*;

const START: u64 = 1_700_000_000_000;
const TTL: u64 = 3_600_000;
const MEMORY: u64 = 4 * TTL;
const MAX_EVENTS: usize = 4;

/// One thing that happens to a room.
#[derive(Clone, Debug)]
enum Step {
    Store,
    /// The clock goes on.
    Pass(u64),
    /// The clock is set back, as far as the rules bear it.
    SetBack(u64),
    /// The broker loses everything.
    Flush,
    /// A client joins and is handed the head.
    Join,
    /// The node hears of the next entry it has not been told of.
    Hear,
    /// That message is lost on the way.
    Lose,
    /// A message comes a second time.
    Repeat(usize),
    /// The feed had a break: the node reads the history.
    Heal,
    /// A client asks for what came after any offset.
    ResumeFrom(u64, u64),
    /// A client asks for what came since any time.
    Since(u64),
    /// A client asks for what came since a time by a clock that is ahead.
    SinceAhead(u64),
}

/// A room as a broker has it, and beside it all that was ever stored.
struct Room {
    now: u64,
    latest: u64,
    birth: u64,
    stream: Vec<ChainLink>,
    stream_until: u64,
    last: Option<Offset>,
    last_until: u64,
    /// Every entry ever stored, and the place that its receiver got.
    ever: Vec<(ChainLink, Place)>,
    /// So many of them were stored before the data was lost.
    flushed: usize,
    /// The heads handed out.
    heads: Vec<Place>,
}

/// A place handed out to a client.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: Offset,
    /// So many entries it has behind it.
    seen: usize,
    /// When it was handed out.
    at: u64,
    /// The birth of the data at that time.
    birth: u64,
}

impl Room {
    fn new() -> Self {
        Self {
            now: START,
            latest: START,
            birth: START,
            stream: Vec::new(),
            stream_until: 0,
            last: None,
            last_until: 0,
            ever: Vec::new(),
            flushed: 0,
            heads: Vec::new(),
        }
    }

    fn facts(&self) -> RoomFacts {
        RoomFacts {
            now_ms: self.now,
            birth_ms: Some(self.birth),
            last: self.last,
            memory: Duration::from_millis(MEMORY),
            memory_since_ms: self.birth,
            twice: None,
        }
    }

    fn place(&self, offset: Offset) -> Place {
        Place { offset, seen: self.ever.len(), at: self.now, birth: self.birth }
    }

    /// What a client is handed that joins now: a last offset counts from when it was given.
    fn head(&self) -> Place {
        let head = self.place(self.facts().head());
        let newest = self.ever.last().filter(|_| self.last.is_some());
        Place { at: newest.map_or(head.at, |(_, place)| place.at), ..head }
    }

    fn expire(&mut self) {
        if self.now > self.stream_until {
            self.stream.clear();
        }
        if self.now > self.last_until {
            self.last = None;
        }
    }

    fn store(&mut self) {
        let offset = Offset::next(self.last, self.now);
        let link = ChainLink { offset, prev: self.last.unwrap_or_else(|| self.facts().silence_horizon()) };
        self.stream.push(link);
        if self.stream.len() > MAX_EVENTS {
            self.stream.remove(0);
        }
        self.stream_until = self.now + TTL;
        self.last = Some(offset);
        self.last_until = self.now.max(offset.ms) + MEMORY + leeway_ms(Duration::from_millis(MEMORY));
        self.ever.push((link, Place { seen: self.ever.len() + 1, ..self.place(offset) }));
    }

    fn pass(&mut self, ms: u64) {
        self.now += ms;
        self.latest = self.latest.max(self.now);
    }

    fn set_back(&mut self, by: u64) {
        let bound = (self.latest - QUIET_HEAD_MS).max(self.birth) + 1;
        self.now = self.now.saturating_sub(by).max(bound.min(self.now));
    }

    fn flush(&mut self) {
        self.now = self.latest + 1;
        self.latest = self.now;
        self.birth = self.now;
        self.stream.clear();
        self.last = None;
        self.flushed = self.ever.len();
    }

    fn read(&self, from: Start) -> (Vec<ChainLink>, bool) {
        let found: Vec<ChainLink> =
            self.stream.iter().copied().filter(|link| from.includes_offset(link.offset)).collect();
        let complete = self.facts().complete(from, &found, false);
        (found, complete)
    }

    /// Whether the holder of `place` must be told that nothing is lost to it: the data is the same, all it missed is
    /// still there, and the room was not silent for longer than is remembered.
    fn is_owed_completeness(&self, place: &Place) -> bool {
        let missed = &self.ever[place.seen..];
        let silent_until = missed.first().map_or(self.now, |(_, place)| place.at);
        place.birth == self.birth
            && missed.iter().all(|(link, _)| self.stream.contains(link))
            && silent_until.saturating_sub(place.at) <= MEMORY - 2 * QUIET_HEAD_MS
    }

    fn resume(&self, place: &Place) -> Result<(), TestCaseError> {
        let (found, complete) = self.read(Start::After(place.offset));
        let missed: Vec<ChainLink> = self.ever[place.seen..].iter().map(|(link, _)| *link).collect();
        let facts = self.facts();
        prop_assert!(
            !complete || found == missed,
            "called complete: {place:?} in {facts:?} gets {found:?} of {missed:?}"
        );
        let owed = self.is_owed_completeness(place);
        prop_assert!(complete || !owed, "nothing is lost, but not called complete: {place:?} in {facts:?}");
        Ok(())
    }

    /// Any place, whether it was handed out or not.
    fn ask(&self, from: Start) -> Result<(), TestCaseError> {
        let (found, complete) = self.read(from);
        let owed: Vec<ChainLink> =
            self.ever.iter().map(|(link, _)| *link).filter(|link| from.includes_offset(link.offset)).collect();
        let facts = self.facts();
        prop_assert!(!complete || found == owed, "called complete: {from:?} in {facts:?} gets {found:?} of {owed:?}");
        Ok(())
    }

    /// A time that is not past yet: nothing came since, and only within the little that clocks differ by may it be said.
    fn ask_ahead(&self, ahead_ms: u64) -> Result<(), TestCaseError> {
        let from = Start::Since(self.now + ahead_ms);
        let (_, complete) = self.read(from);
        prop_assert!(!complete || ahead_ms <= AHEAD_MS, "{ahead_ms} ms ahead, called complete in {:?}", self.facts());
        prop_assert_eq!(self.facts().is_ahead(from), ahead_ms > AHEAD_MS);
        let remembers = self.last.is_some_and(|last| last.ms < self.now);
        prop_assert!(complete || ahead_ms > AHEAD_MS || !remembers || self.birth > self.now + ahead_ms);
        self.ask(from)
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for place in self.heads.iter().chain(self.ever.iter().map(|(_, place)| place)) {
            self.resume(place)?;
            self.ask(Start::Since(place.offset.ms))?;
            self.ask(Start::Since(place.offset.ms + 1))?;
        }
        prop_assert!(self.facts().head() < Offset::next(self.last, self.now), "the next entry is not behind the head");
        Ok(())
    }
}

/// A node that delivers the room.
struct Node {
    position: Position,
    /// The entry it was delivered up to, as its members hold it.
    place: Place,
    /// Messages up to this one have reached it, or were lost on the way.
    told: usize,
    lacks: bool,
}

impl Node {
    fn joins(room: &Room) -> Self {
        let place = room.head();
        Self { position: Position::from_facts(&room.facts()), place, told: room.ever.len(), lacks: false }
    }

    fn deliver(&mut self, room: &Room, number: usize) -> Result<(), TestCaseError> {
        prop_assert_eq!(number, self.place.seen, "an entry is delivered out of its turn");
        let (link, place) = room.ever[number];
        self.position.advance_to(link, &id(number));
        self.place = place;
        Ok(())
    }

    fn hear(&mut self, room: &Room, number: usize) -> Result<(), TestCaseError> {
        let link = room.ever[number].0;
        if self.position.classify_entry(link, &id(number)) == Arrival::Gap {
            self.heal(room)?;
        }
        match self.position.classify_entry(link, &id(number)) {
            Arrival::Next | Arrival::Late => self.deliver(room, number),
            Arrival::Seen => Ok(()),
            Arrival::Gap => Err(TestCaseError::fail("a gap is left after healing")),
            Arrival::Again => Err(TestCaseError::fail("nothing was ever forgotten")),
        }
    }

    /// Reads what it lacks. If that is gone its members lose their transports, and it begins anew.
    fn heal(&mut self, room: &Room) -> Result<(), TestCaseError> {
        self.lacks = false;
        let (found, complete) = room.read(Start::After(self.position.delivered_offset()));
        if !complete {
            prop_assert!(!room.is_owed_completeness(&self.place), "cut off for nothing: {:?}", self.place);
            // Those who come back begin at the head, and what the room passed over for it is past.
            let (told, mut position) = (self.told, self.position.clone());
            position.skip_to(position.delivered_offset().max(room.facts().head()));
            *self = Self { position, told, ..Self::joins(room) };
            return Ok(());
        }
        for link in found {
            let number = room.ever.iter().position(|(known, _)| *known == link);
            self.deliver(room, number.expect("what is found was stored"))?;
        }
        Ok(())
    }

    fn take(&mut self, step: &Step, room: &Room) -> Result<(), TestCaseError> {
        let waiting = self.told < room.ever.len();
        match step {
            Step::Hear if waiting => {
                self.told += 1;
                self.hear(room, self.told - 1)?;
            }
            Step::Lose if waiting => {
                self.told += 1;
                self.lacks = true;
                if self.told <= room.flushed {
                    self.heal(room)?;
                }
            }
            Step::Repeat(back) if *back < self.told.min(self.place.seen) => {
                self.hear(room, self.told.min(self.place.seen) - 1 - back)?;
            }
            Step::Heal => self.heal(room)?,
            // Data is lost with the connection: whatever messages are lost as well, the feed says so.
            Step::Flush if self.lacks => self.heal(room)?,
            Step::Hear | Step::Lose | Step::Repeat(_) | Step::Flush => {}
            Step::Store | Step::Pass(_) | Step::SetBack(_) | Step::Join => {}
            Step::ResumeFrom(..) | Step::Since(_) | Step::SinceAhead(_) => {}
        }
        Ok(())
    }

    /// In the end, with everything heard, its members have had everything.
    fn end(&mut self, room: &Room) -> Result<(), TestCaseError> {
        while self.told < room.ever.len() {
            self.take(&Step::Hear, room)?;
        }
        self.heal(room)?;
        prop_assert_eq!(self.place.seen, room.ever.len(), "something was skipped silently");
        Ok(())
    }
}

fn id(number: usize) -> EventId {
    format!("e{number}").parse().expect("an id")
}

fn time() -> impl Strategy<Value = u64> {
    prop_oneof![0..3_u64, 0..120_000_u64, TTL - 2..TTL + 2, 0..MEMORY, MEMORY - 70_000..MEMORY + 200_000]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Store),
        4 => time().prop_map(Step::Pass),
        1 => (0..2 * QUIET_HEAD_MS).prop_map(Step::SetBack),
        1 => Just(Step::Flush),
        2 => Just(Step::Join),
        6 => Just(Step::Hear),
        2 => Just(Step::Lose),
        2 => (0..8_usize).prop_map(Step::Repeat),
        1 => Just(Step::Heal),
        2 => (0..MEMORY + TTL, 0..3_u64).prop_map(|(back, n)| Step::ResumeFrom(back, n)),
        1 => (0..MEMORY + TTL).prop_map(Step::Since),
        1 => prop_oneof![0..2 * AHEAD_MS, AHEAD_MS - 1..AHEAD_MS + 2, 0..MEMORY].prop_map(Step::SinceAhead),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_called_complete_is_and_what_is_complete_is_called_so(steps in prop::collection::vec(step(), 1..60)) {
        let mut room = Room::new();
        let mut node = Node::joins(&room);
        for step in &steps {
            match step {
                Step::Store => room.store(),
                Step::Pass(ms) => room.pass(*ms),
                Step::SetBack(ms) => room.set_back(*ms),
                Step::Flush => room.flush(),
                Step::Join => room.heads.push(room.head()),
                Step::ResumeFrom(back, n) => room.ask(Start::After(Offset { ms: room.now - back, n: *n }))?,
                Step::Since(back) => room.ask(Start::Since(room.now - back))?,
                Step::SinceAhead(ms) => room.ask_ahead(*ms)?,
                Step::Hear | Step::Lose | Step::Repeat(_) | Step::Heal => {}
            }
            room.expire();
            node.take(step, &room)?;
            room.check()?;
        }
        node.end(&room)?;
    }
}
