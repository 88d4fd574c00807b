//! The wire: the IO object under hyper. It can be killed from any thread, and it carries Hallway's own frames between
//! those of the `WebSocket` library.
//!
//! [`WireListener`] hands hyper a [`WireIo`]; its handle, [`Wire`], travels as `ConnectInfo`. The handle closes a
//! transport whatever state the peer is in, and a [`Lane`] of it sends complete, shared, pre-encoded `WebSocket` frames
//! without passing through the library's queues. For that the wire has to know where frames begin and end in the bytes
//! that the library writes: `follower` parses the outgoing stream, and `express` puts Hallway's frames only between two
//! complete ones. In this folder "ours" are Hallway's frames and "theirs" are the bytes that hyper writes for the
//! library.
//!
//! Invariants:
//! - Bytes of theirs count when the kernel has accepted them, not when hyper offers them.
//! - A frame refused or dropped is never followed by a later one of the same lane, except after [`PushOutcome::Dropped`].
//! - No waker, hook or task is touched while one of the wire's locks is held.
//! - Only hyper uses the write slot of tokio's readiness (`poll_write_ready`); the flusher waits with `writable()`.

use std::time::Duration;

use hallway_rooms::close::Close;

use crate::rate::Rate;

mod backlogs;
mod charge;
mod compact;
mod follower;
mod frame;
#[cfg(fuzzing)]
pub mod fuzzing;
mod hand_over;
mod handle;
mod header;
mod incoming;
mod inspection;
mod io;
mod kept;
mod lane;
mod listener;
mod outbox;
mod ready;
mod series;
mod shared;
mod stamp;

pub use backlogs::Backlogs;
pub use frame::text_frame;
pub use hand_over::{HandOver, Heir, HeirVerdict};
pub use handle::Wire;
pub use incoming::{ANNOUNCEMENT, Announces};
pub use io::WireIo;
pub use lane::Lane;
pub use listener::{SocketAcceptor, WireFactory, WireListener};
pub use outbox::{LagPolicy, PendingFrames, PushOutcome};
pub use series::FrameSeries;
pub use stamp::{WIRE_HEADER, stamp};

/// Close reason: the peer, or hyper, ended the connection without a request from this side.
pub const PEER_GONE: &str = Close::PeerGone.code();
/// Close reason: the backlog passed [`WireConfig::queue_bytes`] or [`WireConfig::queue_frames`].
pub const SLOW_CONSUMER: &str = Close::SlowConsumer.code();
/// Close reason: the node held more memory for its sockets than its budget, and this one was the slowest.
pub const MEMORY_FULL: &str = Close::MemoryFull.code();
/// Close reason: the kernel accepted no byte for [`WireConfig::write_deadline`].
pub const WRITE_STALLED: &str = Close::Stalled.code();
/// Close reason: the peer sent a message longer than [`WireConfig::frame_bytes`].
pub const FRAME_TOO_LARGE: &str = Close::FrameTooLarge.code();
/// Close reason: the peer sent frames faster than [`WireConfig::frames`].
pub const TOO_MANY_FRAMES: &str = Close::TooManyCommands.code();
/// Close reason: the peer announced attachments and did not send them within [`WireConfig::attachment_deadline`].
pub const INCOMPLETE: &str = Close::MalformedFrame.code();

/// Settings of every wire of a listener.
#[derive(Debug, Clone)]
pub struct WireConfig {
    /// How long the kernel may accept no byte while something is pending before the wire is killed.
    ///
    /// It measures progress, not the age of a write: a slow peer that keeps reading is not killed by it.
    pub write_deadline: Duration,
    /// How long a connection that was not upgraded may go without a response written to it: silent, idle between two
    /// requests, or in the middle of an endless head or body. Then it is killed; otherwise each such peer would hold a
    /// descriptor for as long as it likes.
    pub request_deadline: Duration,
    /// `TCP_USER_TIMEOUT`: how long sent bytes may stay unacknowledged before the kernel gives up. Zero leaves the
    /// system's default.
    pub user_timeout: Duration,
    /// Bytes in the kernel's buffer do not count as backlog, so a large buffer hides a slow peer.
    pub send_buffer: usize,
    /// Bytes of Hallway's frames that one wire may hold back, begun and held frames included; the push that would pass
    /// the bound kills the wire. A single larger frame is still sent when the wire is idle.
    pub queue_bytes: usize,
    /// Hallway's frames that one wire may hold back; the push that would pass the bound kills the wire.
    pub queue_frames: usize,
    /// Bytes of backlog over which ephemeral frames are dropped instead of queued.
    pub ephemeral_bytes: usize,
    /// Most bytes of one message from the peer; a longer one closes the wire with the status 1009.
    pub frame_bytes: usize,
    /// Rate of frames from the peer, control frames included; a higher rate kills the wire.
    pub frames: Rate,
    /// How long the peer may take to send attachments that a packet has announced. Then the wire is killed.
    pub attachment_deadline: Duration,
    /// How the doors' packets announce attachments.
    pub announces: Announces,
    /// How a transport is taken away from under the library when it is quiet; `None` where it is left there.
    pub hand_over: Option<HandOver>,
    /// The node's list of wires with a backlog, and the memory they share.
    pub backlogs: Backlogs,
}

impl Default for WireConfig {
    fn default() -> Self {
        Self {
            write_deadline: Duration::from_secs(10),
            request_deadline: Duration::from_secs(30),
            user_timeout: Duration::from_secs(10),
            send_buffer: 128 * 1024,
            queue_bytes: 4 * 1024 * 1024,
            queue_frames: 8192,
            ephemeral_bytes: 64 * 1024,
            frame_bytes: 64 * 1024,
            frames: Rate::per_minute(12_000),
            attachment_deadline: Duration::from_secs(20),
            announces: |_| 0,
            hand_over: None,
            backlogs: Backlogs::default(),
        }
    }
}
