//! The claims of a valid token.

use serde_json::{Map, Value};

mod select;

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

/// The claims of a token whose signature, times and issuer have been checked. Each session keeps them, so they are small: what
/// identifies the token is at hand, and all the rest is text of which a policy reads what it names ([`Claims::select`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// The user's id (`sub`); an integer as its decimal text.
    pub subject: Box<str>,
    /// The token's expiry, milliseconds since the Unix epoch.
    pub expires_ms: u64,
    /// When the token was issued (`iat`), milliseconds since the Unix epoch; `None` without one.
    pub issued_ms: Option<u64>,
    /// The token's own id (`jti`), if it has one.
    pub token_id: Option<Box<str>>,
    /// All claims: the token's own JSON, an object without repeated members. It is not written anew, since a fraction that is
    /// read, written and read again may be another one.
    pub json: Box<str>,
}

impl Claims {
    /// All claims, with `sub` and `jti` as strings.
    #[must_use]
    pub fn all(&self) -> Map<String, Value> {
        self.select(|_| true)
    }

    /// The claims whose names are wanted, with `sub` and `jti` as strings.
    #[must_use]
    pub fn select(&self, wanted: impl Fn(&str) -> bool) -> Map<String, Value> {
        let mut selected = select::select_members(&self.json, &wanted);
        // Integers are replaced by their text, so that rules, rooms, revocations and authorizers see the same ids.
        let ids = [("sub", Some(&self.subject)), ("jti", self.token_id.as_ref())];
        for (name, id) in ids.into_iter().filter(|(name, _)| wanted(name)) {
            selected.extend(id.map(|id| (name.to_owned(), Value::from(&**id))));
        }
        selected
    }

    /// A claim that is an id: a string, or a whole number, as many issuers write ids.
    #[must_use]
    pub fn id_claim(&self, name: &str) -> Option<String> {
        as_id(self.select(|other| other == name).remove(name)?)
    }

    /// The role, if the token names one.
    #[must_use]
    pub fn role(&self) -> Option<String> {
        as_text(self.select(|name| name == "role").remove("role")?)
    }

    /// The agent's id of a token with the role `agent`: `agentId`, or else the subject.
    #[must_use]
    pub fn agent(&self) -> Option<String> {
        self.role().filter(|role| role == "agent").and_then(|_| self.agent_id())
    }

    /// The agent for which this token may report a location: `agentId`, or the subject when that is absent. An
    /// invalid `agentId` gives none, because the subject may be the id of another agent.
    #[must_use]
    pub fn agent_id(&self) -> Option<String> {
        match self.select(|name| name == "agentId").remove("agentId") {
            // A `null` claim counts as absent.
            None | Some(Value::Null) => Some(self.subject.to_string()),
            Some(id) => as_id(id),
        }
    }
}

fn as_id(claim: Value) -> Option<String> {
    match claim {
        Value::String(id) => Some(id),
        Value::Number(id) if id.is_u64() => Some(id.to_string()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn as_text(claim: Value) -> Option<String> {
    if let Value::String(text) = claim { Some(text) } else { None }
}
