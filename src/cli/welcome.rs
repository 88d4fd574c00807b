//! The output of dev mode at the start: a token, and commands to copy.

use std::time::Duration;

use serde_json::{Map, Value};

use super::token::accepted_claims;
use crate::auth::token::mint;
use crate::config::{AuthConfig, Config, DevHost, RedisConfig};
use crate::gateway::Gateway;

/// Lifetime of the printed token, if `auth.max_token_ttl` allows it.
const TOKEN_TTL: Duration = Duration::from_hours(24);

/// Prints the welcome to stdout.
///
/// # Errors
/// When no token can be made.
pub(super) fn print(config: &Config, gateway: &Gateway) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let secret = config.auth.hs256_secret.first().map_or(Config::DEV_SECRET, |s| s.expose());
    let bearers = config.api.bearers();
    let key = bearers.first().map_or(Config::DEV_API_KEY, |bearer| bearer.secret.expose());
    let token = mint(secret.as_bytes(), &claims(&config.auth))?;
    super::print(&text(&gateway.addresses().first().map(ToString::to_string).unwrap_or_default(), &token, key, config));
    Ok(())
}

fn claims(auth: &AuthConfig) -> Map<String, Value> {
    let mut claims = accepted_claims(auth, "dev", TOKEN_TTL.min(auth.max_token_ttl));
    claims.insert("role".to_owned(), "admin".into());
    claims
}

/// Prints the URLs for the devices named by `hosts`.
pub(super) fn print_device_urls(config: &Config, gateway: &Gateway, hosts: &[DevHost]) {
    let port = gateway.addresses().first().map_or(0, std::net::SocketAddr::port);
    for host in hosts {
        super::print(&format!("For your device: http://{host}:{port}{}\n", config.server.namespace));
    }
}

/// A listener's address as seen from this machine.
fn reachable_address(address: &str) -> String {
    let every = address.parse::<std::net::SocketAddr>().ok().filter(|address| address.ip().is_unspecified());
    // An unspecified address cannot be connected to on every system.
    every.map_or_else(|| address.to_owned(), |address| format!("localhost:{}", address.port()))
}

/// The options that `redis-cli` needs beside the URL.
fn redis_cli_options(redis: &RedisConfig) -> String {
    let user = redis.username.as_ref().map(|name| format!(" --user {name}")).unwrap_or_default();
    let asks = redis.password.is_some() || redis.password_file.is_some();
    format!("{user}{}", if asks { " --askpass" } else { "" })
}

fn text(address: &str, token: &str, key: &str, config: &Config) -> String {
    let namespace = &config.server.namespace;
    let address = reachable_address(address);
    let redis = match &config.redis.url {
        // As one line, so that it can be copied into a shell.
        Some(url) => format!(
            "Publish through Redis:\n\n  redis-cli -u {1}{2} FCALL {0}_publish 1 '{0}:{{order:ord_123}}' '{{\"type\":\"order.status_changed\",\"payload\":{{\"orderId\":\"ord_123\",\"status\":\"ready\"}}}}'\n\n",
            config.redis.prefix,
            url.expose(),
            redis_cli_options(&config.redis),
        ),
        None => {
            "The embedded broker is used: nothing is kept when this stops, and publishing goes by HTTP.\n\n".to_owned()
        }
    };
    format!(
        "
Hallway in dev mode: a fixed secret and open rooms, for this machine and the hosts of --dev-host.

Token (user \"dev\", role \"admin\", good for a day):

  {token}

Join a room and listen (needs Node; `npm install socket.io-client` first):

  node -e 'const s=require(\"socket.io-client\")(\"http://{address}{namespace}\",{{transports:[\"websocket\"],auth:{{token:process.argv[1]}}}});s.on(\"connect\",()=>s.emit(\"join_room\",{{room:\"order:ord_123\"}},console.log));s.onAny((e,d)=>console.log(e,JSON.stringify(d)))' {token}

Publish to it:

  curl -s http://{address}/v1/publish -H 'Authorization: Bearer {key}' -d '{{\"room\":\"order:ord_123\",\"type\":\"order.status_changed\",\"payload\":{{\"orderId\":\"ord_123\",\"status\":\"ready\"}}}}'

{redis}"
    )
}
