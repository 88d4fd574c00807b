//! The claims of a valid token.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// Bytes of the longest `sub` and `jti`: they become parts of names in Redis.
pub const MAX_ID_BYTES: usize = 256;

/// Whether a token may have this `sub` or `jti`. They become parts of names in Redis and of log lines, so they are
/// short and have no control characters.
#[must_use]
pub fn is_id(text: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&text.len()) && !text.contains(char::is_control)
}

/// The `sub` or `jti` of a JSON value: a valid string, or the decimal digits of an integer from 0 to 2^64 − 1. A
/// larger one, a fraction or an exponent may have lost digits on its way, and would name another user.
#[must_use]
pub fn id_of(value: &Value) -> Option<String> {
    match value {
        // Integers have only digits, so they need no check.
        Value::String(id) => Some(id.clone()).filter(|id| is_id(id)),
        Value::Number(id) => id.as_u64().map(|id| id.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The claims of a token whose signature, times and issuer have been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// The user's id (`sub`); an integer as its decimal text.
    pub subject: String,
    /// The token's expiry, milliseconds since the Unix epoch.
    pub expires_ms: u64,
    /// When the token was issued (`iat`), milliseconds since the Unix epoch; `None` without one.
    pub issued_ms: Option<u64>,
    /// The token's own id (`jti`), if it has one.
    pub token_id: Option<String>,
    /// All claims, for policies, with `sub` and `jti` as strings.
    pub all: Map<String, Value>,
}

impl Claims {
    /// A claim that is a string.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.all.get(name).and_then(Value::as_str)
    }

    /// A claim that is an id: a string, or a whole number, as many issuers write ids.
    #[must_use]
    pub fn id_claim(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.all.get(name)? {
            Value::String(id) => Some(Cow::Borrowed(id)),
            Value::Number(id) if id.is_u64() => Some(Cow::Owned(id.to_string())),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// The role, if the token names one.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        self.text("role")
    }

    /// The agent's id of a token with the role `agent`: `agentId`, or else the subject.
    #[must_use]
    pub fn agent(&self) -> Option<Cow<'_, str>> {
        self.agent_id().filter(|_| self.role() == Some("agent"))
    }

    /// The agent for which this token may report a location: `agentId`, or the subject when that is absent. An
    /// invalid `agentId` gives none, because the subject may be the id of another agent.
    #[must_use]
    pub fn agent_id(&self) -> Option<Cow<'_, str>> {
        match self.all.get("agentId") {
            // A `null` claim counts as absent.
            None | Some(Value::Null) => Some(Cow::Borrowed(&self.subject)),
            Some(_) => self.id_claim("agentId"),
        }
    }
}
