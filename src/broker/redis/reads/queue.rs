//! The commands that wait for one room.

use hallway_rooms::entry::Entry;
use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;
use tokio::sync::oneshot;

use super::range::{EntryRun, HistoryRange};
use crate::broker::{HistoryRequest, Resumed, Unavailable};

/// Waits for the `latest` events.
pub(super) type LatestWaiters = oneshot::Sender<Result<Vec<Entry>, Unavailable>>;

/// Waits for a part of the history.
struct ReadWaiter {
    portion: HistoryRequest,
    to: oneshot::Sender<Result<Resumed, Unavailable>>,
}

/// The commands of one room.
#[derive(Default)]
pub(super) struct ReadQueue {
    askers: Vec<ReadWaiter>,
    latest: Vec<LatestWaiters>,
    /// Where the last read began.
    cursor: Offset,
    /// Whether the room is queued or being read.
    pub(super) stands: bool,
}

/// The commands of one read.
#[derive(Default)]
pub(super) struct ReadBatch {
    askers: Vec<ReadWaiter>,
    latest: Vec<LatestWaiters>,
    cursor: Offset,
}

impl ReadQueue {
    pub(super) fn add_waiter(&mut self, portion: HistoryRequest, to: oneshot::Sender<Result<Resumed, Unavailable>>) {
        // Commands that gave up are removed at each doubling: they never outnumber the waiting ones, and the cost
        // stays constant on average.
        if self.askers.len().is_power_of_two() {
            self.askers.retain(|asker| !asker.to.is_closed());
        }
        self.askers.push(ReadWaiter { portion, to });
    }

    pub(super) fn ask_latest(&mut self, to: LatestWaiters) {
        if self.latest.len().is_power_of_two() {
            self.latest.retain(|waiting| !waiting.is_closed());
        }
        self.latest.push(to);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.askers.is_empty() && self.latest.is_empty()
    }

    pub(super) fn take_batch(&mut self) -> ReadBatch {
        let (mut askers, mut latest) = (std::mem::take(&mut self.askers), std::mem::take(&mut self.latest));
        askers.retain(|asker| !asker.to.is_closed());
        latest.retain(|waiting| !waiting.is_closed());
        ReadBatch { askers, latest, cursor: self.cursor }
    }

    pub(super) fn put_back(&mut self, left: ReadBatch, cursor: Offset) {
        self.cursor = cursor;
        self.askers.extend(left.askers);
    }
}

impl ReadBatch {
    pub(super) fn take_latest(&mut self) -> Vec<LatestWaiters> {
        std::mem::take(&mut self.latest)
    }

    /// The start of the read: the oldest one after the last read's, or the oldest of all.
    pub(super) fn start_offset(&self) -> Option<Offset> {
        let places = || self.askers.iter().map(|asker| asker.portion.from.exclusive_offset());
        places().filter(|place| *place > self.cursor).min().or_else(|| places().min())
    }

    /// The number of commands that wait for a part of the history.
    pub(super) fn waiter_count(&self) -> usize {
        self.askers.len()
    }

    /// The largest request among them, in events and bytes.
    pub(super) fn largest_request(&self) -> (usize, usize) {
        let portions = || self.askers.iter().map(|asker| asker.portion);
        let events = portions().map(|portion| portion.events).max().unwrap_or(1);
        (events.max(1), portions().map(|portion| portion.bytes).max().unwrap_or(1))
    }

    /// The largest request that a kept page does not cover; none when it covers every command whose start is in it.
    pub(super) fn wanted_beyond(&self, room: &Room, run: &EntryRun) -> Option<(usize, usize)> {
        let inside = self.askers.iter().filter(|asker| run.contains_from(asker.portion.from.exclusive_offset()));
        let wanting = inside.filter_map(|asker| run.leaves_wanting(room, asker.portion));
        wanting.reduce(|one, other| (one.0.max(other.0), one.1.max(other.1)))
    }

    /// Answers the commands that the read reaches, and returns the others. The command whose start was used is always
    /// answered, so that each read serves at least one.
    pub(super) fn answer_reached(self, room: &Room, stretch: &HistoryRange, place: Offset) -> Self {
        let mut left = Vec::new();
        for asker in self.askers {
            let from = asker.portion.from.exclusive_offset();
            if stretch.reaches_offset(room, from) || (from == place && stretch.end(room).is_none_or(|end| end <= place))
            {
                asker.to.send(Ok(stretch.part_for(room, asker.portion))).ok();
            } else {
                left.push(asker);
            }
        }
        Self { askers: left, latest: Vec::new(), cursor: self.cursor }
    }

    pub(super) fn fail_all(self, why: &Unavailable) {
        self.askers.into_iter().for_each(|asker| _ = asker.to.send(Err(why.clone())));
    }
}
