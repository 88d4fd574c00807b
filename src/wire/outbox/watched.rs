//! Texts of theirs that a hand-over has to know of: pings, and answers to a CONNECT.

use crate::wire::HandOver;

/// Texts of theirs that are counted.
#[derive(Debug)]
pub(super) struct WatchedTexts {
    /// Text of a ping.
    ping: &'static str,
    /// Whether a text that begins so is an answer to one of the peer's.
    is_answer: fn([u8; 2]) -> bool,
    /// Pings, until they are taken.
    pub(super) pings: u32,
    /// Answers.
    pub(super) answered: u32,
}

impl WatchedTexts {
    /// Leading bytes that tell these texts apart from others: a ping is shorter.
    pub(super) const CAPTURE: usize = 2;

    pub(super) fn new(settings: &HandOver) -> Self {
        Self { ping: settings.ping, is_answer: settings.answers, pings: 0, answered: 0 }
    }

    /// Counts a text, of which this is the beginning.
    pub(super) fn count_text(&mut self, text: &[u8]) {
        if text == self.ping.as_bytes() {
            self.pings = self.pings.saturating_add(1);
        } else if text.first_chunk().is_some_and(|begin| (self.is_answer)(*begin)) {
            self.answered = self.answered.saturating_add(1);
        }
    }
}
