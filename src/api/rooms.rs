//! `GET /v1/rooms/{room}` and its events.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use hallway_rooms::close::Refusal;
use hallway_rooms::history::From;
use hallway_rooms::key::Room;
use hallway_rooms::limits::PAGE_EVENTS;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ApiError, ApiState};
use crate::service::Window;

/// Which part of the history is asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Part {
    after: Option<String>,
    since: Option<u64>,
    limit: Option<usize>,
}

impl Part {
    fn window(&self) -> Result<Window, ApiError> {
        let invalid = |message: &str| ApiError::new(Refusal::InvalidPayload, message);
        let from = match (&self.after, self.since) {
            (Some(after), None) => {
                let offset = after.parse().map_err(|_| invalid("`after` is an offset, as in 1735689600000-0"))?;
                From::After(offset)
            }
            (None, Some(ms)) => From::Since(ms),
            _ => return Err(invalid("name one of `after` and `since`")),
        };
        let limit = self.limit.unwrap_or(PAGE_EVENTS);
        if !(1..=PAGE_EVENTS).contains(&limit) {
            return Err(invalid("`limit` is 1 to 1000"));
        }
        Ok(Window { from, limit })
    }
}

/// A path whose percent signs stand for no UTF-8 names no room.
fn parse(state: &ApiState, key: Result<Path<String>, PathRejection>) -> Result<Room, ApiError> {
    let refused = |refusal| ApiError::new(refusal, "no room class has a key of this form");
    let Path(key) = key.map_err(|_| refused(Refusal::InvalidRoom))?;
    state.service.room(&key).map_err(refused)
}

fn sentence(refusal: Refusal) -> ApiError {
    if refusal == Refusal::HistoryDisabled {
        return ApiError::new(refusal, "rooms of this class keep no history");
    }
    ApiError::new(refusal, "the broker is out of reach, or cannot read this room: the log of the gateway says which")
}

pub(super) async fn room(
    State(state): State<ApiState>,
    key: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let room = parse(&state, key)?;
    let (head, size) = tokio::join!(state.service.head(&room), state.service.room_size(&room));
    let head = head.map_err(sentence)?;
    Ok(Json(json!({"room": room.key(), "size": size, "head": head.to_string()})))
}

pub(super) async fn events(
    State(state): State<ApiState>,
    key: Result<Path<String>, PathRejection>,
    part: Result<Query<Part>, QueryRejection>,
) -> Result<Response, ApiError> {
    let room = parse(&state, key)?;
    let Query(part) = part.map_err(|e| ApiError::new(Refusal::InvalidPayload, &e.body_text()))?;
    let body = state.service.events(&room, part.window()?).await.map_err(sentence)?;
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}
