//! Whether a token's claims are acceptable here and at this time: a calculation.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{TokenError, TokenRules};
use crate::auth::claims::{Claims, id_of};
use crate::auth::token_part::parse_object;

/// The end of the year 9999, in seconds: later times are a mistake.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// Checks the claims of a token, given as JSON.
pub(super) fn claims(json: String, rules: &TokenRules, now_ms: u64) -> Result<Claims, TokenError> {
    let all = parse_object(&json)?;
    let subject = read_id(&all, "sub")?.ok_or(TokenError::Claim("sub"))?;
    let token_id = read_id(&all, "jti")?;
    issuer(&all, rules)?;
    audience(&all, rules)?;
    let (expires_ms, issued_ms) = check_times(&all, rules, now_ms)?;
    Ok(Claims { subject, expires_ms, issued_ms, token_id, json: json.into_boxed_str() })
}

/// A `sub` or `jti`; an integer as its decimal text.
fn read_id(all: &Map<String, Value>, name: &'static str) -> Result<Option<Box<str>>, TokenError> {
    let Some(value) = all.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    id_of(value).map(|id| Some(id.into_boxed_str())).ok_or(TokenError::Claim(name))
}

fn issuer(all: &Map<String, Value>, rules: &TokenRules) -> Result<(), TokenError> {
    let Some(wanted) = &rules.issuer else { return Ok(()) };
    if all.get("iss").and_then(Value::as_str) == Some(wanted) { Ok(()) } else { Err(TokenError::Issuer) }
}

fn audience(all: &Map<String, Value>, rules: &TokenRules) -> Result<(), TokenError> {
    let Some(wanted) = &rules.audience else { return Ok(()) };
    let is_it = |value: &Value| value.as_str() == Some(wanted);
    let named =
        all.get("aud").is_some_and(|aud| is_it(aud) || aud.as_array().is_some_and(|list| list.iter().any(is_it)));
    if named { Ok(()) } else { Err(TokenError::Audience) }
}

/// The expiry and the issue time. A token from the future is refused, because "revoke all issued before now" would
/// miss it.
fn check_times(all: &Map<String, Value>, rules: &TokenRules, now_ms: u64) -> Result<(u64, Option<u64>), TokenError> {
    let leeway_ms = to_millis(rules.leeway);
    let expires_ms = read_time(all, "exp")?.ok_or(TokenError::Claim("exp"))?;
    let (begins_ms, issued_ms) = (read_time(all, "nbf")?, read_time(all, "iat")?);
    // The leeway favours the client at both ends: a clock may differ in either direction.
    if expires_ms.saturating_add(leeway_ms) <= now_ms {
        return Err(TokenError::Expired);
    }
    for (name, time_ms) in [("nbf", begins_ms), ("iat", issued_ms)] {
        if time_ms.is_some_and(|time_ms| time_ms > now_ms.saturating_add(leeway_ms)) {
            return Err(TokenError::NotYetValid(name));
        }
    }
    // Without `iat` no revocation by time could spare the user's later tokens.
    if rules.require_iat && issued_ms.is_none() {
        return Err(TokenError::Claim("iat"));
    }
    // Without `iat` its life counts from `nbf`, or from now: at least the rest of it is bounded.
    if expires_ms.saturating_sub(issued_ms.or(begins_ms).unwrap_or(now_ms)) > to_millis(rules.max_ttl) {
        return Err(TokenError::LivesTooLong);
    }
    Ok((expires_ms, issued_ms))
}

/// A time in seconds, possibly with a fraction, as milliseconds.
fn read_time(all: &Map<String, Value>, name: &'static str) -> Result<Option<u64>, TokenError> {
    let value = match all.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value.as_f64().filter(|seconds| (0.0..=LAST_SECOND).contains(seconds)),
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the range above")]
    value.map(|seconds| Some((seconds * 1000.0) as u64)).ok_or(TokenError::Claim(name))
}

fn to_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
