//! `POST /v1/publish` and `/v1/publish/batch`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Request as HttpRequest, State};
use hallway_rooms::close::Refusal;
use hallway_rooms::json::object;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::error::ErrorReply;
use super::{ApiError, ApiState};
use crate::service::publish::{EventBody, PublishRefused, PublishRequest, PublishSource, PublishedEvent};

/// Events to publish in this order.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BatchBody<'a> {
    /// At most `api.batch_events` of the configuration.
    // Raw, so that an event that cannot be read is refused alone.
    #[serde(borrow)]
    #[schema(value_type = Vec<EventBody>)]
    events: Vec<&'a RawValue>,
}

/// The outcome of a stored event.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Stored {
    /// The event's id: the publisher's, or a generated one.
    id: String,
    /// Its offset in each room that stores it.
    #[schema(example = json!({"order:ord_123": "1735689600000-0"}))]
    offsets: BTreeMap<String, String>,
    /// Whether the id was known in all of its rooms, so that nothing was stored.
    duplicate: bool,
}

/// The outcomes of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Results {
    /// One for each event, in order.
    results: Vec<Outcome>,
}

/// The outcome of one event of a batch.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum Outcome {
    Stored(Stored),
    Refused(ErrorReply),
}

/// Publishes an event.
///
/// Storing and sending is one act. An event that is published again with the same `id` is stored once.
#[utoipa::path(post, path = "/v1/publish", operation_id = "publish", request_body = EventBody,
    responses((status = 200, description = "It has its places.", body = Stored)))]
pub(super) async fn one(State(state): State<ApiState>, request: HttpRequest) -> Result<Json<Stored>, ApiError> {
    let taken = state.intake.read_body(request, state.single_bytes()).await?;
    let published = count_refusal(publish_event(&state, text(&taken.body)?).await)?;
    Ok(Json(reply(&published)))
}

/// Publishes several events, in their order.
///
/// Each event has a result or an error of its own, which may also be `invalid-room` or `not-stored`.
#[utoipa::path(post, path = "/v1/publish/batch", operation_id = "publishBatch", request_body = BatchBody,
    responses((status = 200, description = "What became of each.", body = Results)))]
pub(super) async fn batch(State(state): State<ApiState>, request: HttpRequest) -> Result<Json<Results>, ApiError> {
    let mut taken = state.intake.read_body(request, state.batch_bytes()).await?;
    // A cheap copy of the handle: the events borrow from the body while `taken` is changed.
    let body = taken.body.clone();
    let batch: BatchBody<'_> = object(text(&body)?).map_err(|e| invalid(&e.to_string()))?;
    if batch.events.len() > state.batch_events {
        let message = format!("a batch has at most {} events (api.batch_events)", state.batch_events);
        return Err(ApiError::new(Refusal::EventTooLarge, &message));
    }
    // Only the parse reveals the number of events.
    state.intake.count_as(&mut taken, batch.events.len())?;
    let requests = batch.events.iter().map(|event| PublishRequest::parse(event.get())).collect();
    let outcomes = state.service.publish_all(PublishSource::Http, requests).await;
    let results = outcomes.into_iter().map(count_refusal).map(|outcome| match outcome {
        Ok(published) => Outcome::Stored(reply(&published)),
        Err(refused) => Outcome::Refused(ApiError::from(refused).into_reply()),
    });
    Ok(Json(Results { results: results.collect() }))
}

fn text(body: &[u8]) -> Result<&str, ApiError> {
    std::str::from_utf8(body).map_err(|_| invalid("the request is not valid UTF-8"))
}

fn invalid(message: &str) -> ApiError {
    ApiError::new(Refusal::InvalidEvent, message)
}

/// Counts a refusal.
fn count_refusal<T>(outcome: Result<T, PublishRefused>) -> Result<T, PublishRefused> {
    outcome.inspect_err(|_| {
        metrics::counter!(crate::metrics::EVENTS_REFUSED, "source" => PublishSource::Http.label()).increment(1)
    })
}

async fn publish_event(state: &ApiState, event: &str) -> Result<PublishedEvent, PublishRefused> {
    state.service.publish_event(PublishRequest::parse(event)?).await
}

fn reply(published: &PublishedEvent) -> Stored {
    let stored = published.placed.iter().filter_map(|p| Some((p.room.to_string(), p.offset?.to_string())));
    let duplicate = !published.placed.is_empty() && published.placed.iter().all(|p| p.duplicate);
    Stored { id: published.id.as_str().to_owned(), offsets: stored.collect(), duplicate }
}
