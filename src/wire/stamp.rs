//! Marks the response of an upgrade with a nonce, so that the wire recognises the head after which frames begin.

use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::Wire;

/// The header that carries the nonce. The client receives it too and ignores it.
pub const WIRE_HEADER: HeaderName = HeaderName::from_static("x-hallway-wire");

/// Gives a 101 response a header with a fresh nonce and arms `wire` with it; leaves any other response alone.
///
/// A layer outside of this call must not replace the response: the wire would wait for a nonce that is never written.
pub fn stamp<B>(wire: &Wire, response: &mut Response<B>) {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    // 128 random bits: a client must not be able to have the nonce echoed in an earlier response of the same
    // connection, which would make the wire read that response as frames.
    let nonce = format!("{:032x}", rand::random::<u128>());
    if let Ok(value) = HeaderValue::from_str(&nonce) {
        // The wire is armed before hyper writes the head, so that it sees the nonce pass.
        response.headers_mut().insert(WIRE_HEADER, value);
        wire.arm_nonce(&nonce);
    }
}
