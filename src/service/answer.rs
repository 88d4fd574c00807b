//! The answer to a command: whether the client asked for one, how the door frames it, and when the command arrived.

use std::fmt;
use std::time::Instant;

use bytes::Bytes;

use crate::session::Session;

/// Turns the body of a reply into the frame of a door.
pub type ReplyFramer = Box<dyn FnOnce(&str) -> Bytes + Send + Sync>;

/// An answer that is given at most once.
pub struct PendingReply {
    /// Frames the body; none when the client passed no ack callback, or when the answer has been given.
    frame: Option<ReplyFramer>,
    /// Start of the wait budget, so that time spent in the queue counts.
    arrived: Instant,
}

impl fmt::Debug for PendingReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("wanted", &self.is_wanted()).field("arrived", &self.arrived).finish()
    }
}

impl PendingReply {
    /// An answer to a command that arrived at `arrived`. Without a frame the client did not ask for one.
    #[must_use]
    pub fn new(frame: Option<ReplyFramer>, arrived: Instant) -> Self {
        Self { frame, arrived }
    }

    /// Whether an answer was asked for and has not been given.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.frame.is_some()
    }

    /// When the command arrived.
    #[must_use]
    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    /// Sends the answer, if one was asked for.
    pub fn send_answer(&mut self, session: &Session, body: &str) {
        if let Some(frame) = self.frame.take() {
            session.send_frame(frame(body));
        }
    }

    /// Sends the answer, if one was asked for, and runs `act` under the lock of the wire: no event goes out between
    /// the two. `act` does not run when the transport is closed.
    pub fn give_as(&mut self, session: &Session, body: impl FnOnce() -> String, act: impl FnOnce()) {
        let frame = self.frame.take().map(|frame| frame(&body()));
        session.lane().push_if(|| {
            act();
            // A kicked session is sent nothing behind its close notice, not even a reply.
            frame.filter(|_| !session.is_kicked())
        });
    }
}
