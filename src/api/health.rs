//! `/api/health` and `/api/health/realtime`: for people and for apps that ask before they connect.

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::StatusCode;
use serde_json::{Value, json};

use crate::clock::now_ms;
use crate::readiness::Readiness;

/// The routes.
pub fn routes(readiness: Readiness) -> Router {
    Router::new().route("/api/health", get(health)).route("/api/health/realtime", get(realtime)).with_state(readiness)
}

async fn health(State(readiness): State<Readiness>) -> Json<Value> {
    Json(json!({
        "status": "ok",
        "timestamp": now_ms(),
        "activeConnections": readiness.connections(),
    }))
}

async fn realtime(State(readiness): State<Readiness>) -> (StatusCode, Json<Value>) {
    let broker = readiness.broker();
    let (status, word) = match broker.ready {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    (status, Json(json!({"status": word, "socketReady": readiness.accepting(), "redisOk": broker.ready})))
}
