//! A series: frames that go to many sockets one behind the other, joined once for all of them.

use bytes::{Bytes, BytesMut};

/// Durable frames in their order, and the same bytes in one piece: a socket that keeps up takes them with one call. What a
/// socket does not take at once waits there frame by frame, so that bounds, memory and the turns of the library are those
/// of single frames.
#[derive(Clone, Debug)]
pub struct FrameSeries {
    pub(super) joined: Bytes,
    pub(super) frames: Vec<Bytes>,
}

impl FrameSeries {
    /// Joins frames.
    #[must_use]
    pub fn from_frames(frames: Vec<Bytes>) -> Self {
        let joined = match frames.as_slice() {
            // A single frame is shared as it is.
            [only] => only.clone(),
            several => {
                let mut joined = BytesMut::with_capacity(several.iter().map(Bytes::len).sum());
                several.iter().for_each(|frame| joined.extend_from_slice(frame));
                joined.freeze()
            }
        };
        Self { joined, frames }
    }

    /// How many frames it has.
    #[must_use]
    pub fn count_frames(&self) -> usize {
        self.frames.len()
    }
}
