//! Builds the policy of a configuration: one rule per class, which is the configured one, that of a wider class, or the
//! default.

use hallway_rooms::class::{Class, Classes};
use hallway_rooms::form::Form;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{StartError, build_classes};
use crate::auth::authorizer::{Authorizer, AuthorizerSettings};
use crate::auth::policy::{Expression, Policy, PolicyRule, RuleSubject};
use crate::config::{Config, Mode};

/// Builds the policy of a configuration; in dev mode every join is allowed. From `stop` on the authorizer is not asked.
///
/// # Errors
/// When a rule does not compile, which the configuration has checked before, or no HTTP client can be made.
pub fn build_policy(config: &Config, mode: Mode, stop: CancellationToken) -> Result<Policy, StartError> {
    let rules = rules(config, &build_classes(config)?)?;
    let locate = Expression::compile(&config.auth.update_location, RuleSubject::User)?;
    let policy =
        Policy::new(rules, locate, config.auth.staff_roles.clone()).with_authorizer(build_authorizer(config, stop)?);
    Ok(if mode.is_dev() { policy.into_open() } else { policy })
}

fn rules(config: &Config, classes: &Classes) -> Result<Vec<PolicyRule>, StartError> {
    classes.all_classes().iter().map(|class| rule(config, classes, class)).collect()
}

fn rule(config: &Config, classes: &Classes, class: &Class) -> Result<PolicyRule, StartError> {
    let mut authorized = false;
    for (name, settings) in &config.rooms {
        let form: Form = name.parse()?;
        // `order:{id}` and `order:{number}` are the same class under two spellings.
        if !form.same_shape(&class.form) {
            continue;
        }
        authorized = settings.authorizer;
        if let Some(join) = &settings.join {
            return Ok(PolicyRule { class: form.clone(), form, join: join.clone(), authorized, own: true });
        }
    }
    // A class that an operator adds only for its history keeps the rule that its rooms had before.
    let inherited = match wider_class(classes, class) {
        Some(wider) => rule(config, classes, wider)?,
        None => PolicyRule::default_of(&class.form)?,
    };
    Ok(PolicyRule { class: class.form.clone(), authorized: authorized || inherited.authorized, ..inherited })
}

/// Finds the class that the rooms of `class` would have without it, and whose rule they keep. Built-in classes have
/// rules of their own.
fn wider_class<'a>(classes: &'a Classes, class: &Class) -> Option<&'a Class> {
    if class.form.is_built_in() {
        return None;
    }
    classes.all_classes().iter().find(|other| other.form.covers(&class.form) && !class.form.covers(&other.form))
}

fn build_authorizer(config: &Config, stop: CancellationToken) -> Result<Option<Authorizer>, StartError> {
    let settings = &config.authorizer;
    let Some(url) = &settings.url else { return Ok(None) };
    let settings = AuthorizerSettings {
        url: Url::parse(url)?,
        secret: settings.bearer().map(|secret| secret.expose().into()),
        timeout: settings.timeout,
        cache_entries: settings.cache_entries,
        max_ttl: settings.max_ttl,
        body_bytes: settings.body_bytes.get(),
        concurrent: settings.concurrent,
    };
    Ok(Some(Authorizer::new(settings, stop).map_err(|error| format!("authorizer.url: {error}"))?))
}
