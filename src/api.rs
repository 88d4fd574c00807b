//! HTTP: publishing and reading for services, health for people, readiness and metrics for the platform.

pub mod admin;
mod error;
pub mod health;
mod key;
mod policy;
mod publish;
mod revoke;
mod rooms;

pub use error::ApiError;
pub use key::ApiKey;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use crate::service::Service;

/// What the handlers of `/v1` work with.
#[derive(Clone, Debug)]
pub struct ApiState {
    service: Service,
    key: Arc<ApiKey>,
    event_bytes: usize,
    batch_events: usize,
}

impl ApiState {
    /// `/v1` for the bearer of `key`.
    #[must_use]
    pub fn new(service: Service, key: ApiKey, event_bytes: usize, batch_events: usize) -> Self {
        Self { service, key: Arc::new(key), event_bytes, batch_events }
    }
}

/// Room for the fields around an event in a request.
const AROUND: usize = 16 * 1024;
/// Bytes of a batch, however many events it may have.
const BATCH_BYTES: usize = 16 * 1024 * 1024;

/// The routes of `/v1`.
pub fn v1(state: ApiState) -> Router {
    let single = state.event_bytes * 2 + AROUND;
    let batch = (state.batch_events * single).min(BATCH_BYTES.max(single));
    Router::new()
        .route("/v1/publish", post(publish::one).layer(DefaultBodyLimit::max(single)))
        .route("/v1/publish/batch", post(publish::batch).layer(DefaultBodyLimit::max(batch)))
        .route("/v1/policy", post(policy::explain))
        .route("/v1/revoke", post(revoke::revoke).layer(DefaultBodyLimit::max(AROUND)))
        .route("/v1/disconnect", post(revoke::disconnect).layer(DefaultBodyLimit::max(AROUND)))
        .route("/v1/rooms/{room}", get(rooms::room))
        .route("/v1/rooms/{room}/events", get(rooms::events))
        .route("/v1/{*rest}", axum::routing::any(error::no_such_route))
        .method_not_allowed_fallback(error::no_such_method)
        .route_layer(axum::middleware::from_fn_with_state(state.clone(), key::require))
        .with_state(state)
}
