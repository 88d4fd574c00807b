//! What was published, and whether a client's transcript is true to it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;

use hallway_rooms::offset::Offset;
use serde_json::Value;

use super::trouble::FORGED;
use super::wanderer::{Item, Log};
use crate::harness::checker::offset;
use crate::harness::publisher::Receipt;

/// All that was ever stored.
#[derive(Default)]
pub(super) struct Truth {
    rooms: BTreeMap<String, BTreeMap<Offset, String>>,
    events: HashMap<String, Vec<(String, Offset)>>,
    /// Rooms and ids of entries that histories have no more.
    deleted: HashSet<(String, String)>,
}

/// What may befall a client.
pub(super) struct Leeway {
    closed: bool,
    /// Rooms whose histories may be called incomplete; all of them when there is no list.
    incomplete: Option<Vec<String>>,
}

impl Leeway {
    /// Nothing.
    pub(super) fn none() -> Self {
        Self { closed: false, incomplete: Some(Vec::new()) }
    }

    /// Its transports may be closed, and any history may not reach back.
    pub(super) fn everywhere() -> Self {
        Self { closed: true, incomplete: None }
    }

    /// Its transports may be closed, and the histories of these rooms may not reach back.
    pub(super) fn of(rooms: &[String]) -> Self {
        Self { closed: true, incomplete: Some(rooms.to_vec()) }
    }

    fn covers(&self, room: &str) -> bool {
        self.incomplete.as_ref().is_none_or(|rooms| rooms.iter().any(|one| one == room))
    }
}

/// What a client must have had so far, on one connection.
struct Reader<'a> {
    truth: &'a Truth,
    name: String,
    /// What it has seen so far.
    past: &'a [Item],
    leeway: &'a Leeway,
    /// Where it stands in each of its rooms, and which of its stays there this is.
    rooms: BTreeMap<String, (Offset, usize)>,
    /// Events that came by themselves, with the stays that brought them.
    seen: HashMap<String, Vec<(String, usize)>>,
    stays: usize,
    /// Stays that the client has asked to end.
    moving: HashSet<(String, usize)>,
    /// How often it has asked to leave a room, or to have it again, and not had an answer.
    asked: HashMap<String, usize>,
}

impl Truth {
    pub(super) fn new(receipts: &[Receipt]) -> Self {
        let mut truth = Self::default();
        for receipt in receipts {
            let place = |(room, at): &(String, String)| (room.clone(), at.parse().expect("an offset"));
            let places: Vec<(String, Offset)> = receipt.offsets.iter().map(place).collect();
            for (room, at) in &places {
                truth.rooms.entry(room.clone()).or_default().insert(*at, receipt.id.clone());
            }
            truth.events.insert(receipt.id.clone(), places);
        }
        truth
    }

    /// As it is after these rooms have lost these entries.
    pub(super) fn without(mut self, deleted: HashSet<(String, String)>) -> Self {
        self.deleted = deleted;
        self
    }

    /// Asserts that a transcript is true; `about` is said when it is not.
    pub(super) fn check(&self, log: &Log, leeway: &Leeway, about: &str) {
        let name = format!("{about}, {}", log.name);
        assert!(!log.stuck, "{name}: the last words of its rooms did not come");
        let (rooms, seen) = (BTreeMap::new(), HashMap::new());
        let mut reader = Reader {
            truth: self,
            name: name.clone(),
            past: &log.items,
            leeway,
            rooms,
            seen,
            stays: 0,
            moving: HashSet::new(),
            asked: HashMap::new(),
        };
        for (n, item) in log.items.iter().enumerate() {
            reader.name = format!("{name}, item {n}");
            reader.past = &log.items[..=n];
            reader.take(item);
        }
        reader.end();
    }

    /// What is newer than `after` in a room, up to `to`.
    fn between(&self, room: &str, after: Offset, to: Offset) -> impl Iterator<Item = &String> {
        let bounds = (Bound::Excluded(after), Bound::Included(to.max(after)));
        let stored = self.rooms.get(room).filter(|_| after < to);
        stored.into_iter().flat_map(move |stored| stored.range(bounds)).map(|(_, id)| id)
    }
}

impl Reader<'_> {
    fn take(&mut self, item: &Item) {
        match item {
            Item::Connected => {
                self.rooms.clear();
                self.seen.clear();
                self.asked.clear();
            }
            Item::Moves(room) => {
                *self.asked.entry(room.clone()).or_default() += 1;
                self.moving.extend(self.rooms.get(room).map(|(_, stay)| (room.clone(), *stay)));
            }
            Item::Refused(room) => self.answered(room),
            Item::Closed => assert!(self.leeway.closed, "{}: the transport was closed", self.name),
            Item::Left(room) => {
                self.answered(room);
                self.rooms.remove(room);
            }
            Item::Joined { room, after: Some(after), data } => {
                self.answered(room);
                self.resumed(room, after, data);
            }
            Item::Joined { room, after: None, data } => self.joined(room, offset(&data["offset"])),
            Item::Event(event) => self.event(event),
            Item::Told(event) => self.told(event),
        }
    }

    fn resumed(&mut self, room: &str, after: &str, data: &Value) {
        let (name, after, to) = (&self.name, after.parse().expect("an offset"), offset(&data["offset"]));
        let events = data["events"].as_array().expect("events");
        let got: Vec<&str> = events.iter().map(|event| event["id"].as_str().expect("an id")).collect();
        let owed: Vec<&String> = self.truth.between(room, after, to).collect();
        let whole = data["complete"] == true;
        let from_one_on = after == Offset { ms: 1, n: 0 };
        let may_lack = self.leeway.covers(room) || from_one_on;
        assert!(whole || may_lack, "{name}: {room} after {after} is called incomplete");
        if whole {
            assert!(after <= to, "{name}: {room} is called complete after {after}, and it ends at {to}");
            let first =
                (0..got.len().max(owed.len())).find(|at| got.get(*at).copied() != owed.get(*at).map(|id| id.as_str()));
            let differ = first.map(|at| (at, got.get(at), owed.get(at)));
            assert_eq!(differ, None, "{name}: {room} is called complete from {after} to {to}: (which, got, owed)");
        } else {
            // What the room has lost may have come by another one that was joined with it.
            let mut rest = owed.iter();
            let in_order = got.iter().all(|id| rest.any(|owed| owed == id));
            let is_gone = |id: &String| self.truth.deleted.contains(&(room.to_owned(), id.clone()));
            assert!(
                in_order && rest.all(|id| is_gone(id)),
                "{name}: {got:?} in {room} of {owed:?} between {after} and {to}"
            );
        }
        self.stays += 1;
        self.rooms.insert(room.to_owned(), (to, self.stays));
        if self.asked.contains_key(room) {
            self.moving.insert((room.to_owned(), self.stays));
        }
    }

    fn answered(&mut self, room: &str) {
        if let Some(asked) = self.asked.get_mut(room) {
            *asked -= 1;
            if *asked == 0 {
                self.asked.remove(room);
            }
        }
    }

    fn joined(&mut self, room: &str, head: Offset) {
        let Some((at, stay)) = self.rooms.get(room).copied() else {
            self.stays += 1;
            self.rooms.insert(room.to_owned(), (head, self.stays));
            if self.asked.contains_key(room) {
                self.moving.insert((room.to_owned(), self.stays));
            }
            return;
        };
        self.assert_had(room, at, head);
        self.rooms.insert(room.to_owned(), (at.max(head), stay));
    }

    /// Asserts that all between two places came by another room.
    fn assert_had(&self, room: &str, after: Offset, to: Offset) {
        for id in self.truth.between(room, after, to) {
            assert!(
                self.seen.contains_key(id),
                "{}: {id} is missing in {room} between {after} and {to}\n{}",
                self.name,
                self.trail(id)
            );
        }
    }

    /// What it saw of an event's rooms since it connected.
    fn trail(&self, id: &str) -> String {
        let places = &self.truth.events[id];
        let since = self.past.iter().rposition(|item| matches!(item, Item::Connected)).unwrap_or_default();
        let told = self.past.iter().enumerate().skip(since);
        let lines = told.filter_map(|(n, item)| Some(format!("{n}: {}", item.told_of(places)?)));
        format!("{id} is at {places:?}\n{}", lines.collect::<Vec<_>>().join("\n"))
    }

    fn event(&mut self, event: &Value) {
        let (name, meta, id) = (self.name.clone(), &event["meta"], event["id"].as_str().expect("an id"));
        // Whose line has the right form is believed for as long as it harms no other publisher's events.
        if id.starts_with(FORGED) {
            let room = meta["room"].as_str().expect("a room");
            return assert!(
                self.leeway.covers(room) && self.leeway.closed,
                "{name}: {event} in a room without trouble"
            );
        }
        let places = self.truth.events.get(id).unwrap_or_else(|| panic!("{name}: {id} was never published"));
        let mut named: Vec<(&str, Offset)> = vec![(meta["room"].as_str().expect("a room"), offset(&meta["offset"]))];
        if let Some(offsets) = meta["offsets"].as_object() {
            let all = places.iter().filter_map(|(room, _)| Some((room.as_str(), offset(offsets.get(room)?))));
            let all: Vec<_> = all.collect();
            assert_eq!((all.len(), all[0]), (offsets.len(), named[0]), "{name}: {event}");
            named = all;
        }
        self.assert_new(id, &named);
        for (room, at) in &named {
            assert!(
                places.contains(&((*room).to_owned(), *at)),
                "{name}: {id} is not at {at} in {room}, but at {places:?}"
            );
            let Some((stood, stay)) = self.rooms.get(*room).copied() else {
                panic!("{name}: {id} is of {room}, where it is not")
            };
            assert!(stood < *at, "{name}: {id} at {at} in {room}, where it stood at {stood}");
            let before = Offset { ms: at.ms, n: at.n };
            for missed in self.truth.between(room, stood, before).filter(|missed| *missed != id) {
                assert!(
                    self.seen.contains_key(missed),
                    "{name}: {missed} is missing in {room} before {id}\n{}",
                    self.trail(missed)
                );
            }
            self.rooms.insert((*room).to_owned(), (*at, stay));
        }
        let stays = named.iter().map(|(room, _)| ((*room).to_owned(), self.rooms[*room].1)).collect();
        self.seen.insert(id.to_owned(), stays);
    }

    /// Notes an event that came with the answer which began these stays: no room brings it again while they last.
    fn told(&mut self, event: &Value) {
        let meta = &event["meta"];
        let rooms = meta["offsets"].as_object().map(|all| all.keys().map(String::as_str).collect::<Vec<_>>());
        let rooms = rooms.unwrap_or_else(|| vec![meta["room"].as_str().expect("a room")]);
        let stays = rooms.into_iter().filter_map(|room| Some((room.to_owned(), self.rooms.get(room)?.1)));
        self.seen.entry(event["id"].as_str().expect("an id").to_owned()).or_default().extend(stays);
    }

    /// Asserts that no stay that still lasts has brought the event before.
    fn assert_new(&self, id: &str, named: &[(&str, Offset)]) {
        let stays = self.seen.get(id).map(Vec::as_slice).unwrap_or_default();
        let lasts = |(room, stay): &&(String, usize)| self.rooms.get(room).is_some_and(|(_, now)| now == stay);
        let first = stays.iter().filter(lasts).find(|stay| !self.moving.contains(stay));
        assert!(first.is_none(), "{}: {id} came by {first:?} and again by {named:?}\n{}", self.name, self.trail(id));
    }

    fn end(&self) {
        for (room, (at, _)) in &self.rooms {
            self.assert_had(room, *at, Offset { ms: u64::MAX, n: 0 });
        }
    }
}
