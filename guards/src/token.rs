//! Tokens as identity providers issue them.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use crate::Outcome;

/// What the gateway proves tokens by.
pub(crate) const SECRET: &str = "a-secret-for-guards-of-more-than-32-bytes";

/// Bytes of the claims of each token, about: what identity providers issue.
const CLAIM_BYTES: usize = 400;

/// A token with the claims that an identity provider writes, for a user who may join every `desk:a…`.
pub(crate) fn token_of(user: &str) -> Outcome<String> {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut claims = json!({
        "iss": "https://accounts.example.com/", "aud": ["hallway", "https://accounts.example.com/userinfo"],
        "sub": user, "iat": now_s, "exp": now_s + 3600, "jti": format!("token-{user}"), "role": "customer",
        "email": format!("{user}@example.com"), "email_verified": true, "name": "A. Customer of the House",
        "desks": ["a"], "scope": "",
    });
    let missing = CLAIM_BYTES.saturating_sub(claims.to_string().len());
    claims["scope"] = "openid profile email offline_access orders:read ".repeat(9)[..missing].into();
    Ok(encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()))?)
}
