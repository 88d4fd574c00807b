//! `GET /v1/rooms/{room}` and its events.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use hallway_rooms::close::Refusal;
use hallway_rooms::history::Start;
use hallway_rooms::key::Room;
use hallway_rooms::limits::PAGE_EVENTS;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::key_check::Caller;
use super::{ApiError, ApiState};
use crate::service::Window;

/// The state of a room.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RoomState {
    room: String,
    /// Sockets in it, on all nodes.
    size: usize,
    /// Its last offset.
    #[schema(example = "1735689600000-0")]
    head: String,
}

/// A part of a room's history.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes what the service composes, byte for byte, and is never made")]
struct Page {
    room: String,
    /// Events as sockets get them, oldest first, followed by the current `latest` events.
    #[schema(value_type = Vec<Object>)]
    events: Vec<Value>,
    /// The offset to continue from, with `after`.
    #[schema(example = "1735689600000-0")]
    offset: String,
    /// Whether the history reaches back to the requested start.
    complete: bool,
    /// Whether more events follow `offset`.
    has_more: bool,
}

/// The requested part of the history: one of `after` and `since`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Part {
    /// Events after this offset.
    #[param(example = "1735689600000-0")]
    after: Option<String>,
    /// Events from this time on, in epoch milliseconds.
    since: Option<u64>,
    /// The most events, 1 to 1000, which is the default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

impl Part {
    fn window(&self) -> Result<Window, ApiError> {
        let invalid = |message: &str| ApiError::new(Refusal::InvalidPayload, message);
        let from = match (&self.after, self.since) {
            (Some(after), None) => {
                let offset = after.parse().map_err(|_| invalid("`after` is an offset, as in 1735689600000-0"))?;
                Start::After(offset)
            }
            (None, Some(ms)) => Start::Since(ms),
            // Both contradict each other, and neither leaves the start open.
            _ => return Err(invalid("name one of `after` and `since`")),
        };
        let limit = self.limit.unwrap_or(PAGE_EVENTS);
        if !(1..=PAGE_EVENTS).contains(&limit) {
            return Err(invalid("`limit` is 1 to 1000"));
        }
        Ok(Window { from, limit })
    }
}

/// The room of a path. A path whose percent signs do not decode to UTF-8 names no room.
fn parse(state: &ApiState, key: Result<Path<String>, PathRejection>) -> Result<Room, ApiError> {
    let refused = |refusal| ApiError::new(refusal, "no room class has a key of this form");
    let Path(key) = key.map_err(|_| refused(Refusal::InvalidRoom))?;
    state.service.find_room(&key).map_err(refused)
}

fn explain_refusal(refusal: Refusal) -> ApiError {
    if refusal == Refusal::HistoryDisabled {
        return ApiError::new(refusal, "rooms of this class keep no history");
    }
    ApiError::new(refusal, "the broker is out of reach, or cannot read this room: the log of the gateway says which")
}

/// Describes a room.
#[utoipa::path(get, path = "/v1/rooms/{room}", operation_id = "room", params(("room" = String, Path, description = "The room's key, percent-encoded.", example = "order:ord_123")),
    responses((status = 200, description = "The room as it is.", body = RoomState)))]
pub(super) async fn room(
    State(state): State<ApiState>,
    key: Result<Path<String>, PathRejection>,
) -> Result<Json<RoomState>, ApiError> {
    let room = parse(&state, key)?;
    // Side by side: both wait for the broker.
    let (head, size) = tokio::join!(state.service.head(&room), state.service.room_size(&room));
    let head = head.map_err(explain_refusal)?;
    Ok(Json(RoomState { room: room.key().to_owned(), size, head: head.to_string() }))
}

/// Reads a room's history.
#[utoipa::path(get, path = "/v1/rooms/{room}/events", operation_id = "roomEvents", params(("room" = String, Path, description = "The room's key, percent-encoded.", example = "order:ord_123"), Part),
    responses((status = 200, description = "A part of the history.", body = Page)))]
pub(super) async fn events(
    State(state): State<ApiState>,
    Extension(Caller(caller)): Extension<Caller>,
    key: Result<Path<String>, PathRejection>,
    part: Result<Query<Part>, QueryRejection>,
) -> Result<Response, ApiError> {
    let room = parse(&state, key)?;
    let Query(part) = part.map_err(|e| ApiError::new(Refusal::InvalidPayload, &e.body_text()))?;
    let body = state.service.events(&caller, &room, part.window()?).await.map_err(explain_refusal)?;
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}
