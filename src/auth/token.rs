//! Tokens: JWTs judged by their times and claims and proved by keys, and minted for development.
//!
//! What is cheap comes first: a token that would be refused anyway costs no signature and waits for no key. Nothing here
//! depends on the bytes of a signature, of which an elliptic curve has two for each message.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::auth::claims::Claims;
use crate::auth::jwks::{Held, Jwks};
use crate::auth::keys::Key;

mod judge;
mod object;
mod refusal;
mod shown;
#[cfg(test)]
mod tests;

pub use refusal::TokenError;
pub use shown::{MAX_TOKEN_BYTES, Shown};

/// How tokens are judged.
#[derive(Clone, Debug, Default)]
pub struct TokenRules {
    /// The required `iss`, if any.
    pub issuer: Option<String>,
    /// The required `aud`, if any.
    pub audience: Option<String>,
    /// Clock difference that is forgiven.
    pub leeway: Duration,
    /// Tokens that live longer are refused.
    pub max_ttl: Duration,
    /// Whether every token must say when it was made (`iat`).
    pub require_iat: bool,
}

/// Checks tokens. A clone shares everything.
#[derive(Clone, Debug)]
pub struct Verifier(Arc<Judges>);

#[derive(Debug)]
struct Judges {
    rules: TokenRules,
    keys: Vec<Key>,
    jwks: Option<Jwks>,
}

/// Whether tokens can be verified.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeysHealth {
    /// Whether there is a key to verify tokens with.
    pub ready: bool,
    /// Keys of the configuration.
    pub configured: usize,
    /// Keys of the JWKS that are believed; absent without `auth.jwks_url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetched: Option<usize>,
    /// Seconds since the JWKS was last fetched; absent while it never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<u64>,
    /// What is wrong and what mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Verifier {
    /// A verifier that believes these keys, and those of the JWKS where there is one. Without any it refuses everybody.
    #[must_use]
    pub fn new(rules: TokenRules, keys: Vec<Key>, jwks: Option<Jwks>) -> Self {
        Self(Arc::new(Judges { rules, keys, jwks }))
    }

    /// Checks a token, `Bearer ` (in any case) in front or not. Waits only where its key may be one that is not fetched yet, and then
    /// for `auth.jwks_wait` at most.
    ///
    /// # Errors
    /// When it is not to be believed.
    pub async fn verify(&self, token: &str, now_ms: u64) -> Result<Claims, TokenError> {
        let token = Shown::read(token)?;
        let fits = |key: &Key| key.is_for(token.algorithm());
        let jwks = self.0.jwks.as_ref().filter(|_| token.is_asymmetric());
        if jwks.is_none() && !self.0.keys.iter().any(fits) {
            return Err(TokenError::Algorithm);
        }
        let claims = judge::claims(token.claims()?, &self.0.rules, now_ms)?;
        match (prove(&self.0.keys, &token), jwks) {
            (Ok(()), _) => Ok(claims),
            (Err(why), None) => Err(why),
            (Err(_), Some(jwks)) => prove_by(jwks, &token).await.map(|()| claims),
        }
    }

    /// Whether there are keys to verify tokens with, and what is wrong with the JWKS.
    #[must_use]
    pub fn health(&self) -> KeysHealth {
        let configured = self.0.keys.len();
        let Some(held) = self.0.jwks.as_ref().map(Jwks::held) else {
            return KeysHealth { ready: configured > 0, configured, fetched: None, age_seconds: None, problem: None };
        };
        let fetched = held.keys().map_or(0, <[Key]>::len);
        KeysHealth {
            ready: configured > 0 || fetched > 0,
            configured,
            fetched: Some(fetched),
            age_seconds: held.age().map(|age| age.as_secs()),
            problem: held.problem(),
        }
    }
}

/// Whether one of the keys signed the token. Where it names its key, keys of other names are not tried.
fn prove(keys: &[Key], token: &Shown<'_>) -> Result<(), TokenError> {
    let mut tried = false;
    for key in keys.iter().filter(|key| key.may_have_signed(token)) {
        if key.signed(token) {
            return Ok(());
        }
        tried = true;
    }
    Err(if tried { TokenError::Signature } else { TokenError::UnknownKey })
}

/// A key that the JWKS does not have yet may be there after another fetch.
async fn prove_by(jwks: &Jwks, token: &Shown<'_>) -> Result<(), TokenError> {
    let held = jwks.held();
    let proved = prove_now(&held, token);
    let known = token.key_id().is_some() && matches!(proved, Err(TokenError::Signature));
    if proved.is_ok() || known {
        return proved;
    }
    let later = jwks.after(&held, token.key_id()).await;
    // The same keys give the same verdict, and a flood of bad tokens is not to cost twice.
    let judged = later.is_same_set(&held) && proved != Err(TokenError::KeysUnavailable);
    if judged && later.keys().is_some() { proved } else { prove_now(&later, token) }
}

fn prove_now(held: &Held, token: &Shown<'_>) -> Result<(), TokenError> {
    held.keys().map_or(Err(TokenError::KeysUnavailable), |keys| prove(keys, token))
}

/// Signs claims with a shared secret (HS256).
///
/// # Errors
/// When the claims cannot be encoded.
pub fn mint(secret: &[u8], claims: &Map<String, Value>) -> Result<String, jsonwebtoken::errors::Error> {
    jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(secret))
}
