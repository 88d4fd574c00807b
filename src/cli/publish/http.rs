//! Publishing with `POST /v1/publish`.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use reqwest::Client;
use reqwest::redirect::Policy;
use serde_json::Value;

use super::{CliEvent, Problem, quote_json};
use crate::cli::local::{innermost, reachable_address};
use crate::config::Config;

/// Timeout of the whole request: above `redis.response_timeout`, within which a gateway answers.
const PATIENCE: Duration = Duration::from_secs(30);
/// Timeout of the connection alone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The configured gateway's address for services, as seen from this machine.
pub(super) fn configured_url(config: &Config) -> String {
    let address = config.api.listen.or_else(|| config.server.listen.first().copied());
    let address = address.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)));
    format!("http://{}", reachable_address(address))
}

pub(super) async fn publish_event(base: &str, key: &str, event: &CliEvent) -> Result<Value, Problem> {
    let url = publish_url(base)?;
    let shown = displayed_url(&url);
    let unreachable = |error: reqwest::Error| {
        let why = innermost(&error.without_url());
        Problem::Failed(format!("no gateway can be reached at {shown}: {why}; start one, or name another with --http"))
    };
    let builder = Client::builder().timeout(PATIENCE).connect_timeout(CONNECT_TIMEOUT).redirect(Policy::none());
    // Without TLS the system's certificates are not needed, and may be absent.
    let builder = if url.scheme() == "http" { builder.tls_certs_only([]) } else { builder };
    let request = builder.build().map_err(unreachable)?.post(url).bearer_auth(key);
    let request = request.header("content-type", "application/json").body(body(event));
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status().as_u16();
    let reply = serde_json::from_str::<Value>(&response.text().await.map_err(unreachable)?).unwrap_or_default();
    // Another server may answer with 200 as well; only a gateway returns an id.
    if status == 200 && reply["id"].is_string() {
        return Ok(reply);
    }
    Err(Problem::Failed(describe_refusal(&shown, status, &reply["error"])))
}

fn publish_url(base: &str) -> Result<url::Url, Problem> {
    let given = url::Url::parse(base).ok().filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
    let url = given.and_then(|url| url.join(&format!("{}/v1/publish", url.path().trim_end_matches('/'))).ok());
    url.ok_or_else(|| Problem::Usage("--http is no URL of a gateway; write it as http://127.0.0.1:8080".to_owned()))
}

/// Scheme, host and port: a user or a path may be secret.
fn displayed_url(url: &url::Url) -> String {
    url.origin().ascii_serialization()
}

fn body(event: &CliEvent) -> String {
    let mut more = vec![("rooms", Value::from(event.rooms.clone()).to_string())];
    more.extend(event.id.as_ref().map(|id| ("id", quote_json(id))));
    if event.requires_ack {
        more.push(("requiresAck", "true".to_owned()));
    }
    event.to_json(more)
}

fn describe_refusal(shown: &str, status: u16, error: &Value) -> String {
    let (Some(code), Some(message)) = (error["code"].as_str(), error["message"].as_str()) else {
        return format!("what answers at {shown} (status {status}) is no gateway's API; name one with --http");
    };
    let remedy = match code {
        "unauthorized" => "; pass its api.key with --key, or set HALLWAY_API__KEY".to_owned(),
        "not-found" => "; the API may have an address of its own (api.listen): name it with --http".to_owned(),
        // The event may have been stored; with this id a retry cannot store it twice.
        "unavailable" => {
            error["id"].as_str().map_or_else(String::new, |id| format!("; the id is {id}: repeat with --id {id}"))
        }
        _ => String::new(),
    };
    format!("the gateway refused the event: {code}: {message}{remedy}")
}
