//! Serving HTTP/1 on a listener. A stranger has a head of bounded length, a bounded time without an answer (the wire's), and
//! no more connections than there are places; every connection is a task that ends with the gateway.
//!
//! A connection has its place from when it is accepted until its descriptor is given back, so that no listener takes more of
//! them than its part. Who finds no place is told so, but only a few at once: the others are closed without a word.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use http::header::RETRY_AFTER;
use http::{HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::entrance::COME_BACK_S;
use crate::connections::{Place, Places};
use crate::logs;
use crate::metrics::limit::Limit;
use crate::wire::{WireIo, WireListener};

/// How long whoever finds no place may take to ask and to hear so.
const TURNED_AWAY: Duration = Duration::from_secs(1);
/// How many may do so at once. Each holds a descriptor that is nobody's part, of those kept for the node itself.
const TURNED_AWAY_AT_ONCE: usize = 16;

/// One listener.
pub(super) struct Server {
    pub(super) listener: WireListener,
    pub(super) router: Router,
    /// Bytes of a request's head.
    pub(super) head_bytes: usize,
    /// The places of its connections, and the limit that says how many.
    pub(super) places: (Places, Limit),
    /// No connection is accepted any more, and none stays idle.
    pub(super) closing: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Server {
    /// Accepts connections until the gateway closes. Those that are at an answer end with it.
    pub(super) async fn run(mut self) {
        let mut http = http1::Builder::new();
        http.max_buf_size(self.head_bytes).max_header_size(self.head_bytes);
        let full = Router::new().fallback(turned_away);
        let closing = self.closing.clone();
        let turns = Arc::new(Semaphore::new(TURNED_AWAY_AT_ONCE));
        while let Some((mut io, peer)) = closing.run_until_cancelled(self.listener.accept()).await {
            match self.place(peer) {
                Ok(place) => {
                    io.keep(place);
                    self.tasks.spawn(serve(http.clone(), io, self.router.clone(), closing.clone()));
                }
                Err(limit) => {
                    limit.reached();
                    let Ok(turn) = turns.clone().try_acquire_owned() else { continue };
                    io.keep(turn);
                    self.tasks.spawn(timeout(TURNED_AWAY, serve(http.clone(), io, full.clone(), closing.clone())));
                }
            }
        }
    }

    fn place(&self, peer: SocketAddr) -> Result<Place, Limit> {
        let (places, limit) = &self.places;
        places.take(peer.ip()).map_err(|_| *limit)
    }
}

async fn serve(http: http1::Builder, io: WireIo, router: Router, closing: CancellationToken) {
    let wire = io.wire().clone();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(wire.clone()));
        router.clone().oneshot(request.map(Body::new))
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(io), service).with_upgrades());
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        if error.is_parse_too_large() {
            Limit::HeadBytes.reached();
        }
        tracing::debug!(event = logs::CONNECTION_FAILED, %error, "a connection ended");
    }
}

async fn turned_away() -> Response {
    let message = "this listener has as many connections as it takes";
    let mut response = super::refusal(StatusCode::SERVICE_UNAVAILABLE, "too-many-connections", message);
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, rand::random_range(COME_BACK_S).into());
    headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    response.into_response()
}
