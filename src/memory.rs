//! Memory: how much of it this node holds for its sockets, all of them together, and how much it may.
//!
//! What costs is counted, and once. A frame is one piece of memory however many sockets it waits for, so its bytes count
//! from when it is made until the last of them has it: a copy of it is a reference. Each place in a socket's queue costs by
//! itself, and is counted by the wire that is behind ([`charge`](crate::wire)). So is what a socket has sent and is not
//! carried out yet. A frame that goes out at once costs two additions for all of its sockets, and none for each.
//!
//! Two marks. Past the **lower** one nothing more is taken on for a socket that has something waiting: no history is read for
//! it, and no second command is taken from it. Past the **upper** one the slowest are let go (`src/wire/backlogs.rs`).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::Notify;

mod machine;

pub use machine::limit_of_machine;

/// The part of a node's memory that may be held for its sockets. Another quarter is for connections that are at rest, and half
/// is left for histories that are read, publishes, the feed, and what an allocator does not give back.
const HELD: usize = 4;
/// The part of it that may wait in the feed: an eighth of what stands for all else.
const FEED: usize = 16;
/// The part of what may be held past which nothing more is taken on.
const LOWER: usize = 2;
/// What a frame costs beside its bytes: its owner, its count of references, and what an allocator adds to both.
pub(crate) const FRAME: usize = 128;

/// The memory of one node. Clones share it.
#[derive(Clone)]
pub struct Memory(Arc<Parts>);

struct Parts {
    limit: usize,
    held: AtomicUsize,
    pressed: Notify,
}

/// So much of it, until it is dropped.
#[derive(Debug)]
pub struct Held {
    memory: Memory,
    bytes: usize,
}

/// A frame that counts as long as it exists.
struct Frame {
    bytes: Bytes,
    _held: Held,
}

impl Memory {
    /// So many bytes for all of the node.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Parts { limit, held: AtomicUsize::new(0), pressed: Notify::new() }))
    }

    /// Bytes for all of the node.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// The upper mark: bytes that may be held for sockets.
    #[must_use]
    pub fn budget(&self) -> usize {
        self.0.limit / HELD
    }

    /// Bytes that may wait in the feed.
    #[must_use]
    pub fn feed(&self) -> usize {
        self.0.limit / FEED
    }

    /// Bytes that are held for sockets.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Whether the lower mark is passed.
    #[must_use]
    pub fn is_tight(&self) -> bool {
        self.held() > self.budget() / LOWER
    }

    /// Whether the upper mark is passed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.held() > self.budget()
    }

    /// Waits until the upper mark is passed.
    pub async fn pressed(&self) {
        while !self.is_over() {
            self.0.pressed.notified().await;
        }
    }

    /// Holds so many bytes.
    #[must_use]
    pub fn hold(&self, bytes: usize) -> Held {
        self.grow(bytes);
        Held { memory: self.clone(), bytes }
    }

    /// A frame that counts until the last socket has it.
    #[must_use]
    pub fn frame(&self, bytes: Bytes) -> Bytes {
        let held = self.hold(bytes.len() + FRAME);
        Bytes::from_owner(Frame { bytes, _held: held })
    }

    fn grow(&self, bytes: usize) {
        let before = self.0.held.fetch_add(bytes, Ordering::Relaxed);
        let budget = self.budget();
        // Only who passes the mark says so: what comes behind finds somebody at work.
        if before <= budget && before + bytes > budget {
            self.0.pressed.notify_one();
        }
    }

    fn shrink(&self, bytes: usize) {
        self.0.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Default for Memory {
    /// Without a bound.
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Held {
    /// Holds so many bytes from now on.
    pub fn set(&mut self, bytes: usize) {
        match bytes.checked_sub(self.bytes) {
            Some(0) => {}
            Some(more) => self.memory.grow(more),
            None => self.memory.shrink(self.bytes - bytes),
        }
        self.bytes = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.memory.shrink(self.bytes);
        }
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} of {})", self.held(), self.budget())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_counts_once_until_its_last_copy_is_gone() {
        let memory = Memory::new(1 << 20);
        let frame = memory.frame(Bytes::from_static(b"an event"));
        let copies = vec![frame.clone(); 1000];
        assert_eq!((memory.held(), &copies[999][..]), (FRAME + 8, &b"an event"[..]));
        drop(frame);
        assert_eq!(memory.held(), FRAME + 8);
        drop(copies);
        assert_eq!(memory.held(), 0);
    }

    #[tokio::test]
    async fn who_waits_for_pressure_hears_of_it_whenever_it_began() {
        let memory = Memory::new(4000);
        let mut held = memory.hold(500);
        assert!(!memory.is_tight() && !memory.is_over());
        held.set(501);
        assert!(memory.is_tight() && !memory.is_over());
        held.set(1001);
        memory.pressed().await;
        let other = memory.hold(10);
        drop(held);
        assert!(!memory.is_over());
        let more = memory.hold(2000);
        memory.pressed().await;
        drop((other, more));
        assert_eq!(memory.held(), 0);
    }
}
