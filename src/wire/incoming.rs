//! The peer's frames, as far as their number, their lengths and what they announce go: so that a message that is too long is
//! seen where it begins, and its sender told by the close status made for it, and so that neither a flood of frames nor
//! attachments that never come are put up with. What else a message holds is the library's business.

/// Longest head of a frame: two bytes, eight of length, four of mask.
const LONGEST_HEAD: usize = 14;
const CONTROL: u8 = 0x08;
const CONTINUATION: u8 = 0x00;
const TEXT: u8 = 0x01;
const BINARY: u8 = 0x02;
const OPCODE: u8 = 0x0f;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
/// `451-`: a Socket.IO event or ack with one attachment. More than nine are refused by the library, whatever they are.
const ANNOUNCEMENT: usize = 3;

/// Where in its stream of frames a peer is.
#[derive(Debug)]
pub(super) struct Incoming {
    head: [u8; LONGEST_HEAD],
    head_len: usize,
    /// Bytes of payload that are still to come.
    left: u64,
    /// Bytes of the message so far.
    message: u64,
    /// Frames that began, until they are taken.
    frames: u32,
    /// What the last text began with, as far as it was looked at.
    text: [u8; ANNOUNCEMENT],
    /// Bytes of `text`; all of them while no text is looked at.
    seen: usize,
    mask: [u8; 4],
    /// Attachments that were announced and have not begun.
    owed: u8,
}

impl Default for Incoming {
    fn default() -> Self {
        Self {
            head: [0; LONGEST_HEAD],
            head_len: 0,
            left: 0,
            message: 0,
            frames: 0,
            text: [0; ANNOUNCEMENT],
            seen: ANNOUNCEMENT,
            mask: [0; 4],
            owed: 0,
        }
    }
}

impl Incoming {
    /// Follows what was read. Gives the place, among these bytes, of the frame by which a message has more than `most`
    /// bytes; after that it is of no further use.
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
            let begin = at.saturating_sub(self.head_len);
            self.head[self.head_len] = bytes[at];
            self.head_len += 1;
            at += 1;
            if self.head_len == self.head_size() {
                self.note_frame();
                self.head_len = 0;
                self.left = self.payload_length();
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
        let frame = if self.left > 0 && self.message == 0 { self.payload_length() } else { 0 };
        self.message.saturating_add(frame)
    }

    /// Whether attachments were announced that have not come.
    pub(super) fn is_owed(&self) -> bool {
        self.owed > 0
    }

    fn note_frame(&mut self) {
        self.frames = self.frames.saturating_add(1);
        match self.head[0] & OPCODE {
            TEXT => {
                self.seen = 0;
                self.note_mask();
            }
            CONTINUATION => self.note_mask(),
            BINARY => {
                self.seen = ANNOUNCEMENT;
                self.owed = self.owed.saturating_sub(1);
            }
            _ => {}
        }
    }

    /// Each fragment has a mask of its own, that begins with it.
    fn note_mask(&mut self) {
        let at = 2 + self.length_size();
        for i in 0..4 {
            let masked = self.head[1] & MASKED != 0;
            self.mask[(self.seen + i) % 4] = if masked { self.head[at + i] } else { 0 };
        }
    }

    /// Looks at the beginning of a text for the attachments that it announces. Control frames stand between its fragments.
    fn read_attachments(&mut self, payload: &[u8]) {
        if self.head[0] & CONTROL != 0 {
            return;
        }
        for byte in payload.iter().take(ANNOUNCEMENT - self.seen) {
            self.text[self.seen] = byte ^ self.mask[self.seen];
            self.seen += 1;
            if let ([b'4', b'5' | b'6', count @ b'1'..=b'9'], ANNOUNCEMENT) = (self.text, self.seen) {
                self.owed = count - b'0';
            }
        }
    }

    /// Bytes of the head, as far as can be told.
    fn head_size(&self) -> usize {
        if self.head_len < 2 {
            return LONGEST_HEAD;
        }
        let mask = if self.head[1] & MASKED == 0 { 0 } else { 4 };
        2 + mask + self.length_size()
    }

    fn length_size(&self) -> usize {
        match self.head[1] & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn payload_length(&self) -> u64 {
        match self.length_size() {
            0 => u64::from(self.head[1] & !MASKED),
            size => self.head[2..2 + size].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        }
    }

    fn is_too_long(&mut self, most: u64) -> bool {
        let opcode = self.head[0] & OPCODE;
        if opcode & CONTROL != 0 {
            return self.left > most;
        }
        let before = if opcode == CONTINUATION { self.message } else { 0 };
        self.message = before.saturating_add(self.left);
        let too_long = self.message > most;
        if self.head[0] & FIN != 0 {
            self.message = 0;
        }
        too_long
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_counts_from_its_first_head_to_its_last_byte() {
        let mut incoming = Incoming::default();
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
        let mut incoming = Incoming::default();
        assert_eq!(incoming.follow_bytes(&frame(0x81, u64::MAX, true), MOST), Some(0));
    }

    fn text(payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).expect("short");
        let masked = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        [0x81, MASKED | length].into_iter().chain(mask).chain(masked).collect()
    }

    #[track_caller]
    fn check_owed(payload: &str, expected: bool) {
        for reads in 1..12 {
            let mut incoming = Incoming::default();
            for part in text(payload.as_bytes(), [1, 0xff, 7, 0x80]).chunks(reads) {
                assert_eq!(incoming.follow_bytes(part, MOST), None);
            }
            assert_eq!(incoming.is_owed(), expected, "{payload}");
            assert_eq!(incoming.take_frames(), 1);
        }
    }

    #[test]
    fn attachments_are_owed_from_their_announcement_until_they_begin() {
        check_owed(r#"451-/realtime,["x"]"#, true);
        check_owed("461-/realtime,1[]", true);
        for other in ["", "3", "45", "450-[]", "45-", "42/realtime,451-", "2451-"] {
            check_owed(other, false);
        }
        let mut incoming = Incoming::default();
        assert_eq!(incoming.follow_bytes(&text(b"452-[]", [3; 4]), MOST), None);
        for left in [true, false] {
            assert_eq!(incoming.follow_bytes(&text(b"3", [5; 4]), MOST), None);
            assert!(incoming.is_owed(), "a heartbeat is no attachment");
            assert_eq!(incoming.follow_bytes(&frame(0x82, 10, true), MOST), None);
            assert_eq!(incoming.is_owed(), left);
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
            let (mut incoming, mut at, mut found) = (Incoming::default(), 0, None);
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
        let mut incoming = Incoming::default();
        assert_eq!(incoming.follow_bytes(&fragments.concat(), MOST), None);
        assert!(incoming.is_owed());
        for attachment in [false, true] {
            assert_eq!(incoming.follow_bytes(&sent(FIN | BINARY, [3; 4], "451-"), MOST), None);
            assert_eq!(incoming.is_owed(), !attachment, "two were announced");
        }
        assert_eq!(incoming.follow_bytes(&[sent(TEXT, [9; 4], "45"), sent(PING, [0; 4], "1")].concat(), MOST), None);
        assert!(!incoming.is_owed());
    }
}
