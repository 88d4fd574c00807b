//! Dev mode's guard: only loopback names in Host and Origin, so that no web page reaches it by name tricks.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};

pub(super) async fn check(request: Request, next: Next) -> Response {
    if is_local(request.uri(), request.headers()) {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "dev mode answers to loopback names only\n").into_response()
}

/// Whether a request names this machine in its one Host, in its target where that has a name, and as its page.
fn is_local(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().is_some_and(|host| host.to_str().is_ok_and(is_loopback)) && hosts.next().is_none();
    let target = uri.authority().is_none_or(|authority| is_loopback(authority.as_str()));
    let origin = |origin: &HeaderValue| {
        let authority =
            origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
        authority.is_some_and(is_loopback)
    };
    host && target && headers.get_all(ORIGIN).iter().all(origin)
}

fn is_loopback(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(target: &'static str, hosts: &[&'static str], origins: &[&'static str], expected: bool) {
        let mut headers = HeaderMap::new();
        for (name, values) in [(HOST, hosts), (ORIGIN, origins)] {
            for value in values {
                headers.append(&name, value.parse().expect("a header"));
            }
        }
        assert_eq!(is_local(&Uri::from_static(target), &headers), expected, "{target} {hosts:?} {origins:?}");
    }

    #[test]
    fn only_loopback_names_pass() {
        let here = ["localhost:8080"];
        check("/", &here, &[], true);
        check("/", &["LOCALHOST"], &[], true);
        check("/", &["127.0.0.1:8080"], &["http://localhost:3000"], true);
        check("/", &["[::1]:8080"], &["http://[::1]:3000"], true);
        check("http://localhost:8080/", &here, &[], true);
        check("http://evil.example/", &here, &[], false);
        check("/", &[], &[], false);
        check("/", &["localhost:8080", "localhost:8080"], &[], false);
        for host in [
            "",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "localhost.",
            "0.0.0.0",
            "127.1",
            "2130706433",
            "[::ffff:10.0.0.1]",
            "u@localhost",
        ] {
            check("/", &[host], &[], false);
        }
        for origin in
            ["https://evil.example", "null", "", "localhost", "http://localhost@evil.example", "http://localhost."]
        {
            check("/", &here, &[origin], false);
        }
        check("/", &here, &["http://localhost:3000", "https://evil.example"], false);
    }
}
