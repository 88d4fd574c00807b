//! A series: frames that go to many sockets one behind the other, joined once for all of them.

use bytes::{Bytes, BytesMut};

/// Durable frames in their order, and the same bytes in one piece: a socket that keeps up takes them with one call. What a
/// socket does not take at once waits there frame by frame, so that bounds, memory and the turns of the library are those
/// of single frames.
#[derive(Clone, Debug)]
pub struct FrameSeries {
    pub(super) joined: Bytes,
    /// None for a series of one, which is `joined`: lone events are many, and need no list.
    several: Vec<Bytes>,
}

impl FrameSeries {
    /// Joins frames.
    #[must_use]
    pub fn from_frames(frames: Vec<Bytes>) -> Self {
        let mut joined = BytesMut::with_capacity(frames.iter().map(Bytes::len).sum());
        frames.iter().for_each(|frame| joined.extend_from_slice(frame));
        Self { joined: joined.freeze(), several: frames }
    }

    /// A series of one frame.
    #[must_use]
    pub const fn from_frame(frame: Bytes) -> Self {
        Self { joined: frame, several: Vec::new() }
    }

    /// How many frames it has.
    #[must_use]
    pub fn count_frames(&self) -> usize {
        self.list_frames().len()
    }

    pub(super) fn list_frames(&self) -> &[Bytes] {
        if self.several.is_empty() { std::slice::from_ref(&self.joined) } else { &self.several }
    }
}
