//! Rewrites request heads on entry. The token is taken out of the URI before a span or log can record it, Dart's
//! `transport=polling` upgrades become `websocket`, and values that live as long as the connection are copied out of
//! hyper's read buffer.

use std::sync::Arc;

use axum::extract::connect_info::ConnectInfo;
use http::header::{AUTHORIZATION, CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use percent_encoding::percent_decode_str;

use super::transport::{HeadTokens, Transport};
use crate::wire::Wire;

/// The headers that the handshake needs. The head stays in memory as long as the connection, so the others are dropped.
const KEPT: [HeaderName; 4] =
    [CONNECTION, UPGRADE, http::header::SEC_WEBSOCKET_KEY, http::header::SEC_WEBSOCKET_VERSION];

/// Whether a path belongs to this door.
#[must_use]
pub fn is_ours(path: &str) -> bool {
    path == "/socket.io" || path.starts_with("/socket.io/")
}

/// Rewrites a request's head; see the module.
#[must_use]
pub fn rewrite_request<B>(request: Request<B>) -> Request<B> {
    let (mut parts, body) = request.into_parts();
    let upgrades = parts.headers.contains_key(http::header::SEC_WEBSOCKET_KEY);
    let (uri, query) = rebuild_uri(&parts.uri, upgrades);
    let header = parts.headers.remove(AUTHORIZATION).and_then(|v| v.to_str().ok().map(str::to_owned));
    // The originals share hyper's read buffer, and one small header would keep all of it alive.
    parts.headers = copy_headers(&parts.headers);
    parts.uri = uri;
    // It lives in the head so that all namespaces of the transport share it.
    parts.extensions.insert(Arc::new(Transport::new(HeadTokens { query, header })));
    Request::from_parts(parts, body)
}

/// The transport that a rewritten request is to become.
#[must_use]
pub fn transport_of(extensions: &http::Extensions) -> Option<Arc<Transport>> {
    extensions.get().cloned()
}

/// The wire that a request came by, if it came by one.
#[must_use]
pub fn wire_of(extensions: &http::Extensions) -> Option<Wire> {
    extensions.get::<ConnectInfo<Wire>>().map(|info| info.0.clone())
}

fn rebuild_uri(uri: &Uri, upgrades: bool) -> (Uri, Option<String>) {
    let mut token = None;
    let mut kept = String::new();
    for pair in uri.query().unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').map_or((pair, None), |(name, value)| (name, Some(value)));
        // Decoded before the comparison: a token under `%74oken` would stay in the URI, which may be logged.
        if percent_decode_str(name).eq(*b"token") {
            token = token.or_else(|| value.map(decode_component));
            continue;
        }
        kept.push(if kept.is_empty() { '?' } else { '&' });
        // An upgrade cannot be polling: Dart clients spell it like this and mean a `WebSocket`.
        kept.push_str(if upgrades && pair == "transport=polling" { "transport=websocket" } else { pair });
    }
    let rebuilt = format!("{}{kept}", uri.path()).parse().unwrap_or_else(|_| Uri::from_static("/"));
    (rebuilt, token)
}

fn decode_component(value: &str) -> String {
    let spaced = value.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

fn copy_headers(headers: &HeaderMap) -> HeaderMap {
    let mut copied = HeaderMap::with_capacity(KEPT.len());
    for name in KEPT {
        if let Some(value) = headers.get(&name).and_then(|v| HeaderValue::from_bytes(v.as_bytes()).ok()) {
            copied.insert(name, value);
        }
    }
    copied
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter_uri(uri: &str, upgrade: bool) -> (String, HeadTokens) {
        let mut request = Request::builder().uri(uri);
        if upgrade {
            request = request.header("sec-websocket-key", "x");
        }
        let request = rewrite_request(request.header("authorization", "Bearer h").body(()).expect("a request"));
        let transport = transport_of(request.extensions()).expect("it is always there");
        (request.uri().to_string(), transport.tokens.clone())
    }

    #[test]
    fn the_token_leaves_the_uri() {
        let (uri, tokens) = enter_uri("/socket.io/?EIO=4&token=a%2Bb&transport=websocket", true);
        assert_eq!(uri, "/socket.io/?EIO=4&transport=websocket");
        assert_eq!(tokens.query.as_deref(), Some("a+b"));
        assert_eq!(tokens.header.as_deref(), Some("Bearer h"));
    }

    #[test]
    fn the_token_leaves_the_uri_however_its_name_is_spelt() {
        let (uri, tokens) = enter_uri("/socket.io/?%74oke%6E=a&EIO=4&token&token=b", true);
        assert_eq!((uri.as_str(), tokens.query.as_deref()), ("/socket.io/?EIO=4", Some("a")));
    }

    #[test]
    fn a_polling_upgrade_becomes_a_websocket_and_plain_polling_does_not() {
        assert_eq!(enter_uri("/socket.io/?transport=polling&EIO=4", true).0, "/socket.io/?transport=websocket&EIO=4");
        assert_eq!(enter_uri("/socket.io/?transport=polling&EIO=4", false).0, "/socket.io/?transport=polling&EIO=4");
    }
}
