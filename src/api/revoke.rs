//! `POST /v1/revoke` and `POST /v1/disconnect`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use hallway_rooms::close::Refusal;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{ApiError, ApiState};
use crate::service::revoke::{Denied, Whom};

/// Longer than the `sub` of any token that is read.
const MAX_ID_BYTES: usize = 8 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Revoke {
    sub: Option<String>,
    jti: Option<String>,
    issued_before: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Disconnect {
    user_id: String,
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        Self::new(denied.refusal, &denied.message)
    }
}

impl Revoke {
    fn whom(self) -> Result<Whom, ApiError> {
        match (self.sub, self.jti) {
            (Some(sub), None) => Ok(Whom::User(id("sub", sub, MAX_ID_BYTES)?, self.issued_before)),
            (None, Some(jti)) if self.issued_before.is_none() => {
                Ok(Whom::Token(id("jti", jti, crate::auth::claims::MAX_ID_BYTES)?))
            }
            _ => Err(invalid("name one of `sub` and `jti`; `issuedBefore` goes with `sub`")),
        }
    }
}

pub(super) async fn revoke(
    State(state): State<ApiState>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let whom = read::<Revoke>(body)?.whom()?;
    let noted = state.service.revoke(whom).await?;
    Ok(Json(json!({"until": noted.until_ms, "kickedHere": noted.kicked})))
}

pub(super) async fn disconnect(
    State(state): State<ApiState>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let user = id("userId", read::<Disconnect>(body)?.user_id, MAX_ID_BYTES)?;
    let kicked = state.service.disconnect(&user).await?;
    Ok(Json(json!({"sockets": kicked.sockets, "complete": kicked.complete})))
}

fn read<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, ApiError> {
    let body = body.map_err(|_| invalid("the request's body could not be read, or is too long"))?;
    serde_json::from_slice(&body).map_err(|error| invalid(&error.to_string()))
}

/// An id that a token can have.
fn id(name: &str, id: String, most: usize) -> Result<String, ApiError> {
    if (1..=most).contains(&id.len()) { Ok(id) } else { Err(invalid(&format!("`{name}` has 1 to {most} bytes"))) }
}

fn invalid(message: &str) -> ApiError {
    ApiError::new(Refusal::InvalidPayload, message)
}
