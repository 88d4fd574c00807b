//! Which waiting frames may give way to a newer one of their key, and where they wait.

use std::collections::{HashMap, VecDeque};

/// Places are counted over the life of a queue: those that have gone count too.
#[derive(Debug, Default)]
pub(super) struct Latest {
    gone: u64,
    places: HashMap<u64, u64>,
    order: VecDeque<(u64, u64)>,
}

impl Latest {
    /// Notes that the frame at `index` of the queue is the newest of `key`.
    pub(super) fn note(&mut self, key: u64, index: usize) {
        let place = self.gone + index as u64;
        self.places.insert(key, place);
        self.order.push_back((place, key));
    }

    /// Where in the queue a frame of `key` waits.
    pub(super) fn index(&self, key: u64) -> Option<usize> {
        self.places.get(&key).and_then(|place| usize::try_from(place - self.gone).ok())
    }

    /// The front of the queue has gone.
    pub(super) fn advance(&mut self) {
        self.gone += 1;
        let passed = self.order.pop_front_if(|(place, _)| *place < self.gone);
        if let Some((place, key)) = passed
            && self.places.get(&key) == Some(&place)
        {
            self.places.remove(&key);
        }
        if self.order.is_empty() {
            (self.places, self.order) = (HashMap::new(), VecDeque::new());
        }
    }
}
