//! Admission: the checks that every request for a transport passes before any work is done for it. When there is no
//! room it is refused here, before any token is looked at.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, RETRY_AFTER, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderValue, StatusCode};
use ipnet::IpNet;

use super::{forwarded, subprotocol};
use crate::connections::{AddressShares, ConnectionSlot, Connections, ShareRefused};
use crate::doors::socketio::head;
use crate::logs;
use crate::metrics::limit::Limit;
use crate::readiness::Readiness;
use crate::wire::stamp;

/// Seconds in `Retry-After` of a refusal. Each refusal gets a random one, so that the clients do not all come back at
/// once.
pub(super) const COME_BACK_S: std::ops::RangeInclusive<u32> = 1..=5;

/// The admission checks of the main listeners; see the module.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    pub(super) readiness: Readiness,
    /// The slots of the node.
    pub(super) connections: Connections,
    /// Networks whose `X-Forwarded-For` is trusted.
    pub(super) proxies: Arc<[IpNet]>,
    /// The rate of handshakes, shared fairly between addresses.
    pub(super) handshakes: Arc<AddressShares>,
}

impl Admission {
    /// Takes a slot, then a handshake from the rate. In this order: a client that has no slot left must not use up the
    /// handshakes of the others.
    fn admit_client(&self, client: IpAddr) -> Result<ConnectionSlot, Limit> {
        let place = self.connections.take_slot(client)?;
        match self.handshakes.take_share(client, Instant::now()) {
            Ok(()) => Ok(place),
            Err(ShareRefused::All) => Err(Limit::HandshakesPerSecond),
            Err(ShareRefused::Share) => Err(Limit::HandshakesPerIp),
        }
    }
}

/// The middleware of the main listeners. A request for a transport takes a slot, which it keeps until the transport
/// closes; its head is rewritten, and its wire is armed for the upgrade.
pub(super) async fn admit_request(State(admission): State<Admission>, request: Request, next: Next) -> Response {
    if !head::is_ours(request.uri().path()) {
        return next.run(request).await;
    }
    // A connection that was kept alive may ask during a shutdown; its client has to go to another node.
    if !admission.readiness.is_accepting() {
        return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")], "this node is stopping\n").into_response();
    }
    // Only a server that is not built on wires could lead here.
    let Some(wire) = head::wire_of(request.extensions()) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    // Without an upgrade it becomes no transport: the library refuses it, and it needs no slot.
    if !request.headers().contains_key(SEC_WEBSOCKET_KEY) {
        return next.run(head::rewrite_request(request)).await;
    }
    let Ok(subprotocol) = subprotocol::choose_subprotocol(request.headers()) else { return no_list() };
    // Behind a proxy all peers are one address: the limits per address have to count what the proxy reports.
    let client = forwarded::client_address(wire.peer().ip(), request.headers(), &admission.proxies);
    let place = match admission.admit_client(client) {
        Ok(place) => place,
        Err(limit) => return refuse_full(limit, client),
    };
    let mut response = next.run(head::rewrite_request(request)).await;
    // Any other response drops the slot right here.
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().extend(subprotocol.map(|chosen| (SEC_WEBSOCKET_PROTOCOL, chosen)));
        wire.set_client(client);
        admission.connections.add(&wire, place);
        // Last: a layer that changed the response behind this would hide the nonce that the wire searches for.
        stamp(&wire, &mut response);
    }
    response
}

fn no_list() -> Response {
    let message = "Sec-WebSocket-Protocol is no list of distinct names";
    super::refusal_response(StatusCode::BAD_REQUEST, "invalid-subprotocol", message)
}

/// Makes the response for a limit that is reached. It closes the connection, which would hold a descriptor otherwise.
fn refuse_full(limit: Limit, client: IpAddr) -> Response {
    limit.note_reached();
    tracing::debug!(event = logs::HANDSHAKE_REFUSED, %client, limit = limit.key(), "a handshake was refused");
    // 429 if the client's address is over its limit, 503 if the node is: a client with a 503 may find room on another
    // node.
    let (status, code, message) = match limit {
        Limit::HandshakesPerSecond => (
            StatusCode::SERVICE_UNAVAILABLE,
            "too-many-handshakes",
            "too many clients come at once; come back in a moment",
        ),
        Limit::HandshakesPerIp => (
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-handshakes",
            "this address asks for more than its share of what comes at once; come back in a moment",
        ),
        Limit::ConnectionsPerIp => {
            (StatusCode::TOO_MANY_REQUESTS, "too-many-connections", "too many connections from this address")
        }
        Limit::Connections
        | Limit::ConnectionsPerUser
        | Limit::Descriptors
        | Limit::ApiConnections
        | Limit::AdminConnections
        | Limit::HeadBytes
        | Limit::RoomsPerSocket
        | Limit::CommandsPerMinute
        | Limit::LocationsPerSecond
        | Limit::FrameBytes
        | Limit::EventBytes
        | Limit::ReadsPerUser => {
            (StatusCode::SERVICE_UNAVAILABLE, "too-many-connections", "this node has as many connections as it takes")
        }
    };
    let mut response = super::refusal_response(status, code, message);
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, rand::random_range(COME_BACK_S).into());
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
