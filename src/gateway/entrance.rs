//! The entrance: what every request for a transport passes before anything is done for it, and where it is refused when
//! there is no room. No token has been looked at by then.

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
use crate::connections::{Connections, Place, Scarce, Shares};
use crate::doors::socketio::head;
use crate::logs;
use crate::metrics::limit::Limit;
use crate::readiness::Readiness;
use crate::wire::stamp;

/// Seconds after which a refused client is asked to come back, each another one, so that they do not all come at once.
pub(super) const COME_BACK_S: std::ops::RangeInclusive<u32> = 1..=5;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Entrance {
    pub(super) readiness: Readiness,
    pub(super) connections: Connections,
    pub(super) proxies: Arc<[IpNet]>,
    pub(super) handshakes: Arc<Shares>,
}

impl Entrance {
    /// Whoever has no place left takes nothing of the handshakes of the others.
    fn admit(&self, client: IpAddr) -> Result<Place, Limit> {
        let place = self.connections.place(client)?;
        match self.handshakes.take(client, Instant::now()) {
            Ok(()) => Ok(place),
            Err(Scarce::All) => Err(Limit::HandshakesPerSecond),
            Err(Scarce::Share) => Err(Limit::HandshakesPerIp),
        }
    }
}

/// Every request of a main listener passes here. Those for a transport need a place, which they keep until it closes;
/// their head is rebuilt, and their wire learns of an upgrade.
pub(super) async fn enter(State(entrance): State<Entrance>, request: Request, next: Next) -> Response {
    if !head::is_ours(request.uri().path()) {
        return next.run(request).await;
    }
    if !entrance.readiness.accepting() {
        return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")], "this node is stopping\n").into_response();
    }
    let Some(wire) = head::wire(request.extensions()) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    if !request.headers().contains_key(SEC_WEBSOCKET_KEY) {
        return next.run(head::enter(request)).await;
    }
    let Ok(subprotocol) = subprotocol::chosen(request.headers()) else { return no_list() };
    let client = forwarded::client(wire.peer().ip(), request.headers(), &entrance.proxies);
    let place = match entrance.admit(client) {
        Ok(place) => place,
        Err(limit) => return full(limit, client),
    };
    let mut response = next.run(head::enter(request)).await;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().extend(subprotocol.map(|chosen| (SEC_WEBSOCKET_PROTOCOL, chosen)));
        wire.set_client(client);
        entrance.connections.add(&wire, place);
        stamp(&wire, &mut response);
    }
    response
}

fn no_list() -> Response {
    let message = "Sec-WebSocket-Protocol is no list of distinct names";
    super::refusal(StatusCode::BAD_REQUEST, "invalid-subprotocol", message)
}

/// The connection is closed too: it would hold a descriptor.
fn full(limit: Limit, client: IpAddr) -> Response {
    limit.reached();
    tracing::debug!(event = logs::HANDSHAKE_REFUSED, %client, limit = limit.key(), "a handshake was refused");
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
    let mut response = super::refusal(status, code, message);
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, rand::random_range(COME_BACK_S).into());
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
