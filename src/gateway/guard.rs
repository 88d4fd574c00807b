//! Dev mode's guard: only loopback names in Host and Origin, so that no web page reaches it by name tricks.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, StatusCode};

pub(super) async fn check(request: Request, next: Next) -> Response {
    if is_local(request.headers()) {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "dev mode answers to loopback names only\n").into_response()
}

fn is_local(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(HOST).is_none_or(is_loopback);
    let origin = text(ORIGIN).is_none_or(|origin| {
        let authority = origin.split_once("://").map_or(origin, |(_, authority)| authority);
        origin != "null" && is_loopback(authority)
    });
    host && origin
}

fn is_loopback(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(host: &'static str, origin: Option<&'static str>, expected: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().expect("a header"));
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().expect("a header"));
        }
        assert_eq!(is_local(&headers), expected, "{host} {origin:?}");
    }

    #[test]
    fn only_loopback_names_pass() {
        check("localhost:8080", None, true);
        check("127.0.0.1:8080", Some("http://localhost:3000"), true);
        check("[::1]:8080", Some("http://[::1]:3000"), true);
        check("evil.example:8080", None, false);
        check("localhost.evil.example", None, false);
        check("localhost:8080", Some("https://evil.example"), false);
        check("localhost:8080", Some("null"), false);
    }
}
