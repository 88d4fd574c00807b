//! Explains in dev mode why a handshake failed and what to change: the client of a developer says little more than that
//! it did.

use http::header::{SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, StatusCode, Uri};

use crate::doors::socketio::head;
use crate::logs::{self, Hints};

/// The facts of a request that can explain a failure. The request itself is not kept: its query may hold a token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handshake {
    wanted: WantedTransport,
    /// Whether the query says `EIO=4`.
    engine_4: bool,
    /// Whether the query asks for long polling.
    polling: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WantedTransport {
    /// A transport, by an upgrade.
    Upgrade,
    /// Something of Socket.IO without an upgrade.
    Plain,
    /// An upgrade at a path that has none.
    Elsewhere,
    /// No handshake.
    Nothing,
}

impl Handshake {
    /// Reads the facts of a request.
    pub(super) fn from_request(uri: &Uri, headers: &HeaderMap) -> Self {
        let upgrades = headers.contains_key(SEC_WEBSOCKET_KEY) || headers.contains_key(UPGRADE);
        let wanted = match (head::is_ours(uri.path()), upgrades) {
            (true, true) => WantedTransport::Upgrade,
            (true, false) => WantedTransport::Plain,
            (false, true) => WantedTransport::Elsewhere,
            (false, false) => WantedTransport::Nothing,
        };
        let has = |pair: &str| uri.query().unwrap_or_default().split('&').any(|given| given == pair);
        Self { wanted, engine_4: has("EIO=4"), polling: has("transport=polling") }
    }

    /// Logs the fault, if the response has an error status.
    pub(super) fn explain_refusal(self, status: StatusCode, hints: &Hints) {
        let Some((reason, what)) = self.find_fault(status).filter(|(reason, _)| hints.is_due(reason)) else { return };
        tracing::info!(
            event = logs::DEV_HANDSHAKE_REFUSED,
            reason,
            status = status.as_u16(),
            "a handshake was refused: {what}"
        );
    }

    /// Gives the reason as a short code, and what to change.
    fn find_fault(self, status: StatusCode) -> Option<(&'static str, &'static str)> {
        if !status.is_client_error() && !status.is_server_error() {
            return None;
        }
        // From the certain to the likely: a status of this gateway's own layers names the cause, the query only hints
        // at it.
        match (self.wanted, status) {
            (WantedTransport::Nothing, _) => None,
            (WantedTransport::Elsewhere, _) => {
                Some(("path", "there is no WebSocket at its path: Socket.IO is at /socket.io/"))
            }
            (WantedTransport::Upgrade | WantedTransport::Plain, StatusCode::FORBIDDEN) => {
                Some(("origin", "its web page is not in server.origins"))
            }
            (
                WantedTransport::Upgrade | WantedTransport::Plain,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE,
            ) => Some(("limit", "the node takes no more just now, or stops: see hallway_over_limit_total")),
            (WantedTransport::Upgrade | WantedTransport::Plain, _) if !self.engine_4 => {
                Some(("engine", "its query has no EIO=4: the client is older than Socket.IO 3"))
            }
            (WantedTransport::Plain, _) if self.polling => {
                Some(("polling", "it asks for long polling: give the client transports: [\"websocket\"]"))
            }
            (WantedTransport::Plain, _) => {
                Some(("upgrade", "no upgrade came with it: a proxy in between may have taken that off"))
            }
            (WantedTransport::Upgrade, _) => {
                Some(("request", "its headers or its query are not those of a WebSocket handshake"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[track_caller]
    fn check(target: &str, upgrade: bool, status: u16, expected: Option<&str>) {
        let mut request = Request::builder().uri(target);
        if upgrade {
            request = request.header("sec-websocket-key", "x").header("upgrade", "websocket");
        }
        let request = request.body(()).expect("a request");
        let fault = Handshake::from_request(request.uri(), request.headers())
            .find_fault(StatusCode::from_u16(status).expect("a status"));
        assert_eq!(fault.map(|(reason, _)| reason), expected, "{target} {upgrade} {status}");
    }

    #[test]
    fn each_refusal_has_its_reason_and_what_succeeds_has_none() {
        check("/socket.io/?EIO=4&transport=websocket", true, 101, None);
        check("/socket.io/?EIO=4&transport=polling", false, 200, None);
        check("/socket.io/?EIO=4&transport=polling", false, 400, Some("polling"));
        check("/socket.io/?EIO=3&transport=polling", false, 400, Some("engine"));
        check("/socket.io/?transport=websocket", true, 400, Some("engine"));
        check("/socket.io/?EIO=4&transport=websocket", false, 400, Some("upgrade"));
        check("/socket.io/?EIO=4&transport=flashsocket", true, 400, Some("request"));
        check("/socket.io/?EIO=4&transport=websocket", true, 403, Some("origin"));
        check("/socket.io/?EIO=4&transport=websocket", true, 503, Some("limit"));
        check("/socket.io/?EIO=4&transport=websocket", true, 429, Some("limit"));
        check("/ws", true, 404, Some("path"));
        check("/api/socket.io/?EIO=4", true, 404, Some("path"));
        check("/v1/publish", false, 401, None);
    }
}
