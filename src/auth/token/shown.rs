//! A token as it was shown: in three parts, with what its header says of it. Nothing of it is believed yet.
//!
//! Of the header only `alg` and `kid` mean anything here, and those only pick among keys that are known already. What
//! would bring a key along or say where to fetch one (`jwk`, `jku`, `x5c`, `x5u`) is not looked at.

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::{TokenError, object};

/// Longer tokens are refused unread.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// A token of three parts.
pub struct Shown<'a> {
    message: &'a str,
    payload: &'a str,
    signature: &'a str,
    algorithm: Algorithm,
    key_id: Option<String>,
}

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shown({:?})", self.algorithm)
    }
}

impl<'a> Shown<'a> {
    /// Takes a token apart and reads its header.
    ///
    /// # Errors
    /// When it has no such form, or its header asks for what is not done here.
    pub fn read(token: &'a str) -> Result<Self, TokenError> {
        let token = bare(token);
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        let parts: Vec<&str> = token.splitn(4, '.').collect();
        let [header, payload, signature] = parts[..] else {
            return Err(TokenError::Malformed("it has not three parts"));
        };
        let message = &token[..header.len() + 1 + payload.len()];
        let header = object::read(header)?;
        let (algorithm, key_id) = (algorithm(&header)?, key_id(&header)?);
        Ok(Self { message, payload, signature, algorithm, key_id })
    }

    /// What it says that it was signed with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether it was signed with the private half of a key pair, as keys of a JWKS are.
    #[must_use]
    pub fn is_asymmetric(&self) -> bool {
        !crate::auth::keys::HMAC.contains(&self.algorithm)
    }

    /// The name of its key (`kid`): only ever compared with the names of known keys.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// What was signed.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        self.message.as_bytes()
    }

    /// The signature, in base64url.
    #[must_use]
    pub fn signature(&self) -> &str {
        self.signature
    }

    /// The claims.
    ///
    /// # Errors
    /// When they are no JSON object, or one is there twice.
    pub fn claims(&self) -> Result<Map<String, Value>, TokenError> {
        object::read(self.payload)
    }
}

/// The token without the scheme `Bearer`, in any case, and without white space around it.
fn bare(token: &str) -> &str {
    let token = token.trim();
    match token.split_once(char::is_whitespace) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("Bearer") => rest.trim_start(),
        Some(_) | None => token,
    }
}

/// Extensions that a reader must understand (`crit`) are understood by nobody here, and a payload that is not encoded
/// (`b64`) would be another one than is read.
fn algorithm(header: &Map<String, Value>) -> Result<Algorithm, TokenError> {
    if header.contains_key("crit") {
        return Err(TokenError::Malformed("its header has crit"));
    }
    if header.get("b64").is_some_and(|b64| b64 != &Value::Bool(true)) {
        return Err(TokenError::Malformed("its payload is not encoded"));
    }
    let name = header.get("alg").and_then(Value::as_str).ok_or(TokenError::Malformed("its header has no alg"))?;
    name.parse().map_err(|_| TokenError::Algorithm)
}

fn key_id(header: &Map<String, Value>) -> Result<Option<String>, TokenError> {
    match header.get("kid") {
        None => Ok(None),
        Some(Value::String(id)) => Ok(Some(id.clone())),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(TokenError::Malformed("its kid is no string"))
        }
    }
}
