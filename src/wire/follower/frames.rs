//! Follows unmasked server frames: their headers byte by byte, their payloads by length.
//!
//! A message in fragments is one unit: between its fragments only control frames are legal (RFC 6455, 5.4), so a text
//! frame of ours must wait for the last of them.

use crate::wire::header::{CLOSE, CONTINUATION, FrameHeader, TEXT};

/// What the bytes just consumed have led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FrameStep {
    /// Nothing to report.
    Within,
    /// A text message has wholly passed.
    Text,
    /// A close frame has begun, or the bytes are no frames of a server.
    Over,
}

/// The state within a stream of frames.
#[derive(Debug)]
pub(super) struct FrameState {
    header: FrameHeader,
    /// Payload bytes of the current frame that are still to come; `None` while in a header.
    left: Option<u64>,
    fragmented: bool,
    text: Option<TextStart>,
}

/// The beginning of the current text message.
#[derive(Debug)]
struct TextStart {
    start: Vec<u8>,
    wanted: usize,
}

impl FrameState {
    pub(super) fn new() -> Self {
        Self { header: FrameHeader::default(), left: None, fragmented: false, text: None }
    }

    pub(super) fn at_boundary(&self) -> bool {
        self.header.seen() == 0 && self.left.is_none() && !self.fragmented
    }

    /// The captured start of the message that [`FrameStep::Text`] reported.
    pub(super) fn take_text(&mut self) -> Vec<u8> {
        self.text.take().map(|text| text.start).unwrap_or_default()
    }

    /// Consumes one step of `rest`: a byte of a header, or what there is of a payload. `capture` is the number of
    /// leading bytes to remember of a text message that begins here.
    pub(super) fn consume_step(&mut self, rest: &mut &[u8], capture: usize) -> FrameStep {
        let Some(left) = self.left else {
            return self.header_byte(rest, capture);
        };
        let here = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
        let (payload, after) = rest.split_at(here);
        *rest = after;
        self.capture_payload(payload);
        self.payload_passed(left - here as u64)
    }

    fn header_byte(&mut self, rest: &mut &[u8], capture: usize) -> FrameStep {
        let Some((&byte, after)) = rest.split_first() else {
            return FrameStep::Within;
        };
        *rest = after;
        let is_complete = self.header.push_byte(byte);
        // A close frame ends the stream: nothing of ours may follow it.
        if self.header.seen() == 1 && self.header.opcode() == CLOSE {
            return FrameStep::Over;
        }
        // A server masks nothing, so these bytes are no frames.
        if self.header.seen() == 2 && self.header.is_masked() {
            return FrameStep::Over;
        }
        if !is_complete {
            return FrameStep::Within;
        }
        self.message_begins(capture);
        self.payload_passed(self.header.payload_length())
    }

    fn message_begins(&mut self, capture: usize) {
        let opcode = self.header.opcode();
        // Neither begins a message: the text that is being captured goes on.
        if opcode == CONTINUATION || self.header.is_control() {
            return;
        }
        self.text = (opcode == TEXT && capture > 0).then(|| TextStart { start: Vec::new(), wanted: capture });
    }

    fn capture_payload(&mut self, payload: &[u8]) {
        // A ping between two fragments is no part of the text.
        if self.header.is_control() {
            return;
        }
        if let Some(text) = &mut self.text {
            let missing = text.wanted - text.start.len();
            text.start.extend_from_slice(&payload[..missing.min(payload.len())]);
        }
    }

    fn payload_passed(&mut self, left: u64) -> FrameStep {
        if left > 0 {
            self.left = Some(left);
            return FrameStep::Within;
        }
        self.left = None;
        self.header.restart();
        // A control frame ends no message, and leaves one that is in fragments as it is.
        if self.header.is_control() {
            return FrameStep::Within;
        }
        self.fragmented = !self.header.is_final();
        // Only the end of a text message is reported, and only if its beginning is wanted.
        if self.fragmented || self.text.is_none() {
            return FrameStep::Within;
        }
        FrameStep::Text
    }
}
