//! A part of a token: a JSON object in base64url without repeated members. Of two values the issuer may have meant
//! one, and the gateway would read the other.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::token_error::TokenError;

const NO_OBJECT: TokenError = TokenError::Malformed("a part is no JSON object, or has a member twice");

/// Decodes a part to its JSON. Padding, leftover bits, white space and other alphabets are refused, so that a token has one
/// spelling.
pub(super) fn decode_part(part: &str) -> Result<String, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed("a part is not base64url"))?;
    String::from_utf8(bytes).map_err(|_| NO_OBJECT)
}

/// Reads the JSON of a part.
pub(super) fn parse_object(json: &str) -> Result<Map<String, Value>, TokenError> {
    let object: Distinct = serde_json::from_str(json).map_err(|_| NO_OBJECT)?;
    Ok(object.0)
}

struct Distinct(Map<String, Value>);

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectMembers)
    }
}

struct ObjectMembers;

impl<'de> Visitor<'de> for ObjectMembers {
    type Value = Distinct;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Distinct, A::Error> {
        let mut object = Map::new();
        while let Some((name, value)) = members.next_entry::<String, Value>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a member twice"));
            }
        }
        Ok(Distinct(object))
    }
}
