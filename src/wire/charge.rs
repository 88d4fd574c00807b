//! How much one wire with a backlog costs the node, and how slow its peer is.
//!
//! The bytes of frames are counted where frames are made ([`NodeMemory::counted_frame`]); a wire adds its entries in the queue. The
//! speed of the peer is measured in **laps**: all bytes that wait when a lap begins have to be sent before the next lap
//! begins. A peer that reads well ends its laps in the time that its network needs for them, however much is queued
//! behind; a peer that does not read never ends the first one. A message from the peer counts while it is arriving.

use tokio::time::Instant;

use super::PendingFrames;
use super::backlogs::ListedBacklog;
use crate::memory::{MemoryShare, NodeMemory};

/// Bytes counted per queued frame: its handle in a ring buffer that may be half empty, and its entry in the index of
/// latest frames.
pub(super) const PLACE: usize = 128;

/// Messages up to this many bytes are not counted while they arrive: as a rule they come in one read.
const LEAST: usize = 4096;

/// A long message of the peer that has begun and not ended. Its memory is reserved when its header announces it.
#[derive(Debug)]
pub(super) struct IncomingMessage {
    /// Announced size in bytes so far.
    bytes: usize,
    /// When the message began: a peer that sends slowly costs more the longer it takes.
    since: Instant,
    /// The reservation in the node's memory.
    held: MemoryShare,
    /// Lists the wire with those that can be closed when memory runs out.
    _listed: ListedBacklog,
}

impl IncomingMessage {
    /// Whether such a message is long enough to be counted.
    pub(super) fn is_long_enough(bytes: u64) -> bool {
        bytes > LEAST as u64
    }

    pub(super) fn new(memory: &NodeMemory, bytes: u64, listed: ListedBacklog) -> Self {
        let mut arriving = Self { bytes: 0, since: Instant::now(), held: memory.hold_bytes(0), _listed: listed };
        arriving.set_length(bytes);
        arriving
    }

    /// Sets the announced size: another fragment has added its length.
    pub(super) fn set_length(&mut self, bytes: u64) {
        // No message is longer than a mebibyte.
        self.bytes = usize::try_from(bytes).unwrap_or(usize::MAX / 2);
        self.held.set_bytes(self.bytes);
    }

    /// Cost in byte-microseconds, on the same scale as a backlog: a slow sender takes up as much as a slow reader.
    pub(super) fn cost(&self, now: Instant) -> u128 {
        now.saturating_duration_since(self.since).as_micros().max(1) * self.bytes as u128
    }
}

/// The cost of one wire's backlog; see the module.
#[derive(Debug)]
pub(super) struct MessageCharge {
    /// Memory counted for the queue's entries; the frames' bytes count by themselves.
    held: MemoryShare,
    /// The backlog as of the last call of [`MessageCharge::note_pending`].
    pending: PendingFrames,
    /// Bytes of the current lap that are still to be sent.
    left: usize,
    /// When the current lap began.
    lap: Instant,
}

impl MessageCharge {
    pub(super) fn new(memory: &NodeMemory) -> Self {
        Self { held: memory.hold_bytes(0), pending: PendingFrames::default(), left: 0, lap: Instant::now() }
    }

    /// Updates the measure after a change of the backlog. It returns at once for a wire without a change, the usual
    /// case.
    pub(super) fn note_pending(&mut self, pending: PendingFrames) {
        if pending == self.pending {
            return;
        }
        // Only a shrinking backlog is progress: the bytes that were sent come off the lap.
        self.left = self.left.saturating_sub(self.pending.bytes.saturating_sub(pending.bytes));
        // The lap is over, or the backlog was empty: all that waits makes the next lap.
        if self.left == 0 {
            (self.left, self.lap) = (pending.bytes, Instant::now());
        }
        self.held.set_bytes(pending.frames * PLACE);
        self.pending = pending;
    }

    /// Cost in byte-microseconds: one byte that waits for a second costs as much as a thousand that wait for a
    /// millisecond.
    pub(super) fn cost(&self, now: Instant) -> u128 {
        let waited = now.saturating_duration_since(self.lap).as_micros().max(1);
        waited * (self.pending.bytes + self.pending.frames * PLACE) as u128
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pending(bytes: usize) -> PendingFrames {
        PendingFrames { frames: 1, bytes }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lap_ends_when_what_waited_at_its_beginning_has_gone() {
        let memory = NodeMemory::default();
        let (mut reads, mut stands) = (MessageCharge::new(&memory), MessageCharge::new(&memory));
        for charge in [&mut reads, &mut stands] {
            charge.note_pending(pending(1000));
        }
        for _ in 0..100 {
            tokio::time::advance(Duration::from_millis(10)).await;
            // As much goes as comes, so that always as much waits.
            reads.note_pending(pending(1100));
            reads.note_pending(pending(1000));
        }
        let now = Instant::now();
        assert!(reads.cost(now) * 5 < stands.cost(now), "{} and {}", reads.cost(now), stands.cost(now));
    }

    #[test]
    fn places_are_held_while_they_are_taken() {
        let memory = NodeMemory::default();
        let mut charge = MessageCharge::new(&memory);
        charge.note_pending(PendingFrames { frames: 3, bytes: 10 });
        assert_eq!(memory.held_bytes(), 3 * PLACE);
        charge.note_pending(PendingFrames { frames: 2, bytes: 5 });
        assert_eq!(memory.held_bytes(), 2 * PLACE);
        drop(charge);
        assert_eq!(memory.held_bytes(), 0);
    }
}
