//! Errors of `/v1`: a status and `{"error":{"code":"kebab-case","message":"…"}}`.

use axum::Json;
use axum::response::{IntoResponse, Response};
use hallway_rooms::close::Refusal;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::service::publish::Refused;

/// Seconds after which a publisher may try again.
const RETRY_AFTER: &str = "1";

/// An error as a client sees it.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    body: Value,
}

impl ApiError {
    /// A refusal with its sentence.
    #[must_use]
    pub fn new(refusal: Refusal, message: &str) -> Self {
        Self::with_code(refusal.status(), refusal.code(), message)
    }

    pub(super) fn with_code(status: u16, code: &str, message: &str) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, body: json!({"code": code, "message": message}) }
    }

    /// The inner object, as it stands in the results of a batch.
    pub(super) fn into_result(self) -> Value {
        json!({"error": self.body})
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let mut error = Self::new(refused.refusal, &refused.message);
        if let Some(id) = refused.id {
            error.body["id"] = id.as_str().into();
        }
        error
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(self.into_result())).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        response
    }
}

pub(super) async fn no_such_route() -> ApiError {
    ApiError::with_code(404, "not-found", "there is no such route")
}

pub(super) async fn no_such_method() -> ApiError {
    ApiError::with_code(405, "method-not-allowed", "this route does not take this method")
}
