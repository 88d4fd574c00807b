//! Tokens: JWTs, checked by their times and claims, verified with keys, and minted for development.
//!
//! The cheap checks come first: a token that would be refused anyway costs no signature and waits for no key. Nothing
//! here depends on the bytes of a signature, of which an elliptic curve has two for each message.
//! depends on the bytes of a signature, of which an elliptic curve has two for each message.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::auth::claims::Claims;
use crate::auth::jwks::{HeldKeys, Jwks};
use crate::auth::keys::VerifyingKey;

mod judge;
#[cfg(test)]
mod tests;

pub use crate::auth::token_error::TokenError;
pub use crate::auth::unverified::{MAX_TOKEN_BYTES, UnverifiedToken};

/// The rules for tokens.
#[derive(Clone, Debug, Default)]
pub struct TokenRules {
    /// The required `iss`, if any.
    pub issuer: Option<String>,
    /// The required `aud`, if any.
    pub audience: Option<String>,
    /// The tolerated difference between clocks.
    pub leeway: Duration,
    /// The longest life of a token.
    pub max_ttl: Duration,
    /// Whether every token needs an issue time (`iat`).
    pub require_iat: bool,
}

/// Verifies tokens. Clones share everything.
#[derive(Clone, Debug)]
pub struct Verifier(Arc<TokenJudges>);

#[derive(Debug)]
struct TokenJudges {
    rules: TokenRules,
    /// The keys of the configuration.
    keys: Vec<VerifyingKey>,
    /// The keys of the identity provider, where one is configured.
    jwks: Option<Jwks>,
}

/// Whether tokens can be verified.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeysHealth {
    /// Whether there is a key to verify tokens with.
    pub ready: bool,
    /// Keys of the configuration.
    pub configured: usize,
    /// Trusted keys of the JWKS; absent without `auth.jwks_url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetched: Option<usize>,
    /// Seconds since the JWKS was last fetched; absent before the first success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<u64>,
    /// The failure and its remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Verifier {
    /// A verifier with these keys, and those of the JWKS where there is one. Without any key it refuses every token.
    #[must_use]
    pub fn new(rules: TokenRules, keys: Vec<VerifyingKey>, jwks: Option<Jwks>) -> Self {
        Self(Arc::new(TokenJudges { rules, keys, jwks }))
    }

    /// Verifies a token, with or without a leading `Bearer ` in any case. Waits only when its key may not have been
    /// fetched yet, for `auth.jwks_wait` at most.
    ///
    /// # Errors
    /// When the token is not acceptable.
    pub async fn verify(&self, token: &str, now_ms: u64) -> Result<Claims, TokenError> {
        let token = UnverifiedToken::parse_token(token)?;
        let fits = |key: &VerifyingKey| key.is_for(token.algorithm());
        // A JWKS has public keys alone, so a token with a shared secret never waits for one.
        let jwks = self.0.jwks.as_ref().filter(|_| token.is_asymmetric());
        if jwks.is_none() && !self.0.keys.iter().any(fits) {
            return Err(TokenError::Algorithm);
        }
        // Before the signature: a flood of expired tokens must cost no cryptography.
        let claims = judge::claims(token.claims_json()?, &self.0.rules, now_ms)?;
        match (check_signature(&self.0.keys, &token), jwks) {
            (Ok(()), _) => Ok(claims),
            (Err(why), None) => Err(why),
            // The configured keys did not sign it; the provider's may have.
            (Err(_), Some(jwks)) => prove_by(jwks, &token).await.map(|()| claims),
        }
    }

    /// Whether there are keys to verify tokens with, and what is wrong with the JWKS.
    #[must_use]
    pub fn health(&self) -> KeysHealth {
        let configured = self.0.keys.len();
        let Some(held) = self.0.jwks.as_ref().map(Jwks::current_keys) else {
            return KeysHealth { ready: configured > 0, configured, fetched: None, age_seconds: None, problem: None };
        };
        let fetched = held.keys().map_or(0, <[VerifyingKey]>::len);
        KeysHealth {
            ready: configured > 0 || fetched > 0,
            configured,
            fetched: Some(fetched),
            age_seconds: held.age().map(|age| age.as_secs()),
            problem: held.describe_problem(),
        }
    }
}

/// Whether one of the keys signed the token. Where it names its key, keys of other names are not tried.
fn check_signature(keys: &[VerifyingKey], token: &UnverifiedToken<'_>) -> Result<(), TokenError> {
    let mut tried = false;
    for key in keys.iter().filter(|key| key.may_have_signed(token)) {
        if key.has_signed(token) {
            return Ok(());
        }
        tried = true;
    }
    Err(if tried { TokenError::Signature } else { TokenError::UnknownKey })
}

/// Verifies a token with the JWKS. A key that is missing may be there after another fetch.
async fn prove_by(jwks: &Jwks, token: &UnverifiedToken<'_>) -> Result<(), TokenError> {
    let held = jwks.current_keys();
    let proved = prove_now(&held, token);
    // It named its key and failed with it: another fetch could only bring the same key.
    let known = token.key_id().is_some() && matches!(proved, Err(TokenError::Signature));
    if proved.is_ok() || known {
        return proved;
    }
    let later = jwks.wait_for_fetch(&held, token.key_id()).await;
    // The same keys give the same verdict, and a flood of bad tokens must not cost twice.
    let judged = later.is_same_set(&held) && proved != Err(TokenError::KeysUnavailable);
    if judged && later.keys().is_some() { proved } else { prove_now(&later, token) }
}

fn prove_now(held: &HeldKeys, token: &UnverifiedToken<'_>) -> Result<(), TokenError> {
    held.keys().map_or(Err(TokenError::KeysUnavailable), |keys| check_signature(keys, token))
}

/// Signs claims with a shared secret (HS256).
///
/// # Errors
/// When the claims cannot be encoded.
pub fn mint(secret: &[u8], claims: &Map<String, Value>) -> Result<String, jsonwebtoken::errors::Error> {
    jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(secret))
}
