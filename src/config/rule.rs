//! Checks on one value, named beside the key they belong to. What concerns several keys is in `agreement`.

use std::marker::PhantomData;

use tracing_subscriber::EnvFilter;
use url::Url;

use super::{
    error::{CheckResult, Complaint},
    public_key,
    secret::Secret,
    secret_file::SecretFile,
    value::ConfigValue,
};
use crate::auth::policy::{Expression, RuleSubject};

/// Bytes of the shortest secret: 256 bits, the least for HMAC-SHA256 (RFC 7518, 3.2) and for API keys.
const SECRET_BYTES: usize = 32;

/// A check on a value: a function, or one that can also say which values it takes.
pub(super) trait Rule<T> {
    /// Whether the value is fine.
    fn check_value(&self, value: &T) -> CheckResult;

    /// The least and the greatest value as an operator writes them, where there are such: what the prose must say.
    #[cfg(test)]
    fn shown_range(&self) -> Option<[String; 2]> {
        None
    }
}

impl<T, F: Fn(&T) -> CheckResult> Rule<T> for F {
    fn check_value(&self, value: &T) -> CheckResult {
        self(value)
    }
}

/// See [`between`].
pub(super) struct Between<T>([T; 2]);

/// From `low` to `high`, both allowed.
pub(super) const fn between<T>(low: T, high: T) -> Between<T> {
    Between([low, high])
}

fn without_quotes(value: &impl ConfigValue) -> String {
    value.shown().unwrap_or_default().replace('"', "")
}

impl<T: ConfigValue + PartialOrd> Rule<T> for Between<T> {
    fn check_value(&self, value: &T) -> CheckResult {
        let Self([low, high]) = self;
        if (low..=high).contains(&value) {
            return Ok(());
        }
        let [value, low, high] = [value, low, high].map(without_quotes);
        Err(Complaint::new(format!("{value} is out of range"), format!("give a value from {low} to {high}")))
    }

    #[cfg(test)]
    fn shown_range(&self) -> Option<[String; 2]> {
        Some(self.0.each_ref().map(without_quotes))
    }
}

/// See [`each`].
pub(super) struct Each<R, T>(R, PhantomData<fn(&T)>);

/// The check, for every item of a list or for what is set of an optional key.
pub(super) const fn each<R: Rule<T>, T>(rule: R) -> Each<R, T> {
    Each(rule, PhantomData)
}

impl<R: Rule<T>, T: 'static, C> Rule<C> for Each<R, T>
where
    for<'a> &'a C: IntoIterator<Item = &'a T>,
{
    fn check_value(&self, items: &C) -> CheckResult {
        items.into_iter().try_for_each(|item| self.0.check_value(item))
    }

    #[cfg(test)]
    fn shown_range(&self) -> Option<[String; 2]> {
        self.0.shown_range()
    }
}

/// A list that is not empty.
pub(super) fn some<T>() -> impl Fn(&Vec<T>) -> CheckResult {
    |list| {
        if list.is_empty() { Err(Complaint::new("is empty", "name at least one")) } else { Ok(()) }
    }
}

/// The name of a JSON object's member.
#[expect(clippy::ptr_arg, reason = "checks take a reference to the type of the key")]
pub(super) fn member(name: &String) -> CheckResult {
    let fine = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if fine { Ok(()) } else { Err(Complaint::new("is no name of a member", "use 1 to 64 letters, digits and `_`")) }
}

/// The remedy for a condition that does not compile.
pub(super) const CONDITION: &str = "write CEL over `claims`, `room` (its parts), `key`, `now` (seconds), `staff` and `agent`, \
     as in: staff || claims.sub == room.userId";

/// A condition on a user, without a room.
#[expect(clippy::ptr_arg, reason = "checks take a reference to the type of the key")]
pub(super) fn locating(text: &String) -> CheckResult {
    let remedy = "write CEL over `claims`, `now` (seconds), `staff` and `agent`, as in: agent != null";
    let compiled = Expression::compile(text, RuleSubject::User);
    compiled.map(|_| ()).map_err(|error| Complaint::new(error.to_string(), remedy))
}

/// A secret too long to be guessed.
pub(super) fn strong(secret: &Secret) -> CheckResult {
    let length = secret.expose().len();
    if length >= SECRET_BYTES {
        return Ok(());
    }
    Err(Complaint::new(
        format!("is {length} bytes long, {SECRET_BYTES} is the least"),
        "make one with `openssl rand -base64 48`",
    ))
}

/// A secret to sign tokens with: strong, and not a key of another kind. A public key in its place would admit any client
/// who can read it.
pub(super) fn shared_secret(secret: &Secret) -> CheckResult {
    // Before its length: a public key is long enough.
    if public_key::looks_like_one(secret.expose()) {
        let what = if secret.expose().contains("-----BEGIN ") { "a key in PEM" } else { "a public key" };
        return Err(Complaint::new(
            format!("is {what}, and no shared secret"),
            "name a public key in auth.public_key_file",
        ));
    }
    strong(secret)
}

/// The URL of a JWKS: with a host, and without a password, which logs would display.
#[expect(clippy::ptr_arg, reason = "checks take a reference to the type of the key")]
pub(super) fn jwks_url(url: &String) -> CheckResult {
    let plain = |url: &Url| url.has_host() && url.username().is_empty() && url.password().is_none();
    let good = Url::parse(url).is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && plain(&url));
    if good {
        return Ok(());
    }
    Err(Complaint::new("is not the URL of a JWKS", "write https://host/path, without user or password"))
}

/// An API key that cannot be guessed and that a header can carry.
pub(super) fn bearer(secret: &Secret) -> CheckResult {
    strong(secret)?;
    if secret.expose().bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return Ok(());
    }
    let remedy = "make one with `openssl rand -base64 48`, and put it on one line";
    Err(Complaint::new("has characters that no header can carry", remedy))
}

/// The same for a key in a file.
pub(super) fn bearer_file(file: &SecretFile) -> CheckResult {
    file.check_secret(bearer)
}

/// A URL of the durable store.
pub(super) fn store_url(url: &Secret) -> CheckResult {
    let known = ["sqlite://", "postgres://", "postgresql://"].iter().any(|scheme| url.expose().starts_with(scheme));
    if known {
        return Ok(());
    }
    Err(Complaint::new("is not a store URL", "write sqlite://path or postgres://user:password@host/database"))
}

/// A Socket.IO namespace that a packet can carry: `,` ends it, and `?` begins its query.
pub(super) fn namespace(name: &String) -> CheckResult {
    let forbidden = |c: char| matches!(c, ',' | '?') || c.is_whitespace() || c.is_control();
    if name.starts_with('/') && !name.contains(forbidden) {
        return Ok(());
    }
    Err(Complaint::new(
        format!("{name:?} is not a namespace"),
        "begin it with '/' and use neither ',' nor '?' nor white space",
    ))
}

/// `[a-z][a-z0-9_]{0,31}`: safe in key names, in the name of a Lua library, and in an ACL pattern.
pub(super) fn redis_prefix(prefix: &String) -> CheckResult {
    let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let first = prefix.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if first && prefix.len() <= 32 && prefix.bytes().all(rest) {
        return Ok(());
    }
    Err(Complaint::new(format!("{prefix:?} is not a prefix"), "use 1 to 32 of a-z, 0-9 and _, beginning with a letter"))
}

/// A log filter without surprises: a bare word that is not a level would be taken for a target, and silence
/// everything else.
pub(super) fn log_filter(filter: &String) -> CheckResult {
    // The filter's parser accepts any word as a target, so it cannot be relied on to find a misspelt level.
    let level = |word: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&word.to_lowercase().as_str());
    let said = |part: &str| part.contains(['=', '[', ']', '}']) || level(part.trim());
    if EnvFilter::builder().parse(filter).is_ok() && filter.split(',').all(said) {
        return Ok(());
    }
    Err(Complaint::new(
        format!("{filter:?} is not a log filter"),
        "write a level (error, warn, info, debug, trace, off), then target=level pairs, with commas between",
    ))
}

/// An emitter dialect of the Redis contract.
pub(super) fn emitter(dialect: &String) -> CheckResult {
    if ["socket.io", "python-socketio"].contains(&dialect.as_str()) {
        return Ok(());
    }
    Err(Complaint::new(format!("{dialect:?} is not an emitter dialect"), "use socket.io or python-socketio"))
}
