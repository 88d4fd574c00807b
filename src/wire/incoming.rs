//! The peer's frames, as far as their lengths go: so that a message that is too long is seen where it begins, and its sender
//! told by the close status made for it. What a message holds is the library's business.

/// Longest head of a frame: two bytes, eight of length, four of mask.
const LONGEST_HEAD: usize = 14;
const CONTROL: u8 = 0x08;
const CONTINUATION: u8 = 0x00;
const OPCODE: u8 = 0x0f;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// Where in its stream of frames a peer is.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    head: [u8; LONGEST_HEAD],
    head_len: usize,
    /// Bytes of payload that are still to come.
    left: u64,
    /// Bytes of the message so far.
    message: u64,
}

impl Incoming {
    /// Follows what was read. Gives the place, among these bytes, of the frame by which a message has more than `most`
    /// bytes; after that it is of no further use.
    pub(super) fn follow(&mut self, bytes: &[u8], most: u64) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if self.left > 0 {
                let skip = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                self.left -= skip as u64;
                at += skip;
                continue;
            }
            let begin = at.saturating_sub(self.head_len);
            self.head[self.head_len] = bytes[at];
            self.head_len += 1;
            at += 1;
            if self.head_len == self.head_size() {
                self.head_len = 0;
                self.left = self.length();
                if self.is_too_long(most) {
                    return Some(begin);
                }
            }
        }
        None
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

    fn length(&self) -> u64 {
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
        assert_eq!(incoming.follow(&frame(0x81, u64::MAX, true), MOST), Some(0));
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
                if let Some(place) = incoming.follow(&bytes[at..end], MOST) {
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
}
