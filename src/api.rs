//! The HTTP interfaces: publishing and reading for services, health for humans, readiness and metrics for the
//! platform.

pub mod admin;
mod document;
mod error;
pub mod health;
mod intake;
mod key_check;
mod keys;
mod policy;
mod publish;
mod revoke;
mod rooms;

pub use error::ApiError;
pub use intake::BodyIntake;
pub use keys::{ApiKeys, KeyScope, KeySettings};

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::{Extension, Router};
use hallway_rooms::close::Refusal::{
    EventTooLarge, HistoryDisabled, InvalidEvent, InvalidPayload, InvalidRoom, NotStored, RequestTimeout,
    TooManyRevocations, Unavailable,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::service::Service;
use key_check::ApiKeyCheck;

/// The state of the handlers of `/v1`.
#[derive(Clone, Debug)]
pub struct ApiState {
    /// The verbs.
    service: Service,
    /// Bounds of what publishes may take up at once.
    intake: BodyIntake,
    /// `limits.event_bytes`.
    event_bytes: usize,
    /// `api.batch_events`.
    batch_events: usize,
}

impl ApiState {
    /// A state with these bounds: an event has at most `event_bytes`, and a batch at most `batch_events` events.
    #[must_use]
    pub fn new(service: Service, intake: BodyIntake, event_bytes: usize, batch_events: usize) -> Self {
        Self { service, intake, event_bytes, batch_events }
    }

    /// Bytes of a request with one event: JSON escapes may double its text.
    fn single_bytes(&self) -> usize {
        self.event_bytes * 2 + AROUND
    }

    /// Bytes of a request with a batch, though always enough for one event.
    fn batch_bytes(&self) -> usize {
        (self.batch_events * self.single_bytes()).min(BATCH_BYTES.max(self.single_bytes()))
    }
}

/// Bytes for the fields around an event in a request.
const AROUND: usize = 16 * 1024;
/// Bytes of a batch, whatever its number of events.
const BATCH_BYTES: usize = 16 * 1024 * 1024;

/// The routes of `/v1`: for each the required scope, its errors besides those of the keys, and its handler. The
/// `OpenAPI` document comes from the same line and from the handler's `#[utoipa::path]`.
///
/// # Errors
/// When the document cannot be serialized, which no request can cause.
pub fn v1_router(state: ApiState, keys: ApiKeys) -> serde_json::Result<Router> {
    let guard = ApiKeyCheck::new(Arc::new(keys));
    let (publish, read, admin) = (KeyScope::Publish, KeyScope::Read, KeyScope::Admin);
    let refusals = &[InvalidEvent, InvalidRoom, EventTooLarge, RequestTimeout, NotStored, Unavailable];
    let (router, document) = OpenApiRouter::with_openapi(document::new_document())
        .routes(guard.guard_route(publish, refusals, routes!(publish::one)))
        .routes(guard.guard_route(
            publish,
            &[InvalidEvent, EventTooLarge, RequestTimeout, Unavailable],
            routes!(publish::batch),
        ))
        .routes(guard.guard_route(read, &[InvalidRoom, Unavailable], routes!(rooms::room)))
        .routes(guard.guard_route(
            read,
            &[InvalidRoom, InvalidPayload, HistoryDisabled, Unavailable],
            routes!(rooms::events),
        ))
        .routes(guard.guard_route(admin, &[InvalidPayload, RequestTimeout, Unavailable], routes!(policy::explain)))
        .routes(guard.guard_route(
            admin,
            &[InvalidPayload, RequestTimeout, TooManyRevocations, Unavailable],
            routes!(revoke::revoke),
        ))
        .routes(guard.guard_route(admin, &[InvalidPayload, RequestTimeout, Unavailable], routes!(revoke::disconnect)))
        .routes(guard.guard_route(None, &[], routes!(document::openapi)))
        // Behind the key check as well: a caller without a key learns nothing about the routes.
        .route("/v1/{*rest}", guard.no_route())
        .with_state(state)
        .split_for_parts();
    // Publishing reads its bodies itself, with bounds of its own; this one is for everything else.
    Ok(router.layer(DefaultBodyLimit::max(AROUND)).layer(Extension(document::render(&document)?)))
}
