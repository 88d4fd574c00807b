//! Memory: how much this node holds for all its sockets together, and how much it may hold.
//!
//! Memory that costs is counted, and once. A frame is one piece of memory however many sockets it waits for, so its
//! bytes count from its making until the last socket has sent it: a copy of it is a reference. Each entry in a socket's
//! queue costs by itself, and is counted by the wire with the backlog ([`wire`](crate::wire)). So are commands that a
//! socket has sent and that are not performed yet. A frame that goes out at once costs two additions for all of its
//! sockets together, and none for each.
//!
//! There are two marks. Above the **lower** one no more work is taken on for a socket that has something waiting: no
//! history is read for it, and no second command is taken from it. Above the **upper** one the slowest sockets are
//! closed (`src/wire/backlogs.rs`).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::Notify;

mod machine;

pub use machine::limit_of_machine;

/// Divisor for the part of a node's memory that may be held for its sockets. Another quarter is for idle connections,
/// and half is left for histories that are read, publishes, the event channel, and memory that the allocator does not
/// give back.
const HELD: usize = 4;
/// Divisor for the part that may wait in the event channel: an eighth of the half that is for everything else.
const FEED: usize = 16;
/// Divisor of the budget for the lower mark.
const LOWER: usize = 2;
/// Bytes of a frame beside its text: its owner, its reference count, and the allocator's overhead for both.
pub(crate) const FRAME: usize = 128;

/// The memory budget of one node. Clones share it.
#[derive(Clone)]
pub struct NodeMemory(Arc<MemoryParts>);

struct MemoryParts {
    /// Bytes that the whole node may use.
    limit: usize,
    /// Bytes held for sockets.
    held: AtomicUsize,
    /// Wakes the task that closes sockets when the upper mark is passed.
    pressed: Notify,
}

/// A number of bytes counted as held, until it is dropped.
#[derive(Debug)]
pub struct MemoryShare {
    memory: NodeMemory,
    bytes: usize,
}

/// A frame whose bytes count as long as it exists.
struct CountedFrame {
    bytes: Bytes,
    _held: MemoryShare,
}

impl NodeMemory {
    /// Makes the budget of a node with `limit` bytes of memory.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(MemoryParts { limit, held: AtomicUsize::new(0), pressed: Notify::new() }))
    }

    /// Bytes that the whole node may use.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// The upper mark: bytes that may be held for sockets.
    #[must_use]
    pub fn socket_budget(&self) -> usize {
        self.0.limit / HELD
    }

    /// Bytes that may wait in the event channel.
    #[must_use]
    pub fn channel_budget(&self) -> usize {
        self.0.limit / FEED
    }

    /// Bytes that are held for sockets.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Whether the lower mark is passed.
    #[must_use]
    pub fn is_tight(&self) -> bool {
        self.held_bytes() > self.socket_budget() / LOWER
    }

    /// Whether the upper mark is passed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.held_bytes() > self.socket_budget()
    }

    /// Waits until the upper mark is passed.
    pub async fn wait_until_over_budget(&self) {
        // `notify_one` keeps a permit, and the pressure may be over by the time it is used.
        while !self.is_over() {
            self.0.pressed.notified().await;
        }
    }

    /// Counts `bytes` as held.
    #[must_use]
    pub fn hold_bytes(&self, bytes: usize) -> MemoryShare {
        self.add_bytes(bytes);
        MemoryShare { memory: self.clone(), bytes }
    }

    /// Makes a frame that counts as held until the last socket has sent it.
    #[must_use]
    pub fn counted_frame(&self, bytes: Bytes) -> Bytes {
        let held = self.hold_bytes(bytes.len() + FRAME);
        Bytes::from_owner(CountedFrame { bytes, _held: held })
    }

    fn add_bytes(&self, bytes: usize) {
        let before = self.0.held.fetch_add(bytes, Ordering::Relaxed);
        let budget = self.socket_budget();
        // Only the call that passes the mark notifies: later ones find the task already at work.
        if before <= budget && before + bytes > budget {
            self.0.pressed.notify_one();
        }
    }

    fn subtract_bytes(&self, bytes: usize) {
        self.0.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Default for NodeMemory {
    /// Makes a budget without a bound.
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl MemoryShare {
    /// Changes the number of bytes held.
    pub fn set_bytes(&mut self, bytes: usize) {
        // Only the difference is counted; without one, the shared counter is not touched, which all threads contend
        // for.
        match bytes.checked_sub(self.bytes) {
            Some(0) => {}
            Some(more) => self.memory.add_bytes(more),
            None => self.memory.subtract_bytes(self.bytes - bytes),
        }
        self.bytes = bytes;
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.memory.subtract_bytes(self.bytes);
        }
    }
}

impl AsRef<[u8]> for CountedFrame {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for NodeMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} of {})", self.held_bytes(), self.socket_budget())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_counts_once_until_its_last_copy_is_gone() {
        let memory = NodeMemory::new(1 << 20);
        let frame = memory.counted_frame(Bytes::from_static(b"an event"));
        let copies = vec![frame.clone(); 1000];
        assert_eq!((memory.held_bytes(), &copies[999][..]), (FRAME + 8, &b"an event"[..]));
        drop(frame);
        assert_eq!(memory.held_bytes(), FRAME + 8);
        drop(copies);
        assert_eq!(memory.held_bytes(), 0);
    }

    #[tokio::test]
    async fn who_waits_for_pressure_hears_of_it_whenever_it_began() {
        let memory = NodeMemory::new(4000);
        let mut held = memory.hold_bytes(500);
        assert!(!memory.is_tight() && !memory.is_over());
        held.set_bytes(501);
        assert!(memory.is_tight() && !memory.is_over());
        held.set_bytes(1001);
        memory.wait_until_over_budget().await;
        let other = memory.hold_bytes(10);
        drop(held);
        assert!(!memory.is_over());
        let more = memory.hold_bytes(2000);
        memory.wait_until_over_budget().await;
        drop((other, more));
        assert_eq!(memory.held_bytes(), 0);
    }
}
