//! The key check of `/v1`: each route requires a valid key with its scope, before the body is read.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use hallway_rooms::close::Refusal;
use http::StatusCode;
use http::header::AUTHORIZATION;
use metrics::counter;
use utoipa_axum::router::UtoipaMethodRouter;

use super::keys::ApiKeys;
use super::{ApiError, ApiState, KeyScope, document, error};
use crate::metrics::{API_OUTCOMES, API_REQUESTS};

/// The label in metrics for requests without a valid key.
const NOBODY: &str = "none";

/// Puts the key check in front of routes.
#[derive(Clone)]
pub(super) struct ApiKeyCheck {
    keys: Arc<ApiKeys>,
    /// The scope of the route; none accepts any key.
    need: Option<KeyScope>,
}

/// The name of the request's key.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub(super) Arc<str>);

impl ApiKeyCheck {
    pub(super) fn new(keys: Arc<ApiKeys>) -> Self {
        announce_keys(&keys);
        Self { keys, need: None }
    }

    /// A route for keys with the scope `need`, or for any key. `refusals` are its own errors; the document lists them
    /// with those of the key check.
    pub(super) fn guard_route(
        &self,
        need: impl Into<Option<KeyScope>>,
        refusals: &[Refusal],
        (schemas, mut paths, methods): UtoipaMethodRouter<ApiState>,
    ) -> UtoipaMethodRouter<ApiState> {
        let need = need.into();
        document::complete(&mut paths, need, refusals);
        (schemas, paths, self.require_key(need, methods.fallback(error::no_such_method)))
    }

    /// The route for unknown paths.
    pub(super) fn no_route(&self) -> MethodRouter<ApiState> {
        self.require_key(None, axum::routing::any(error::no_such_route))
    }

    fn require_key(&self, need: Option<KeyScope>, methods: MethodRouter<ApiState>) -> MethodRouter<ApiState> {
        methods.layer(from_fn_with_state(Self { keys: self.keys.clone(), need }, check_key))
    }
}

async fn check_key(State(guard): State<ApiKeyCheck>, mut request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    match guard.keys.admit_key(header, guard.need, Instant::now()) {
        Ok(key) => {
            // Reads of histories are queued by key, so the handler needs the name.
            request.extensions_mut().insert(Caller(key.clone()));
            let response = next.run(request).await;
            count_request(key, outcome(response.status()));
            response
        }
        Err(denied) => {
            count_request(denied.key.unwrap_or_else(|| NOBODY.into()), denied.refusal.code());
            ApiError::new(denied.refusal, &denied.message).into_response()
        }
    }
}

fn outcome(status: StatusCode) -> &'static str {
    // Told apart: only these are the gateway's fault.
    if status.is_server_error() {
        return "failed";
    }
    if status.is_client_error() { "refused" } else { "ok" }
}

/// Creates the counter of each key at 0, so that the first request is seen as an increase.
fn announce_keys(keys: &ApiKeys) {
    for key in keys.names().cloned().chain([NOBODY.into()]) {
        for outcome in API_OUTCOMES {
            counter!(API_REQUESTS, "key" => key.clone(), "outcome" => *outcome).increment(0);
        }
    }
}

fn count_request(key: Arc<str>, outcome: &'static str) {
    counter!(API_REQUESTS, "key" => key, "outcome" => outcome).increment(1);
}
