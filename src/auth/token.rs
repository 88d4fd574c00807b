//! Tokens: JWTs checked against static keys, and minted for development.

use std::path::PathBuf;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Map, Value};

use crate::auth::claims::{Claims, MAX_TOKEN_ID_BYTES};

/// Longer tokens are refused unread.
const MAX_BYTES: usize = 8 * 1024;

const HMAC: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const RSA: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

/// How tokens are judged.
#[derive(Clone, Debug, Default)]
pub struct TokenRules {
    /// The required `iss`, if any.
    pub issuer: Option<String>,
    /// The required `aud`, if any.
    pub audience: Option<String>,
    /// Clock difference that is forgiven at the handshake, seconds.
    pub leeway_s: u64,
    /// Tokens that live longer are refused, seconds.
    pub max_ttl_s: u64,
}

/// A key with the algorithms it may be used for: nothing else is believed, whatever a header says.
struct Key {
    algorithms: &'static [Algorithm],
    key: DecodingKey,
}

/// Checks tokens.
pub struct Verifier {
    keys: Vec<Key>,
    rules: TokenRules,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verifier({} keys)", self.keys.len())
    }
}

/// A key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("auth.public_key_file {path:?} cannot be read: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Not a public key in PEM form.
    #[error("auth.public_key_file {0:?} holds no PEM public key of RSA, P-256, P-384 or Ed25519")]
    Pem(PathBuf),
}

/// Why a token is refused; for logs, never for clients.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Over 8 KiB.
    #[error("the token is longer than 8 KiB")]
    TooLong,
    /// No key is meant for its algorithm.
    #[error("no key is configured for the token's algorithm")]
    Algorithm,
    /// Signature, form, times, issuer or audience.
    #[error("the token is not valid: {}", unquoted(.0))]
    Invalid(#[from] jsonwebtoken::errors::Error),
    /// A claim that is needed is missing or of the wrong kind.
    #[error("the token's {0} is missing or no use")]
    Claim(&'static str),
    /// Lives longer than `auth.max_token_ttl`.
    #[error("the token lives longer than auth.max_token_ttl")]
    LivesTooLong,
}

impl Verifier {
    /// A verifier without keys, which refuses everything.
    #[must_use]
    pub fn new(rules: TokenRules) -> Self {
        Self { keys: Vec::new(), rules }
    }

    /// Believes HS256, HS384 and HS512 tokens made with `secret`.
    pub fn add_secret(&mut self, secret: &[u8]) {
        self.keys.push(Key { algorithms: &HMAC, key: DecodingKey::from_secret(secret) });
    }

    /// Believes tokens made with the private half of the public key in a PEM file.
    ///
    /// # Errors
    /// When the file cannot be read or holds no such key.
    pub fn add_public_key(&mut self, path: &std::path::Path) -> Result<(), KeyError> {
        let file = |error| KeyError::File { path: path.to_owned(), error };
        let pem = std::fs::read(path).map_err(file)?;
        self.keys.push(public_key(&pem).ok_or_else(|| KeyError::Pem(path.to_owned()))?);
        Ok(())
    }

    /// Checks a token, `Bearer ` in front or not.
    ///
    /// # Errors
    /// When it is not to be believed.
    pub fn verify(&self, token: &str, now_ms: u64) -> Result<Claims, TokenError> {
        let token = token.strip_prefix("Bearer ").unwrap_or(token).trim();
        if token.len() > MAX_BYTES {
            return Err(TokenError::TooLong);
        }
        let algorithm = jsonwebtoken::decode_header(token)?.alg;
        let validation = self.validation(algorithm);
        let mut refused = TokenError::Algorithm;
        for key in self.keys.iter().filter(|k| k.algorithms.contains(&algorithm)) {
            match jsonwebtoken::decode::<Map<String, Value>>(token, &key.key, &validation) {
                Ok(data) => return self.claims(data.claims, now_ms),
                Err(error) => refused = error.into(),
            }
        }
        Err(refused)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.rules.leeway_s;
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "sub"]);
        validation.validate_aud = self.rules.audience.is_some();
        if let Some(audience) = &self.rules.audience {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        if let Some(issuer) = &self.rules.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        validation
    }

    fn claims(&self, all: Map<String, Value>, now_ms: u64) -> Result<Claims, TokenError> {
        let seconds = |name| all.get(name).and_then(Value::as_f64).filter(|s| *s >= 0.0);
        let subject = all.get("sub").and_then(Value::as_str).filter(|s| !s.is_empty());
        let subject = subject.ok_or(TokenError::Claim("sub"))?.to_owned();
        let expires = seconds("exp").ok_or(TokenError::Claim("exp"))?;
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of this age are exact in a float")]
        let now = now_ms as f64 / 1000.0;
        let issued = issued(&all)?;
        let born = issued.unwrap_or(now).min(now);
        #[expect(clippy::cast_precision_loss, reason = "a duration in seconds is small")]
        if expires - born > self.rules.max_ttl_s as f64 {
            return Err(TokenError::LivesTooLong);
        }
        let token_id = token_id(&all)?;
        Ok(Claims { subject, expires_ms: millis(expires), issued_ms: issued.map(millis), token_id, all })
    }
}

/// An `iat` that cannot be read would put a token outside of what "revoke all issued before" reaches.
fn issued(all: &Map<String, Value>) -> Result<Option<f64>, TokenError> {
    match all.get("iat") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_f64().filter(|s| *s >= 0.0).map(Some).ok_or(TokenError::Claim("iat")),
    }
}

/// A `jti` that cannot be kept could not be revoked.
fn token_id(all: &Map<String, Value>) -> Result<Option<String>, TokenError> {
    let fits = |id: &&String| !id.is_empty() && id.len() <= MAX_TOKEN_ID_BYTES && !id.contains(char::is_control);
    match all.get("jti") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) => Some(id).filter(fits).cloned().map(Some).ok_or(TokenError::Claim("jti")),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => Err(TokenError::Claim("jti")),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; `as` saturates")]
fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0) as u64
}

/// The parser's sentences quote what they found, and a log must not have that.
fn unquoted(error: &jsonwebtoken::errors::Error) -> String {
    if matches!(error.kind(), ErrorKind::Json(_)) {
        return "its JSON is not of the right form".to_owned();
    }
    error.to_string()
}

fn public_key(pem: &[u8]) -> Option<Key> {
    let rsa = || DecodingKey::from_rsa_pem(pem).map(|key| Key { algorithms: &RSA, key });
    let ec = || DecodingKey::from_ec_pem(pem).map(|key| Key { algorithms: curve(pem), key });
    let ed = || DecodingKey::from_ed_pem(pem).map(|key| Key { algorithms: &[Algorithm::EdDSA], key });
    rsa().or_else(|_| ec()).or_else(|_| ed()).ok()
}

/// A key on one curve must not be tried for tokens of the other. P-384 keys are the longer ones.
fn curve(pem: &[u8]) -> &'static [Algorithm] {
    const P256_PEM_BYTES: usize = 200;
    if pem.trim_ascii().len() > P256_PEM_BYTES { &[Algorithm::ES384] } else { &[Algorithm::ES256] }
}

/// Signs claims with a shared secret (HS256).
///
/// # Errors
/// When the claims cannot be encoded.
pub fn mint(secret: &[u8], claims: &Map<String, Value>) -> Result<String, jsonwebtoken::errors::Error> {
    jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(secret))
}
