//! `hallway token`: a token for trials, alone on stdout. A gateway with the same configuration accepts it, so it
//! carries the required issuer and audience.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{EXIT_CONFIG, TokenArgs, load_leniently, print, print_error};
use crate::auth::token::mint;
use crate::clock::now_ms;
use crate::config::{AuthConfig, Config};

/// Lifetime of a token without `--ttl`.
const USUAL_TTL: Duration = Duration::from_hours(1);

pub(super) fn run(args: &TokenArgs) -> ExitCode {
    match mint_from_args(args) {
        Ok(token) => print(&format!("{token}\n")),
        Err(problem) => {
            print_error(&problem);
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

fn mint_from_args(args: &TokenArgs) -> Result<String, String> {
    let config = load_leniently(args.config.config.as_deref()).map_err(|errors| errors.to_string())?;
    let claims = claims(args, &config.auth)?;
    mint(secret(&config)?.as_bytes(), &claims).map_err(|e| e.to_string())
}

/// The configured secret, or dev mode's where nothing is configured.
fn secret(config: &Config) -> Result<&str, String> {
    let secret = config.auth.hs256_secret.first();
    let secret = secret.ok_or("only auth.hs256_secret (or its file) can sign tokens; none is configured")?;
    Ok(secret.expose())
}

fn claims(args: &TokenArgs, auth: &AuthConfig) -> Result<Map<String, Value>, String> {
    let ttl = args.ttl.unwrap_or_else(|| USUAL_TTL.min(auth.max_token_ttl));
    let mut claims = accepted_claims(auth, &args.sub, ttl);
    claims.extend(args.role.clone().map(|role| ("role".to_owned(), role.into())));
    for claim in &args.claims {
        let (name, value) = claim.split_once('=').ok_or_else(|| format!("--claim {claim}: write KEY=JSON"))?;
        // Most claims are words, for which a shell user should not need JSON quotes.
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        claims.insert(name.to_owned(), value);
    }
    Ok(claims)
}

/// The claims that a gateway with this configuration requires.
pub(super) fn accepted_claims(auth: &AuthConfig, sub: &str, ttl: Duration) -> Map<String, Value> {
    let now = now_ms() / 1000;
    let mut claims = Map::new();
    claims.insert("sub".to_owned(), sub.into());
    claims.extend(auth.issuer.clone().map(|issuer| ("iss".to_owned(), issuer.into())));
    claims.extend(auth.audience.clone().map(|audience| ("aud".to_owned(), audience.into())));
    claims.insert("iat".to_owned(), now.into());
    claims.insert("exp".to_owned(), now.saturating_add(ttl.as_secs()).into());
    claims
}
