//! `GET /v1/openapi.json`: the document of `/v1`, collected from the routes as they are mounted.

use std::collections::BTreeMap;

use axum::Extension;
use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use hallway_rooms::close::Refusal;
use http::header::CONTENT_TYPE;
use utoipa::OpenApi;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, PathItem, Paths};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, Content, Ref, Response as Answer, ResponseBuilder};

use super::KeyScope;
use super::error::ErrorReply;

/// The API keys' name among the document's security schemes.
const API_KEY: &str = "apiKey";

/// The errors of every route, from the key check and the router.
const EVERYWHERE: [Refusal; 3] = [Refusal::Unauthorized, Refusal::Forbidden, Refusal::RateLimited];

#[derive(OpenApi)]
#[openapi(
    info(title = "Hallway", description = "Publishing to rooms and reading them, for back-end services."),
    components(schemas(ErrorReply))
)]
struct ApiDocument;

/// The serialized document.
#[derive(Clone, Debug)]
pub(super) struct Rendered(Bytes);

/// The document before any route is added.
pub(super) fn new_document() -> utoipa::openapi::OpenApi {
    let mut document = ApiDocument::openapi();
    let key = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An API key. What it needs to be good for stands as the scopes of each operation."));
    let components = document.components.get_or_insert_with(Components::new);
    components.add_security_scheme(API_KEY, SecurityScheme::Http(key.build()));
    document
}

/// Serializes the document with all routes.
///
/// # Errors
/// Never: a document has nothing that JSON cannot express.
pub(super) fn render(document: &utoipa::openapi::OpenApi) -> serde_json::Result<Rendered> {
    serde_json::to_vec(document).map(|bytes| Rendered(bytes.into()))
}

/// Adds the required key and the errors to operations.
pub(super) fn complete(paths: &mut Paths, need: Option<KeyScope>, refusals: &[Refusal]) {
    // Several codes share a status, and a status may be described once.
    let mut by_status = BTreeMap::<u16, Vec<&str>>::new();
    for refusal in EVERYWHERE.iter().chain(refusals) {
        by_status.entry(refusal.status()).or_default().push(refusal.code());
    }
    for operation in paths.paths.values_mut().flat_map(operations) {
        let scopes = need.into_iter().map(KeyScope::name);
        operation.security = Some(vec![SecurityRequirement::new(API_KEY, scopes)]);
        let errors = by_status.iter().map(|(status, codes)| (status.to_string(), error(*status, codes).into()));
        operation.responses.responses.extend(errors);
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let all = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
    all.into_iter().flatten()
}

fn error(status: u16, codes: &[&str]) -> Answer {
    let named: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
    let body = Content::new(Some(Ref::from_schema_name("ErrorReply")));
    let answer = ResponseBuilder::new().description(named.join(" or ")).content("application/json", body);
    // Only these come with a `Retry-After`.
    if !matches!(status, 429 | 503) {
        return answer.build();
    }
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).build();
    let wait = HeaderBuilder::new().schema(Some(seconds)).description(Some("Seconds to wait before trying again."));
    answer.header("Retry-After", wait.build()).build()
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", responses((status = 200, description = "OpenAPI 3.1.", body = serde_json::Value)))]
pub(super) async fn openapi(Extension(document): Extension<Rendered>) -> Response {
    ([(CONTENT_TYPE, "application/json")], document.0).into_response()
}
