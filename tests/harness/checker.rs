//! The checker: holds what a client received against what the histories of its rooms say.

use std::collections::{BTreeMap, HashSet};

use hallway_rooms::offset::Offset;
use serde_json::Value;

use super::client::Client;
use super::publisher::Receipt;
use super::redis::Redis;

/// Where an event stands in each of its rooms, in the publisher's order.
type Places = Vec<(String, Offset)>;

/// The histories of some rooms, as Redis has them.
#[derive(Default)]
pub struct Histories {
    rooms: BTreeMap<String, Vec<(Offset, String)>>,
    events: BTreeMap<String, Places>,
}

/// What one client was told: where it came into each of its rooms, and the events it got since, in their order.
#[derive(Default)]
pub struct Record {
    pub name: String,
    pub joined: BTreeMap<String, Offset>,
    pub events: Vec<Value>,
}

/// Reads an offset.
pub fn offset(text: &Value) -> Offset {
    text.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no offset: {text}"))
}

impl Histories {
    /// Reads the whole stream of each room.
    pub async fn read(redis: &Redis, rooms: &[String]) -> Self {
        let mut histories = Self::default();
        let mut connection = redis.client().await;
        for room in rooms {
            let mut range = redis::cmd("XRANGE");
            range.arg(format!("hallway:{{{room}}}:history")).arg("-").arg("+");
            let stream: Vec<(String, Vec<Vec<u8>>)> = range.query_async(&mut connection).await.expect("a stream");
            for (at, fields) in stream {
                histories.note(room, at.parse().expect("a stream id is an offset"), &fields[1]);
            }
        }
        histories
    }

    fn note(&mut self, room: &str, at: Offset, message: &[u8]) {
        let text = std::str::from_utf8(message).expect("a stored message is text");
        let head = text.lines().next().expect("a stored message has a first line");
        let words: Vec<&str> = head.split(' ').collect();
        let place = |place: &[&str]| (place[0].to_owned(), place[1].parse().expect("an offset"));
        let places: Places = words[4..].chunks(3).map(place).collect();
        assert!(places.contains(&(room.to_owned(), at)), "an entry does not say where it stands: {head}");
        let id = words[1].to_owned();
        self.rooms.entry(room.to_owned()).or_default().push((at, id.clone()));
        let known = self.events.entry(id).or_insert_with(|| places.clone());
        assert_eq!(*known, places, "the copies of an event disagree");
    }

    /// How many events there are.
    pub fn events(&self) -> usize {
        self.events.len()
    }

    /// Whether an event is in any history.
    pub fn has(&self, id: &str) -> bool {
        self.events.contains_key(id)
    }

    /// Asserts that the events of each of these publishers, `<name>-<n>`, stand in every room in the order of their numbers.
    pub fn hold_order(&self, publishers: &[&str]) {
        for (room, stream) in &self.rooms {
            for name in publishers {
                let number = |id: &String| id.strip_prefix(name)?.strip_prefix('-')?.parse::<usize>().ok();
                let numbers: Vec<usize> = stream.iter().filter_map(|(_, id)| number(id)).collect();
                assert!(!numbers.is_empty() && numbers.is_sorted(), "{name} in {room}: {numbers:?}");
            }
        }
    }

    /// Asserts that everything a publisher was promised is there, once, where it was told.
    pub fn hold(&self, receipts: &[Receipt]) {
        for receipt in receipts {
            let places = self.events.get(&receipt.id).unwrap_or_else(|| panic!("{} was lost", receipt.id));
            let told = receipt.offsets.iter().map(|(room, at)| (room.clone(), at.parse().expect("an offset")));
            assert_eq!(told.collect::<Places>(), *places, "{} is not where its publisher was told", receipt.id);
        }
        for (room, stream) in &self.rooms {
            let ids: HashSet<&String> = stream.iter().map(|(_, id)| id).collect();
            assert_eq!(ids.len(), stream.len(), "an id is stored twice in {room}");
        }
    }

    /// Asserts that a client got every event of its rooms since it joined: once, in history order, with true offsets,
    /// and nothing else.
    pub fn check(&self, record: &Record) {
        let mut seen = HashSet::new();
        let mut got: BTreeMap<&str, Vec<Offset>> = BTreeMap::new();
        for event in &record.events {
            let id = event["id"].as_str().expect("an id");
            assert!(seen.insert(id), "{}: {id} came twice", record.name);
            for (room, at) in self.expected(record, event) {
                got.entry(room).or_default().push(at);
            }
        }
        for (room, since) in &record.joined {
            let stream = self.rooms.get(room).map(Vec::as_slice).unwrap_or_default();
            let owed: Vec<Offset> = stream.iter().map(|(at, _)| *at).filter(|at| at > since).collect();
            let got = got.remove(room.as_str()).unwrap_or_default();
            if let Some(at) = (0..owed.len().max(got.len())).find(|at| owed.get(*at) != got.get(*at)) {
                panic!(
                    "{} in {room}: event {at} of {} should be {:?}, but is {:?}",
                    record.name,
                    owed.len(),
                    owed.get(at),
                    got.get(at)
                );
            }
        }
    }

    /// The places an event has for this client, asserted to be those that its `meta` names.
    fn expected<'a>(&'a self, record: &Record, event: &Value) -> Vec<(&'a str, Offset)> {
        let (name, meta, id) = (&record.name, &event["meta"], event["id"].as_str().expect("an id"));
        let places = self.events.get(id).unwrap_or_else(|| panic!("{name}: {id} is in no history"));
        let is_owed = |(room, at): &&(String, Offset)| record.joined.get(room).is_some_and(|since| at > since);
        let owed: Vec<(&str, Offset)> = places.iter().filter(is_owed).map(|(room, at)| (room.as_str(), *at)).collect();
        assert!(!owed.is_empty(), "{name}: {event} is of no room it is in");
        assert_eq!((meta["room"].as_str(), offset(&meta["offset"])), (Some(owed[0].0), owed[0].1), "{name}: {event}");
        let named: BTreeMap<&str, Offset> = meta["offsets"]
            .as_object()
            .map(|offsets| offsets.iter().map(|(room, at)| (room.as_str(), offset(at))).collect())
            .unwrap_or_default();
        let wanted: BTreeMap<&str, Offset> =
            if owed.len() > 1 { owed.iter().copied().collect() } else { BTreeMap::new() };
        assert_eq!(named, wanted, "{name}: {event}");
        owed
    }
}

impl Record {
    /// A client that joins these rooms now.
    pub async fn begin(name: String, client: &mut Client, rooms: &[String]) -> Self {
        let mut record = Self { name, ..Self::default() };
        for room in rooms {
            let data = client.join(room).await;
            record.joined.insert(room.clone(), offset(&data["offset"]));
        }
        record
    }

    /// Takes events until one with this id has come.
    pub async fn take_until(&mut self, client: &mut Client, last: &str) {
        loop {
            let (_, mut argument) = client.event().await;
            let event = argument["event"].take();
            let over = event["id"] == last;
            self.events.push(event);
            if over {
                return;
            }
        }
    }
}

mod checks {
    use serde_json::json;

    use super::*;

    /// Two rooms: `a` alone, then an event in both, then `b` alone.
    fn histories() -> Histories {
        let mut histories = Histories::default();
        histories.note("order:a", Offset::first_of_ms(1), b"1 e1 1 0 order:a 1-0 0-0\n{}");
        histories.note("order:a", Offset::first_of_ms(2), b"1 e2 2 0 order:a 2-0 1-0 order:b 2-0 0-0\n{}");
        histories.note("order:b", Offset::first_of_ms(2), b"1 e2 2 0 order:a 2-0 1-0 order:b 2-0 0-0\n{}");
        histories.note("order:b", Offset::first_of_ms(3), b"1 e3 3 0 order:b 3-0 2-0\n{}");
        histories
    }

    fn events() -> [Value; 3] {
        [
            json!({"id": "e1", "meta": {"room": "order:a", "offset": "1-0"}}),
            json!({"id": "e2", "meta": {"room": "order:a", "offset": "2-0", "offsets": {"order:a": "2-0", "order:b": "2-0"}}}),
            json!({"id": "e3", "meta": {"room": "order:b", "offset": "3-0"}}),
        ]
    }

    fn is_accepted(rooms: &[&str], events: Vec<Value>) -> bool {
        let joined = rooms.iter().map(|room| ((*room).to_owned(), Offset::default())).collect();
        let record = Record { name: "a member".to_owned(), joined, events };
        std::panic::catch_unwind(|| histories().check(&record)).is_ok()
    }

    #[test]
    fn the_checker_accepts_a_true_record_and_no_other() {
        let both = ["order:a", "order:b"];
        let [one, two, three] = events();
        let all = vec![one.clone(), two.clone(), three.clone()];
        assert!(is_accepted(&both, all.clone()));
        assert!(!is_accepted(&["order:a"], all.clone()), "an event of a room it is not in");
        assert!(!is_accepted(&["order:a"], vec![one.clone(), two.clone()]), "an offset of a room it is not in");
        assert!(!is_accepted(&both, vec![one.clone(), three.clone()]), "a gap");
        assert!(!is_accepted(&both, vec![one.clone(), two.clone()]), "the end is missing");
        assert!(!is_accepted(&both, vec![two.clone(), one.clone(), three.clone()]), "out of order");
        assert!(!is_accepted(&both, vec![one, two.clone(), two, three]), "twice");
        let mut wrong = all;
        wrong[1]["meta"]["offsets"]["order:b"] = "9-0".into();
        assert!(!is_accepted(&both, wrong), "a false offset");
    }
}
