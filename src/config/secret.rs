//! Values that must not reach a log, an error message or a debug dump.

use std::fmt;

use subtle::ConstantTimeEq;

use super::{
    error::Complaint,
    raw::Raw,
    value::{ConfigValue, mismatch},
};

/// A secret text. `Debug` and `Display` print `***`. Only [`Secret::expose`] returns the text, so that every use can
/// be found by that name.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text, which prints as `***` from then on.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Compares texts of one length in constant time, so that a comparison cannot be used for guessing.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl ConfigValue for Secret {
    const KIND: &'static str = "a string";

    fn parse(raw: &Raw) -> Result<Self, Complaint> {
        let Some(text) = raw.text() else {
            return Err(mismatch(raw.kind(), Self::KIND));
        };
        // An empty secret is one that anybody guesses.
        if text.is_empty() {
            return Err(Complaint::new("is empty", "give it a value, or leave it out altogether"));
        }
        // Refused rather than trimmed: it may belong to the secret, and only the operator knows.
        if text.trim() != text {
            return Err(Complaint::new(
                "begins or ends with white space",
                "take that off; a line end at the end of a mounted secret is the usual cause",
            ));
        }
        Ok(Self::new(text))
    }

    fn shown(&self) -> Option<String> {
        Some("***".to_owned())
    }
}
