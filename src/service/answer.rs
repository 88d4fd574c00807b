//! The answer to a command: whether its client wants one, how its door writes it, and when the command came.

use std::fmt;
use std::time::Instant;

use bytes::Bytes;

use crate::session::Session;

/// Turns the body of a reply into the frame of a door.
pub type Frame = Box<dyn FnOnce(&str) -> Bytes + Send + Sync>;

/// An answer that is yet to be given, at most once.
pub struct Answer {
    frame: Option<Frame>,
    arrived: Instant,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("wanted", &self.is_wanted()).field("arrived", &self.arrived).finish()
    }
}

impl Answer {
    /// To a command that arrived then; without a frame the client wants none.
    #[must_use]
    pub fn new(frame: Option<Frame>, arrived: Instant) -> Self {
        Self { frame, arrived }
    }

    /// Whether it is wanted and has not been given.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.frame.is_some()
    }

    /// When its command came.
    #[must_use]
    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    /// Gives it, if it is wanted.
    pub fn give(&mut self, session: &Session, body: &str) {
        if let Some(frame) = self.frame.take() {
            session.send(frame(body));
        }
    }

    /// Gives it, if it is wanted, and does what it tells of in the same moment: no event goes out between the two. Nothing is
    /// done where the transport is closed.
    pub fn give_as(&mut self, session: &Session, body: impl FnOnce() -> String, act: impl FnOnce()) {
        let frame = self.frame.take().map(|frame| frame(&body()));
        session.lane().push_if(|| {
            act();
            frame.filter(|_| !session.is_kicked())
        });
    }
}
