//! The policy of a configuration: a rule per class, the configured one or the default.

use hallway_rooms::class::{Class, Classes};
use hallway_rooms::form::Form;
use url::Url;

use super::{StartError, classes};
use crate::auth::authorizer::{Authorizer, AuthorizerSettings};
use crate::auth::policy::{Expression, Policy, Rule, Subject};
use crate::config::{Config, Mode};

/// The policy of a configuration; open to all in dev mode.
///
/// # Errors
/// When a rule does not compile, which the configuration has checked before, or the authorizer's secret cannot be read.
pub fn policy(config: &Config, mode: Mode) -> Result<Policy, StartError> {
    let rules = rules(config, &classes(config)?)?;
    let locate = Expression::compile(&config.auth.update_location, Subject::User)?;
    let policy = Policy::new(rules, locate, config.auth.staff_roles.clone()).with_authorizer(authorizer(config)?);
    Ok(if mode.is_dev() { policy.opened() } else { policy })
}

fn rules(config: &Config, classes: &Classes) -> Result<Vec<Rule>, StartError> {
    classes.all().iter().map(|class| rule(config, class)).collect()
}

fn rule(config: &Config, class: &Class) -> Result<Rule, StartError> {
    let default = Rule::default_of(&class.form)?;
    for (name, settings) in &config.rooms {
        let form: Form = name.parse()?;
        if !form.same_shape(&class.form) {
            continue;
        }
        let authorized = settings.authorizer;
        return Ok(match &settings.join {
            Some(join) => Rule { form, join: join.clone(), authorized, own: true },
            None => Rule { authorized, ..default },
        });
    }
    Ok(default)
}

fn authorizer(config: &Config) -> Result<Option<Authorizer>, StartError> {
    let settings = &config.authorizer;
    let Some(url) = &settings.url else { return Ok(None) };
    let secret = settings.bearer().map_err(|error| format!("authorizer.secret_file: {error}"))?;
    let settings = AuthorizerSettings {
        url: Url::parse(url)?,
        secret: secret.map(|secret| secret.expose().into()),
        timeout: settings.timeout,
        cache_entries: settings.cache_entries,
        max_ttl: settings.max_ttl,
        body_bytes: settings.body_bytes.get(),
        concurrent: settings.concurrent,
    };
    Ok(Some(Authorizer::new(settings).map_err(|error| format!("authorizer.url: {error}"))?))
}
