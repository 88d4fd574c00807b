//! The wire: the IO object under hyper that can be killed and carries our own frames between those of tungstenite.
//!
//! [`WireListener`] hands hyper a [`WireIo`]; its handle, [`Wire`], travels as `ConnectInfo`. The handle closes a
//! transport whatever state the peer is in, and a [`Lane`] of it sends complete, shared, pre-encoded `WebSocket` frames
//! without going through the queues of the library above. That needs to know where frames begin and end in what the
//! library writes, so the outgoing bytes are followed (`follower`), and ours go only in between (`express`).
//!
//! What nobody may break:
//! - Bytes of theirs count when the kernel has accepted them, not when hyper offers them.
//! - A frame refused or dropped is never followed by a later one of the same lane, except after [`Push::Dropped`].
//! - No waker, hook or task is touched while one of the wire's locks is held.
//! - Only hyper uses the write slot of tokio's readiness (`poll_write_ready`); the flusher waits with `writable()`.

use std::time::Duration;

use hallway_rooms::close::Close;

use crate::rate::Rate;

mod backlogs;
mod charge;
mod express;
mod flusher;
mod follower;
mod frame;
#[cfg(fuzzing)]
pub mod fuzzing;
mod handle;
mod incoming;
mod io;
mod lane;
mod listener;
mod shared;
mod stamp;

pub use backlogs::Backlogs;
pub use express::{Pending, Push, Weight};
pub use frame::text_frame;
pub use handle::Wire;
pub use io::WireIo;
pub use lane::Lane;
pub use listener::WireListener;
pub use stamp::{WIRE_HEADER, stamp};

/// The reason of a wire whose peer, or hyper, ended the connection without being asked to.
pub const PEER_GONE: &str = Close::PeerGone.code();
/// The reason of a wire that was killed because its backlog passed a bound.
pub const SLOW_CONSUMER: &str = Close::SlowConsumer.code();
/// The reason of a wire that was killed because the node holds too much for all of them, and this one was the slowest.
pub const MEMORY_FULL: &str = Close::MemoryFull.code();
/// The reason of a wire that was killed because the kernel took no byte for [`WireConfig::write_deadline`].
pub const WRITE_STALLED: &str = Close::Stalled.code();
/// The reason of a wire that was closed because its peer sent a message longer than [`WireConfig::frame_bytes`].
pub const FRAME_TOO_LARGE: &str = Close::FrameTooLarge.code();
/// The reason of a wire that was killed because its peer sent more than [`WireConfig::frames`].
pub const TOO_MANY_FRAMES: &str = Close::TooManyCommands.code();
/// The reason of a wire that was killed because its peer announced attachments that did not come.
pub const INCOMPLETE: &str = Close::MalformedFrame.code();

/// Settings of every wire of a listener.
#[derive(Debug, Clone)]
pub struct WireConfig {
    /// How long the kernel may accept no byte while something is pending before the wire is killed.
    ///
    /// It measures progress, not the age of a write: a slow peer that keeps reading is not killed by it.
    pub write_deadline: Duration,
    /// How long a connection that was not upgraded may go without a response written to it: silent, idle between two
    /// requests, or at an endless head or body. Then it is killed. Without this each would hold a descriptor for ever.
    pub request_deadline: Duration,
    /// `TCP_USER_TIMEOUT`: how long sent bytes may stay unacknowledged before the kernel gives up. Zero leaves the
    /// system's default.
    pub user_timeout: Duration,
    /// `SO_SNDBUF` in bytes; 0 leaves the system's default.
    ///
    /// What the kernel buffers is invisible here, so a large one hides a slow peer.
    pub send_buffer: usize,
    /// Bytes of ours one wire may hold back, begun and held frames included; the push that would pass it kills the
    /// wire. A single larger frame still goes out when the wire is idle.
    pub queue_bytes: usize,
    /// Frames of ours one wire may hold back; the push that would pass it kills the wire.
    pub queue_frames: usize,
    /// Bytes of backlog over which ephemeral frames are dropped instead of queued.
    pub ephemeral_bytes: usize,
    /// Bytes of a message of the peer; a longer one closes the wire with the status 1009.
    pub frame_bytes: usize,
    /// Frames of the peer, of whatever kind; more of them kill the wire.
    pub frames: Rate,
    /// How long the attachments may take that a packet has announced. Then the wire is killed.
    pub attachment_deadline: Duration,
    /// The wires of the node that are behind, and the memory for them.
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
            backlogs: Backlogs::default(),
        }
    }
}
