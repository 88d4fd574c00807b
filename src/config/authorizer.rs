//! The authorizer: a service that is asked about facts that claims do not contain.

use std::time::Duration;

use url::Url;

use super::{
    Config,
    error::{CheckResult, Complaint},
    report::LoadReport,
    rule::{between, each},
    secret::Secret,
    secret_file::SecretFile,
    section::section,
    units::ByteSize,
    value::toml_string,
};

const SECOND: Duration = Duration::from_secs(1);

section! {
    /// A service of yours that is asked, over HTTP, about facts that claims do not contain. It is asked about users
    /// that `join` admits, in the classes of rooms with `authorizer = true`. It gets POST
    /// {"claims":{…},"room":"order:7","action":"join"}, where the action is "join" or "missed", and answers with
    /// status 200 and {"allow":true,"ttl":30}. Without `ttl`, in seconds, its answer holds for this request only.
    /// Anything else is no answer: the client gets `unavailable`, and leaves a room that gets no answer when it
    /// refreshes its token.
    pub struct AuthorizerConfig for mode {
        /// Where to ask. Redirects are not followed, and no proxy is used.
        url: Option<String> = None, check each(address), eg r#""https://authz.internal/hallway""#;

        /// Sent to it as `Authorization: Bearer …`, so that it can tell the gateway from others.
        secret: Option<Secret> = None, check each(in_a_header), eg r#""<output of: openssl rand -base64 48>""#;

        /// A file that holds the secret, in the place of `secret`; read at start. White space at its
        /// ends does not count.
        secret_file: Option<SecretFile> = None, check each(in_a_headers_file), eg r#""/etc/hallway/authorizer-secret""#;

        /// How long an answer may take, 50ms to 30s, the wait for a free request included. The client waits
        /// meanwhile, others do not.
        timeout: Duration = SECOND * 2, check between(Duration::from_millis(50), SECOND * 30);

        /// Answers that are cached, 1 to 1000000. Each is about claims, a room and an action, and takes some 300
        /// bytes.
        cache_entries: u64 = 10_000, check between(1, 1_000_000);

        /// The longest time that an answer is cached, whatever its `ttl`, 0s to 1h. Never longer than the token
        /// lives.
        max_ttl: Duration = SECOND * 60, check between(Duration::ZERO, SECOND * 3600);

        /// Largest answer, 64B to 1MiB.
        body_bytes: ByteSize = ByteSize::kib(4), check between(ByteSize::bytes(64), ByteSize::kib(1024));

        /// Requests at once, 1 to 1024. Further ones wait for a free one.
        concurrent: usize = 32, check between(1, 1024);
    }
}

impl AuthorizerConfig {
    /// The secret, from either key.
    #[must_use]
    pub fn bearer(&self) -> Option<&Secret> {
        self.secret_file.as_ref().map(SecretFile::secret).or(self.secret.as_ref())
    }
}

#[expect(clippy::ptr_arg, reason = "checks take a reference to the type of the key")]
fn address(url: &String) -> CheckResult {
    let parsed = Url::parse(url).ok().filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
    let Some(url) = parsed else {
        return Err(Complaint::new("is not an HTTP URL", "write https://host[:port]/path, or http://"));
    };
    if url.username().is_empty() && url.password().is_none() {
        return Ok(());
    }
    // A URL is logged and displayed; a password in it would be as well.
    Err(Complaint::new("holds a name or a password", "take them out, and use authorizer.secret"))
}

fn in_a_header(secret: &Secret) -> CheckResult {
    if !secret.expose().is_empty() && secret.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    let remedy = "use letters, digits and signs, as `openssl rand -base64 48` does";
    Err(Complaint::new("cannot be sent in a header", remedy))
}

fn in_a_headers_file(file: &SecretFile) -> CheckResult {
    file.check_secret(in_a_header)
}

/// Checks that an authorizer is named where a class asks for one, and that it has one secret.
pub(super) fn check(config: &Config, report: &mut LoadReport) {
    if config.authorizer.url.is_none() && report.are_sound(&["authorizer.url"]) {
        for (form, _) in config.rooms.iter().filter(|(_, class)| class.authorizer) {
            let key = format!("rooms.{}.authorizer", toml_string(form));
            report.reject_value(&key, Complaint::new("asks an authorizer, but there is none", "set authorizer.url"));
        }
    }
    if report.is_set("authorizer.secret") && report.is_set("authorizer.secret_file") {
        let problem = "is set beside authorizer.secret";
        report.reject_value("authorizer.secret_file", Complaint::new(problem, "keep one of the two"));
    }
}
