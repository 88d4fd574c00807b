//! Attachments: binary messages that a packet announces and that follow it (`451-…`).

use crate::wire::ANNOUNCEMENT;

/// The attachments that a text message of this beginning announces: `45` is an event and `46` an ack, behind which stands
/// their number. The library refuses more than nine, which would take a second digit.
#[must_use]
pub const fn announced_attachments(beginning: [u8; ANNOUNCEMENT]) -> u8 {
    match beginning {
        [b'4', b'5' | b'6', count @ b'1'..=b'9'] => count - b'0',
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::announced_attachments;

    #[test]
    fn events_and_acks_announce_attachments_and_nothing_else_does() {
        for (beginning, expected) in [(b"451", 1), (b"469", 9), (b"450", 0), (b"45-", 0), (b"42[", 0), (b"245", 0)] {
            assert_eq!(announced_attachments(*beginning), expected, "{}", beginning.escape_ascii());
        }
    }
}
