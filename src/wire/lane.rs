//! A lane: the frames of one source on one wire, in the order of their pushes.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpStream;

use super::outbox::{LaneId, Outbox};
use super::shared::send_now;
use super::{FrameSeries, LagPolicy, PEER_GONE, PushOutcome, SLOW_CONSUMER, Wire};
use crate::logs;

/// One source of frames on a wire, for instance one namespace of a socket.
///
/// While a lane is closed its frames are held; when it opens they enter the queue of the wire in order. Frames of open
/// lanes leave in the order of their pushes, across all lanes. When the last clone of a closed lane is dropped, its
/// held frames are dropped too.
#[derive(Debug, Clone)]
pub struct Lane {
    /// A second handle beside the one in the slot: it saves each push a load from memory that is seldom in the cache.
    wire: Wire,
    id: LaneId,
    /// Shared by all clones; its drop removes the lane from the wire.
    _slot: Arc<Slot>,
}

#[derive(Debug)]
struct Slot {
    wire: Wire,
    id: LaneId,
}

impl Wire {
    /// Makes a lane, closed until a text message of theirs that starts with `opens_with` has wholly passed.
    ///
    /// Only messages that begin after this call count, so create the lane before the message can be written. A socket
    /// may connect to a namespace again on the same connection: `40/ns,{"sid":"…"` tells the connects apart, `40/ns,`
    /// does not. With an empty `opens_with` the lane opens with the upgrade.
    #[must_use]
    pub fn add_lane(&self, opens_with: &str) -> Lane {
        let id = self.0.out.lock().express.add_lane(opens_with);
        Lane::new(self.clone(), id)
    }
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

    /// Prefetches the memory that a push needs. Called before the pushes to many lanes: the processor then loads for
    /// all of them at once instead of waiting for each.
    pub fn prefetch_state(&self) {
        // Reading the lock's state is the cheapest access to that cache line; `black_box` keeps the compiler from
        // dropping it.
        std::hint::black_box(self.wire.0.out.is_locked());
    }

    /// Sends one complete server frame, made by [`text_frame`](super::text_frame). If nothing waits, the calling thread
    /// writes it to the socket; it never blocks.
    pub fn push(&self, frame: Bytes) -> PushOutcome {
        self.push_as(LagPolicy::Durable, || Some(frame))
    }

    /// As [`Lane::push`], with a frame that is made, or refused, under the lock of the wire: the checks in `frame` and
    /// the frame's position in the queue are one atomic step. `frame` must not touch this wire, nor drop a lane of it.
    pub fn push_if(&self, frame: impl FnOnce() -> Option<Bytes>) -> PushOutcome {
        self.push_as(LagPolicy::Durable, frame)
    }

    /// As [`Lane::push_if`], for a frame of this weight. While the backlog is over `ephemeral_bytes` an ephemeral frame
    /// is dropped and `frame` is not called.
    #[inline]
    pub fn push_as(&self, weight: LagPolicy, frame: impl FnOnce() -> Option<Bytes>) -> PushOutcome {
        self.push_made(weight, frame, |express, stream, frame| {
            express.push(self.id, weight, frame, &mut |slices| send_now(stream, slices))
        })
    }

    /// As [`Lane::push_if`], for a series of frames: it is chosen, or refused, under the lock of the wire. The frames go
    /// out or wait as if each had been pushed by itself, but a socket that keeps up takes all of them with one call.
    #[inline]
    pub fn push_series<'a>(&self, series: impl FnOnce() -> Option<&'a FrameSeries>) -> PushOutcome {
        self.push_made(LagPolicy::Durable, series, |express, stream, series| {
            express.push_series(self.id, series, &mut |slices| send_now(stream, slices))
        })
    }

    #[inline]
    fn push_made<F>(
        &self,
        weight: LagPolicy,
        make: impl FnOnce() -> Option<F>,
        push: impl FnOnce(&mut Outbox, &TcpStream, F) -> io::Result<PushOutcome>,
    ) -> PushOutcome {
        let shared = &self.wire.0;
        let mut out = shared.out.lock();
        // Both checks come before `make()`: making a frame may have effects, such as counting a copy as sent.
        if !out.express.accepts_frames() {
            return PushOutcome::Closed;
        }
        if weight == LagPolicy::Ephemeral && out.express.drops_ephemeral() {
            return PushOutcome::Dropped;
        }
        let Some(made) = make() else {
            return PushOutcome::Skipped;
        };
        let pushed = out.with_stream(|express, stream| push(express, stream, made));
        let pushed = pushed.unwrap_or_else(|error| {
            tracing::debug!(event = logs::FRAME_UNWRITTEN, peer = %shared.peer, %error, "a frame could not be written");
            // The caller has no use for the IO error: the wire's end is reported by its close hook.
            shared.cut_off(&mut out, PEER_GONE);
            PushOutcome::Closed
        });
        // A durable frame is never skipped. The wire is closed instead, and the client comes back with its offset.
        if pushed == PushOutcome::Overflow {
            shared.cut_off(&mut out, SLOW_CONSUMER);
        }
        // A frame that was only queued is no news for a flusher: it already waits for the socket.
        shared.release_and_wake(out, pushed != PushOutcome::Queued);
        pushed
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut out = self.wire.0.out.lock();
        out.express.remove_lane(self.id);
        // Held frames went with the lane; the memory they counted for is given back.
        out.update_charge();
    }
}
