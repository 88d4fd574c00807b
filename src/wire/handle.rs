//! The handle of a wire: what the layers above can see and do, from any thread, also while hyper is stuck.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;

use super::shared::Shared;
use super::{Lane, Pending, WireListener};

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

    /// Whether so much waits that whoever has a choice had better wait too: a sixteenth of what the wire may hold back.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.0.out.lock().express.is_crowded()
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
