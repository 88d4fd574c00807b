//! Marks the response of an upgrade, so that the wire knows which head its frames begin after.

use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::Wire;

/// The header that carries the nonce. It reaches the client, to which it means nothing.
pub const WIRE_HEADER: HeaderName = HeaderName::from_static("x-hallway-wire");

/// If `response` is a 101, gives it a header with a fresh nonce and arms `wire` with it.
///
/// No layer outside the one that calls this may answer with something else instead.
pub fn stamp<B>(wire: &Wire, response: &mut Response<B>) {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    let nonce = format!("{:032x}", rand::random::<u128>());
    if let Ok(value) = HeaderValue::from_str(&nonce) {
        response.headers_mut().insert(WIRE_HEADER, value);
        wire.arm(&nonce);
    }
}
