//! The URL of a Redis. Every part of it has a meaning, or it is refused.

use ::redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use rustls::pki_types::ServerName;
use url::Url;

use crate::config::{
    error::{CheckResult, Complaint},
    secret::Secret,
};

/// The query's members for a Unix socket. A URL with a host has all of them elsewhere.
const OF_A_SOCKET: [&str; 3] = ["db", "user", "pass"];

/// Checks that every part of a URL has a meaning.
pub(in crate::config) fn redis_url(url: &Secret) -> CheckResult {
    parse(url).map(|_| ())
}

/// Parses a URL. A complaint never quotes it.
pub(super) fn parse(url: &Secret) -> Result<ConnectionInfo, Complaint> {
    let text = url.expose();
    if let Some(character) = reserved_char(text) {
        let remedy = "write it percent-encoded (%2F for /, %3F for ?, %23 for #), or put the password into \
                      redis.password or redis.password_file as it is";
        return Err(Complaint::new(format!("has a bare {character:?} in its user or password"), remedy));
    }
    let parsed = Url::parse(text).ok().filter(has_place).ok_or_else(no_url)?;
    extras(&parsed)?;
    let info = parsed.clone().into_connection_info().map_err(|_| unusable(&parsed))?;
    if info.redis_settings().db() < 0 { Err(no_database()) } else { Ok(info) }
}

/// A character that ends the user and password part before its `@`.
fn reserved_char(text: &str) -> Option<char> {
    let (scheme, rest) = text.split_once("://")?;
    let end = rest.find(['/', '?', '#'])?;
    let is_socket = scheme == "unix";
    rest[end..].contains('@').then(|| rest[end..].chars().next()).flatten().filter(|_| !is_socket)
}

fn has_place(url: &Url) -> bool {
    match url.scheme() {
        // `url` accepts port 0, to which nothing can connect.
        "redis" | "rediss" if url.port() == Some(0) => false,
        "redis" => url.host_str().is_some_and(|host| !host.is_empty()),
        // Certificates are issued for nothing else.
        "rediss" => url.host_str().is_some_and(|host| ServerName::try_from(host.trim_matches(['[', ']'])).is_ok()),
        "unix" => url.path().len() > 1,
        _ => false,
    }
}

/// Refuses a part that would be ignored, such as a database number in the wrong place.
fn extras(url: &Url) -> CheckResult {
    if url.fragment() == Some("insecure") {
        let remedy = "name the authority that signed the certificate of Redis in redis.ca_file";
        return Err(Complaint::new("ends with #insecure, and certificates are always checked", remedy));
    }
    if url.fragment().is_some() {
        return Err(Complaint::new("has a part behind #, which means nothing", "take that off"));
    }
    let is_socket = url.scheme() == "unix";
    if url.query_pairs().all(|(name, _)| is_socket && OF_A_SOCKET.contains(&&*name)) {
        return Ok(());
    }
    let remedy = if is_socket {
        "only db, user and pass have a meaning there"
    } else {
        "take that off; a database number stands behind the host, as in redis://host:6379/2"
    };
    Err(Complaint::new("has a part behind ? that means nothing", remedy))
}

/// The fault of a URL that has a host or path and no extras.
fn unusable(url: &Url) -> Complaint {
    let number = match url.scheme() {
        "unix" => url.query_pairs().find(|(name, _)| name == "db").map(|(_, number)| number.into_owned()),
        _ => Some(url.path().trim_matches('/').to_owned()).filter(|path| !path.is_empty()),
    };
    if number.is_some_and(|number| number.parse::<i64>().is_err()) { no_database() } else { no_url() }
}

fn no_database() -> Complaint {
    let remedy = "write a whole number from 0, as in redis://host:6379/2 or unix:///path?db=2, or nothing";
    Complaint::new("names a database that is no number", remedy)
}

fn no_url() -> Complaint {
    Complaint::new(
        "is not a Redis URL",
        "write redis://[user:password@]host[:port][/database], rediss:// for TLS, or unix:///path, with reserved \
         characters of the password percent-encoded",
    )
}

/// Whether a connection is encrypted.
pub(super) fn is_tls(info: &ConnectionInfo) -> bool {
    matches!(info.addr(), ConnectionAddr::TcpTls { .. })
}
