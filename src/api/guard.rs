//! What stands before each route of `/v1`: a valid key with the route's scope, asked for before anything is read.

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

use super::keys::Keys;
use super::{ApiError, ApiState, Scope, document, error};
use crate::metrics::{API_OUTCOMES, API_REQUESTS};

/// The name of the key in metrics where there was no valid one.
const NOBODY: &str = "none";

/// Puts the keys before routes.
#[derive(Clone)]
pub(super) struct Guard {
    keys: Arc<Keys>,
    need: Option<Scope>,
}

/// The name of the key that a request came with.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub(super) Arc<str>);

impl Guard {
    pub(super) fn new(keys: Arc<Keys>) -> Self {
        announce(&keys);
        Self { keys, need: None }
    }

    /// A route for keys with the scope `need`, or for any key. `refusals` are what it answers beside those that the guard
    /// gives; its document gets them all.
    pub(super) fn route(
        &self,
        need: impl Into<Option<Scope>>,
        refusals: &[Refusal],
        (schemas, mut paths, methods): UtoipaMethodRouter<ApiState>,
    ) -> UtoipaMethodRouter<ApiState> {
        let need = need.into();
        document::complete(&mut paths, need, refusals);
        (schemas, paths, self.before(need, methods.fallback(error::no_such_method)))
    }

    /// What answers where there is no route.
    pub(super) fn nowhere(&self) -> MethodRouter<ApiState> {
        self.before(None, axum::routing::any(error::no_such_route))
    }

    fn before(&self, need: Option<Scope>, methods: MethodRouter<ApiState>) -> MethodRouter<ApiState> {
        methods.layer(from_fn_with_state(Self { keys: self.keys.clone(), need }, enter))
    }
}

async fn enter(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    match guard.keys.admit(header, guard.need, Instant::now()) {
        Ok(key) => {
            request.extensions_mut().insert(Caller(key.clone()));
            let response = next.run(request).await;
            count(key, outcome(response.status()));
            response
        }
        Err(denied) => {
            count(denied.key.unwrap_or_else(|| NOBODY.into()), denied.refusal.code());
            ApiError::new(denied.refusal, &denied.message).into_response()
        }
    }
}

fn outcome(status: StatusCode) -> &'static str {
    if status.is_server_error() {
        return "failed";
    }
    if status.is_client_error() { "refused" } else { "ok" }
}

/// The requests of each key are counted from 0, so that its first one is seen as an increase.
fn announce(keys: &Keys) {
    for key in keys.names().cloned().chain([NOBODY.into()]) {
        for outcome in API_OUTCOMES {
            counter!(API_REQUESTS, "key" => key.clone(), "outcome" => *outcome).increment(0);
        }
    }
}

fn count(key: Arc<str>, outcome: &'static str) {
    counter!(API_REQUESTS, "key" => key, "outcome" => outcome).increment(1);
}
