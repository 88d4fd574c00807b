//! `hallway token`: a token for trying things out, alone on stdout.

use std::process::ExitCode;

use serde_json::{Map, Value};

use super::{EXIT_CONFIG, TokenArgs, complain, lenient, print};
use crate::auth::token::mint;
use crate::clock::now_ms;

pub(super) fn run(args: &TokenArgs) -> ExitCode {
    let minted = secret(args).and_then(|secret| {
        let claims = claims(args)?;
        mint(secret.as_bytes(), &claims).map_err(|e| e.to_string())
    });
    match minted {
        Ok(token) => print(&format!("{token}\n")),
        Err(problem) => {
            complain(&problem);
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

/// The configured secret, or the dev secret where nothing is configured.
fn secret(args: &TokenArgs) -> Result<String, String> {
    let config = lenient(args.config.config.as_deref()).map_err(|errors| errors.to_string())?;
    let secret = config.auth.hs256_secret.first();
    let secret = secret.ok_or("only auth.hs256_secret (or its file) can sign tokens; none is configured")?;
    Ok(secret.expose().to_owned())
}

fn claims(args: &TokenArgs) -> Result<Map<String, Value>, String> {
    let now = now_ms() / 1000;
    let mut claims = Map::new();
    claims.insert("sub".to_owned(), args.sub.clone().into());
    claims.extend(args.role.clone().map(|role| ("role".to_owned(), role.into())));
    claims.insert("iat".to_owned(), now.into());
    claims.insert("exp".to_owned(), now.saturating_add(args.ttl.as_secs()).into());
    for claim in &args.claims {
        let (name, value) = claim.split_once('=').ok_or_else(|| format!("--claim {claim}: write KEY=JSON"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        claims.insert(name.to_owned(), value);
    }
    Ok(claims)
}
