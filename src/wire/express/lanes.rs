//! The lanes that are still closed, with the frames they hold. An open lane needs no state and is not listed.

use std::collections::VecDeque;

use bytes::Bytes;

/// Names one lane of one wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wire) struct LaneId(u64);

#[derive(Debug)]
struct Closed {
    id: LaneId,
    opens_with: Box<[u8]>,
    held: VecDeque<Bytes>,
}

/// All closed lanes of one wire, oldest first.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    closed: Vec<Closed>,
    added: u64,
}

impl Lanes {
    /// A new lane. It is open from the start when `opens_with` is empty.
    pub(super) fn add(&mut self, opens_with: &str) -> LaneId {
        let id = LaneId(self.added);
        self.added += 1;
        if !opens_with.is_empty() {
            self.closed.push(Closed { id, opens_with: opens_with.as_bytes().into(), held: VecDeque::new() });
        }
        id
    }

    /// Forgets a lane; returns what it held.
    pub(super) fn remove(&mut self, id: LaneId) -> VecDeque<Bytes> {
        let place = self.closed.iter().position(|lane| lane.id == id);
        place.map(|place| self.closed.remove(place).held).unwrap_or_default()
    }

    pub(super) fn is_closed(&self, id: LaneId) -> bool {
        self.closed.iter().any(|lane| lane.id == id)
    }

    pub(super) fn hold(&mut self, id: LaneId, frame: Bytes) {
        if let Some(lane) = self.closed.iter_mut().find(|lane| lane.id == id) {
            lane.held.push_back(frame);
        }
    }

    /// Opens the lanes that wait for a text message with this start; what they held enters `queue`.
    pub(super) fn open(&mut self, text: &[u8], queue: &mut VecDeque<Bytes>) {
        self.closed.retain_mut(|lane| {
            let opens = text.starts_with(&lane.opens_with);
            if opens {
                queue.append(&mut lane.held);
            }
            !opens
        });
        if self.closed.is_empty() {
            self.closed = Vec::new();
        }
    }

    /// The length of the longest start a closed lane waits for.
    pub(super) fn longest(&self) -> usize {
        self.closed.iter().map(|lane| lane.opens_with.len()).max().unwrap_or(0)
    }
}
