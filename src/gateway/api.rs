//! Builds the HTTP interface for services from its sections of the configuration.

use axum::Router;

use super::StartError;
use super::build::Building;
use crate::api::{ApiState, Intake, KeySettings, Keys, Scope, v1};
use crate::config::{ApiScope, Bearer};
use crate::service::Service;

/// The label in metrics of a key without a name.
const SINGLE_KEY: &str = "api.key";

impl Building<'_> {
    pub(super) fn api(&self, service: Service) -> Result<Router, StartError> {
        let (api, limits) = (&self.config.api, &self.config.limits);
        let bearers = api.bearers();
        let keys = Keys::new(bearers.iter().map(settings).collect(), api.failed_attempts_per_second);
        let intake = Intake::new(limits.pending_publishes, limits.pending_publish_bytes.get(), api.body_timeout);
        let state = ApiState::new(service, intake, limits.event_bytes.get(), api.batch_events);
        Ok(v1(state, keys)?)
    }
}

fn settings<'a>(bearer: &Bearer<'a>) -> KeySettings<'a> {
    KeySettings {
        name: bearer.name.unwrap_or(SINGLE_KEY),
        secret: bearer.secret.expose(),
        scopes: bearer.scopes.iter().copied().map(scope).collect(),
        per_second: bearer.rate,
    }
}

const fn scope(scope: ApiScope) -> Scope {
    match scope {
        ApiScope::Publish => Scope::Publish,
        ApiScope::Read => Scope::Read,
        ApiScope::Admin => Scope::Admin,
    }
}
