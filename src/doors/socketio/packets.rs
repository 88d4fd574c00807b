//! What the wire must know of Engine.IO and Socket.IO to do without the library: how some packets begin.

use std::time::Duration;

use crate::wire::HandOver;

/// What the wire needs for a hand-over, with this heartbeat.
#[must_use]
pub fn hand_over(ping_interval: Duration, ping_timeout: Duration) -> HandOver {
    HandOver {
        ping_interval,
        ping_timeout,
        ping: "2",
        farewell: "1",
        // The library takes a ping of the client for a pong too.
        beats: |first| matches!(first, b'2' | b'3'),
        asks: |begin| begin == *b"40",
        // A CONNECT is answered with `40` or, refused, with `44`.
        answers: |begin| matches!(&begin, b"40" | b"44"),
    }
}
