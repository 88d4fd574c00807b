//! `POST /v1/policy`: whether a token opens a room, and why. For support staff who help a user.

use axum::Json;
use axum::extract::{Request, State};
use hallway_rooms::close::Refusal;
use hallway_rooms::json::object;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{ApiError, ApiState};
use crate::auth::policy::PolicyExplanation;

/// The question whether a token opens a room.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Question)]
struct PolicyQuestion {
    /// The token; it is not logged.
    token: String,
    /// The room's key.
    #[schema(example = "order:ord_123")]
    room: String,
}

/// Explains whether a token opens a room.
#[utoipa::path(post, path = "/v1/policy", operation_id = "policy", request_body = PolicyQuestion,
    responses((status = 200, description = "Allowed or not, and why.", body = serde_json::Value)))]
pub(super) async fn explain(
    State(state): State<ApiState>,
    request: Request,
) -> Result<Json<PolicyExplanation>, ApiError> {
    let invalid = || ApiError::new(Refusal::InvalidPayload, r#"send {"token":"…","room":"…"} and nothing else"#);
    let body = state.intake.read_small_body(request).await?;
    let PolicyQuestion { token, room } =
        std::str::from_utf8(&body).ok().and_then(|text| object(text).ok()).ok_or_else(invalid)?;
    Ok(Json(state.service.explain(&token, &room).await))
}
