//! Encodes the one kind of frame that Hallway sends itself.

use bytes::{BufMut, Bytes, BytesMut};

const FIN_TEXT: u8 = 0x81;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;
const LONGEST_HEADER: usize = 10;

/// Makes one complete unmasked text frame around `payload`, which must be UTF-8 for the peer to accept it.
///
/// Encode once, then push the same [`Bytes`] to every member: a clone only counts a reference.
#[must_use]
pub fn text_frame(payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(LONGEST_HEADER + payload.len());
    frame.put_u8(FIN_TEXT);
    // RFC 6455 demands the shortest length encoding that fits.
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short), _) if short < LENGTH_16 => frame.put_u8(short),
        (_, Ok(medium)) => {
            frame.put_u8(LENGTH_16);
            frame.put_u16(medium);
        }
        (_, Err(_)) => {
            frame.put_u8(LENGTH_64);
            frame.put_u64(payload.len() as u64);
        }
    }
    frame.put_slice(payload);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::text_frame;

    #[track_caller]
    fn check(length: usize, header: &[u8]) {
        let frame = text_frame(&vec![b'x'; length]);
        assert_eq!(&frame[..header.len()], header);
        assert_eq!(frame.len(), header.len() + length);
        assert!(frame[header.len()..].iter().all(|&byte| byte == b'x'));
    }

    #[test]
    fn the_shortest_length_encoding_that_fits_is_used() {
        check(0, &[0x81, 0]);
        check(125, &[0x81, 125]);
        check(126, &[0x81, 126, 0, 126]);
        check(65_535, &[0x81, 126, 0xff, 0xff]);
        check(65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }
}
