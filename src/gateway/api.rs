//! Builds the HTTP interface for services from its sections of the configuration.

use axum::Router;

use super::StartError;
use super::build::BuildContext;
use crate::api::{ApiKeys, ApiState, BodyIntake, KeyScope, KeySettings, v1_router};
use crate::config::{ApiScope, Bearer};
use crate::service::Service;

/// The label in metrics of a key without a name.
const SINGLE_KEY: &str = "api.key";

impl BuildContext<'_> {
    pub(super) fn build_api(&self, service: Service) -> Result<Router, StartError> {
        let (api, limits) = (&self.config.api, &self.config.limits);
        let bearers = api.bearers();
        let keys = ApiKeys::new(bearers.iter().map(key_settings).collect(), api.failed_attempts_per_second);
        let intake = BodyIntake::new(limits.pending_publishes, limits.pending_publish_bytes.get(), api.body_timeout);
        let state = ApiState::new(service, intake, limits.event_bytes.get(), api.batch_events);
        Ok(v1_router(state, keys)?)
    }
}

fn key_settings<'a>(bearer: &Bearer<'a>) -> KeySettings<'a> {
    KeySettings {
        name: bearer.name.unwrap_or(SINGLE_KEY),
        secret: bearer.secret.expose(),
        scopes: bearer.scopes.iter().copied().map(api_scope).collect(),
        per_second: bearer.rate,
    }
}

const fn api_scope(scope: ApiScope) -> KeyScope {
    match scope {
        ApiScope::Publish => KeyScope::Publish,
        ApiScope::Read => KeyScope::Read,
        ApiScope::Admin => KeyScope::Admin,
    }
}
