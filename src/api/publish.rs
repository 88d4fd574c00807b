//! `POST /v1/publish` and `/v1/publish/batch`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use hallway_rooms::close::Refusal;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{ApiError, ApiState};
use crate::metrics::limit::Limit;
use crate::service::publish::{Published, Refused, Request, Way};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

pub(super) async fn one(
    State(state): State<ApiState>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let body = read(body)?;
    let published = count(publish(&state, text(&body)?).await)?;
    Ok(Json(reply(&published)))
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
    let requests = batch.events.iter().map(|event| Request::parse(event.get())).collect();
    let outcomes = state.service.publish_all(Way::Http, requests).await;
    let results = outcomes.into_iter().map(count).map(|outcome| match outcome {
        Ok(published) => reply(&published),
        Err(refused) => ApiError::from(refused).into_result(),
    });
    Ok(Json(json!({ "results": results.collect::<Vec<_>>() })))
}

fn read(body: Result<Bytes, BytesRejection>) -> Result<Bytes, ApiError> {
    body.map_err(|rejection| match rejection.status().as_u16() {
        413 => {
            Limit::EventBytes.reached();
            ApiError::new(Refusal::EventTooLarge, "the request is larger than an event may be (limits.event_bytes)")
        }
        _ => invalid("the request's body could not be read"),
    })
}

fn text(body: &[u8]) -> Result<&str, ApiError> {
    std::str::from_utf8(body).map_err(|_| invalid("the request is not valid UTF-8"))
}

fn invalid(message: &str) -> ApiError {
    ApiError::new(Refusal::InvalidEvent, message)
}

/// Counts what is refused.
fn count<T>(outcome: Result<T, Refused>) -> Result<T, Refused> {
    outcome.inspect_err(|_| metrics::counter!(crate::metrics::EVENTS_REFUSED, "way" => Way::Http.label()).increment(1))
}

async fn publish(state: &ApiState, event: &str) -> Result<Published, Refused> {
    state.service.publish(Request::parse(event)?).await
}

fn reply(published: &Published) -> Value {
    let stored = published.placed.iter().filter_map(|p| Some((p.room.to_string(), p.offset?.to_string().into())));
    let offsets: Map<String, Value> = stored.collect();
    let duplicate = !published.placed.is_empty() && published.placed.iter().all(|p| p.duplicate);
    json!({"id": published.id.as_str(), "offsets": offsets, "duplicate": duplicate})
}
