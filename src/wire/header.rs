//! The header of a `WebSocket` frame (RFC 6455, 5.2), of either direction, collected byte by byte.

/// Opcode of a further fragment of a message.
pub(super) const CONTINUATION: u8 = 0x00;
/// Opcode of a text message.
pub(super) const TEXT: u8 = 0x01;
/// Opcode of a binary message.
pub(super) const BINARY: u8 = 0x02;
/// Opcode of a close frame.
pub(super) const CLOSE: u8 = 0x08;
/// Opcode of a ping.
pub(super) const PING: u8 = 0x09;
/// Opcode of a pong.
pub(super) const PONG: u8 = 0x0a;
/// First bit of a frame: it is the last one of its message.
pub(super) const FIN: u8 = 0x80;

/// Longest header: two bytes, eight of length, four of mask.
const LONGEST: usize = 14;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const CONTROL: u8 = 0x08;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;

/// A header. What it says is readable until the first byte of the next one.
#[derive(Debug, Default)]
pub(super) struct FrameHeader {
    bytes: [u8; LONGEST],
    /// Bytes collected since [`FrameHeader::restart`].
    seen: u8,
}

impl FrameHeader {
    /// Begins the next header.
    pub(super) fn restart(&mut self) {
        self.seen = 0;
    }

    /// Takes a byte. True when it is the last one of the header.
    pub(super) fn push_byte(&mut self, byte: u8) -> bool {
        self.bytes[self.seen()] = byte;
        self.seen += 1;
        // The second byte says how many follow.
        self.seen >= 2 && self.seen() == self.size()
    }

    /// Bytes collected.
    pub(super) fn seen(&self) -> usize {
        usize::from(self.seen)
    }

    /// The opcode; of use from the first byte on.
    pub(super) fn opcode(&self) -> u8 {
        self.bytes[0] & OPCODE
    }

    /// Whether it is the last frame of its message.
    pub(super) fn is_final(&self) -> bool {
        self.bytes[0] & FIN != 0
    }

    /// Whether it has a bit that only an extension may set.
    pub(super) fn has_reserved_bits(&self) -> bool {
        self.bytes[0] & RESERVED != 0
    }

    /// Whether it is a control frame, which may stand between the fragments of a message.
    pub(super) fn is_control(&self) -> bool {
        self.bytes[0] & CONTROL != 0
    }

    /// Whether the payload is masked, as that of a client must be; of use from the second byte on.
    pub(super) fn is_masked(&self) -> bool {
        self.bytes[1] & MASKED != 0
    }

    /// Bytes of the payload, of a header that is complete.
    pub(super) fn payload_length(&self) -> u64 {
        match self.length_size() {
            0 => u64::from(self.bytes[1] & LENGTH),
            size => self.bytes[2..2 + size].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        }
    }

    /// The mask of a header that is complete; zeroes, which change nothing, where there is none.
    pub(super) fn mask(&self) -> [u8; 4] {
        let at = 2 + self.length_size();
        let mask = self.bytes[at..].first_chunk().filter(|_| self.is_masked());
        mask.copied().unwrap_or_default()
    }

    fn size(&self) -> usize {
        2 + self.length_size() + if self.is_masked() { 4 } else { 0 }
    }

    fn length_size(&self) -> usize {
        match self.bytes[1] & LENGTH {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(first: u8, length: u64, mask: Option<[u8; 4]>) -> Vec<u8> {
        let masked = if mask.is_some() { MASKED } else { 0 };
        let mut bytes = vec![first];
        match length {
            0..126 => bytes.push(masked | u8::try_from(length).expect("short")),
            126..65_536 => {
                bytes.push(masked | 126);
                bytes.extend(u16::try_from(length).expect("medium").to_be_bytes());
            }
            _ => {
                bytes.push(masked | 127);
                bytes.extend(length.to_be_bytes());
            }
        }
        bytes.extend(mask.into_iter().flatten());
        bytes
    }

    proptest! {
        /// Also where a longer header stood before: nothing of that shines through.
        #[test]
        fn a_header_says_what_was_encoded_and_ends_with_its_last_byte(
            headers in prop::collection::vec((any::<u8>(), prop_oneof![0..200_u64, any::<u64>()], any::<Option<[u8; 4]>>()), 1..8),
        ) {
            let mut header = FrameHeader::default();
            for (first, length, mask) in headers {
                header.restart();
                let bytes = encode(first, length, mask);
                for (at, byte) in bytes.iter().enumerate() {
                    prop_assert_eq!(header.push_byte(*byte), at + 1 == bytes.len());
                }
                prop_assert_eq!(header.seen(), bytes.len());
                prop_assert_eq!((header.opcode(), header.is_final()), (first & 15, first >= 128));
                prop_assert_eq!((header.is_control(), header.is_masked()), (first & 8 != 0, mask.is_some()));
                prop_assert_eq!((header.payload_length(), header.mask()), (length, mask.unwrap_or_default()));
            }
        }
    }
}
