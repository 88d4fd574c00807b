//! What the wire holds against every read of a peer's frames, for the library and without it: the length of messages, the
//! rate of frames, and the memory of a long message.

use std::sync::Arc;

use super::incoming::Incoming;
use super::shared::WireShared;
use crate::metrics::limit::Limit;
use crate::rate::TokenBucket;

/// The checks on what one peer sends.
#[derive(Debug)]
pub(super) struct Inspection {
    /// Parser of the peer's frames.
    pub(super) incoming: Incoming,
    /// What is left of the peer's rate of frames.
    frames: TokenBucket,
}

impl Inspection {
    /// The checks on a peer that has sent no frame.
    pub(super) fn new(shared: &WireShared) -> Self {
        let config = &shared.ground.config;
        Self { incoming: Incoming::new(config.announces, config.hand_over.as_ref()), frames: TokenBucket::default() }
    }

    /// Parses what was read. Gives the offset in it at which a message begins that is too long.
    pub(super) fn inspect_read(&mut self, shared: &Arc<WireShared>, read: &[u8]) -> Option<usize> {
        let before = self.incoming.begun_bytes();
        let too_long = self.incoming.follow_bytes(read, shared.ground.config.frame_bytes as u64);
        let begun = self.incoming.begun_bytes();
        // Memory for a long message counts from its header on, not only when all of it has been received.
        if begun != before {
            shared.count_incoming(begun);
        }
        self.bound_frames(shared);
        too_long
    }

    fn bound_frames(&mut self, shared: &Arc<WireShared>) {
        let (count, rate) = (self.incoming.take_frames(), shared.ground.config.frames);
        if count == 0 {
            return;
        }
        let now = std::time::Instant::now();
        // `all` stops at the first frame that is over the rate: one is enough to close the wire.
        let all = (0..count).all(|_| self.frames.take_token(rate, now));
        if !all && !shared.is_dead() {
            Limit::CommandsPerMinute.note_reached();
            shared.close_at_once(super::TOO_MANY_FRAMES);
        }
    }
}
