//! `/api/health` and `/api/health/realtime`: for humans, and for apps that ask before they connect.

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::StatusCode;
use serde_json::{Value, json};

use crate::clock::now_ms;
use crate::readiness::Readiness;

/// The health routes.
pub fn routes(readiness: Readiness) -> Router {
    Router::new()
        .route("/api/health", get(health))
        .route("/api/health/realtime", get(answer_realtime))
        .with_state(readiness)
}

async fn health(State(readiness): State<Readiness>) -> Json<Value> {
    Json(json!({
        "status": "ok",
        "timestamp": now_ms(),
        "activeConnections": readiness.connections(),
    }))
}

/// The answer of `/readyz` in short: `redisOk` is the broker's check, `socketReady` all others together.
async fn answer_realtime(State(readiness): State<Readiness>) -> (StatusCode, Json<Value>) {
    let standing = readiness.current_standing();
    let [(_, redis_ok), others @ ..] = standing.checks();
    let socket_ready = others.iter().all(|(_, ready)| *ready);
    let (status, word) = match standing.is_ready() {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    (status, Json(json!({"status": word, "socketReady": socket_ready, "redisOk": redis_ok})))
}
