//! Follows unmasked server frames: their headers byte by byte, their payloads by length.
//!
//! A message in fragments is one unit: between its fragments only control frames are legal (RFC 6455, 5.4), so a text
//! frame of ours must wait for the last of them.

const LONGEST_HEADER: usize = 10;
const FIN: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;

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
    header: [u8; LONGEST_HEADER],
    seen: usize,
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
        Self { header: [0; LONGEST_HEADER], seen: 0, left: None, fragmented: false, text: None }
    }

    pub(super) fn at_boundary(&self) -> bool {
        self.seen == 0 && self.left.is_none() && !self.fragmented
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
        self.header[self.seen] = byte;
        self.seen += 1;
        if self.seen == 1 && self.opcode() == CLOSE {
            return FrameStep::Over;
        }
        if self.seen == 2 && byte & MASKED != 0 {
            return FrameStep::Over;
        }
        match self.payload_length() {
            None => FrameStep::Within,
            Some(length) => {
                self.message_begins(capture);
                self.payload_passed(length)
            }
        }
    }

    /// The payload length, once the header is complete.
    fn payload_length(&self) -> Option<u64> {
        let (short, extended) = (self.header[1] & LENGTH, &self.header[2..self.seen.max(2)]);
        let wanted = match short {
            126 => 2,
            127 => 8,
            0..=125 | 128.. => 0,
        };
        if self.seen < 2 + wanted {
            return None;
        }
        let long = extended.iter().fold(0, |length, &byte| length << 8 | u64::from(byte));
        Some(if wanted == 0 { u64::from(short) } else { long })
    }

    fn message_begins(&mut self, capture: usize) {
        let opcode = self.opcode();
        if opcode == CONTINUATION || is_control(opcode) {
            return;
        }
        self.text = (opcode == TEXT && capture > 0).then(|| TextStart { start: Vec::new(), wanted: capture });
    }

    fn capture_payload(&mut self, payload: &[u8]) {
        if is_control(self.opcode()) {
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
        (self.left, self.seen) = (None, 0);
        if is_control(self.opcode()) {
            return FrameStep::Within;
        }
        self.fragmented = self.header[0] & FIN == 0;
        if self.fragmented || self.text.is_none() {
            return FrameStep::Within;
        }
        FrameStep::Text
    }

    fn opcode(&self) -> u8 {
        self.header[0] & OPCODE
    }
}

fn is_control(opcode: u8) -> bool {
    opcode & 0x8 != 0
}
