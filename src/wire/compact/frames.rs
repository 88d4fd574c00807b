//! Control frames of the gateway, as the library would write them.

use bytes::Bytes;

/// A close frame without a status.
pub(super) const CLOSE: [u8; 2] = [0x88, 0];
/// First byte of a close frame.
const CLOSES: u8 = 0x88;
/// First byte of a pong.
const PONGS: u8 = 0x8a;
/// The status for a status that a peer may not send.
const PROTOCOL_ERROR: u16 = 1002;

/// Encodes the answer to a ping.
pub(super) fn pong_frame(payload: &[u8]) -> Bytes {
    control_frame(PONGS, payload)
}

/// Encodes the answer to a close frame: its status and reason, or a close frame without them where they are no such.
pub(super) fn close_reply(payload: &[u8]) -> Bytes {
    let [high, low, reason @ ..] = payload else { return Bytes::from_static(&CLOSE) };
    if std::str::from_utf8(reason).is_err() {
        return Bytes::from_static(&CLOSE);
    }
    if is_status(u16::from_be_bytes([*high, *low])) {
        return control_frame(CLOSES, payload);
    }
    control_frame(CLOSES, &[&PROTOCOL_ERROR.to_be_bytes(), &b"Protocol violation"[..]].concat())
}

/// Whether a peer may close with this status (RFC 6455, 7.4): 1005, 1006 and 1015 are for programs, and the others are
/// not given out.
fn is_status(status: u16) -> bool {
    matches!(status, 1000..=1003 | 1007..=1013 | 3000..=4999)
}

fn control_frame(first: u8, payload: &[u8]) -> Bytes {
    let length = u8::try_from(payload.len()).unwrap_or_default();
    [&[first, length], payload].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_is_answered_with_its_own_status_where_that_is_one() {
        let answer = |payload: &[u8]| close_reply(payload).to_vec();
        assert_eq!(answer(b""), CLOSE);
        assert_eq!(answer(&[3]), CLOSE, "half a status");
        assert_eq!(answer(&[0x03, 0xe8, b'b', b'y', b'e']), [0x88, 5, 0x03, 0xe8, b'b', b'y', b'e']);
        assert_eq!(answer(&[0x03, 0xe8, 0xff]), CLOSE, "a reason that is no text");
        for status in [0_u16, 999, 1004, 1005, 1006, 1014, 1015, 1016, 2999, 5000, 65_535] {
            let expected = [&[0x88, 20, 0x03, 0xea], &b"Protocol violation"[..]].concat();
            assert_eq!(answer(&status.to_be_bytes()), expected, "{status}");
        }
        for status in [1000_u16, 1003, 1007, 1013, 3000, 4999] {
            assert_eq!(answer(&status.to_be_bytes())[2..], status.to_be_bytes(), "{status}");
        }
    }

    #[test]
    fn a_pong_repeats_the_ping() {
        assert_eq!(pong_frame(b"x").to_vec(), [0x8a, 1, b'x']);
    }
}
