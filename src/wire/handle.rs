//! The handle of a wire: what the layers above can see and do, from any thread, also while hyper is stuck.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use bytes::Bytes;

use super::shared::Shared;
use super::{Lane, Pending, WireListener};
use crate::memory::Memory;
use crate::metrics::limit::Limit;

/// A close frame with the status "message too big".
const TOO_BIG: [u8; 4] = [0x88, 2, 0x03, 0xf1];

/// A handle of one connection. It does not keep the socket open.
///
/// Found again as `ConnectInfo<Wire>` in the extensions of each request of the connection.
#[derive(Clone)]
pub struct Wire(pub(super) Arc<Shared>);

impl Wire {
    /// The address of the peer.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// Where the client is: the peer, unless it was found that this is a proxy.
    #[must_use]
    pub fn client(&self) -> IpAddr {
        self.0.client.get().copied().unwrap_or_else(|| self.0.peer.ip().to_canonical())
    }

    /// Notes where the client of a transport is. The requests before an upgrade may have been those of others.
    pub fn set_client(&self, client: IpAddr) {
        self.0.client.set(client).ok();
    }

    /// Why the connection was ended from this side, if it was.
    #[must_use]
    pub fn blamed(&self) -> Option<&'static str> {
        self.0.blamed()
    }

    /// Announces that a 101 response with `nonce` in one of its headers is about to be written.
    ///
    /// The nonce must be unguessable and must not occur earlier in what the connection writes.
    pub fn arm(&self, nonce: &str) {
        self.0.out.lock().express.arm(nonce);
    }

    /// A new lane, closed until a text message of theirs that starts with `opens_with` has wholly passed.
    ///
    /// Only messages that begin after this call count, so create it before the message can be written. A socket may
    /// connect to a namespace again on the same connection: `40/ns,{"sid":"…"` tells the connects apart, `40/ns,` does
    /// not. With an empty `opens_with` the lane opens with the upgrade.
    #[must_use]
    pub fn lane(&self, opens_with: &str) -> Lane {
        let id = self.0.out.lock().express.add_lane(opens_with);
        Lane::new(self.clone(), id)
    }

    /// Shuts the transport down at once in both directions. Frames in the queue are dropped, what the kernel has may
    /// still arrive; hyper's pending reads and writes fail. The first reason given to a wire is the one that
    /// [`Wire::on_close`] reports.
    pub fn kill(&self, reason: &'static str) {
        self.0.kill(reason);
    }

    /// Accepts nothing more, writes what is queued, held or begun, then closes the transport.
    ///
    /// The write deadline applies, also to frames held by a lane that does not open. After the last byte the peer has
    /// up to two seconds to close its side; what it sends in that time is thrown away. Before the upgrade there is
    /// nothing to wait for, and a response that is being written is cut.
    pub fn close_after_flush(&self, reason: &'static str) {
        let mut out = self.0.out.lock();
        self.0.blame(reason);
        out.express.refuse();
        out.closing = true;
        self.0.settle(out, true);
    }

    /// Tells the peer that its message was too long (status 1009) behind what is queued, and closes the transport. Nothing
    /// it sends is looked at any more.
    pub(super) fn refuse_message(&self) {
        Limit::FrameBytes.reached();
        self.lane("").push(Bytes::from_static(&TOO_BIG));
        self.close_after_flush(super::FRAME_TOO_LARGE);
        self.0.reading.lock().discards = true;
    }

    /// Calls `hook` once with the reason when the connection has ended: when hyper drops it, reads the end or an error,
    /// or notices a kill while reading. `"peer-gone"` when no reason was given.
    ///
    /// It runs in hyper's task, never inside a push or kill, and at once if the connection has already ended. Hooks are
    /// kept until then: register once per session, not once per event.
    pub fn on_close(&self, hook: impl FnOnce(&'static str) + Send + 'static) {
        self.0.add_hook(Box::new(hook));
    }

    /// Stops reading from the peer, so that its own sending stalls. Its end is not noticed either; a kill is.
    pub fn pause_reads(&self) {
        self.0.reading.lock().pauses += 1;
    }

    /// Takes one pause back; without any the peer is read from again.
    pub fn resume_reads(&self) {
        let mut reading = self.0.reading.lock();
        reading.pauses = reading.pauses.saturating_sub(1);
        drop(reading);
        self.0.wake_reader();
    }

    /// What of ours waits in this process: queued, held by closed lanes, or begun.
    #[must_use]
    pub fn pending(&self) -> Pending {
        self.0.out.lock().express.pending()
    }

    /// Whether so much waits that whoever has a choice had better wait too: a sixteenth of what the wire may hold back, or
    /// anything at all while memory is tight.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        let tight = self.memory().is_tight();
        let out = self.0.out.lock();
        out.express.is_crowded() || (tight && out.express.pending().frames > 0)
    }

    /// The memory of its node.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        self.0.ground.config.backlogs.memory()
    }

    /// Whether nothing of ours is accepted any more: killed, closing, ended by hyper or by a close frame of theirs.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        !self.0.out.lock().express.accepts()
    }
}

impl Connected<IncomingStream<'_, WireListener>> for Wire {
    fn connect_info(stream: IncomingStream<'_, WireListener>) -> Self {
        stream.io().wire().clone()
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("peer", &self.0.peer).finish_non_exhaustive()
    }
}
