//! A lane: the frames of one source on one wire, in the order they were pushed.

use std::sync::Arc;

use bytes::Bytes;

use super::express::LaneId;
use super::shared::send_now;
use super::{PEER_GONE, Push, SLOW_CONSUMER, Weight, Wire};
use crate::logs;

/// One source of frames of a wire, for instance one namespace of a socket.
///
/// While it is closed its frames are held; when it opens they enter the queue of the wire in order. Frames of open lanes
/// leave in the order in which they were pushed, whichever lane they came by. When the last clone of a closed lane is
/// dropped, so are the frames it holds.
#[derive(Debug, Clone)]
pub struct Lane {
    /// Also in the slot; here it saves each push a look into memory that is seldom at hand.
    wire: Wire,
    id: LaneId,
    _slot: Arc<Slot>,
}

#[derive(Debug)]
struct Slot {
    wire: Wire,
    id: LaneId,
}

impl Lane {
    pub(super) fn new(wire: Wire, id: LaneId) -> Self {
        Self { wire: wire.clone(), id, _slot: Arc::new(Slot { wire, id }) }
    }

    /// The wire this lane belongs to.
    #[must_use]
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Has the memory that a push needs fetched. Before the pushes to many lanes: the processor fetches for all of them at
    /// once, and else waits for each.
    pub fn fetch(&self) {
        std::hint::black_box(self.wire.0.out.is_locked());
    }

    /// Sends one complete server frame, made by [`text_frame`](super::text_frame). It writes to the socket from the
    /// calling thread if nothing waits, and never blocks on it.
    pub fn push(&self, frame: Bytes) -> Push {
        self.push_as(Weight::Durable, || Some(frame))
    }

    /// As [`Lane::push`], with a frame that is made, or refused, under the lock of the wire: what `frame` checks and the
    /// place the frame gets are one act. `frame` must not touch this wire, nor drop a lane of it.
    pub fn push_if(&self, frame: impl FnOnce() -> Option<Bytes>) -> Push {
        self.push_as(Weight::Durable, frame)
    }

    /// As [`Lane::push_if`], for a frame of this weight. While the backlog is over `ephemeral_bytes` an ephemeral one is
    /// dropped, and `frame` is not called.
    pub fn push_as(&self, weight: Weight, frame: impl FnOnce() -> Option<Bytes>) -> Push {
        let shared = &self.wire.0;
        let mut out = shared.out.lock();
        if !out.express.accepts() {
            return Push::Closed;
        }
        if weight == Weight::Ephemeral && out.express.drops_ephemeral() {
            return Push::Dropped;
        }
        let Some(frame) = frame() else {
            return Push::Skipped;
        };
        let pushed = out.with_stream(|express, stream| {
            express.push(self.id, weight, frame, &mut |slices| send_now(stream, slices))
        });
        let pushed = pushed.unwrap_or_else(|error| {
            tracing::debug!(event = logs::FRAME_UNWRITTEN, peer = %shared.peer, %error, "a frame could not be written");
            shared.cut_off(&mut out, PEER_GONE);
            Push::Closed
        });
        if pushed == Push::Overflow {
            shared.cut_off(&mut out, SLOW_CONSUMER);
        }
        shared.settle(out, pushed != Push::Queued);
        pushed
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut out = self.wire.0.out.lock();
        out.express.remove_lane(self.id);
        out.follow();
    }
}
