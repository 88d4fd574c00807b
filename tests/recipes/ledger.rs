//! What was published, and whether an app had all of it: each event once, and in the order of each of its rooms.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use crate::harness::redis::Published;

#[derive(Default)]
pub(super) struct Ledger {
    /// The ids of each room's events that are handled, by their offsets.
    rooms: BTreeMap<String, Vec<String>>,
    heads: BTreeMap<String, String>,
    handled: usize,
}

impl Ledger {
    /// Events are entered in the order in which they were published, by one publisher.
    pub(super) fn enter(&mut self, published: &Published, is_handled: bool) {
        for (room, offset, _) in &published.placed {
            self.heads.insert(room.clone(), offset.clone());
            if is_handled {
                self.rooms.entry(room.clone()).or_default().push(published.id.clone());
            }
        }
        self.handled += usize::from(is_handled);
    }

    /// How many events have a handler.
    pub(super) fn len(&self) -> usize {
        self.handled
    }

    /// The last offset of each room.
    pub(super) fn heads(&self) -> Value {
        json!(self.heads)
    }

    #[track_caller]
    pub(super) fn check(&self, name: &str, had: &[String]) {
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (at, id) in had.iter().enumerate() {
            assert_eq!(places.insert(id, at), None, "{name} had {id} twice");
        }
        assert_eq!(had.len(), self.handled, "{name}: how many events");
        for (room, ids) in &self.rooms {
            let order: Vec<_> = ids.iter().map(|id| places.get(id.as_str())).collect();
            assert!(order.iter().all(Option::is_some), "{name} has lost something in {room}");
            assert!(order.is_sorted(), "{name} had the events of {room} in another order");
        }
    }
}
