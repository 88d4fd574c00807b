//! The API key: compared in constant time, asked for before anything is read.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hallway_rooms::close::Refusal;
use http::header::AUTHORIZATION;
use subtle::ConstantTimeEq;

use super::{ApiError, ApiState};

/// The key of `/v1`, if it is open at all.
#[derive(Clone)]
pub struct ApiKey(Option<Vec<u8>>);

impl ApiKey {
    /// Opens `/v1` to whoever has the key; without one nobody has.
    #[must_use]
    pub fn new(key: Option<&str>) -> Self {
        Self(key.map(|key| key.as_bytes().to_vec()))
    }

    fn admits(&self, header: Option<&str>) -> Result<(), ApiError> {
        let Some(key) = &self.0 else {
            let message = "the API is off: set api.key (HALLWAY_API__KEY) to open it";
            return Err(ApiError::new(Refusal::Forbidden, message));
        };
        let given = header.and_then(|h| h.strip_prefix("Bearer ")).unwrap_or_default();
        if given.as_bytes().ct_eq(key).into() {
            return Ok(());
        }
        Err(ApiError::new(Refusal::Unauthorized, "send `Authorization: Bearer <api key>`"))
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "ApiKey(***)" } else { "ApiKey(none)" })
    }
}

pub(super) async fn require(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION).and_then(|v| v.to_str().ok());
    match state.key.admits(header) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}
