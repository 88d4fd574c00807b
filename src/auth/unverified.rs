//! A token as presented: its three parts, with the facts of its header. None of it is trusted yet.
//!
//! Of the header only `alg` and `kid` are used, and only to choose among known keys. Members that would bring a key
//! along, or name a URL for one (`jwk`, `jku`, `x5c`, `x5u`), are ignored.

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::token_error::TokenError;
use super::token_part;

/// The algorithms of shared secrets.
pub(super) const HMAC: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];

/// Bytes of the longest token; longer ones are refused unread.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// A token of three parts.
pub struct UnverifiedToken<'a> {
    /// Header and payload as they were signed.
    message: &'a str,
    payload: &'a str,
    signature: &'a str,
    /// Claimed by the header; compared with each key's own algorithms.
    algorithm: Algorithm,
    key_id: Option<String>,
}

impl std::fmt::Debug for UnverifiedToken<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UnverifiedToken({:?})", self.algorithm)
    }
}

impl<'a> UnverifiedToken<'a> {
    /// Splits a token and parses its header.
    ///
    /// # Errors
    /// When it has another form, or an unsupported header.
    pub fn parse_token(token: &'a str) -> Result<Self, TokenError> {
        let token = without_scheme(token);
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        // Four at most: a fifth part would not change the verdict.
        let parts: Vec<&str> = token.splitn(4, '.').collect();
        let [header, payload, signature] = parts[..] else {
            return Err(TokenError::Malformed("it has not three parts"));
        };
        let message = &token[..header.len() + 1 + payload.len()];
        let header = token_part::parse_object(&token_part::decode_part(header)?)?;
        let (algorithm, key_id) = (header_algorithm(&header)?, key_id(&header)?);
        Ok(Self { message, payload, signature, algorithm, key_id })
    }

    /// The algorithm that the header claims.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether it claims to be signed with the private half of a key pair, like the keys of a JWKS.
    #[must_use]
    pub fn is_asymmetric(&self) -> bool {
        !HMAC.contains(&self.algorithm)
    }

    /// The name of its key (`kid`), which is only compared with the names of known keys.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// The signed bytes.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        self.message.as_bytes()
    }

    /// The signature, in base64url.
    #[must_use]
    pub fn signature(&self) -> &str {
        self.signature
    }

    /// The claims as JSON, not verified yet.
    ///
    /// # Errors
    /// When they are not text in base64url.
    pub fn claims_json(&self) -> Result<String, TokenError> {
        token_part::decode_part(self.payload)
    }
}

/// The token without a `Bearer` scheme, in any case, and without white space around it.
fn without_scheme(token: &str) -> &str {
    let token = token.trim();
    match token.split_once(char::is_whitespace) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("Bearer") => rest.trim_start(),
        Some(_) | None => token,
    }
}

/// The header's algorithm. Extensions that a reader must understand (`crit`) are not supported, and with an unencoded
/// payload (`b64`) the signed text would differ from the parsed one.
fn header_algorithm(header: &Map<String, Value>) -> Result<Algorithm, TokenError> {
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
        // Refused and not ignored: the issuer meant a particular key.
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(TokenError::Malformed("its kid is no string"))
        }
    }
}
