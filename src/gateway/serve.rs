//! Serves HTTP/1 on a listener. An unknown peer has a head of bounded length, a bounded time without a response
//! (enforced by the wire), and no more connections than there are slots; every connection is a task that ends with the
//! gateway.
//!
//! A connection has its slot from its accept until its descriptor is closed, so that no listener takes more descriptors
//! than its part. A client without a slot gets a response that says so, but only a few at once: the others are closed
//! without one.

use std::net::{SocketAddr, TcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::admission::COME_BACK_S;
use super::event_loops::LoopLoad;
use crate::connections::{ConnectionSlot, ConnectionSlots};
use crate::logs;
use crate::metrics::limit::Limit;
use crate::wire::{SocketAcceptor, WireFactory, WireIo};

/// How long a client without a slot may take to send its request and read the refusal.
const TURNED_AWAY: Duration = Duration::from_secs(1);
/// Refusals at once. Each holds one of the descriptors that are reserved for the node itself.
const TURNED_AWAY_AT_ONCE: usize = 16;

/// One listener. Its sockets are accepted in one place and go to the loop that has the fewest, so that no loop has much more
/// to do than the others, and two gateways cannot share a port unseen.
pub(super) struct ListenerServer {
    pub(super) acceptor: SocketAcceptor,
    /// Where its connections live; at least one.
    pub(super) loops: Vec<ServingLoop>,
    /// Most bytes of a request's head.
    pub(super) head_bytes: usize,
    /// The slots of its connections, and the limit to report when all are taken.
    pub(super) places: (ConnectionSlots, Limit),
    /// Cancelled when the listener stops accepting and idle connections are closed.
    pub(super) closing: CancellationToken,
    /// Where connections are spawned, so that a shutdown waits for them.
    pub(super) tasks: TaskTracker,
}

/// An event loop, or the runtime beside them, as a listener sees it.
pub(super) struct ServingLoop {
    /// Makes the wires that live there.
    pub(super) wires: WireFactory,
    pub(super) runtime: Handle,
    /// Answers there.
    pub(super) router: Router,
    /// How many connections the loop has; none where no choice depends on it.
    pub(super) load: Option<LoopLoad>,
}

/// How a connection is served.
#[derive(Clone)]
struct Serving {
    http: http1::Builder,
    router: Router,
    closing: CancellationToken,
}

impl ServingLoop {
    fn connections(&self) -> usize {
        self.load.as_ref().map_or(0, LoopLoad::connections)
    }

    /// Serves a socket there. `kept` is dropped once its descriptor is closed.
    fn serve_socket(
        &self,
        (socket, peer): (TcpStream, SocketAddr),
        kept: impl Send + 'static,
        serving: Serving,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (wires, share) = (self.wires.clone(), self.load.as_ref().map(LoopLoad::add_connection));
        async move {
            // Here and not at the accept: a socket belongs to the runtime on which it is made.
            match wires.make_wire(socket, peer) {
                Ok(mut io) => {
                    io.keep_until_closed((kept, share));
                    serving.serve_connection(io).await;
                }
                Err(error) => tracing::debug!(event = logs::CONNECTION_FAILED, %error, "a connection ended"),
            }
        }
    }
}

impl ListenerServer {
    /// Accepts connections until the gateway closes. Connections that are being answered end with their response.
    pub(super) async fn accept_connections(mut self) {
        let mut http = http1::Builder::new();
        http.max_buf_size(self.head_bytes).max_header_size(self.head_bytes);
        let closing = self.closing.clone();
        let full =
            Serving { http: http.clone(), router: Router::new().fallback(turned_away), closing: closing.clone() };
        // Refusals are bounded by their own permits: they have no slot that would bound them.
        let turns = Arc::new(Semaphore::new(TURNED_AWAY_AT_ONCE));
        while let Some(accepted) = closing.run_until_cancelled(self.acceptor.accept_socket()).await {
            let Some(chosen) = self.loops.iter().min_by_key(|served| served.connections()) else { return };
            match self.take_slot(accepted.1) {
                Ok(slot) => {
                    let serving = Serving { router: chosen.router.clone(), ..full.clone() };
                    self.tasks.spawn_on(chosen.serve_socket(accepted, slot, serving), &chosen.runtime);
                }
                // Dropping the socket is all the work that the node does for the others in a flood.
                Err(limit) => {
                    limit.note_reached();
                    let Ok(turn) = turns.clone().try_acquire_owned() else { continue };
                    let refusal = timeout(TURNED_AWAY, chosen.serve_socket(accepted, turn, full.clone()));
                    self.tasks.spawn_on(refusal, &chosen.runtime);
                }
            }
        }
    }

    fn take_slot(&self, peer: SocketAddr) -> Result<ConnectionSlot, Limit> {
        let (places, limit) = &self.places;
        places.take_slot(peer.ip()).map_err(|_| *limit)
    }
}

impl Serving {
    async fn serve_connection(self, io: WireIo) {
        let Self { http, router, closing } = self;
        let wire = io.wire().clone();
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(wire.clone()));
            router.clone().oneshot(request.map(Body::new))
        });
        // `with_upgrades`, or hyper would close the connection behind the 101.
        let mut connection = pin!(http.serve_connection(TokioIo::new(io), service).with_upgrades());
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = closing.cancelled() => {
                // The current request is still answered; an idle connection ends at once.
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            // A client cannot be told in a response, since its request was never parsed; the operator can.
            if error.is_parse_too_large() {
                Limit::HeadBytes.note_reached();
            }
            tracing::debug!(event = logs::CONNECTION_FAILED, %error, "a connection ended");
        }
    }
}

async fn turned_away() -> Response {
    let message = "this listener has as many connections as it takes";
    let mut response = super::refusal_response(StatusCode::SERVICE_UNAVAILABLE, "too-many-connections", message);
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, rand::random_range(COME_BACK_S).into());
    headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    response.into_response()
}
