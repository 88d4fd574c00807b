//! Chooses the `WebSocket` subprotocol of the response. None means anything here, but a client that offers some gives
//! up if none is chosen; so it is the first one, as with Node's `ws`, and an offer that `ws` refuses is refused here
//! too.

use http::HeaderMap;
use http::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};

/// The error for an offer that is no list of distinct names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidOffer;

/// Gives the first subprotocol offered, if any. Several lines of the header are one list (RFC 6455, 11.3.4).
pub(super) fn choose_subprotocol(headers: &HeaderMap) -> Result<Option<HeaderValue>, InvalidOffer> {
    let mut names: Vec<&str> = Vec::new();
    for line in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        let line = line.to_str().map_err(|_| InvalidOffer)?;
        names.extend(line.split(',').map(|name| name.trim_matches([' ', '\t'])));
    }
    if !names.iter().all(|name| is_token(name)) {
        return Err(InvalidOffer);
    }
    let first = names.first().map(|name| HeaderValue::from_str(name).map_err(|_| InvalidOffer)).transpose();
    // Sorted only behind the choice of the first, to find duplicates as neighbours.
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) { Err(InvalidOffer) } else { first }
}

/// Whether `name` is a `token` of RFC 9110.
fn is_token(name: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(fine)
}
