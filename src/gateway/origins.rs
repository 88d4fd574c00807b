//! Checks which web pages may connect and call. A browser names the page's origin, and only listed origins pass. For
//! them CORS allows reading the answers of the HTTP interface, without credentials: a page sends a token or a key, no
//! cookie.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ORIGIN, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use metrics::counter;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::config::WebOrigin;
use crate::logs;
use crate::metrics::ORIGINS_REFUSED;

/// How long a browser may cache the permission: the configuration changes with a restart only.
const REMEMBERED: Duration = Duration::from_mins(10);

/// The listed origins; an empty list admits any.
#[derive(Clone, Debug)]
pub(super) struct Origins(Arc<[WebOrigin]>);

impl Origins {
    pub(super) fn new(listed: &[WebOrigin]) -> Self {
        Self(listed.into())
    }

    /// Lets pages of listed origins read the answers of these routes.
    pub(super) fn allow_listed(&self, router: Router) -> Router {
        // Without a list CORS stays closed: the interface is for services, and no page was named that may read its
        // answers.
        if self.0.is_empty() {
            return router;
        }
        let own = self.clone();
        let cors = CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(move |origin, _| own.includes(origin)))
            .allow_methods([Method::GET, Method::POST])
            .allow_headers([AUTHORIZATION, CONTENT_TYPE])
            .expose_headers([RETRY_AFTER])
            .max_age(REMEMBERED);
        router.layer(cors)
    }

    /// Refuses every request from a page of another origin.
    pub(super) fn refuse_unlisted(&self, router: Router) -> Router {
        if self.0.is_empty() { router } else { router.layer(from_fn_with_state(self.clone(), check_origin)) }
    }

    fn includes(&self, origin: &HeaderValue) -> bool {
        origin.to_str().is_ok_and(|origin| self.0.iter().any(|listed| listed.includes(origin)))
    }

    fn admits_request(&self, headers: &HeaderMap) -> bool {
        // Clients that are no browsers send no Origin, and pass.
        headers.get_all(ORIGIN).iter().all(|origin| self.includes(origin))
    }
}

async fn check_origin(State(origins): State<Origins>, request: Request, next: Next) -> Response {
    if origins.admits_request(request.headers()) {
        return next.run(request).await;
    }
    counter!(ORIGINS_REFUSED).increment(1);
    tracing::debug!(event = logs::ORIGIN_REFUSED, origin = ?request.headers().get(ORIGIN), "a page of another origin was refused");
    super::refusal_response(
        StatusCode::FORBIDDEN,
        "origin-not-allowed",
        "pages of this origin may not connect (server.origins)",
    )
}
