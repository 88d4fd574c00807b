//! The wires that come to a compact reader.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Adopted;
use crate::wire::ready::ReadyList;

/// Where wires are handed to one reader.
#[derive(Debug)]
pub(in crate::wire) struct Arrivals {
    waiting: Mutex<Waiting>,
    /// The list of the reader, which is also told of arrivals.
    pub(super) ready: Arc<ReadyList>,
}

/// What waits for a reader; bounded by the wires that there are.
#[derive(Debug, Default)]
struct Waiting {
    /// Wires that are handed over.
    arrived: Vec<Adopted>,
    /// Wires that are about to arrive.
    expected: usize,
    /// Whether the listener is gone: no wire is expected any more.
    closing: bool,
}

impl Arrivals {
    pub(super) fn new(ready: Arc<ReadyList>) -> Self {
        Self { waiting: Mutex::default(), ready }
    }

    /// Makes the reader expect a wire; false if it takes none any more. A [`Arrivals::take_over`] or
    /// [`Arrivals::release_place`] follows.
    pub(in crate::wire) fn reserve_place(&self) -> bool {
        let mut waiting = self.waiting.lock();
        if !waiting.closing {
            waiting.expected += 1;
        }
        !waiting.closing
    }

    /// Tells the reader that the wire it expects does not come.
    pub(in crate::wire) fn release_place(&self) {
        self.waiting.lock().expected -= 1;
        // It may wait for this to end.
        self.ready.news.notify_one();
    }

    /// Hands a wire over that the reader expects.
    pub(in crate::wire) fn take_over(&self, adopted: Adopted) {
        let mut waiting = self.waiting.lock();
        waiting.expected -= 1;
        waiting.arrived.push(adopted);
        drop(waiting);
        self.ready.news.notify_one();
    }

    /// Takes the wires that have arrived. The second value is whether none comes any more.
    pub(super) fn take_arrived(&self) -> (Vec<Adopted>, bool) {
        let mut waiting = self.waiting.lock();
        (std::mem::take(&mut waiting.arrived), waiting.closing && waiting.expected == 0)
    }

    /// Expects no wire any more.
    pub(super) fn close(&self) {
        self.waiting.lock().closing = true;
        self.ready.news.notify_one();
    }
}
