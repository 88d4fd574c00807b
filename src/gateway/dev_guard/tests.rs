//! Tests of the names and the peers that pass the guard.

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Uri};

use super::{DevGuard, ForeignRequest, is_near};
use crate::config::DevHost;
use crate::logs::Hints;

fn guard(names: &[&str]) -> DevGuard {
    let hosts: Vec<DevHost> = names.iter().map(|name| name.parse().expect("a host")).collect();
    DevGuard::new(&hosts, Hints::none())
}

fn judge(
    names: &[&str],
    target: &'static str,
    hosts: &[&'static str],
    origins: &[&'static str],
) -> Result<(), ForeignRequest> {
    let mut headers = HeaderMap::new();
    for (name, values) in [(HOST, hosts), (ORIGIN, origins)] {
        for value in values {
            headers.append(&name, value.parse().expect("a header"));
        }
    }
    guard(names).judge_request(&Uri::from_static(target), &headers)
}

#[track_caller]
fn check(target: &'static str, hosts: &[&'static str], origins: &[&'static str], expected: bool) {
    assert_eq!(judge(&[], target, hosts, origins).is_ok(), expected, "{target} {hosts:?} {origins:?}");
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

#[test]
fn the_names_of_dev_host_pass_and_none_that_looks_like_them() {
    let ours = ["10.0.2.2", "my-mac.local", "fd00::1"];
    for (host, origin) in [
        ("10.0.2.2:8080", "http://10.0.2.2:8080"),
        ("My-Mac.local", "http://my-mac.local:3000"),
        ("[fd00::1]:8080", "http://[fd00::1]"),
        ("localhost:8080", "http://10.0.2.2"),
        ("10.0.2.2", "http://localhost:3000"),
    ] {
        assert_eq!(judge(&ours, "/", &[host], &[]), Ok(()), "{host}");
        assert_eq!(judge(&ours, "/", &[host], &[origin]), Ok(()), "{host} {origin}");
        assert!(judge(&[], "/", &[host], &[origin]).is_err(), "{host} {origin}");
    }
    for (host, name) in [
        ("10.0.2.20:1", "10.0.2.20"),
        ("10.0.2.2.nip.io", "10.0.2.2.nip.io"),
        ("my-mac.local.evil.example:80", "my-mac.local.evil.example"),
        ("x.my-mac.local", "x.my-mac.local"),
        ("my-mac.local.", "my-mac.local."),
        ("10.0.2.3", "10.0.2.3"),
    ] {
        assert_eq!(judge(&ours, "/", &[host], &[]), Err(ForeignRequest::Host(name.to_owned())), "{host}");
    }
    assert!(judge(&ours, "/", &["u@10.0.2.2"], &[]).is_err());
    let page = judge(&ours, "/", &["10.0.2.2"], &["https://evil.example:8443"]);
    assert_eq!(page, Err(ForeignRequest::Origin("evil.example".to_owned())), "a page that knows the address");
    assert!(judge(&ours, "/", &["10.0.2.2"], &["null"]).is_err());
    assert!(judge(&ours, "http://evil.example/", &["10.0.2.2"], &[]).is_err());
}

#[test]
fn peers_of_the_open_internet_are_none_of_ours() {
    for near in [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.1.7",
        "172.16.0.1",
        "169.254.1.1",
        "100.64.0.1",
        "::1",
        "fd00::1",
        "fe80::1",
        "::ffff:10.0.0.1",
    ] {
        let ip: std::net::IpAddr = near.parse().expect("an address");
        assert!(is_near((ip, 1).into()), "{near}");
    }
    for far in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "192.169.0.1", "2001:db8::1", "::ffff:8.8.8.8"] {
        let ip: std::net::IpAddr = far.parse().expect("an address");
        assert!(!is_near((ip, 1).into()), "{far}");
    }
}
