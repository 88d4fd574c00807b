//! Origins of web pages: the configured ones, and whether a browser's is among them.

use std::fmt;

use super::{
    error::Complaint,
    raw::Raw,
    value::{ConfigValue, mismatch, toml_string},
};

/// An origin (`https://app.example.com`), or all subdomains of one (`https://*.example.com`). In lower case and
/// without the scheme's default port, as browsers write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebOrigin {
    /// The scheme with `://`.
    scheme: String,
    /// Whether it stands for all subdomains, and not for the host itself.
    subdomains: bool,
    /// Host, and `:port` where it is not the scheme's default.
    authority: String,
}

impl WebOrigin {
    fn parse_origin(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let (scheme, rest) = text.split_once("://")?;
        let named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        if !scheme.starts_with(|c: char| c.is_ascii_lowercase()) || !scheme.bytes().all(named) {
            return None;
        }
        let (subdomains, rest) = rest.strip_prefix("*.").map_or((false, rest), |rest| (true, rest));
        let authority = authority(scheme, rest)?;
        // A wildcard for a whole top-level domain or an address would allow strangers.
        let of_many = subdomains && (!rest.contains('.') || rest.starts_with('['));
        (!of_many).then(|| Self { scheme: format!("{scheme}://"), subdomains, authority })
    }

    /// Whether this is, or includes, an origin sent by a browser. `null`, which any page can have, matches nothing.
    #[must_use]
    pub fn includes(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        let Some(authority) = origin.strip_prefix(&self.scheme) else { return false };
        if !self.subdomains {
            return authority == self.authority;
        }
        let sub = authority.strip_suffix(&self.authority).and_then(|rest| rest.strip_suffix('.'));
        // Label by label: `evil.com/.example.com` ends in the right way and is no subdomain.
        sub.is_some_and(|sub| !sub.is_empty() && sub.split('.').all(is_label))
    }
}

/// Host and port, if the text is nothing more than that.
fn authority(scheme: &str, text: &str) -> Option<String> {
    // The colons of an IPv6 address are not the port's.
    let behind_host = text.rfind(']').map_or(0, |end| end + 1);
    let (host, port) = match text[behind_host..].rsplit_once(':') {
        Some((rest, port)) => (&text[..behind_host + rest.len()], Some(port.parse::<u16>().ok().filter(|p| *p > 0)?)),
        None => (text, None),
    };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let fine = inner.map_or_else(|| host.split('.').all(is_label), |v6| v6.parse::<std::net::Ipv6Addr>().is_ok());
    let own = matches!((scheme, port), ("https", Some(443)) | ("http", Some(80)));
    // Browsers leave the default port out.
    let port = port.filter(|_| !own).map(|port| format!(":{port}")).unwrap_or_default();
    fine.then(|| format!("{host}{port}"))
}

fn is_label(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

impl fmt::Display for WebOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.scheme, if self.subdomains { "*." } else { "" }, self.authority)
    }
}

impl ConfigValue for WebOrigin {
    const KIND: &'static str = "an origin such as https://app.example.com or https://*.example.com, without a path";

    fn parse(raw: &Raw) -> Result<Self, Complaint> {
        raw.text().and_then(Self::parse_origin).ok_or_else(|| mismatch(raw.quote_or_kind(), Self::KIND))
    }

    fn shown(&self) -> Option<String> {
        Some(toml_string(&self.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, included: &[&str], others: &[&str]) {
        let pattern = WebOrigin::parse_origin(pattern).expect("an origin");
        for origin in included {
            assert!(pattern.includes(origin), "{pattern} {origin}");
        }
        for origin in others {
            assert!(!pattern.includes(origin), "{pattern} {origin}");
        }
    }

    #[test]
    fn an_origin_includes_itself() {
        check(
            "https://App.Example.com:443",
            &["https://app.example.com", "https://APP.example.com"],
            &[
                "http://app.example.com",
                "https://app.example.com:8443",
                "https://app.example.com.evil.com",
                "https://app.example.com/",
                "https://x.app.example.com",
                "null",
                "",
            ],
        );
        check("http://localhost:3000", &["http://localhost:3000"], &["http://localhost", "http://localhost:30000"]);
        check("capacitor://localhost", &["capacitor://localhost"], &["ionic://localhost"]);
        check("http://[::1]:3000", &["http://[::1]:3000"], &["http://[::1]"]);
    }

    #[test]
    fn a_pattern_includes_subdomains_only() {
        check(
            "https://*.example.com",
            &["https://a.example.com", "https://a.b.example.com"],
            &[
                "https://example.com",
                "https://evilexample.com",
                "https://.example.com",
                "https://a..example.com",
                "https://evil.com/.example.com",
                "https://evil.com#.example.com",
                "https://u@.example.com",
                "https://evil.com:1.example.com",
                "https://a.example.com:8443",
            ],
        );
        check("https://*.example.com:8443", &["https://a.example.com:8443"], &["https://a.example.com"]);
    }

    #[test]
    fn what_is_no_origin_is_not_read() {
        for text in [
            "",
            "*",
            "null",
            "example.com",
            "https://",
            "https://*",
            "https://*.com",
            "https://*.*.example.com",
            "https://a*.example.com",
            "https://example.com/",
            "https://example.com/app",
            "https://u@example.com",
            "https://example.com:0",
            "https://example.com:99999",
            "https://ex ample.com",
            "https://exämple.com",
            "https://[::1",
            "https://*.[::1]",
            "1http://example.com",
            "://example.com",
        ] {
            assert_eq!(WebOrigin::parse_origin(text), None, "{text}");
        }
    }
}
