//! Of `latest` events, what a room has passed on, and what came while somebody was reading what is current. Whoever reads
//! watches from before the read until it has a seat: so it gets the newest of each key, read or come.

use std::collections::HashMap;
use std::sync::Arc;

use hallway_rooms::entry::{Entry, Stamp};
use hallway_rooms::offset::Offset;

use super::room::LocalRoom;

/// Keys remembered per room. Beyond, all are forgotten, and an event may be passed on twice.
const REMEMBERED: usize = 16_384;
/// A stamp so far behind the last one is of a broker whose clock was set back, milliseconds.
const SET_BACK_MS: u64 = 60_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Passed {
    newest: HashMap<u64, Offset>,
    watchers: usize,
    came: HashMap<u64, Entry>,
}

impl Passed {
    /// Whether an event is newer than the last of its key.
    pub(super) fn is_news(&self, stamp: Stamp) -> bool {
        self.newest.get(&stamp.key).is_none_or(|at| stamp.at > *at || stamp.at.ms + SET_BACK_MS < at.ms)
    }

    /// Notes that an event is passed on.
    pub(super) fn note(&mut self, stamp: Stamp, entry: &Entry) {
        if self.newest.len() >= REMEMBERED && !self.newest.contains_key(&stamp.key) {
            self.newest.clear();
        }
        self.newest.insert(stamp.key, stamp.at);
        if self.watchers > 0 && (self.came.len() < REMEMBERED || self.came.contains_key(&stamp.key)) {
            self.came.insert(stamp.key, entry.clone());
        }
    }

    /// Whether somebody watches.
    pub(super) fn is_watched(&self) -> bool {
        self.watchers > 0
    }

    /// What came since the first of those who watch began to.
    pub(super) fn came(&self) -> Vec<Entry> {
        self.came.values().cloned().collect()
    }
}

/// Somebody who reads what is current in a room. While there is one, the room keeps what comes, and is not let go.
#[derive(Debug)]
pub struct Watch(Arc<LocalRoom>);

impl Watch {
    /// Begins to watch a room.
    #[must_use]
    pub fn over(local: &Arc<LocalRoom>) -> Self {
        local.passed(|passed| passed.watchers += 1);
        Self(local.clone())
    }

    /// The room.
    #[must_use]
    pub fn room(&self) -> &Arc<LocalRoom> {
        &self.0
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.passed(|passed| {
            passed.watchers -= 1;
            if passed.watchers == 0 {
                passed.came = HashMap::new();
            }
        });
    }
}
