//! What one wire that is behind costs, and how slow its peer is.
//!
//! The bytes of frames count where they are made ([`Memory::frame`]); a wire adds its places in the queue. Its peer is measured
//! by **laps**: what waits when a lap begins has to go before the next one begins. A peer that reads well ends its laps in the
//! time that its network needs for them, however much comes behind; one that does not read never ends the first. A message of
//! the peer's own counts as long as it takes to arrive.

use tokio::time::Instant;

use super::Pending;
use super::backlogs::Listed;
use crate::memory::{Held, Memory};

/// A place in a queue: a handle of a frame in a ring that may be half empty, and its entry among the latest ones.
pub(super) const PLACE: usize = 128;

/// What a message that has begun costs from then on, whatever its head says: below that it is read in one piece as a rule.
const LEAST: usize = 4096;

/// A long message of the peer that has begun and not ended. The memory for it is taken when it is announced.
#[derive(Debug)]
pub(super) struct Arriving {
    bytes: usize,
    since: Instant,
    held: Held,
    _listed: Listed,
}

impl Arriving {
    /// Whether such a message is long enough to be counted.
    pub(super) fn counts(bytes: u64) -> bool {
        bytes > LEAST as u64
    }

    pub(super) fn new(memory: &Memory, bytes: u64, listed: Listed) -> Self {
        let mut arriving = Self { bytes: 0, since: Instant::now(), held: memory.hold(0), _listed: listed };
        arriving.grow(bytes);
        arriving
    }

    /// Another frame of it has said how long it is.
    pub(super) fn grow(&mut self, bytes: u64) {
        // No message is longer than a mebibyte.
        self.bytes = usize::try_from(bytes).unwrap_or(usize::MAX / 2);
        self.held.set(self.bytes);
    }

    /// As that of what waits for a peer: who sends slowly takes up as much as who reads slowly.
    pub(super) fn cost(&self, now: Instant) -> u128 {
        now.saturating_duration_since(self.since).as_micros().max(1) * self.bytes as u128
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Charge {
    held: Held,
    pending: Pending,
    /// Bytes that are still to go in this lap.
    left: usize,
    lap: Instant,
}

impl Charge {
    pub(super) fn new(memory: &Memory) -> Self {
        Self { held: memory.hold(0), pending: Pending::default(), left: 0, lap: Instant::now() }
    }

    /// Takes note of what waits. Nothing is to do for a wire that keeps up.
    pub(super) fn follow(&mut self, pending: Pending) {
        if pending == self.pending {
            return;
        }
        self.left = self.left.saturating_sub(self.pending.bytes.saturating_sub(pending.bytes));
        if self.left == 0 {
            (self.left, self.lap) = (pending.bytes, Instant::now());
        }
        self.held.set(pending.frames * PLACE);
        self.pending = pending;
    }

    /// What its slowness costs: a byte that waits for a second costs as much as a thousand that wait for a millisecond.
    pub(super) fn cost(&self, now: Instant) -> u128 {
        let waited = now.saturating_duration_since(self.lap).as_micros().max(1);
        waited * (self.pending.bytes + self.pending.frames * PLACE) as u128
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pending(bytes: usize) -> Pending {
        Pending { frames: 1, bytes }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lap_ends_when_what_waited_at_its_beginning_has_gone() {
        let memory = Memory::default();
        let (mut reads, mut stands) = (Charge::new(&memory), Charge::new(&memory));
        for charge in [&mut reads, &mut stands] {
            charge.follow(pending(1000));
        }
        for _ in 0..100 {
            tokio::time::advance(Duration::from_millis(10)).await;
            // As much goes as comes, so that always as much waits.
            reads.follow(pending(1100));
            reads.follow(pending(1000));
        }
        let now = Instant::now();
        assert!(reads.cost(now) * 5 < stands.cost(now), "{} and {}", reads.cost(now), stands.cost(now));
    }

    #[test]
    fn places_are_held_while_they_are_taken() {
        let memory = Memory::default();
        let mut charge = Charge::new(&memory);
        charge.follow(Pending { frames: 3, bytes: 10 });
        assert_eq!(memory.held(), 3 * PLACE);
        charge.follow(Pending { frames: 2, bytes: 5 });
        assert_eq!(memory.held(), 2 * PLACE);
        drop(charge);
        assert_eq!(memory.held(), 0);
    }
}
