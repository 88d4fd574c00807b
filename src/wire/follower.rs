//! Follows the bytes hyper has put on the wire, to know where a frame of ours may begin. No IO, no clock.
//!
//! Until the upgrade the stream is opaque: responses of a keep-alive connection may contain anything, also what looks
//! like the end of a head. Only the head that carries the nonce of [`Follower::arm`] counts. After its end come
//! unmasked server frames, whose lengths are plain.

mod frames;
mod search;

use frames::{Frames, Step};
use search::{HeadEnd, Search};

/// Where the outgoing stream of one connection stands.
#[derive(Debug)]
pub(super) struct Follower {
    phase: Phase,
    capture: usize,
}

#[derive(Debug)]
enum Phase {
    /// HTTP, and no upgrade has been announced.
    Opaque,
    /// HTTP, looking for the nonce.
    Armed(Search),
    /// In the head that carries the nonce, looking for its end.
    Head(HeadEnd),
    /// `WebSocket` frames.
    Frames(Frames),
    /// Nothing of ours may follow: a close frame has begun, or the bytes are no frames of a server.
    Over,
}

impl Follower {
    pub(super) fn new() -> Self {
        Self { phase: Phase::Opaque, capture: 0 }
    }

    /// Starts to look for `nonce`. Replaces an earlier one that has not passed; does nothing after the upgrade.
    pub(super) fn arm(&mut self, nonce: &str) {
        match self.phase {
            Phase::Opaque | Phase::Armed(_) if !nonce.is_empty() => {
                self.phase = Phase::Armed(Search::new(nonce.as_bytes()));
            }
            Phase::Opaque | Phase::Armed(_) | Phase::Head(_) | Phase::Frames(_) | Phase::Over => {}
        }
    }

    /// How many leading payload bytes of each text message that begins from now on are remembered for `on_text`.
    pub(super) fn capture(&mut self, bytes: usize) {
        self.capture = bytes;
    }

    /// Takes bytes the kernel has accepted. `on_text` gets the leading bytes of every text message that has wholly
    /// passed with them.
    pub(super) fn follow(&mut self, bytes: &[u8], mut on_text: impl FnMut(&[u8])) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let next = match &mut self.phase {
                Phase::Opaque | Phase::Over => return,
                Phase::Armed(search) => search.advance(&mut rest).then(|| Phase::Head(HeadEnd::new())),
                Phase::Head(end) => end.advance(&mut rest).then(|| Phase::Frames(Frames::new())),
                Phase::Frames(frames) => match frames.advance(&mut rest, self.capture) {
                    Step::Within => None,
                    Step::Text => {
                        on_text(&frames.take_text());
                        None
                    }
                    Step::Over => Some(Phase::Over),
                },
            };
            if let Some(phase) = next {
                self.phase = phase;
            }
        }
    }

    /// Whether a frame of ours may begin here: between two messages, after the upgrade and before the end.
    pub(super) fn at_boundary(&self) -> bool {
        matches!(&self.phase, Phase::Frames(frames) if frames.at_boundary())
    }

    /// Whether the head of the upgrade has passed and frames of ours are possible.
    pub(super) fn is_framing(&self) -> bool {
        matches!(self.phase, Phase::Frames(_))
    }

    /// Whether no frame of ours can ever follow.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }
}

#[cfg(test)]
mod tests;
