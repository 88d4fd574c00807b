//! Checks across keys, and the demands of production and development.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use url::Url;

use crate::auth::keys::{KeyError, VerifyingKey};

use super::{
    ByteSize, Config, LimitsConfig, Mode, api,
    error::Complaint,
    report::LoadReport,
    secret::Secret,
    secret_file::{LONGEST, text},
    value::toml_string,
};

/// The slowest sockets whose full queues must fit into the quarter of the memory that is for queues, times four.
const SLOWEST: usize = 16;

/// Checks the sound keys; one that has a complaint already is skipped.
pub(super) fn check_agreement(config: &Config, mode: Mode, report: &mut LoadReport) {
    listeners(config, report);
    namespaces(config, report);
    memory(config, report);
    queue(config, report);
    check_node_memory(config, report);
    lease(config, report);
    key_files(config, report);
    super::redis::check(&config.redis, report);
    super::authorizer::check(config, report);
    super::rooms::check_classes(&config.rooms, report);
    check_jwks_url(config, report);
    match mode {
        Mode::Production => check_production(config, report),
        Mode::Dev | Mode::DevNamed => check_development(config, mode, report),
    }
    api::check_keys(config, mode, report);
}

/// Every listener, with the key that names it.
fn all_listeners(config: &Config) -> Vec<(&'static str, SocketAddr)> {
    let clients = config.server.listen.iter().map(|address| ("server.listen", *address));
    let api = config.api.listen.iter().map(|address| ("api.listen", *address));
    clients.chain([("admin.listen", config.admin.listen)]).chain(api).collect()
}

fn listeners(config: &Config, report: &mut LoadReport) {
    // A key that could not be parsed has its default here, and comparing that would mislead.
    if !report.are_sound(&["server.listen", "admin.listen", "api.listen"]) {
        return;
    }
    let all = all_listeners(config);
    for (index, (key, address)) in all.iter().enumerate() {
        let taken = all[..index].iter().find(|(_, other)| addresses_clash(*address, *other));
        if let Some((other_key, other)) = taken {
            let problem = format!("{address} clashes with {other} of {other_key}");
            // The default cannot be at fault when the other address was set by the operator.
            let blamed = if report.is_set(key) { key } else { other_key };
            report.reject_value(blamed, Complaint::new(problem, listener_remedy(*address, *other)));
        }
    }
}

fn listener_remedy(address: SocketAddr, other: SocketAddr) -> &'static str {
    let both = [address.ip(), other.ip()];
    if both.iter().any(IpAddr::is_ipv4) && both.iter().any(|ip| ip.is_ipv6() && ip.is_unspecified()) {
        "give each listener an address of its own; [::] takes IPv4 too, so it needs no 0.0.0.0 beside it"
    } else {
        "give each listener an address of its own"
    }
}

/// Whether two addresses cannot both be bound. Port 0 is a free port each time.
fn addresses_clash(left: SocketAddr, right: SocketAddr) -> bool {
    let [one, other] = [left.ip().to_canonical(), right.ip().to_canonical()];
    let same_host = one == other || includes_host(one, other) || includes_host(other, one);
    left.port() != 0 && left.port() == right.port() && same_host
}

/// Whether `every` is all hosts and `one` is among them. `[::]` includes IPv4.
fn includes_host(every: IpAddr, one: IpAddr) -> bool {
    every.is_unspecified() && (every.is_ipv6() || one.is_ipv4())
}

/// Checks that publishes, histories and queues fit into the node's memory.
fn check_node_memory(config: &Config, report: &mut LoadReport) {
    let limits = &config.limits;
    let keys = ["limits.memory", "limits.pending_publish_bytes", "limits.read_bytes", "limits.queue_bytes"];
    let (Some(memory), true) = (limits.memory, report.are_sound(&keys)) else { return };
    if let Some(problem) = too_small(memory, limits) {
        report.reject_value("limits.memory", problem);
    }
}

impl Config {
    /// Why this memory is too small for the limits, with the remedy.
    #[must_use]
    pub fn is_tight_with(&self, memory: usize) -> Option<String> {
        let complaint = too_small(ByteSize::bytes(memory), &self.limits);
        complaint.map(|Complaint { problem, remedy }| format!("limits.memory: {problem}; {remedy}"))
    }
}

/// Why a memory is too small for the limits. Histories count twice: kept, and on their way to sockets.
fn too_small(memory: ByteSize, limits: &LimitsConfig) -> Option<Complaint> {
    let at_work = limits.pending_publish_bytes.get() + limits.read_bytes.get() * 2;
    // The other half is for connections, sessions and queues.
    if at_work > memory.get() / 2 {
        let problem = format!("{memory} is less than twice what publishes and histories may take up");
        return Some(Complaint::new(problem, "raise it, or lower limits.pending_publish_bytes and limits.read_bytes"));
    }
    if limits.queue_bytes.get() > memory.get() / SLOWEST {
        let problem = format!("{memory} is less than {SLOWEST} times limits.queue_bytes");
        return Some(Complaint::new(problem, "raise it, or lower limits.queue_bytes"));
    }
    None
}

fn namespaces(config: &Config, report: &mut LoadReport) {
    if !report.are_sound(&["server.namespace", "server.aliases"]) {
        return;
    }
    let mut seen = vec![&config.server.namespace];
    for alias in &config.server.aliases {
        if seen.contains(&alias) {
            let key = if report.is_set("server.aliases") { "server.aliases" } else { "server.namespace" };
            report.reject_value(key, Complaint::new(format!("{alias:?} is named twice"), "name each namespace once"));
        }
        seen.push(alias);
    }
}

fn memory(config: &Config, report: &mut LoadReport) {
    let remembered = config.history.memory;
    if !report.are_sound(&["history.memory", "history.ttl"]) {
        return;
    }
    // A last offset that is forgotten before its entries could not prove them complete.
    if remembered < config.history.ttl {
        let remedy = "make history.memory at least as long as history.ttl";
        report.reject_value("history.memory", Complaint::new("is shorter than history.ttl", remedy));
    }
    let longer = |ttl: &Duration| remembered < *ttl;
    for form in config.rooms.iter().filter(|(_, class)| class.history.ttl.as_ref().is_some_and(longer)) {
        let remedy = "shorten it, or make history.memory as long";
        let key = format!("rooms.{}.history.ttl", toml_string(form.0));
        report.reject_value(&key, Complaint::new("is longer than history.memory", remedy));
    }
}

/// Checks that a queue holds two events. With less, every socket would be closed at the first large event.
fn queue(config: &Config, report: &mut LoadReport) {
    let least = config.limits.event_bytes.get() * 2;
    if config.limits.queue_bytes.get() < least && report.are_sound(&["limits.queue_bytes", "limits.event_bytes"]) {
        let remedy = format!("make it {least} bytes or more, or limits.event_bytes smaller");
        report.reject_value("limits.queue_bytes", Complaint::new("holds less than two events", remedy));
    }
}

/// Checks that ids outlive two lease terms: a successor publishes unacknowledged entries again, and only their ids
/// identify the copies.
fn lease(config: &Config, report: &mut LoadReport) {
    // Without Redis there is no ingest stream.
    let sound = report.are_sound(&["ingest.lease", "history.id_window"]);
    if sound && config.redis.url.is_some() && config.history.id_window < config.ingest.lease * 2 {
        let remedy = "make it twice ingest.lease or more, or shorten that";
        report.reject_value("history.id_window", Complaint::new("is shorter than two terms of ingest.lease", remedy));
    }
}

fn key_files(config: &Config, report: &mut LoadReport) {
    for path in &config.auth.public_key_file {
        if let Some(complaint) = key_file(path) {
            report.reject_value("auth.public_key_file", complaint);
        }
    }
}

fn key_file(path: &Path) -> Option<Complaint> {
    let complain = |problem: &str, remedy| Some(Complaint::new(format!("{path:?} {problem}"), remedy));
    match text(path, LONGEST) {
        Err(error) => complain(&format!("cannot be read: {error}"), "name a PEM file this user may read"),
        // Before the other checks, so that an operator learns of the exposed key and not of its form.
        Ok(pem) if pem.contains("PRIVATE KEY-----") => {
            complain("holds a private key", "give the public key only; `openssl pkey -pubout` makes it")
        }
        Ok(pem) if !pem.contains("-----BEGIN ") => complain("is not PEM", "give a public key in PEM"),
        Ok(_) => match VerifyingKey::from_file(path).err()? {
            KeyError::File { error, .. } => {
                complain(&format!("cannot be read: {error}"), "name a PEM file this user may read")
            }
            KeyError::Pem(_) => complain(
                "holds anything but one PEM public key of RSA, P-256, P-384 or Ed25519",
                "`openssl pkey -pubout` makes one",
            ),
            KeyError::Unusable(_, why) => complain(&format!("has a key that {why}"), "make another pair of keys"),
        },
    }
}

/// Checks the JWKS settings. Keys from a network that others can write to would admit any client.
fn check_jwks_url(config: &Config, report: &mut LoadReport) {
    let auth = &config.auth;
    let Some(url) = auth.jwks_url.as_ref().and_then(|url| Url::parse(url).ok()) else { return };
    if url.scheme() == "http" && !is_loopback(&url) && !auth.jwks_insecure {
        let remedy = "use https, or set auth.jwks_insecure if the network itself encrypts";
        report.reject_value(
            "auth.jwks_url",
            Complaint::new("is plain http, which anybody in between can change", remedy),
        );
    }
    if auth.jwks_max_stale <= auth.jwks_refresh && report.are_sound(&["auth.jwks_max_stale", "auth.jwks_refresh"]) {
        let remedy = "make it several times as long, or auth.jwks_refresh shorter";
        report.reject_value("auth.jwks_max_stale", Complaint::new("is not longer than auth.jwks_refresh", remedy));
    }
}

/// Checks what a gateway needs and a publishing command does not.
pub(super) fn check_serving(config: &Config, report: &mut LoadReport) {
    super::redis::check_url(&config.redis, report);
    verifying_key(config, report);
}

/// Checks that there is a key: without one every client would be refused.
fn verifying_key(config: &Config, report: &mut LoadReport) {
    let auth = &config.auth;
    let keys = ["auth.hs256_secret", "auth.hs256_secret_file", "auth.public_key_file", "auth.jwks_url"];
    let none = auth.hs256_secret.is_empty() && auth.public_key_file.is_empty() && auth.jwks_url.is_none();
    if none && report.are_sound(&keys) {
        let problem = "no key to verify tokens with";
        let remedy = "set auth.hs256_secret, auth.public_key_file or auth.jwks_url, or try things out with `hallway serve --dev`, and `hallway policy --dev` beside it";
        report.reject_value("auth", Complaint::new(problem, remedy));
    }
}

fn check_production(config: &Config, report: &mut LoadReport) {
    // The key that the secret came by, so that the complaint names the right one.
    let in_file = report.is_set("auth.hs256_secret_file") && !report.is_set("auth.hs256_secret");
    let key = if in_file { "auth.hs256_secret_file" } else { "auth.hs256_secret" };
    if config.auth.hs256_secret.iter().any(|secret| secret.expose() == Config::DEV_SECRET) {
        let remedy = "make one of your own with `openssl rand -base64 48`";
        report.reject_value(key, Complaint::new("is the development value, which everybody knows", remedy));
    }
}

/// Checks development. Its secrets are public and its policy is open, so nothing beyond this machine may reach it,
/// unless the operator says so twice: by the address, and by the name that devices use.
fn check_development(config: &Config, mode: Mode, report: &mut LoadReport) {
    for (key, address) in all_listeners(config) {
        // The API and admin listeners stay on loopback in any case.
        let named = key == "server.listen" && mode == Mode::DevNamed;
        if !address.ip().is_loopback() && !named {
            let remedy = match key {
                "server.listen" => "use 127.0.0.1 or [::1], name this machine with --dev-host, or leave out --dev",
                _ => "use 127.0.0.1 or [::1], or leave out --dev",
            };
            report.reject_value(
                key,
                Complaint::new(format!("{address} is not loopback, which --dev insists on"), remedy),
            );
        }
    }
    if config.redis.url.as_ref().is_some_and(|url| !is_local(url)) {
        let remedy = "use a Redis on localhost, or leave out --dev";
        report.reject_value("redis.url", Complaint::new("is not on loopback, which --dev insists on", remedy));
    }
}

fn is_local(url: &Secret) -> bool {
    Url::parse(url.expose()).is_ok_and(|url| url.scheme() == "unix" || is_loopback(&url))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}
