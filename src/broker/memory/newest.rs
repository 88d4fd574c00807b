//! Of a room's `latest` events the newest of each key.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use hallway_rooms::entry::{Entry, Stamp};
use hallway_rooms::event::EventId;
use hallway_rooms::offset::Offset;

/// By the digest of its key.
#[derive(Default)]
pub(super) struct Newest(HashMap<u64, (Offset, Entry)>);

impl Newest {
    /// The stamp of an event of `key`; none if it is the newest one already.
    pub(super) fn stamp(&self, key: &str, id: &EventId, now_ms: u64) -> Option<Stamp> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let key = hasher.finish();
        match self.0.get(&key) {
            Some((_, newest)) if newest.id == *id => None,
            Some((at, _)) => Some(Stamp { key, at: Offset::next(Some(*at), now_ms) }),
            None => Some(Stamp { key, at: Offset::at(now_ms) }),
        }
    }

    /// Keeps an event, and gives up the oldest ones when there are more than `most` keys.
    pub(super) fn keep(&mut self, stamp: Stamp, entry: Entry, most: usize) {
        self.0.insert(stamp.key, (stamp.at, entry));
        if self.0.len() > most {
            let mut ages: Vec<(Offset, u64)> = self.0.iter().map(|(key, (at, _))| (*at, *key)).collect();
            ages.retain(|(_, key)| *key != stamp.key);
            ages.sort_unstable();
            let gone = self.0.len() - (most - most / 10);
            ages.iter().take(gone).for_each(|(_, key)| _ = self.0.remove(key));
        }
    }

    /// Forgets what is not newer than `oldest_ms`.
    pub(super) fn expire(&mut self, oldest_ms: u64) {
        self.0.retain(|_, (at, _)| at.ms > oldest_ms);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is newer than `oldest_ms`, oldest first.
    pub(super) fn current(&self, oldest_ms: u64) -> Vec<Entry> {
        let mut current: Vec<&(Offset, Entry)> = self.0.values().filter(|(at, _)| at.ms > oldest_ms).collect();
        current.sort_unstable_by_key(|(at, _)| *at);
        current.into_iter().map(|(_, entry)| entry.clone()).collect()
    }
}
