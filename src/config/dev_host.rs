//! A name that `serve --dev` accepts besides those of loopback, from `--dev-host`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Bytes of the longest host name (RFC 1035).
const NAME_BYTES: usize = 253;

/// A name or an address of this machine, exactly: no wildcard, no subdomain, no other spelling of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DevHost {
    /// A name, in lower case.
    Name(String),
    /// An address.
    Address(IpAddr),
}

/// A text that does not name one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("give one name or address as a device has it in its URL, without scheme, port or wildcard, such as 10.0.2.2")]
pub struct NoHost;

impl DevHost {
    /// Whether the host of a URL or of a `Host` header, without its port, is this one.
    #[must_use]
    pub fn is(&self, host: &str) -> bool {
        match self {
            Self::Name(name) => host.eq_ignore_ascii_case(name),
            Self::Address(address) => bare(host).parse() == Ok(*address),
        }
    }
}

impl FromStr for DevHost {
    type Err = NoHost;

    fn from_str(text: &str) -> Result<Self, NoHost> {
        if let Ok(address) = bare(text).parse::<IpAddr>() {
            // Such an address names no single machine.
            return if address.is_unspecified() || address.is_multicast() {
                Err(NoHost)
            } else {
                Ok(Self::Address(address))
            };
        }
        let fine = text.len() <= NAME_BYTES && text.split('.').all(is_label) && !ends_in_a_number(text);
        if fine { Ok(Self::Name(text.to_ascii_lowercase())) } else { Err(NoHost) }
    }
}

impl fmt::Display for DevHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
        }
    }
}

/// The address without the brackets of a URL, which IPv6 needs.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host)
}

fn is_label(label: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=63).contains(&label.len()) && label.bytes().all(fine)
}

/// Whether browsers read a name as an IPv4 address (`127.1`, `0x7f000001`), which would be another machine's.
fn ends_in_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    last.bytes().all(|byte| byte.is_ascii_digit())
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(given: &str, same: &[&str], others: &[&str]) {
        let host: DevHost = given.parse().expect("a host");
        assert!(host.to_string().parse::<DevHost>() == Ok(host.clone()), "{host}");
        same.iter().for_each(|name| assert!(host.is(name), "{name} is {given}"));
        others.iter().for_each(|name| assert!(!host.is(name), "{name} is not {given}"));
    }

    #[test]
    fn a_host_is_itself_and_nothing_else() {
        check(
            "10.0.2.2",
            &["10.0.2.2"],
            &["10.0.2.20", "10.0.2.2.nip.io", "10.0.2", "0xa.0.2.2", "::ffff:10.0.2.2", ""],
        );
        check(
            "My-Mac.local",
            &["my-mac.local", "MY-MAC.LOCAL"],
            &["x.my-mac.local", "my-mac.local.", "my-mac", "local"],
        );
        check("[fd00::1]", &["[fd00::1]", "fd00::1", "[FD00:0::1]"], &["[fd00::2]", "[fd00::1", "fd00"]);
        check("fd00::1", &["[fd00::1]"], &["[fd00::1].evil.example"]);
        check("laptop", &["laptop", "LapTop"], &["laptop.evil.example", "lap", "laptop."]);
    }

    #[test]
    fn what_names_no_single_machine_is_refused() {
        let long = format!("{}.local", "x".repeat(64));
        for bad in [
            "",
            "*",
            "*.local",
            ".local",
            "local.",
            "a..b",
            "a b",
            "a:8080",
            "10.0.2.2:8080",
            "http://a",
            "a/b",
            "u@a",
            "0.0.0.0",
            "[::]",
            "::",
            "127.1",
            "2130706433",
            "0x7f000001",
            "10.0.2.256",
            "a,b",
            "ü.local",
            "224.0.0.1",
            "[fd00::1]:1",
            &long,
        ] {
            assert_eq!(bad.parse::<DevHost>(), Err(NoHost), "{bad}");
        }
    }
}
