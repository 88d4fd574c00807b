//! Finds a client's address: that of the peer, or the one that trusted proxies report in `X-Forwarded-For`.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Gives the address that counts as the client's. Each trusted hop is believed about the one before it, from right to
/// left; the first hop that is not trusted is the client, and entries further left, which it may have written itself,
/// are ignored. If a trusted hop reports nothing readable, the client is that hop.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut nearest = peer.to_canonical();
    let mut hops = headers.get_all(FORWARDED_FOR).iter().rev().flat_map(|line| line.as_bytes().rsplit(|b| *b == b','));
    while trusted.iter().any(|net| net.contains(&nearest)) {
        let Some(before) = hops.next().and_then(hop_address) else { break };
        nearest = before;
    }
    nearest
}

/// Parses a hop; some proxies add the port.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    text.parse().ok().or_else(with_port).or_else(bare).map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(peer: &str, lines: &[&'static str], expected: &str) {
        let trusted: Vec<IpNet> =
            ["10.0.0.0/8", "fd00::/8"].iter().map(|net| net.parse().expect("a network")).collect();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).expect("a value"));
        }
        let found = client_address(peer.parse().expect("an address"), &headers, &trusted);
        assert_eq!(found, expected.parse::<IpAddr>().expect("an address"), "{peer} {lines:?}");
    }

    #[test]
    fn the_right_most_address_that_is_no_trusted_proxy_is_the_client() {
        check("10.0.0.1", &["203.0.113.7"], "203.0.113.7");
        check("10.0.0.1", &["6.6.6.6, 203.0.113.7"], "203.0.113.7");
        check("10.0.0.1", &["6.6.6.6, 203.0.113.7, 10.2.3.4,10.0.0.9"], "203.0.113.7");
        check("10.0.0.1", &["203.0.113.7", "10.2.3.4"], "203.0.113.7");
        check("10.0.0.1", &["203.0.113.7", "198.51.100.1"], "198.51.100.1");
        check("::ffff:10.0.0.1", &["::ffff:203.0.113.7"], "203.0.113.7");
        check("fd00::1", &["2001:db8::1"], "2001:db8::1");
        check("10.0.0.1", &["203.0.113.7:4711"], "203.0.113.7");
        check("10.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1");
        check("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1");
    }

    #[test]
    fn nobody_else_is_believed() {
        check("203.0.113.7", &["6.6.6.6"], "203.0.113.7");
        check("2001:db8::1", &["6.6.6.6, 10.0.0.1"], "2001:db8::1");
    }

    #[test]
    fn where_nothing_can_be_read_the_nearest_trusted_hop_counts() {
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &[""], "10.0.0.1");
        check("10.0.0.1", &["10.2.3.4"], "10.2.3.4");
        for junk in ["unknown", "_hidden", "6.6.6.6.6", "6.6.6.6:x", "1.2.3.4 5.6.7.8", "\u{e9}"] {
            check("10.0.0.1", &[junk], "10.0.0.1");
        }
        check("10.0.0.1", &["6.6.6.6, unknown, 10.2.3.4"], "10.2.3.4");
        check("10.0.0.1", &["6.6.6.6,"], "10.0.0.1");
    }
}
