//! What a valid token says about its bearer.

use serde_json::{Map, Value};

/// The claims of a token whose signature, times and issuer have been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// The user's id (`sub`).
    pub subject: String,
    /// When the token ends, milliseconds since the Unix epoch.
    pub expires_ms: u64,
    /// Every claim, for policies.
    pub all: Map<String, Value>,
}

impl Claims {
    /// A claim that is a string.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.all.get(name).and_then(Value::as_str)
    }

    /// The role, if the token names one.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        self.text("role")
    }

    /// The agent this is: role `agent`, with `agentId` or else the subject.
    #[must_use]
    pub fn agent(&self) -> Option<&str> {
        (self.role() == Some("agent")).then(|| self.text("agentId").unwrap_or(&self.subject))
    }
}
