//! The last `latest` event of each key of a room.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use hallway_rooms::entry::{Entry, Stamp};
use hallway_rooms::event::EventId;
use hallway_rooms::offset::Offset;

/// By the hash of the key.
#[derive(Default)]
pub(super) struct LatestByKey(HashMap<u64, (Offset, Entry)>);

impl LatestByKey {
    /// The stamp of an event of `key`; none if the event is the last one already.
    pub(super) fn next_stamp(&self, key: &str, id: &EventId, now_ms: u64) -> Option<Stamp> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let key = hasher.finish();
        match self.0.get(&key) {
            // A repeated publish of the current event changes nothing.
            Some((_, latest)) if latest.id == *id => None,
            Some((at, _)) => Some(Stamp { key, at: Offset::next(Some(*at), now_ms) }),
            None => Some(Stamp { key, at: Offset::first_of_ms(now_ms) }),
        }
    }

    /// Keeps an event, and drops the oldest when there are more than `most` keys.
    pub(super) fn keep_latest(&mut self, stamp: Stamp, entry: Entry, most: usize) {
        self.0.insert(stamp.key, (stamp.at, entry));
        // A tenth more than needed is dropped, so that the sort is not repeated for each event.
        if self.0.len() > most {
            let mut ages: Vec<(Offset, u64)> = self.0.iter().map(|(key, (at, _))| (*at, *key)).collect();
            // The event just stored stays, whatever its stamp.
            ages.retain(|(_, key)| *key != stamp.key);
            ages.sort_unstable();
            let gone = self.0.len() - (most - most / 10);
            ages.iter().take(gone).for_each(|(_, key)| _ = self.0.remove(key));
        }
    }

    /// Drops the events that are not newer than `oldest_ms`.
    pub(super) fn expire(&mut self, oldest_ms: u64) {
        self.0.retain(|_, (at, _)| at.ms > oldest_ms);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The events newer than `oldest_ms`, oldest first.
    pub(super) fn newer_than(&self, oldest_ms: u64) -> Vec<Entry> {
        let mut current: Vec<&(Offset, Entry)> = self.0.values().filter(|(at, _)| at.ms > oldest_ms).collect();
        current.sort_unstable_by_key(|(at, _)| *at);
        current.into_iter().map(|(_, entry)| entry.clone()).collect()
    }
}
