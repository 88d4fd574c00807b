//! What a hand-over has to know of the outgoing side: texts of theirs, which are pings and answers to a CONNECT, and whether
//! theirs are in the middle of something.

use std::io::{self, IoSlice};

use super::Outbox;
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

impl Outbox {
    /// Counts the texts of theirs that a hand-over has to know of.
    pub(in crate::wire) fn watch_texts(&mut self, settings: &HandOver) {
        self.watched = Some(WatchedTexts::new(settings));
        self.update_capture();
    }

    /// Answers of theirs so far.
    pub(in crate::wire) fn answered(&self) -> u32 {
        self.watched.as_ref().map_or(0, |watched| watched.answered)
    }

    /// Pings of theirs since this was last asked.
    pub(in crate::wire) fn take_pings(&mut self) -> u32 {
        self.watched.as_mut().map_or(0, |watched| std::mem::take(&mut watched.pings))
    }

    /// Whether theirs can be left out from here on: they are in the middle of nothing, and have answered all that was
    /// `asked`.
    pub(in crate::wire) fn is_quiet(&self, asked: u32) -> bool {
        let is_answered = self.answered() == asked && self.lanes.are_open();
        is_answered && self.accepts && self.turn.is_none() && self.follower.at_boundary()
    }

    /// Opens the lanes that wait for a text which begins like `text`, which was written on another way than theirs.
    ///
    /// # Errors
    /// What the writer returned, except that it would block.
    pub(in crate::wire) fn open_lanes<W>(&mut self, text: &[u8], write: &mut W) -> io::Result<()>
    where
        W: FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    {
        self.lanes.open_matching(text, &mut self.queue);
        self.update_capture();
        self.write_pending(write)
    }

    pub(super) fn update_capture(&mut self) {
        let watched = self.watched.as_ref().map_or(0, |_| WatchedTexts::CAPTURE);
        self.follower.set_capture(self.lanes.longest_opening().max(watched));
    }
}
