//! The index of queued `latest` frames: which one a newer frame of the same key may replace.

use std::collections::{HashMap, VecDeque};

/// Positions are counted over the life of a queue, frames that were sent included, so that they stay valid as it moves.
#[derive(Debug, Default)]
pub(super) struct LatestIndex {
    /// Frames that have left the front of the queue.
    gone: u64,
    /// Position of the last frame of each key.
    places: HashMap<u64, u64>,
    /// The same in order of position, so that the front of the queue finds its entry without a search.
    order: VecDeque<(u64, u64)>,
}

impl LatestIndex {
    /// Records that the frame at `index` of the queue is the latest of `key`.
    pub(super) fn note_frame(&mut self, key: u64, index: usize) {
        let place = self.gone + index as u64;
        self.places.insert(key, place);
        self.order.push_back((place, key));
    }

    /// Index in the queue of the waiting frame of `key`.
    pub(super) fn index_of(&self, key: u64) -> Option<usize> {
        self.places.get(&key).and_then(|place| usize::try_from(place - self.gone).ok())
    }

    /// Records that the front of the queue was sent.
    pub(super) fn note_front_gone(&mut self) {
        self.gone += 1;
        let passed = self.order.pop_front_if(|(place, _)| *place < self.gone);
        if let Some((place, key)) = passed
            // A later frame of the key may have its own entry, which must stay.
            && self.places.get(&key) == Some(&place)
        {
            self.places.remove(&key);
        }
        // An idle wire holds no memory for this: tables of a past burst are given back.
        if self.order.is_empty() {
            (self.places, self.order) = (HashMap::new(), VecDeque::new());
        }
    }
}
