//! A peer's messages out of its bytes (RFC 6455): unmasked, put together from their fragments, and nothing kept but a
//! part of a message that is not whole. Refuses what tungstenite refuses. No IO.

use std::ops::ControlFlow;

use crate::wire::header::{BINARY, CLOSE, CONTINUATION, FrameHeader, PING, PONG, TEXT};

/// Most bytes of a control frame's payload.
const CONTROL_BYTES: u64 = 125;

/// What a peer has sent.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::wire) enum PeerMessage<'a> {
    /// A text message, whose bytes need not be UTF-8.
    Text(&'a [u8]),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping, to be answered with the same bytes.
    Ping(&'a [u8]),
    /// The close handshake.
    Close(&'a [u8]),
    /// Bytes that are no frames of a client. Nothing after them has a meaning.
    Violation,
}

/// The kind of a message in fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DataKind {
    Text,
    Binary,
}

/// Where in its messages a peer is.
#[derive(Debug, Default)]
pub(in crate::wire) struct PeerMessages {
    header: FrameHeader,
    /// Payload bytes of the current frame that are still to come; `None` while in a header.
    left: Option<u64>,
    /// Payload bytes of the current frame that have come; only their remainder by the length of a mask counts.
    passed: usize,
    /// The message that has begun in a frame that was not its last.
    open: Option<DataKind>,
    /// What has come of a message that is not whole.
    kept: Vec<u8>,
    /// What has come of a control frame that is not whole: it may stand between the fragments of a message.
    control: Vec<u8>,
}

impl PeerMessages {
    /// Reads `bytes`, which are unmasked in place, and gives each message that they complete to `on_message`, until that
    /// breaks off.
    pub(in crate::wire) fn read_bytes(
        &mut self,
        mut bytes: &mut [u8],
        mut on_message: impl FnMut(PeerMessage<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        while !bytes.is_empty() {
            let Some(left) = self.left else {
                let (first, rest) = bytes.split_at_mut(1);
                bytes = rest;
                if !self.header.push_byte(first[0]) {
                    continue;
                }
                if self.is_violation() {
                    return on_message(PeerMessage::Violation);
                }
                self.begin_payload();
                // A frame without a payload ends with its header, and no byte more comes for it.
                if self.left == Some(0) {
                    self.end_part(&[], &mut on_message)?;
                }
                continue;
            };
            let here = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (payload, rest) = bytes.split_at_mut(here);
            bytes = rest;
            self.unmask(payload);
            self.left = Some(left - here as u64);
            self.end_part(payload, &mut on_message)?;
        }
        ControlFlow::Continue(())
    }

    /// Whether the header that is complete is none that a client may send here.
    fn is_violation(&self) -> bool {
        let header = &self.header;
        let misplaced = match header.opcode() {
            CONTINUATION => self.open.is_none(),
            // Only control frames may stand between the fragments of a message.
            TEXT | BINARY => self.open.is_some(),
            CLOSE | PING | PONG => !header.is_final() || header.payload_length() > CONTROL_BYTES,
            _ => true,
        };
        misplaced || header.has_reserved_bits() || !header.is_masked()
    }

    fn begin_payload(&mut self) {
        self.left = Some(self.header.payload_length());
        self.passed = 0;
        match self.header.opcode() {
            TEXT => self.open = Some(DataKind::Text),
            BINARY => self.open = Some(DataKind::Binary),
            _ => {}
        }
    }

    fn unmask(&mut self, payload: &mut [u8]) {
        let mut mask = self.header.mask();
        mask.rotate_left(self.passed % 4);
        self.passed = self.passed.wrapping_add(payload.len());
        // In groups of the mask's length, which the compiler turns into wide instructions.
        let mut groups = payload.chunks_exact_mut(4);
        for group in &mut groups {
            group.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        }
        groups.into_remainder().iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }

    /// Takes a part of the current frame's payload; ends the frame when it is the last one.
    fn end_part(
        &mut self,
        part: &[u8],
        on_message: &mut impl FnMut(PeerMessage<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let ends = self.left == Some(0);
        if ends {
            self.left = None;
            self.header.restart();
        }
        if self.header.is_control() {
            return self.end_control(part, ends, on_message);
        }
        if !(ends && self.header.is_final()) {
            self.kept.extend_from_slice(part);
            return ControlFlow::Continue(());
        }
        let kind = self.open.take();
        // The usual message is whole within one read, and is not copied.
        let kept = std::mem::take(&mut self.kept);
        let whole = if kept.is_empty() { part } else { &[kept.as_slice(), part].concat() };
        match kind {
            Some(DataKind::Text) => on_message(PeerMessage::Text(whole)),
            Some(DataKind::Binary) => on_message(PeerMessage::Binary(whole)),
            None => ControlFlow::Continue(()),
        }
    }

    fn end_control(
        &mut self,
        part: &[u8],
        ends: bool,
        on_message: &mut impl FnMut(PeerMessage<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if !ends {
            self.control.extend_from_slice(part);
            return ControlFlow::Continue(());
        }
        let control = std::mem::take(&mut self.control);
        let whole = if control.is_empty() { part } else { &[control.as_slice(), part].concat() };
        match self.header.opcode() {
            PING => on_message(PeerMessage::Ping(whole)),
            CLOSE => on_message(PeerMessage::Close(whole)),
            // A pong of this layer answers no ping of ours.
            _ => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests;
