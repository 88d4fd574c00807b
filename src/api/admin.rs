//! The admin listener: `/livez`, `/readyz` with each check, and `/metrics`.

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::header::CONTENT_TYPE;
use http::{HeaderName, StatusCode};
use metrics::gauge;
use serde_json::{Value, json};

use crate::metrics::{CHECK_READY, NodeMetrics};
use crate::readiness::{NodeStanding, Readiness};

#[derive(Clone)]
struct Admin {
    readiness: Readiness,
    metrics: NodeMetrics,
}

/// The routes of the admin listener.
pub fn routes(readiness: Readiness, metrics: NodeMetrics) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(answer_readyz))
        .route("/metrics", get(numbers))
        .with_state(Admin { readiness, metrics })
}

/// Publishes each check as a gauge.
fn update_check_gauges(readiness: &Readiness) {
    for (check, ready) in readiness.current_standing().checks() {
        gauge!(CHECK_READY, "check" => check).set(if ready { 1.0 } else { 0.0 });
    }
}

async fn answer_readyz(State(admin): State<Admin>) -> (StatusCode, Json<Value>) {
    let standing = admin.readiness.current_standing();
    let ready = standing.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let NodeStanding { broker, accepting, keys, revocations } = standing;
    let mut checks =
        json!({"broker": broker, "listeners": {"ready": accepting}, "keys": keys, "revocations": revocations});
    // Only a node that reads the ingest stream has a state of it.
    if let Some(ingest) = admin.readiness.ingest() {
        checks["ingest"] = json!(ingest);
    }
    (status, Json(json!({"ready": ready, "checks": checks})))
}

async fn numbers(State(admin): State<Admin>) -> ([(HeaderName, &'static str); 1], String) {
    // At the scrape itself, so that the gauges are as fresh as the scrape.
    update_check_gauges(&admin.readiness);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.metrics.render())
}
