//! `hallway publish`: one event from a shell, over Redis or HTTP, as a service would publish it. The reply is alone
//! on stdout; a failure is one sentence on stderr, without any secret.

use std::io::Read;
use std::process::ExitCode;

use ::redis::Client;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{PublishArgs, load_for_publishing, print, print_error, report_config_errors};
use crate::config::{ApiScope, Bearer, Config, Mode, environment};

mod http;
mod redis;

/// The exit code of bad usage, the same as clap's.
const EXIT_USAGE: u8 = 2;

/// Why nothing was published.
#[derive(Debug)]
pub(super) enum Problem {
    /// An argument is invalid.
    Usage(String),
    /// The event was refused, or nothing could be reached.
    Failed(String),
}

/// Where to publish.
enum PublishTarget {
    Redis(Box<Client>),
    Http { base: String, key: String },
}

pub(super) fn run(args: &PublishArgs) -> ExitCode {
    let file = args.config.config.as_deref();
    // Publishing needs no key for tokens, so a service's configuration may lack one.
    let loaded = if args.dev { Config::load(file, environment(), Mode::DevNamed) } else { load_for_publishing(file) };
    let config = match loaded {
        Ok(config) => config,
        Err(errors) => return report_config_errors(&errors),
    };
    match publish_event(args, &config) {
        Ok(reply) => print(&format!("{reply}\n")),
        Err(Problem::Usage(sentence)) => {
            print_error(&sentence);
            ExitCode::from(EXIT_USAGE)
        }
        Err(Problem::Failed(sentence)) => {
            print_error(&sentence);
            ExitCode::FAILURE
        }
    }
}

fn publish_event(args: &PublishArgs, config: &Config) -> Result<Value, Problem> {
    let target = target(args, config)?;
    let event = CliEvent::read(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Problem::Failed(format!("this process cannot run: {error}")))?;
    runtime.block_on(async {
        match target {
            PublishTarget::Redis(client) => redis::publish_event(&client, config, &event).await,
            PublishTarget::Http { base, key } => http::publish_event(&base, &key, &event).await,
        }
    })
}

/// The target of the command line, else the configured Redis, else the gateway itself.
fn target(args: &PublishArgs, config: &Config) -> Result<PublishTarget, Problem> {
    if let Some(client) = client(args, config)? {
        return Ok(PublishTarget::Redis(Box::new(client)));
    }
    let base = args.http.clone().unwrap_or_else(|| http::configured_url(config));
    let key = args.key.clone().map_or_else(|| api_key(config), Ok)?;
    Ok(PublishTarget::Http { base, key })
}

/// `--redis` replaces the configured URL, and its user, password and certificates.
fn client(args: &PublishArgs, config: &Config) -> Result<Option<Client>, Problem> {
    if args.http.is_some() {
        return Ok(None);
    }
    let (settings, url) = match &args.redis {
        Some(url) => (config.redis.with_url(url), "--redis"),
        None => (config.redis.clone(), "redis.url"),
    };
    settings.client().map_err(|errors| Problem::Usage(errors.describe_errors(url)))
}

/// The unrestricted configured key, or the only other one that may publish. Without any configured gateway it is dev
/// mode's.
fn api_key(config: &Config) -> Result<String, Problem> {
    let all = config.api.bearers();
    let (single, named): (Vec<Bearer<'_>>, Vec<Bearer<'_>>) = all
        .iter()
        .filter(|bearer| bearer.scopes.contains(&ApiScope::Publish))
        .partition(|bearer| bearer.name.is_none());
    let auth = &config.auth;
    let nothing = auth.hs256_secret.is_empty() && auth.public_key_file.is_empty() && auth.jwks_url.is_none();
    // The unrestricted key goes first: it is the one that a single-key setup has.
    match (single.as_slice(), named.as_slice()) {
        ([bearer, ..], _) | ([], [bearer]) => Ok(bearer.secret.expose().to_owned()),
        // Nothing is configured at all: most likely `serve --dev` runs beside this.
        ([], []) if nothing && all.is_empty() => Ok(Config::DEV_API_KEY.to_owned()),
        ([], []) => Err(Problem::Failed(
            "there is no API key to publish with; pass --key, or set api.key (HALLWAY_API__KEY)".to_owned(),
        )),
        // Picking one would make metrics and rates depend on chance.
        ([], several) => {
            let names: Vec<&str> = several.iter().filter_map(|bearer| bearer.name).collect();
            let names = names.join(", ");
            Err(Problem::Failed(format!("several API keys may publish ({names}); pass the one to use with --key")))
        }
    }
}

/// The event as both ways send it.
struct CliEvent {
    rooms: Vec<String>,
    id: Option<String>,
    requires_ack: bool,
    /// Type, payload, priority and meta, each as JSON.
    members: Vec<(&'static str, String)>,
}

impl CliEvent {
    fn read(args: &PublishArgs) -> Result<Self, Problem> {
        let payload = if args.payload == "-" { standard_input()? } else { args.payload.clone() };
        let mut members = vec![("type", quote_json(&args.kind)), ("payload", payload)];
        members.extend(args.priority.as_ref().map(|priority| ("priority", quote_json(&priority.to_uppercase()))));
        members.extend(args.meta.clone().map(|meta| ("meta", meta)));
        let (rooms, id) = (args.rooms.clone(), args.id.clone());
        Ok(Self { rooms, id, requires_ack: args.requires_ack, members })
    }

    /// The event as a JSON object with further members.
    fn to_json(&self, more: Vec<(&'static str, String)>) -> String {
        let members = self.members.iter().chain(&more).map(|(name, json)| format!("\"{name}\":{json}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    }
}

fn quote_json(text: &str) -> String {
    Value::from(text).to_string()
}

fn standard_input() -> Result<String, Problem> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Problem::Failed(format!("the payload on standard input cannot be read: {error}")))?;
    json(&text).map_err(|problem| Problem::Failed(format!("the payload on standard input {problem}")))
}

/// Checks `--payload`.
pub(super) fn payload(text: &str) -> Result<String, String> {
    if text == "-" { Ok(text.to_owned()) } else { json(text).map_err(|problem| format!("it {problem}")) }
}

/// Checks `--meta`.
pub(super) fn meta(text: &str) -> Result<String, String> {
    let text = json(text).map_err(|problem| format!("it {problem}"))?;
    let object = serde_json::from_str::<Map<String, Value>>(&text).is_ok();
    if object { Ok(text) } else { Err("it is no JSON object; write it as '{\"source\":\"shell\"}'".to_owned()) }
}

/// The text unchanged, if it is JSON.
fn json(text: &str) -> Result<String, String> {
    let raw = serde_json::from_str::<&RawValue>(text);
    raw.map(|raw| raw.get().to_owned())
        .map_err(|error| format!("is no JSON ({error}); a string needs quotes, as in '\"ready\"'"))
}
