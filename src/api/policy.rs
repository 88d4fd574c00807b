//! `POST /v1/policy`: whether a token opens a room, and why, for whoever helps a user.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use hallway_rooms::close::Refusal;
use serde::Deserialize;

use super::{ApiError, ApiState};
use crate::auth::policy::Explanation;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    token: String,
    room: String,
}

pub(super) async fn explain(
    State(state): State<ApiState>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Explanation>, ApiError> {
    let invalid = || ApiError::new(Refusal::InvalidPayload, r#"send {"token":"…","room":"…"} and nothing else"#);
    let body = body.map_err(|_| invalid())?;
    let Question { token, room } = serde_json::from_slice(&body).map_err(|_| invalid())?;
    Ok(Json(state.service.explain(&token, &room).await))
}
