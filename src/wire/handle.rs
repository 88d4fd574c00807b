//! The handle of a wire: how the layers above observe and control a connection, from any thread, also while hyper is
//! stuck.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;

use super::shared::{WireShared, send_slices};
use super::{Heir, PendingFrames, PushOutcome};
use crate::memory::NodeMemory;
use crate::metrics::limit::Limit;

/// A close frame without a status.
const CLOSE: [u8; 2] = [0x88, 0];
/// A close frame with the status "message too big".
const TOO_BIG: [u8; 4] = [0x88, 2, 0x03, 0xf1];

/// A handle of one connection. It does not keep the socket open.
///
/// Each request of the connection has it in its extensions, as `ConnectInfo<Wire>`.
#[derive(Clone)]
pub struct Wire(pub(super) Arc<WireShared>);

impl Wire {
    /// The address of the peer.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// The event loop that it lives in, an index among those of the node.
    #[must_use]
    pub fn event_loop(&self) -> usize {
        self.0.ground.event_loop
    }

    /// The client's address: that of the peer, unless the peer was found to be a proxy.
    #[must_use]
    pub fn client_address(&self) -> IpAddr {
        // Canonical, so that an IPv4 client has the same address on an IPv6 listener.
        self.0.client.get().copied().unwrap_or_else(|| self.0.peer.ip().to_canonical())
    }

    /// Sets the client's address of a transport; the first one wins. Not set before an upgrade: a proxy may send the
    /// requests of several clients over one connection.
    pub fn set_client(&self, client: IpAddr) {
        self.0.client.set(client).ok();
    }

    /// The close reason, if the connection was ended from this side.
    #[must_use]
    pub fn close_reason(&self) -> Option<&'static str> {
        self.0.close_reason()
    }

    /// Announces that a 101 response with `nonce` in one of its headers is about to be written.
    ///
    /// The nonce must be unguessable and must not occur earlier in what the connection writes.
    pub fn arm_nonce(&self, nonce: &str) {
        self.0.out.lock().express.arm_nonce(nonce);
    }

    /// Shuts the transport down at once in both directions. Queued frames are dropped, bytes in the kernel may still
    /// arrive; hyper's pending reads and writes fail. The first close reason of a wire is the one that
    /// [`Wire::on_close`] reports.
    pub fn close_at_once(&self, reason: &'static str) {
        self.0.close_at_once(reason);
    }

    /// Accepts no more frames, writes those that are queued, held or begun, then closes the transport.
    ///
    /// The write deadline applies, also to frames held by a lane that does not open. After the last byte the peer has
    /// up to two seconds to close its side; bytes it sends in that time are thrown away. Before the upgrade nothing is
    /// waited for, and a response that is being written is cut.
    pub fn close_after_flush(&self, reason: &'static str) {
        let mut out = self.0.out.lock();
        self.0.note_close_reason(reason);
        // The flusher sees `closing` and closes the transport behind the last byte; `settle` starts one if none runs.
        out.express.refuse_new();
        out.closing = true;
        self.0.release_and_wake(out, true);
    }

    /// Ends a transport that was handed over as its library would have: with the door's farewell and a close frame, behind
    /// all queued frames. Bytes that the peer sends after this are thrown away.
    pub fn close_with_farewell(&self, reason: &'static str) {
        if let Some(settings) = &self.0.ground.config.hand_over {
            let lane = self.add_lane("");
            lane.push(super::text_frame(settings.farewell.as_bytes()));
            lane.push(Bytes::from_static(&CLOSE));
        }
        self.close_after_flush(reason);
        self.0.reading.lock().discards = true;
        self.0.wake_reader();
    }

    /// Sends the status 1009 (message too big) behind all queued frames, and closes the transport. Bytes that the peer
    /// sends after this are thrown away.
    pub(super) fn refuse_message(&self) {
        Limit::FrameBytes.note_reached();
        self.add_lane("").push(Bytes::from_static(&TOO_BIG));
        self.close_after_flush(super::FRAME_TOO_LARGE);
        // The rest of the message must not reach the library, which would read it as frames.
        self.0.reading.lock().discards = true;
    }

    /// Calls `hook` once with the close reason when the connection has ended: when hyper drops it, reads its end or an
    /// error, or notices a kill while reading. The reason is `"peer-gone"` when none was given.
    ///
    /// The hook runs in hyper's task, never inside a push or kill; it runs at once if the connection has already ended.
    /// Hooks are kept until then: register once per session, not once per event.
    pub fn on_close(&self, hook: impl FnOnce(&'static str) + Send + 'static) {
        self.0.add_hook(Box::new(hook));
    }

    /// Sets what reads for the door once the library is not needed any more; the first one wins. Dropped when the connection ends.
    pub fn appoint_heir(&self, heir: Arc<dyn Heir>) {
        self.0.appoint_heir(heir);
    }

    /// Whether the transport was taken from the library.
    #[must_use]
    pub fn is_handed_over(&self) -> bool {
        self.0.out.lock().handed_over
    }

    /// Sends a text frame of the door's on no lane, and opens the lanes that wait for a text which begins like it.
    pub fn send_opening(&self, frame: Bytes, text: &str) {
        let sent = self.add_lane("").push(frame);
        // A wire that takes no frame may have sent its close frame, behind which nothing may follow.
        if !matches!(sent, PushOutcome::Sent | PushOutcome::Queued) {
            return;
        }
        let mut out = self.0.out.lock();
        let opened = out.with_stream(|express, stream| {
            express.open_lanes(text.as_bytes(), &mut |slices| send_slices(stream, slices))
        });
        if opened.is_err() {
            self.0.cut_off(&mut out, super::PEER_GONE);
        }
        self.0.release_and_wake(out, true);
    }

    /// Stops reading from the peer, so that TCP slows its sending down. The peer's end is not noticed meanwhile either;
    /// a kill is.
    pub fn pause_reads(&self) {
        self.0.reading.lock().pauses += 1;
    }

    /// Takes one pause back; the peer is read from again when none is left.
    pub fn resume_reads(&self) {
        let mut reading = self.0.reading.lock();
        reading.pauses = reading.pauses.saturating_sub(1);
        drop(reading);
        self.0.wake_reader();
    }

    /// Hallway's frames and bytes that wait in this process: queued, held by closed lanes, or begun.
    #[must_use]
    pub fn pending_frames(&self) -> PendingFrames {
        self.0.out.lock().express.pending()
    }

    /// Whether optional work for this peer had better wait: a sixteenth of the wire's bounds is used, or memory is
    /// tight and anything at all waits.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        // Read before the lock is taken, which every push needs.
        let tight = self.memory().is_tight();
        let out = self.0.out.lock();
        out.express.is_crowded() || (tight && out.express.pending().frames > 0)
    }

    /// The memory budget of the node.
    #[must_use]
    pub fn memory(&self) -> &NodeMemory {
        self.0.ground.config.backlogs.memory()
    }

    /// Whether the wire accepts no more frames: it was killed, is closing, or was ended by hyper or by a close frame of
    /// theirs.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        !self.0.out.lock().express.accepts_frames()
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("peer", &self.0.peer).finish_non_exhaustive()
    }
}
