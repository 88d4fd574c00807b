//! The dev guard: dev mode answers only to loopback names and those of `--dev-host` in Host and Origin, so that no web
//! page reaches it by DNS rebinding, and to no peer on the public internet, on any listener. It logs why it refuses.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, StatusCode, Uri};

use super::handshake::Handshake;
use crate::config::DevHost;
use crate::doors::socketio::head;
use crate::logs::{self, Hints};

/// Longest name that is repeated in the log, in characters.
const SHOWN_CHARS: usize = 100;

/// The names that dev mode answers to; see the module.
#[derive(Clone, Debug)]
pub(super) struct DevGuard {
    /// Names and addresses of `--dev-host`, besides those of loopback.
    hosts: Arc<[DevHost]>,
    /// The log lines for developers.
    hints: Hints,
}

/// Why a request is refused, with the offending name.
#[derive(Debug, PartialEq, Eq)]
enum ForeignRequest {
    /// It has no Host, several, or an unreadable one.
    NoHost,
    /// Its Host or its target names another machine.
    Host(String),
    /// The web page that sent it is of another machine.
    Origin(String),
    /// Its peer is neither this machine nor in a private network.
    Peer,
}

impl DevGuard {
    pub(super) fn new(hosts: &[DevHost], hints: Hints) -> Self {
        Self { hosts: hosts.into(), hints }
    }

    /// Adds the guard before all routes of `router`.
    pub(super) fn protect_routes(&self, router: Router) -> Router {
        router.layer(from_fn_with_state(self.clone(), check_request))
    }

    /// Checks that a request names this machine in its one Host, in its target if that has a name, and as its page.
    fn judge_request(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ForeignRequest> {
        let mut hosts = headers.get_all(HOST).iter();
        // With two of them, the guard and a layer behind it could each believe another one.
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(ForeignRequest::NoHost) };
        let host = host.to_str().map_err(|_| ForeignRequest::NoHost)?;
        for authority in [Some(host), uri.authority().map(Authority::as_str)].into_iter().flatten() {
            if !self.is_ours(authority) {
                return Err(ForeignRequest::Host(host_name(authority)));
            }
        }
        for origin in headers.get_all(ORIGIN) {
            // An unreadable origin and `null` have no authority, so they are refused.
            let page = origin.to_str().unwrap_or_default();
            if !page.split_once("://").is_some_and(|(_, authority)| self.is_ours(authority)) {
                return Err(ForeignRequest::Origin(host_name(page)));
            }
        }
        Ok(())
    }

    fn is_ours(&self, authority: &str) -> bool {
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        let host = authority.host();
        // `localhost@evil.example` is a host with a user name, which a careless reader takes for localhost.
        !authority.as_str().contains('@') && (is_loopback(host) || self.hosts.iter().any(|ours| ours.is(host)))
    }

    fn log_refusal(&self, foreign: &ForeignRequest) {
        // A page that retries would fill the log.
        if !self.hints.is_due(&format!("{foreign:?}")) {
            return;
        }
        let (what, name) = match foreign {
            ForeignRequest::NoHost => ("it has no Host, or several: no client does that by itself", ""),
            ForeignRequest::Host(name) => {
                ("it names another Host: to let that in, add --dev-host with the name", name.as_str())
            }
            ForeignRequest::Origin(name) => {
                ("its web page is of another machine: to let that in, add --dev-host with the name", name.as_str())
            }
            ForeignRequest::Peer => ("it came from the open internet, to which dev mode never answers", ""),
        };
        tracing::info!(event = logs::DEV_REQUEST_REFUSED, name, "a request was refused: {what}");
    }
}

async fn check_request(State(guard): State<DevGuard>, request: Request, next: Next) -> Response {
    let peer = head::wire_of(request.extensions()).map(|wire| wire.peer());
    // The peer counts and not a forwarded address, which a stranger can write at will.
    let near = if peer.is_none_or(is_near) { Ok(()) } else { Err(ForeignRequest::Peer) };
    if let Err(foreign) = near.and_then(|()| guard.judge_request(request.uri(), request.headers())) {
        guard.log_refusal(&foreign);
        return (StatusCode::FORBIDDEN, "dev mode answers to loopback names and those of --dev-host only\n")
            .into_response();
    }
    // Noted before the request is consumed; whether it is needed, its response tells.
    let handshake = Handshake::from_request(request.uri(), request.headers());
    let response = next.run(request).await;
    handshake.explain_refusal(response.status(), &guard.hints);
    response
}

/// Gives the host without its port, in the form for `--dev-host`.
fn host_name(authority: &str) -> String {
    let authority = authority.split_once("://").map_or(authority, |(_, authority)| authority);
    let host = authority.parse::<Authority>().map_or_else(|_| authority.to_owned(), |parsed| parsed.host().to_owned());
    host.chars().take(SHOWN_CHARS).collect()
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether a peer is this machine or in a local network: private, link-local, or shared address space (100.64.0.0/10).
fn is_near(peer: SocketAddr) -> bool {
    match peer.ip().to_canonical() {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || first == 100 && second & 0xc0 == 64
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
