//! From the section `redis` to a client: the only place that makes one, for `serve`, `check-config` and `publish`.

use std::{error::Error, fmt};

use ::redis::{Client, ClientTlsConfig, ConnectionInfo, TlsCertificates};
use rustls::{crypto::aws_lc_rs, sign::CertifiedKey};

use super::{RedisConfig, url};
use crate::config::{error::Complaint, pem_file::PemFile, report::LoadReport, secret::Secret, secret_file::SecretFile};

const CLIENT_CERT: &str = "redis.client_cert_file";
const CLIENT_KEY: &str = "redis.client_key_file";

/// Why the settings give no client.
#[derive(Debug)]
pub struct AccessErrors(Vec<Disagreement>);

/// Keys of the section that do not agree; the complaint is about the first.
#[derive(Debug)]
struct Disagreement {
    /// The first one is named; the others only have to be sound.
    keys: Vec<&'static str>,
    complaint: Complaint,
}

impl RedisConfig {
    /// A client for the Redis of these settings, if they name one. It has not connected. From here on the process
    /// uses one provider of cryptography.
    ///
    /// # Errors
    /// All disagreements between the keys. [`Config::load`](crate::config::Config::load) has reported them before.
    pub fn client(&self) -> Result<Option<Client>, AccessErrors> {
        // `rediss://` needs a process-wide choice; a second call finds it made.
        aws_lc_rs::default_provider().install_default().ok();
        let Some(given) = &self.url else { return Ok(None) };
        let info = url::parse(given).map_err(|complaint| AccessErrors(vec![self.of_url(complaint)]))?;
        let wrong: Vec<Disagreement> =
            [self.database(&info), self.user(&info), self.encryption(&info)].into_iter().flatten().collect();
        if !wrong.is_empty() {
            return Err(AccessErrors(wrong));
        }
        self.connect_to(info).map(Some).map_err(|error| {
            let remedy = "see redis.url and the files of redis.ca_file and redis.client_cert_file";
            AccessErrors(vec![self.of_url(Complaint::new(format!("gives no client: {error}"), remedy))])
        })
    }

    /// The same prefix and timeouts with another URL. That server is sent no password or certificate of the
    /// configured one.
    #[must_use]
    pub fn with_url(&self, url: &str) -> Self {
        Self {
            url: Some(Secret::new(url)),
            url_file: None,
            username: None,
            password: None,
            password_file: None,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            ..self.clone()
        }
    }

    fn connect_to(&self, info: ConnectionInfo) -> ::redis::RedisResult<Client> {
        let mut settings = info.redis_settings().clone();
        // `user` has checked that the URL does not name another.
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = self.own_password() {
            settings = settings.set_password(password.expose());
        }
        let info = info.set_redis_settings(settings);
        // Without TLS there is no use for the certificates.
        if !url::is_tls(&info) {
            return Client::open(info);
        }
        let bytes = |file: &PemFile| file.pem().as_bytes().to_vec();
        let pair = self.client_cert_file.as_ref().zip(self.client_key_file.as_ref());
        let client_tls = pair.map(|(cert, key)| ClientTlsConfig { client_cert: bytes(cert), client_key: bytes(key) });
        Client::build_with_tls(info, TlsCertificates { client_tls, root_cert: self.ca_file.as_ref().map(bytes) })
    }

    fn own_password(&self) -> Option<&Secret> {
        self.password.as_ref().or(self.password_file.as_ref().map(SecretFile::secret))
    }

    /// The key that the URL was set by.
    fn url_key(&self) -> &'static str {
        if self.url_file.is_some() { "redis.url_file" } else { "redis.url" }
    }

    fn of_url(&self, complaint: Complaint) -> Disagreement {
        Disagreement { keys: vec![self.url_key()], complaint }
    }

    /// Refuses a database without a prefix of its own: channels and functions are shared by all databases, so the
    /// prefix alone keeps two fleets apart.
    fn database(&self, info: &ConnectionInfo) -> Vec<Disagreement> {
        let number = info.redis_settings().db();
        if number == 0 || self.prefix != Self::default().prefix {
            return Vec::new();
        }
        let problem = format!(
            "names database {number}, but all databases of a Redis share its channels and functions: two fleets would get \
             each other's events and revocations"
        );
        let remedy = "give this fleet a redis.prefix of its own, or name no database";
        vec![Disagreement { keys: vec![self.url_key(), "redis.prefix"], complaint: Complaint::new(problem, remedy) }]
    }

    /// Checks that user and password are set in one place each, and that no user comes without a password, who would
    /// be ignored.
    fn user(&self, info: &ConnectionInfo) -> Vec<Disagreement> {
        let (username, password) = (info.redis_settings().username(), info.redis_settings().password());
        let mut wrong = Vec::new();
        let mut say = |keys: Vec<&'static str>, problem: String, remedy: &str| {
            wrong.push(Disagreement { keys, complaint: Complaint::new(problem, remedy) });
        };
        let own = if self.password.is_some() { "redis.password" } else { "redis.password_file" };
        if username.is_some() && self.username.is_some() {
            let problem = format!("is set, and {} names a user too", self.url_key());
            say(vec!["redis.username", self.url_key()], problem, "keep one of the two");
        }
        if password.is_some() && self.own_password().is_some() {
            let problem = format!("is set, and {} has a password too", self.url_key());
            say(vec![own, self.url_key()], problem, "keep one of the two");
        }
        let user = if self.username.is_some() { Some("redis.username") } else { username.map(|_| self.url_key()) };
        // Only with a password does the client log in at all, so the named user would have no effect.
        if let Some(key) = user.filter(|_| password.is_none() && self.own_password().is_none()) {
            let keys = vec![key, "redis.password", "redis.password_file", self.url_key()];
            say(keys, "names a user without a password".to_owned(), "set redis.password or redis.password_file");
        }
        wrong
    }

    /// Checks that certificates come with an encrypted connection, and that the key belongs to its certificate.
    fn encryption(&self, info: &ConnectionInfo) -> Vec<Disagreement> {
        let mut wrong = Vec::new();
        let files = [
            ("redis.ca_file", &self.ca_file),
            (CLIENT_CERT, &self.client_cert_file),
            (CLIENT_KEY, &self.client_key_file),
        ];
        for (key, _) in files.iter().filter(|(_, file)| file.is_some() && !url::is_tls(info)) {
            let problem = format!("is set, and {} is not rediss://", self.url_key());
            let complaint = Complaint::new(problem, "write rediss:// for TLS, or leave the file out");
            wrong.push(Disagreement { keys: vec![key, self.url_key()], complaint });
        }
        // Both or none: half a pair cannot authenticate.
        let pair = match (&self.client_cert_file, &self.client_key_file) {
            (Some(_), None) => {
                Some((CLIENT_CERT, CLIENT_KEY, Complaint::new("has no key", format!("set {CLIENT_KEY} too"))))
            }
            (None, Some(_)) => {
                Some((CLIENT_KEY, CLIENT_CERT, Complaint::new("has no certificate", format!("set {CLIENT_CERT} too"))))
            }
            (Some(cert), Some(key)) => mismatch(cert, key).map(|complaint| (CLIENT_KEY, CLIENT_CERT, complaint)),
            (None, None) => None,
        };
        wrong.extend(pair.map(|(key, other, complaint)| Disagreement { keys: vec![key, other], complaint }));
        wrong
    }
}

fn mismatch(cert: &PemFile, key: &PemFile) -> Option<Complaint> {
    let (chain, private) = (cert.certificates().ok()?, key.private_key().ok()?);
    let made = CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider());
    let problem = format!("is of no use with {CLIENT_CERT}: {}", made.err()?);
    Some(key.complaint(&problem, "give the key that belongs to that certificate"))
}

/// Reports disagreements between the section's keys. A key that has a complaint already is skipped.
pub(in crate::config) fn check(redis: &RedisConfig, report: &mut LoadReport) {
    if redis.password.is_some() && redis.password_file.is_some() {
        let complaint = Complaint::new("is set, and redis.password too", "set one of them only");
        report.reject_value("redis.password_file", complaint);
    }
    let Err(AccessErrors(all)) = redis.client() else { return };
    for Disagreement { keys, complaint } in
        all.into_iter().filter(|wrong| report.are_sound(&wrong.keys)).collect::<Vec<_>>()
    {
        report.reject_value(keys[0], complaint);
    }
}

/// Reports keys for reaching a Redis that nothing names: the gateway would keep its rooms in memory instead.
pub(in crate::config) fn check_url(redis: &RedisConfig, report: &mut LoadReport) {
    if redis.url.is_some() || !report.are_sound(&["redis.url", "redis.url_file"]) {
        return;
    }
    for key in ["username", "password", "password_file", "ca_file", "client_cert_file", "client_key_file"] {
        let key = format!("redis.{key}");
        if report.is_set(&key) {
            let complaint =
                Complaint::new("is set, and no redis.url", "set redis.url or redis.url_file, or leave it out");
            report.reject_value(&key, complaint);
        }
    }
}

impl AccessErrors {
    /// One sentence a line, with the URL called `url`: a command's option may have replaced the key.
    #[must_use]
    pub fn describe_errors(&self, url: &str) -> String {
        let sentence = |Disagreement { keys, complaint }: &Disagreement| {
            let key = if keys[0].starts_with("redis.url") { url } else { keys[0] };
            format!("{key}: {}; {}", complaint.problem, complaint.remedy)
        };
        self.0.iter().map(sentence).collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for AccessErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe_errors("redis.url"))
    }
}

impl Error for AccessErrors {}
