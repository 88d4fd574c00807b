//! Errors of `/v1`: a status and `{"error":{"code":"kebab-case","message":"…"}}`.

use axum::Json;
use axum::response::{IntoResponse, Response};
use hallway_rooms::close::Refusal;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::service::publish::PublishRefused;

/// Seconds after which a caller may retry.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");
/// The authentication scheme that a caller without a key is told to use.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer");

/// An error as a client gets it.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    reply: ErrorReply,
}

/// The reply in place of a result.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorReply {
    error: Fault,
}

/// Why a request was refused.
#[derive(Debug, Serialize, ToSchema)]
struct Fault {
    /// For programs: one of a closed set.
    #[schema(example = "invalid-event")]
    code: &'static str,
    /// For humans.
    message: String,
    /// The event's id, if the event may have been stored: publishing it again with this id stores it once.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

impl ApiError {
    /// A refusal with its message.
    #[must_use]
    pub fn new(refusal: Refusal, message: &str) -> Self {
        let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let error = Fault { code: refusal.code(), message: message.to_owned(), id: None };
        Self { status, reply: ErrorReply { error } }
    }

    /// The body alone, as in the results of a batch.
    pub(super) fn into_reply(self) -> ErrorReply {
        self.reply
    }
}

impl From<PublishRefused> for ApiError {
    fn from(refused: PublishRefused) -> Self {
        let mut error = Self::new(refused.refusal, &refused.message);
        error.reply.error.id = refused.id.map(|id| id.as_str().to_owned());
        error
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(self.reply)).into_response();
        if let Some((name, value)) = advice(status) {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

fn advice(status: StatusCode) -> Option<(HeaderName, HeaderValue)> {
    match status {
        // Required with this status by RFC 9110.
        StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, CHALLENGE)),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Some((header::RETRY_AFTER, RETRY_AFTER)),
        _ => None,
    }
}

pub(super) async fn no_such_route() -> ApiError {
    ApiError::new(Refusal::NotFound, "there is no such route")
}

pub(super) async fn no_such_method() -> ApiError {
    ApiError::new(Refusal::MethodNotAllowed, "this route does not take this method")
}
