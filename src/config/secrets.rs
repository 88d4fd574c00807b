//! Keys with several secrets, and keys whose value is read from a file.

use std::path::Path;

use super::{
    Config,
    error::{CheckResult, Complaint},
    raw::Raw,
    redis::redis_url,
    report::LoadReport,
    rule::shared_secret,
    secret::Secret,
    secret_file::SecretFile,
    value::ConfigValue,
};

/// Several secrets, all equally valid. One is written as a string, several as a list. A variable has one, commas and
/// all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Secrets(Vec<Secret>);

impl Secrets {
    /// The first secret, which signs.
    #[must_use]
    pub fn first(&self) -> Option<&Secret> {
        self.0.first()
    }

    /// All secrets.
    pub fn iter(&self) -> std::slice::Iter<'_, Secret> {
        self.0.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Secrets {
    type Item = &'a Secret;
    type IntoIter = std::slice::Iter<'a, Secret>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<Secret> for Secrets {
    fn from_iter<I: IntoIterator<Item = Secret>>(secrets: I) -> Self {
        Self(secrets.into_iter().collect())
    }
}

impl ConfigValue for Secrets {
    const KIND: &'static str = "a string, or a list of strings";

    fn parse(raw: &Raw) -> Result<Self, Complaint> {
        match raw {
            Raw::List(items) => items.iter().map(Secret::parse).collect::<Result<_, _>>().map(Self),
            Raw::Plain(_) | Raw::Text(_) | Raw::Integer(_) | Raw::Boolean(_) | Raw::Table(_) | Raw::Other(_) => {
                Secret::parse(raw).map(|secret| Self(vec![secret]))
            }
        }
    }

    fn shown(&self) -> Option<String> {
        self.first().and_then(Secret::shown)
    }
}

/// Reads the files that replace configured values.
pub(super) fn read_files(config: &mut Config, report: &mut LoadReport) {
    let files = std::mem::take(&mut config.auth.hs256_secret_file);
    // In dev mode the key has a public default, which must not stay valid beside a real secret.
    if !files.is_empty() && !report.is_set("auth.hs256_secret") {
        config.auth.hs256_secret = Secrets::default();
    }
    for path in &files {
        let secret = secret_file(path, shared_secret, "auth.hs256_secret_file", report);
        config.auth.hs256_secret.0.extend(secret);
    }
    config.auth.hs256_secret_file = files;
    let Some(path) = config.redis.url_file.clone() else { return };
    // Neither is preferred: the operator would not know which Redis is used.
    if report.is_set("redis.url") {
        let complaint = Complaint::new("is set, and redis.url too", "set one of them only");
        return report.reject_value("redis.url_file", complaint);
    }
    config.redis.url = secret_file(&path, redis_url, "redis.url_file", report);
}

/// The secret in a file, without white space at its ends. Mistakes are reported for `key`.
fn secret_file(
    path: &Path,
    rule: impl Fn(&Secret) -> CheckResult,
    key: &str,
    report: &mut LoadReport,
) -> Option<Secret> {
    let read = SecretFile::read(path.to_owned());
    let found = read.and_then(|file| file.check_secret(rule).map(|()| file.secret().clone()));
    found.map_err(|complaint| report.reject_value(key, complaint)).ok()
}
