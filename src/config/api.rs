//! The HTTP interface for back-end services: its keys, its listener, and its limits.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::{
    Config, Mode,
    error::Complaint,
    report::LoadReport,
    rule::{bearer, bearer_file, between, each, some},
    scope::ConfigTable,
    secret::Secret,
    secret_file::SecretFile,
    section::{Section, section},
    value::words,
};

/// The largest rate: more than a node can answer, to catch typing errors.
const FAST: u32 = 1_000_000;
/// The label in metrics for requests without a key, so no key may have this name.
const NOBODY: &str = "none";

/// What a key may do. None implies another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiScope {
    /// Publish events.
    Publish,
    /// Read rooms and their histories.
    Read,
    /// Act on users and their sockets.
    Admin,
}

impl ApiScope {
    /// All scopes.
    pub const ALL: [Self; 3] = [Self::Publish, Self::Read, Self::Admin];
}

words! { ApiScope: "publish, read or admin" {
    "publish" => Publish,
    "read" => Read,
    "admin" => Admin,
} }

section! {
    /// The HTTP interface for back-end services, /v1. It is off while there is no key.
    pub struct Api for mode {
        /// One key that may do everything, 32 bytes at least, sent as `Authorization: Bearer <key>`. Without any key
        /// /v1 is off, so that publishing is off by default; with --dev a fixed key that `serve --dev` prints.
        key: Option<Secret> = mode.is_dev().then(|| Secret::new(Config::DEV_API_KEY)), check each(bearer),
            eg r#""<output of: openssl rand -base64 48>""#;

        /// A file with that key, in the place of `key`, such as a mounted secret. White space at its
        /// ends does not count.
        key_file: Option<SecretFile> = None, check each(bearer_file), eg r#""/run/secrets/hallway-api-key""#;

        /// An address of its own for /v1, to keep it off the public network. Without one it is on server.listen.
        listen: Option<SocketAddr> = None, eg r#""127.0.0.1:8081""#;

        /// How long a connection to `listen` may go without an answer, 1s to 1h: silent, idle between two requests,
        /// at an endless request, or with an answer that it does not take. Longer than common connection pools keep
        /// idle connections (90s), so that the pool closes first. On server.listen `socketio.connect_timeout` says
        /// how long.
        idle_timeout: Duration = Duration::from_mins(2), check between(Duration::from_secs(1), Duration::from_hours(1));

        /// Most events in one POST /v1/publish/batch, 1 to 100000. A thousand small events pass in some
        /// milliseconds, and keep the request far from any proxy's time limit.
        batch_events: usize = 1_000, check between(1, 100_000);

        /// Most requests per second of each key that has no rate of its own, 1 to 1000000; a second's worth may come at
        /// once, and a batch is one. None by default: `limits.pending_publishes` guards the node.
        rate: Option<u32> = None, check each(between(1, FAST)), eg "500";

        /// Most requests per second without a valid key that are answered with 401, 1 to 10000, over all callers of
        /// this node. Further ones are answered with 429. A service that has its key sends none, and valid keys are
        /// not affected.
        failed_attempts_per_second: u32 = 10, check between(1, 10_000);

        /// How long the body of a request may take to arrive, 100ms to 5m. The longest batch needs 1.6 MB/s then; what
        /// it may take up is reserved meanwhile (`limits.pending_publish_bytes`).
        body_timeout: Duration = Duration::from_secs(10),
            check between(Duration::from_millis(100), Duration::from_mins(5));
    } with {
        /// Further keys, by name. Only the file can set them.
        keys: BTreeMap<String, ApiKeyConfig> = read_keys;
    }
}

section! {
    /// A further key of the HTTP interface, which allows what its scopes name.
    pub struct ApiKeyConfig for mode {
        /// The key itself, 32 bytes at least.
        key: Option<Secret> = None, check each(bearer);
        /// A file with the key, in the place of `key`.
        key_file: Option<SecretFile> = None, check each(bearer_file);
        /// What the key allows.
        scopes: Vec<ApiScope> = Vec::new(), check some();
        /// Most requests per second, in the place of `api.rate`.
        rate: Option<u32> = None, check each(between(1, FAST));
    }
}

/// A key with its settings.
#[derive(Debug, Clone, Copy)]
pub struct Bearer<'a> {
    /// Its name in the configuration; `None` is the key of `api.key` or `api.key_file`.
    pub name: Option<&'a str>,
    /// The key itself.
    pub secret: &'a Secret,
    /// What it may do.
    pub scopes: &'a [ApiScope],
    /// Requests per second; none without a limit.
    pub rate: Option<u32>,
    /// Which of the two keys holds it, for complaints.
    from_file: bool,
}

impl Api {
    /// All keys, beginning with the unrestricted one.
    #[must_use]
    pub fn bearers(&self) -> Vec<Bearer<'_>> {
        let single = bearer_of(self.key.as_ref(), self.key_file.as_ref(), &ApiScope::ALL).into_iter();
        let named = self.keys.iter().filter_map(|(name, settings)| {
            let bearer = bearer_of(settings.key.as_ref(), settings.key_file.as_ref(), &settings.scopes)?;
            Some(Bearer { name: Some(name), rate: settings.rate, ..bearer })
        });
        single.chain(named).map(|bearer| Bearer { rate: bearer.rate.or(self.rate), ..bearer }).collect()
    }
}

/// The key of a section. A file wins over the key, which may be development's default.
fn bearer_of<'a>(key: Option<&'a Secret>, file: Option<&'a SecretFile>, scopes: &'a [ApiScope]) -> Option<Bearer<'a>> {
    let secret = file.map(SecretFile::secret).or(key)?;
    Some(Bearer { name: None, secret, scopes, rate: None, from_file: file.is_some() })
}

impl Bearer<'_> {
    /// The configuration key that holds the secret.
    fn path(&self) -> String {
        let key = if self.from_file { "key_file" } else { "key" };
        self.name.map_or_else(|| format!("api.{key}"), |name| format!("api.keys.{name}.{key}"))
    }
}

/// Reads `[api.keys]`.
fn read_keys(scope: &mut ConfigTable<'_>, mode: Mode) -> BTreeMap<String, ApiKeyConfig> {
    let mut keys = BTreeMap::new();
    for name in scope.names() {
        // The name becomes the value of a metric's label.
        if !is_name(&name) {
            let remedy = format!("use 1 to 32 of a-z, 0-9, _ and -, and not `{NOBODY}`");
            scope.refuse_name(&name, Complaint::new("is not a name of an API key", remedy));
            continue;
        }
        let mut inner = scope.child(&name);
        // A name without a table was reported by `child` already.
        if inner.is_absent() {
            continue;
        }
        let key = ApiKeyConfig::read(&mut inner, mode);
        // Only once the table is read: the report knows by then what is set.
        let missing = missing_keys(&inner);
        missing.into_iter().for_each(|complaint| scope.refuse_name(&name, complaint));
        keys.insert(name, key);
    }
    keys
}

fn is_name(name: &str) -> bool {
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    (1..=32).contains(&name.len()) && name.bytes().all(fine) && name != NOBODY
}

/// The missing parts of a named key.
fn missing_keys(scope: &ConfigTable<'_>) -> Vec<Complaint> {
    let set = |key: &str| scope.report.is_set(&format!("{}.{key}", scope.path));
    let mut complaints = Vec::new();
    if !set("key") && !set("key_file") {
        complaints.push(Complaint::new("has neither key nor key_file", "set one of the two"));
    }
    if !set("scopes") {
        complaints.push(Complaint::new("has no scopes", "list what it is good for, as in scopes = [\"publish\"]"));
    }
    complaints
}

/// Checks that the keys agree.
pub(super) fn check_keys(config: &Config, mode: Mode, report: &mut LoadReport) {
    one_place("api", report);
    for name in config.api.keys.keys() {
        one_place(&format!("api.keys.{name}"), report);
    }
    let bearers = config.api.bearers();
    for (index, bearer) in bearers.iter().enumerate() {
        // Two names for one secret: the scopes and the rate of a request would be a matter of chance.
        if let Some(other) = bearers[..index].iter().find(|other| other.secret == bearer.secret) {
            let remedy = "give each its own, or put the scopes of both into one";
            let problem = format!("is the same key as {}", other.path());
            report.reject_value(&bearer.path(), Complaint::new(problem, remedy));
        }
        if mode == Mode::Production && bearer.secret.expose() == Config::DEV_API_KEY {
            let remedy = "make one of your own with `openssl rand -base64 48`";
            report.reject_value(
                &bearer.path(),
                Complaint::new("is the development value, which everybody knows", remedy),
            );
        }
    }
}

/// Reports a key that is set in two places: it is open which of them counts.
fn one_place(path: &str, report: &mut LoadReport) {
    let (key, file) = (format!("{path}.key"), format!("{path}.key_file"));
    if let Some(origin) = report.origin(&key).filter(|_| report.is_set(&file)) {
        let problem = format!("is set, and {key} is too (from {origin})");
        report.reject_value(&file, Complaint::new(problem, "keep one of the two"));
    }
}
