//! `POST /v1/revoke` and `POST /v1/disconnect`.

use axum::Json;
use axum::extract::{Request, State};
use hallway_rooms::close::Refusal;
use hallway_rooms::json::object;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{ApiError, ApiState};
use crate::auth::claims::{MAX_ID_BYTES, id_of};
use crate::service::revoke::{RevokeError, RevokeTarget};

/// An id as in tokens: a string, or an integer, which counts as its decimal text.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it describes what `id` reads, and is never made")]
enum Id {
    Text(String),
    Integer(u64),
}

/// The tokens to revoke: those of a user, or a single one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Revoke {
    /// The user's id, for all tokens issued before a time.
    #[schema(value_type = Option<Id>)]
    sub: Option<Value>,
    /// The id of one token.
    #[schema(value_type = Option<Id>)]
    jti: Option<Value>,
    /// With `sub`: that time, in milliseconds since the Unix epoch; by default the moment of the request.
    issued_before: Option<u64>,
}

/// The revocation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Revoked {
    /// Until when it is in force, in milliseconds since the Unix epoch.
    until: u64,
    /// Sockets of this node that it closed.
    kicked_here: usize,
}

/// The user whose sockets are closed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Disconnect {
    /// The user's id.
    #[schema(value_type = Id)]
    user_id: Value,
}

/// The closed sockets.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Disconnected {
    /// Sockets on all nodes that answered.
    sockets: usize,
    /// Whether every node answered in time.
    complete: bool,
}

impl From<RevokeError> for ApiError {
    fn from(denied: RevokeError) -> Self {
        Self::new(denied.refusal, &denied.message)
    }
}

impl Revoke {
    fn into_target(self) -> Result<RevokeTarget, ApiError> {
        match (self.sub, self.jti) {
            (Some(sub), None) => Ok(RevokeTarget::User(parse_id("sub", &sub)?, self.issued_before)),
            // A single token has a single issue time.
            (None, Some(jti)) if self.issued_before.is_none() => Ok(RevokeTarget::Token(parse_id("jti", &jti)?)),
            // A token by its id is void whenever it was issued, so a time beside it is a mistake.
            _ => Err(invalid("name one of `sub` and `jti`; `issuedBefore` goes with `sub`")),
        }
    }
}

/// Revokes tokens on every node, and kicks their sockets.
#[utoipa::path(post, path = "/v1/revoke", operation_id = "revoke", request_body = Revoke,
    responses((status = 200, description = "What was noted.", body = Revoked)))]
pub(super) async fn revoke(State(state): State<ApiState>, request: Request) -> Result<Json<Revoked>, ApiError> {
    let target = parse_body::<Revoke>(&state.intake.read_small_body(request).await?)?.into_target()?;
    let noted = state.service.revoke_tokens(target).await?;
    Ok(Json(Revoked { until: noted.until_ms, kicked_here: noted.kicked }))
}

/// Kicks a user's sockets on every node. The user may come back.
#[utoipa::path(post, path = "/v1/disconnect", operation_id = "disconnect", request_body = Disconnect,
    responses((status = 200, description = "What was closed.", body = Disconnected)))]
pub(super) async fn disconnect(
    State(state): State<ApiState>,
    request: Request,
) -> Result<Json<Disconnected>, ApiError> {
    let user = parse_id("userId", &parse_body::<Disconnect>(&state.intake.read_small_body(request).await?)?.user_id)?;
    let kicked = state.service.disconnect_user(&user).await?;
    Ok(Json(Disconnected { sockets: kicked.sockets, complete: kicked.complete }))
}

fn parse_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(body).map_err(|_| invalid("the request is not valid UTF-8"))?;
    object(text).map_err(|error| invalid(&error.to_string()))
}

/// An id that a token can have. One with a line end behind it is a mistake that must not look like a revocation.
fn parse_id(name: &str, value: &Value) -> Result<String, ApiError> {
    let right = format!(
        "`{name}` is a string of 1 to {MAX_ID_BYTES} bytes without control characters, or an integer from 0 on, as in tokens"
    );
    id_of(value).ok_or_else(|| invalid(&right))
}

fn invalid(message: &str) -> ApiError {
    ApiError::new(Refusal::InvalidPayload, message)
}
