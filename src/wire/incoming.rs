//! Follows the peer's frames: their number, their lengths, and the attachments that they announce. So a message that is
//! too long is refused at its first byte too many, with the close status made for it, and neither a flood of frames nor
//! attachments that never arrive last. The rest of a message is left to the library.

use super::hand_over::HandOver;
use super::header::{BINARY, CONTINUATION, FrameHeader, TEXT};

/// Leading bytes of a text that may announce attachments.
pub const ANNOUNCEMENT: usize = 3;

/// Reads from the beginning of a text message how many attachments, as binary messages, follow it. Each door has its own.
pub type Announces = fn([u8; ANNOUNCEMENT]) -> u8;

/// Texts of a peer that are counted, by how they begin. Not all of [`HandOver`], since each peer has one.
#[derive(Clone, Copy, Debug)]
struct CountedTexts {
    /// Answers to a ping.
    beats: fn(u8) -> bool,
    /// Texts that get an answer of the library.
    asks: fn([u8; 2]) -> bool,
}

/// Where in its stream of frames a peer is.
#[derive(Debug)]
pub(super) struct Incoming {
    header: FrameHeader,
    /// Bytes of payload that are still to come.
    left: u64,
    /// Bytes of the message so far.
    message: u64,
    /// Frames that began, until they are taken.
    frames: u32,
    /// Beginning of the last text, as far as it was read.
    text: [u8; ANNOUNCEMENT],
    /// Bytes of `text`; all of them while no text is read.
    seen: usize,
    /// Mask of the current frame, turned so that it fits `text`.
    mask: [u8; 4],
    announces: Announces,
    /// Attachments that were announced and have not begun.
    awaited: u8,
    /// Whether a message has begun whose last frame has not.
    fragmented: bool,
    /// Which texts to count; none where no hand-over is possible.
    counted: Option<CountedTexts>,
    /// Texts that get an answer of the library.
    asked: u32,
    /// Answers to a ping, until they are taken.
    beats: u32,
}

impl Incoming {
    /// A peer that has sent nothing.
    pub(super) fn new(announces: Announces, counted: Option<&HandOver>) -> Self {
        Self {
            header: FrameHeader::default(),
            left: 0,
            message: 0,
            frames: 0,
            text: [0; ANNOUNCEMENT],
            seen: ANNOUNCEMENT,
            mask: [0; 4],
            announces,
            awaited: 0,
            fragmented: false,
            counted: counted.map(|settings| CountedTexts { beats: settings.beats, asks: settings.asks }),
            asked: 0,
            beats: 0,
        }
    }

    /// Whether the peer is between two messages, and owes no attachment.
    pub(super) fn at_rest(&self) -> bool {
        self.header.seen() == 0 && self.left == 0 && !self.fragmented && !self.awaits_attachments()
    }

    /// Texts so far that get an answer of the library.
    pub(super) fn asked(&self) -> u32 {
        self.asked
    }

    /// Answers to a ping since this was last asked.
    pub(super) fn take_beats(&mut self) -> u32 {
        std::mem::take(&mut self.beats)
    }

    /// Follows bytes that were read. Gives the place, among these bytes, of the frame by which a message has more than
    /// `most` bytes. After that nothing more can be followed.
    pub(super) fn follow_bytes(&mut self, bytes: &[u8], most: u64) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if self.left > 0 {
                let skip = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                self.read_attachments(&bytes[at..at + skip]);
                self.left -= skip as u64;
                at += skip;
                continue;
            }
            // The header may have begun in an earlier read, whose bytes hyper has already.
            let begin = at.saturating_sub(self.header.seen());
            let is_complete = self.header.push_byte(bytes[at]);
            at += 1;
            if is_complete {
                self.note_frame();
                self.header.restart();
                self.left = self.header.payload_length();
                if self.is_too_long(most) {
                    return Some(begin);
                }
            }
        }
        None
    }

    /// Frames that began since this was last asked.
    pub(super) fn take_frames(&mut self) -> u32 {
        std::mem::take(&mut self.frames)
    }

    /// Bytes of the message that has begun and not ended, as far as its frames have said; 0 between two.
    pub(super) fn begun_bytes(&self) -> u64 {
        let frame = if self.left > 0 && self.message == 0 { self.header.payload_length() } else { 0 };
        self.message.saturating_add(frame)
    }

    /// Whether attachments were announced that have not come.
    pub(super) fn awaits_attachments(&self) -> bool {
        self.awaited > 0
    }

    fn note_frame(&mut self) {
        self.frames = self.frames.saturating_add(1);
        if !self.header.is_control() {
            self.fragmented = !self.header.is_final();
        }
        match self.header.opcode() {
            TEXT => {
                self.seen = 0;
                self.note_mask();
            }
            CONTINUATION => self.note_mask(),
            BINARY => {
                // What follows are bytes of an attachment, and no text.
                self.seen = ANNOUNCEMENT;
                self.awaited = self.awaited.saturating_sub(1);
            }
            // Control frames stand between the fragments of a text, which goes on behind them.
            _ => {}
        }
    }

    /// Each fragment has a mask of its own, which begins with the fragment.
    fn note_mask(&mut self) {
        for (i, byte) in self.header.mask().into_iter().enumerate() {
            self.mask[(self.seen + i) % 4] = byte;
        }
    }

    /// Reads the beginning of a text, for the attachments that it announces.
    fn read_attachments(&mut self, payload: &[u8]) {
        // A ping between two fragments is no part of the text.
        if self.header.is_control() {
            return;
        }
        for byte in payload.iter().take(ANNOUNCEMENT - self.seen) {
            self.text[self.seen] = byte ^ self.mask[self.seen];
            self.seen += 1;
            self.count_text();
            if self.seen == ANNOUNCEMENT {
                let announced = (self.announces)(self.text);
                // A text without attachments does not end the waiting for those of an earlier one.
                if announced > 0 {
                    self.awaited = announced;
                }
            }
        }
    }

    /// Counts the text whose beginning has grown by a byte.
    fn count_text(&mut self) {
        let Some(counted) = &self.counted else { return };
        // Not at the end of the text: a CONNECT to the root namespace has no third byte.
        match (self.seen, self.text) {
            (1, [first, ..]) if (counted.beats)(first) => self.beats = self.beats.saturating_add(1),
            (2, [first, second, _]) if (counted.asks)([first, second]) => self.asked = self.asked.saturating_add(1),
            _ => {}
        }
    }

    fn is_too_long(&mut self, most: u64) -> bool {
        // A control frame is a message of its own, also between the fragments of another one.
        if self.header.is_control() {
            return self.left > most;
        }
        let before = if self.header.opcode() == CONTINUATION { self.message } else { 0 };
        self.message = before.saturating_add(self.left);
        let too_long = self.message > most;
        if self.header.is_final() {
            self.message = 0;
        }
        too_long
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::header::FIN;

    const MASKED: u8 = 0x80;
    /// Bytes of the longest header.
    const LONGEST_HEAD: usize = 14;

    /// A peer whose texts announce attachments by `5` or `6` and a digit behind a `4`, as those of Socket.IO do.
    fn following() -> Incoming {
        Incoming::new(
            |text| match text {
                [b'4', b'5' | b'6', count @ b'1'..=b'9'] => count - b'0',
                _ => 0,
            },
            None,
        )
    }

    #[test]
    fn a_message_counts_from_its_first_head_to_its_last_byte() {
        let mut incoming = following();
        let [first, last] = [frame(TEXT, 200, true), frame(FIN | CONTINUATION, 300, true)];
        incoming.follow_bytes(&first[..20], MOST);
        assert_eq!(incoming.begun_bytes(), 200);
        incoming.follow_bytes(&first[20..], MOST);
        assert_eq!(incoming.begun_bytes(), 200, "more is to come");
        incoming.follow_bytes(&last[..20], MOST);
        assert_eq!(incoming.begun_bytes(), 300, "of its last frame");
        incoming.follow_bytes(&last[20..], MOST);
        assert_eq!(incoming.begun_bytes(), 0);
        incoming.follow_bytes(&frame(FIN | TEXT, 500, true)[..100], MOST);
        assert_eq!(incoming.begun_bytes(), 500);
    }

    const MOST: u64 = 1000;

    fn frame(first: u8, length: u64, masked: bool) -> Vec<u8> {
        let mask = if masked { MASKED } else { 0 };
        let mut bytes = vec![first];
        match length {
            0..126 => bytes.push(mask | u8::try_from(length).expect("short")),
            126..65_536 => {
                bytes.push(mask | 126);
                bytes.extend(u16::try_from(length).expect("medium").to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend(length.to_be_bytes());
            }
        }
        bytes.extend(vec![0xff; if masked { 4 } else { 0 }]);
        bytes.extend(vec![0x81; usize::try_from(length.min(5000)).expect("short")]);
        bytes
    }

    #[test]
    fn a_length_that_no_memory_holds_is_too_long() {
        let mut incoming = following();
        assert_eq!(incoming.follow_bytes(&frame(0x81, u64::MAX, true), MOST), Some(0));
    }

    fn text(payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).expect("short");
        let masked = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        [0x81, MASKED | length].into_iter().chain(mask).chain(masked).collect()
    }

    #[track_caller]
    fn check_awaited(payload: &str, expected: bool) {
        for reads in 1..12 {
            let mut incoming = following();
            for part in text(payload.as_bytes(), [1, 0xff, 7, 0x80]).chunks(reads) {
                assert_eq!(incoming.follow_bytes(part, MOST), None);
            }
            assert_eq!(incoming.awaits_attachments(), expected, "{payload}");
            assert_eq!(incoming.take_frames(), 1);
        }
    }

    #[test]
    fn attachments_are_owed_from_their_announcement_until_they_begin() {
        check_awaited(r#"451-/realtime,["x"]"#, true);
        check_awaited("461-/realtime,1[]", true);
        for other in ["", "3", "45", "450-[]", "45-", "42/realtime,451-", "2451-"] {
            check_awaited(other, false);
        }
        let mut incoming = following();
        assert_eq!(incoming.follow_bytes(&text(b"452-[]", [3; 4]), MOST), None);
        for left in [true, false] {
            assert_eq!(incoming.follow_bytes(&text(b"3", [5; 4]), MOST), None);
            assert!(incoming.awaits_attachments(), "a heartbeat is no attachment");
            assert_eq!(incoming.follow_bytes(&frame(0x82, 10, true), MOST), None);
            assert_eq!(incoming.awaits_attachments(), left);
        }
    }

    proptest! {
        /// Messages of fragments, with pings among them, in reads of any size.
        #[test]
        fn the_first_message_that_is_too_long_is_found_where_it_grows_too_long(
            messages in prop::collection::vec((prop::collection::vec(0_u64..700, 1..4), any::<bool>(), any::<bool>()), 1..12),
            reads in prop::collection::vec(1_usize..600, 1..40),
        ) {
            let (mut bytes, mut expected) = (Vec::new(), None);
            for (fragments, masked, pings) in messages {
                let mut sum = 0;
                for (i, length) in fragments.iter().enumerate() {
                    let opcode = if i == 0 { 0x01 } else { 0x00 };
                    let fin = if i + 1 == fragments.len() { FIN } else { 0 };
                    sum += length;
                    if sum > MOST {
                        expected = expected.or(Some(bytes.len()));
                    }
                    bytes.extend(frame(fin | opcode, *length, masked));
                    if pings {
                        bytes.extend(frame(0x89, 100, masked));
                    }
                }
            }
            let (mut incoming, mut at, mut found) = (following(), 0, None);
            for read in reads.iter().cycle() {
                let end = (at + read).min(bytes.len());
                if let Some(place) = incoming.follow_bytes(&bytes[at..end], MOST) {
                    found = Some(at + place);
                    break;
                }
                at = end;
                if at == bytes.len() {
                    break;
                }
            }
            match (found, expected) {
                // The head may have begun in an earlier read, which was handed on.
                (Some(found), Some(expected)) => prop_assert!(found >= expected && found < expected + LONGEST_HEAD),
                (found, expected) => prop_assert_eq!(found, expected),
            }
        }
    }

    fn sent(first: u8, mask: [u8; 4], text: &str) -> Vec<u8> {
        let length = MASKED | u8::try_from(text.len()).expect("short");
        let payload = text.bytes().zip(mask.into_iter().cycle()).map(|(byte, mask)| byte ^ mask);
        [first, length].into_iter().chain(mask).chain(payload).collect()
    }

    #[test]
    fn an_announcement_in_fragments_is_one_and_what_stands_between_them_is_none() {
        const PING: u8 = 0x89;
        let fragments =
            [sent(TEXT, [1, 2, 3, 4], "4"), sent(PING, [5; 4], "0x"), sent(FIN | CONTINUATION, [6, 7, 8, 9], "52-")];
        let mut incoming = following();
        assert_eq!(incoming.follow_bytes(&fragments.concat(), MOST), None);
        assert!(incoming.awaits_attachments());
        for attachment in [false, true] {
            assert_eq!(incoming.follow_bytes(&sent(FIN | BINARY, [3; 4], "451-"), MOST), None);
            assert_eq!(incoming.awaits_attachments(), !attachment, "two were announced");
        }
        assert_eq!(incoming.follow_bytes(&[sent(TEXT, [9; 4], "45"), sent(PING, [0; 4], "1")].concat(), MOST), None);
        assert!(!incoming.awaits_attachments());
    }
}
