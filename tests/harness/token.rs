//! Tokens for tests.

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

/// The secret that test gateways are given.
pub const SECRET: &str = "a-secret-for-tests-of-more-than-32-bytes";
/// The API key that test gateways are given.
pub const API_KEY: &str = "an-api-key-for-tests-of-more-than-32-bytes";

/// Seconds since the Unix epoch.
pub fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970").as_secs()
}

/// A customer's token, good for an hour.
pub fn user(id: &str) -> String {
    with(json!({"sub": id}))
}

/// A staff member's token, good for an hour: may join nearly every room.
pub fn staff() -> String {
    with(json!({"sub": "staff-1", "role": "admin"}))
}

/// A token with these claims; `exp` is added where it is missing.
pub fn with(mut claims: Value) -> String {
    if claims.get("exp").is_none() {
        claims["exp"] = (now_s() + 3600).into();
    }
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("claims encode")
}
