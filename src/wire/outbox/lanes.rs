//! The lanes that are still closed, with the frames they hold. An open lane needs no state and is not listed.

use std::collections::VecDeque;

use bytes::Bytes;

/// Identifies one lane of one wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wire) struct LaneId(u64);

#[derive(Debug)]
struct Closed {
    id: LaneId,
    /// Start of the text message of theirs that opens the lane.
    opens_with: Box<[u8]>,
    /// Frames pushed so far; they count against the bounds of the wire.
    held: VecDeque<Bytes>,
}

/// All closed lanes of one wire, oldest first.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// A list, not a map: a transport has a few namespaces at most.
    closed: Vec<Closed>,
    /// Lanes so far, which gives each its id.
    added: u64,
}

impl Lanes {
    /// Adds a lane. It is open from the start when `opens_with` is empty.
    pub(super) fn add(&mut self, opens_with: &str) -> LaneId {
        let id = LaneId(self.added);
        self.added += 1;
        if !opens_with.is_empty() {
            self.closed.push(Closed { id, opens_with: opens_with.as_bytes().into(), held: VecDeque::new() });
        }
        id
    }

    /// Removes a lane; gives the frames it held.
    pub(super) fn remove(&mut self, id: LaneId) -> VecDeque<Bytes> {
        let place = self.closed.iter().position(|lane| lane.id == id);
        place.map(|place| self.closed.remove(place).held).unwrap_or_default()
    }

    pub(super) fn is_closed(&self, id: LaneId) -> bool {
        self.closed.iter().any(|lane| lane.id == id)
    }

    /// Whether no lane is closed.
    pub(super) fn are_open(&self) -> bool {
        self.closed.is_empty()
    }

    pub(super) fn hold_frame(&mut self, id: LaneId, frame: Bytes) {
        if let Some(lane) = self.closed.iter_mut().find(|lane| lane.id == id) {
            lane.held.push_back(frame);
        }
    }

    /// Opens the lanes that wait for a text message with this start; their held frames enter `queue`.
    pub(super) fn open_matching(&mut self, text: &[u8], queue: &mut VecDeque<Bytes>) {
        self.closed.retain_mut(|lane| {
            let opens = text.starts_with(&lane.opens_with);
            if opens {
                queue.append(&mut lane.held);
            }
            !opens
        });
        // Long-lived wires have no closed lane: their memory is given back.
        if self.closed.is_empty() {
            self.closed = Vec::new();
        }
    }

    /// Length in bytes of the longest start that a closed lane waits for.
    pub(super) fn longest_opening(&self) -> usize {
        self.closed.iter().map(|lane| lane.opens_with.len()).max().unwrap_or(0)
    }
}
