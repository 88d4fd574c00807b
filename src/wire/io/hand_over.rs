//! When the IO object gives its socket up, and to whom. `wire::hand_over` says why this is safe.

use std::sync::Arc;

use tokio::time::Instant;

use super::WireIo;
use crate::wire::HandOver;
use crate::wire::compact::{Adopted, Estate, Heartbeat};
use crate::wire::shared::MayRead;

/// What ends a request without a body.
const HEAD_END: [u8; 4] = *b"\r\n\r\n";

/// What a hand-over has to know of what passed before it.
#[derive(Debug)]
pub(super) struct Passage {
    /// The last bytes that were read before the upgrade. They end the request, unless frames came together with it, which
    /// hyper keeps for the library, and which the wire has not followed.
    tail: [u8; HEAD_END.len()],
    /// When the last ping of the library was written.
    pinged: Option<Instant>,
    /// Whether the peer has answered that.
    answered: bool,
    /// Whether the socket belongs to a compact reader.
    pub(super) is_done: bool,
}

impl Passage {
    pub(super) fn new() -> Self {
        Self { tail: [0; HEAD_END.len()], pinged: None, answered: true, is_done: false }
    }

    /// Notes bytes that were read before the upgrade.
    pub(super) fn note_request(&mut self, read: &[u8]) {
        for byte in &read[read.len().saturating_sub(self.tail.len())..] {
            self.tail.rotate_left(1);
            self.tail[HEAD_END.len() - 1] = *byte;
        }
    }

    /// Notes that the library has written a ping.
    pub(super) fn note_ping(&mut self) {
        self.pinged = Some(Instant::now());
        self.answered = false;
    }

    /// Notes that the peer has answered a ping.
    pub(super) fn note_answer(&mut self) {
        self.answered = true;
    }

    fn heartbeat(&self, settings: &HandOver) -> Heartbeat {
        let pinged = self.pinged.unwrap_or_else(Instant::now);
        Heartbeat::continue_from(pinged, self.answered, settings)
    }
}

impl WireIo {
    /// Hands the socket to the compact reader if nothing is under way. Called inside of a read that found no byte.
    pub(super) fn hand_over_if_quiet(&mut self) -> bool {
        let shared = self.shared().clone();
        let (Some(settings), Some(reader)) = (shared.ground.config.hand_over, self.reader.clone()) else {
            return false;
        };
        let is_followed = self.deadline.is_none() && self.passage.tail == HEAD_END;
        if !is_followed || !self.inspection.incoming.at_rest() || shared.may_read() != MayRead::Yes {
            return false;
        }
        // Only a door that has a session has one, and the hooks drop it.
        let Some(heir) = shared.heir() else { return false };
        // Before the library's writes are swallowed: a reader that ends must not leave the wire to neither side.
        if !reader.reserve_place() {
            return false;
        }
        if !self.take_from_library() {
            reader.release_place();
            return false;
        }
        self.passage.is_done = true;
        let inspection = std::mem::replace(&mut self.inspection, super::Inspection::new(&shared));
        reader.take_over(Adopted::new(Estate {
            wire: self.wire.clone(),
            stream: Arc::clone(&self.stream),
            inspection,
            heartbeat: self.passage.heartbeat(&settings),
            heir,
            kept: self.kept.take(),
        }));
        true
    }

    /// Swallows the library's writes from here on, if it is in the middle of none.
    fn take_from_library(&self) -> bool {
        let mut out = self.shared().out.lock();
        let is_quiet = !out.closing && out.express.is_quiet(self.inspection.incoming.asked());
        out.handed_over = is_quiet;
        let writer = if is_quiet { out.writer.take() } else { None };
        drop(out);
        // A waker runs foreign code when it is dropped, so that happens outside the lock.
        drop(writer);
        if is_quiet {
            let reader = self.shared().reading.lock().waker.take();
            drop(reader);
        }
        is_quiet
    }
}
