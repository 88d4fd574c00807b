//! Parses the bytes that hyper has put on the wire, to know where a frame of Hallway may begin. No IO, no clock.
//!
//! Until the upgrade the stream is opaque: responses of a keep-alive connection may contain anything, also a sequence
//! that looks like the end of a head. Only the head that carries the nonce of [`StreamFollower::arm_nonce`] counts. After its end
//! come unmasked server frames, whose lengths are plain.

mod frames;
mod search;

use frames::{FrameState, FrameStep};
use search::{HeadEnd, Search};

/// Where the outgoing stream of one connection stands.
#[derive(Debug)]
pub(super) struct StreamFollower {
    /// What kind of bytes comes next.
    phase: FollowerPhase,
    /// Leading bytes to remember of each text message; 0 for none.
    capture: usize,
}

#[derive(Debug)]
enum FollowerPhase {
    /// HTTP; no upgrade was announced.
    Opaque,
    /// HTTP; searching for the nonce.
    Armed(Search),
    /// In the head that carries the nonce; searching for its end.
    Head(HeadEnd),
    /// `WebSocket` frames.
    Frames(FrameState),
    /// No frame of Hallway may follow: a close frame has begun, or the bytes are no server frames.
    Over,
}

impl StreamFollower {
    pub(super) fn new() -> Self {
        Self { phase: FollowerPhase::Opaque, capture: 0 }
    }

    /// Starts the search for `nonce`. It replaces an earlier nonce that has not passed; after the upgrade it does
    /// nothing.
    pub(super) fn arm_nonce(&mut self, nonce: &str) {
        match self.phase {
            FollowerPhase::Opaque | FollowerPhase::Armed(_) if !nonce.is_empty() => {
                self.phase = FollowerPhase::Armed(Search::new(nonce.as_bytes()));
            }
            FollowerPhase::Opaque
            | FollowerPhase::Armed(_)
            | FollowerPhase::Head(_)
            | FollowerPhase::Frames(_)
            | FollowerPhase::Over => {}
        }
    }

    /// Sets how many leading payload bytes of each text message that begins from now on are given to `on_text`.
    pub(super) fn set_capture(&mut self, bytes: usize) {
        self.capture = bytes;
    }

    /// Consumes bytes that the kernel has accepted. `on_text` gets the leading bytes of each text message that they
    /// complete.
    pub(super) fn follow_bytes(&mut self, bytes: &[u8], mut on_text: impl FnMut(&[u8])) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let next = match &mut self.phase {
                // Neither phase ends by a byte: the one ends by `arm`, the other never.
                FollowerPhase::Opaque | FollowerPhase::Over => return,
                // Each phase consumes its own bytes and leaves the rest to the next one: one write can end a head and
                // begin frames.
                FollowerPhase::Armed(search) => {
                    search.consume_to_nonce(&mut rest).then(|| FollowerPhase::Head(HeadEnd::new()))
                }
                FollowerPhase::Head(end) => {
                    end.consume_to_end(&mut rest).then(|| FollowerPhase::Frames(FrameState::new()))
                }
                FollowerPhase::Frames(frames) => match frames.consume_step(&mut rest, self.capture) {
                    FrameStep::Within => None,
                    FrameStep::Text => {
                        on_text(&frames.take_text());
                        None
                    }
                    FrameStep::Over => Some(FollowerPhase::Over),
                },
            };
            if let Some(phase) = next {
                self.phase = phase;
            }
        }
    }

    /// Whether a frame of Hallway may begin here: between two messages, after the upgrade and before the end.
    pub(super) fn at_boundary(&self) -> bool {
        matches!(&self.phase, FollowerPhase::Frames(frames) if frames.at_boundary())
    }

    /// Whether the head of the upgrade has passed and frames of Hallway are possible.
    pub(super) fn is_framing(&self) -> bool {
        matches!(self.phase, FollowerPhase::Frames(_))
    }

    /// Whether no frame of Hallway can ever follow.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, FollowerPhase::Over)
    }
}

#[cfg(test)]
mod tests;
