//! Tracks the `latest` events of a room: the stamp of each key that it delivered, and the events that came while a
//! joining session reads the current ones. The session watches the room from before its read until it is a member: so
//! it gets the latest event of each key, by the read or by the watch.

use std::collections::HashMap;

use hallway_rooms::entry::{Entry, Stamp};
use hallway_rooms::offset::Offset;

/// Keys remembered per room. Above this number all are forgotten, and an event may be delivered twice.
const REMEMBERED: usize = 16_384;
/// Milliseconds behind the last stamp beyond which a stamp shows that the broker's clock was set back.
const SET_BACK_MS: u64 = 60_000;

/// The `latest` events that a room has delivered; see the module.
#[derive(Debug, Default)]
pub(super) struct LatestDelivered {
    /// The last stamp of each key.
    latest: HashMap<u64, Offset>,
    /// Sessions that read the current events.
    watchers: usize,
    /// The last event of each key since the first of them began; empty without watchers.
    since_watch: HashMap<u64, Entry>,
}

impl LatestDelivered {
    /// Whether an event is newer than the last one of its key.
    pub(super) fn is_news(&self, stamp: Stamp) -> bool {
        // A stamp far behind is taken as newer: otherwise a clock that was set back would silence the key until it has
        // caught up.
        self.latest.get(&stamp.key).is_none_or(|at| stamp.at > *at || stamp.at.ms + SET_BACK_MS < at.ms)
    }

    /// Records that an event is delivered.
    pub(super) fn note_delivered(&mut self, stamp: Stamp, entry: &Entry) {
        if self.latest.len() >= REMEMBERED && !self.latest.contains_key(&stamp.key) {
            // The bound costs a second delivery of an event whose key was forgotten, which a client can bear.
            self.latest.clear();
        }
        self.latest.insert(stamp.key, stamp.at);
        if self.watchers > 0 && (self.since_watch.len() < REMEMBERED || self.since_watch.contains_key(&stamp.key)) {
            self.since_watch.insert(stamp.key, entry.clone());
        }
    }

    /// A session begins to read the current events.
    pub(super) fn begin_watch(&mut self) {
        self.watchers += 1;
    }

    /// A session has read the current events, or has given up.
    pub(super) fn end_watch(&mut self) {
        self.watchers -= 1;
        // The map itself is given back, not only emptied: most rooms are never watched again.
        if self.watchers == 0 {
            self.since_watch = HashMap::new();
        }
    }

    /// Whether a session reads the current events.
    pub(super) fn is_watched(&self) -> bool {
        self.watchers > 0
    }

    /// Gives the events that came since the first watcher began.
    pub(super) fn entries_since_watch(&self) -> Vec<Entry> {
        self.since_watch.values().cloned().collect()
    }
}
