//! `POST /v1/publish` and `/v1/publish/batch`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use hallway_rooms::class::Delivery;
use hallway_rooms::close::Refusal;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{ApiError, ApiState};
use crate::service::publish::{Published, Request};

/// The fields around an event; the event's own are passed on as they stand.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(default)]
    rooms: Vec<String>,
    #[serde(default)]
    room: Option<String>,
    #[serde(rename = "type", borrow)]
    kind: &'a RawValue,
    #[serde(borrow)]
    payload: &'a RawValue,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    priority: Option<&'a RawValue>,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, default)]
    meta: Option<&'a RawValue>,
    #[serde(default, rename = "requiresAck")]
    requires_ack: bool,
    #[serde(default)]
    delivery: Option<Delivery>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

impl Body<'_> {
    fn into_request(self) -> Request {
        let fields = [
            ("type", Some(self.kind)),
            ("payload", Some(self.payload)),
            ("id", self.id),
            ("priority", self.priority),
            ("timestamp", self.timestamp),
            ("meta", self.meta),
        ];
        let members = fields.iter().filter_map(|(name, raw)| Some(format!("\"{name}\":{}", (*raw)?.get())));
        let text = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
        let mut rooms = self.rooms;
        rooms.extend(self.room);
        Request { rooms, text, requires_ack: self.requires_ack, delivery: self.delivery }
    }
}

pub(super) async fn one(
    State(state): State<ApiState>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let body = read(body)?;
    publish(&state, text(&body)?).await.map(Json)
}

pub(super) async fn batch(
    State(state): State<ApiState>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let body = read(body)?;
    let batch: Batch<'_> = serde_json::from_str(text(&body)?).map_err(|e| invalid(&e.to_string()))?;
    if batch.events.len() > state.batch_events {
        let message = format!("a batch has at most {} events (api.batch_events)", state.batch_events);
        return Err(ApiError::new(Refusal::EventTooLarge, &message));
    }
    let mut results = Vec::with_capacity(batch.events.len());
    let mut out_of_reach = false;
    for event in batch.events {
        // Waiting for each in turn would take an outage's time-out a thousand times.
        let outcome = if out_of_reach { Err(not_tried()) } else { publish(&state, event.get()).await };
        out_of_reach |= outcome.as_ref().is_err_and(ApiError::is_unavailable);
        results.push(outcome.unwrap_or_else(ApiError::into_result));
    }
    Ok(Json(json!({ "results": results })))
}

fn read(body: Result<Bytes, BytesRejection>) -> Result<Bytes, ApiError> {
    body.map_err(|rejection| match rejection.status().as_u16() {
        413 => ApiError::new(Refusal::EventTooLarge, "the request is larger than an event may be (limits.event_bytes)"),
        _ => invalid("the request's body could not be read"),
    })
}

fn text(body: &[u8]) -> Result<&str, ApiError> {
    std::str::from_utf8(body).map_err(|_| invalid("the request is not valid UTF-8"))
}

fn not_tried() -> ApiError {
    metrics::counter!(crate::metrics::EVENTS_REFUSED, "way" => "http").increment(1);
    ApiError::new(
        Refusal::Unavailable,
        "not tried, because the broker was out of reach for an earlier event; try again",
    )
}

fn invalid(message: &str) -> ApiError {
    ApiError::new(Refusal::InvalidEvent, message)
}

async fn publish(state: &ApiState, event: &str) -> Result<Value, ApiError> {
    let parsed = serde_json::from_str::<Body<'_>>(event).map_err(|e| invalid(&e.to_string()));
    let outcome = match parsed {
        Ok(body) => state.service.publish(body.into_request()).await.map_err(ApiError::from),
        Err(error) => Err(error),
    };
    if outcome.is_err() {
        metrics::counter!(crate::metrics::EVENTS_REFUSED, "way" => "http").increment(1);
    }
    outcome.map(|published| reply(&published))
}

fn reply(published: &Published) -> Value {
    let stored = published.placed.iter().filter_map(|p| Some((p.room.to_string(), p.offset?.to_string().into())));
    let offsets: Map<String, Value> = stored.collect();
    let duplicate = !published.placed.is_empty() && published.placed.iter().all(|p| p.duplicate);
    json!({"id": published.id.as_str(), "offsets": offsets, "duplicate": duplicate})
}
