//! A published JWKS: its usable keys, and why the others are not.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallway_rooms::json::object;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::Value;

use super::{KeyName, UnusableKey, VerifyingKey};

/// The most keys that are considered. Issuers publish two or three; a token without a key name is tried with each,
/// which must stay cheap.
const MAX_KEYS: usize = 32;

/// Characters of a key's name in a log line.
const MAX_SHOWN: usize = 64;

/// The first byte of a point with both coordinates.
const UNCOMPRESSED: u8 = 4;

/// The keys of a JWKS.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<VerifyingKey>,
    /// Why each unusable key is skipped.
    skipped: Vec<String>,
    /// The document, to recognize an unchanged one.
    text: Vec<u8>,
}

/// The document is not a JWKS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no JSON object with a list `keys`")]
pub struct NoKeySet;

#[derive(Deserialize)]
struct JwksDocument {
    keys: Vec<Value>,
}

/// A key as published (RFC 7517, RFC 7518, RFC 8037), with the members that matter here.
#[derive(Deserialize)]
struct PublishedKey {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<Value>,
}

impl KeySet {
    /// Parses a document. One without a usable key is valid: it says that none is trusted.
    ///
    /// # Errors
    /// When it is not a JWKS.
    pub fn parse_document(text: &[u8]) -> Result<Self, NoKeySet> {
        let document: JwksDocument =
            std::str::from_utf8(text).ok().and_then(|text| object(text).ok()).ok_or(NoKeySet)?;
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for (at, value) in document.keys.iter().take(MAX_KEYS).enumerate() {
            match key(value) {
                Ok(key) => keys.push(key),
                // One bad key must not take the others down: issuers publish kinds that this gateway does not know.
                Err(why) => skipped.push(format!("{} {why}", describe_key(at, value))),
            }
        }
        if document.keys.len() > MAX_KEYS {
            skipped
                .push(format!("{} keys more than the {MAX_KEYS} that are looked at", document.keys.len() - MAX_KEYS));
        }
        Ok(Self { keys, skipped, text: text.to_vec() })
    }

    /// The usable keys.
    #[must_use]
    pub fn keys(&self) -> &[VerifyingKey] {
        &self.keys
    }

    /// The unusable keys, each with the reason.
    #[must_use]
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// Whether both documents are equal, byte for byte.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

fn describe_key(at: usize, value: &Value) -> String {
    match value.get("kid").and_then(Value::as_str) {
        Some(name) => format!("the key {:?}", name.chars().take(MAX_SHOWN).collect::<String>()),
        None => format!("the key at place {at}"),
    }
}

fn key(value: &Value) -> Result<VerifyingKey, UnusableKey> {
    let published = Some(value).filter(|value| value.is_object()).map(PublishedKey::deserialize);
    let published = published.and_then(Result::ok).ok_or(UnusableKey::Kind)?;
    let mut key = published.to_key()?;
    if !published.is_to_verify() {
        return Err(UnusableKey::Purpose);
    }
    // The key's own `alg` narrows what its kind allows, and never widens it.
    if let Some(named) = &published.alg {
        let algorithm: Algorithm = named.parse().map_err(|_| UnusableKey::Algorithm)?;
        key.algorithms.retain(|own| *own == algorithm);
    }
    key.name = published.kid.map_or(KeyName::None, KeyName::Is);
    if key.algorithms.is_empty() { Err(UnusableKey::Algorithm) } else { Ok(key) }
}

impl PublishedKey {
    fn is_to_verify(&self) -> bool {
        let signature = self.purpose.as_ref().is_none_or(|purpose| purpose == "sig");
        signature && self.key_ops.as_ref().is_none_or(|all| all.iter().any(|operation| operation == "verify"))
    }

    fn to_key(&self) -> Result<VerifyingKey, UnusableKey> {
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("oct", _) => Err(UnusableKey::Shared),
            // Before its kind: a leaked private key must be replaced, whatever it is for.
            _ if self.d.is_some() => Err(UnusableKey::Private),
            ("RSA", _) => VerifyingKey::rsa(&decode_member(self.n.as_ref())?, &decode_member(self.e.as_ref())?),
            ("EC", Some("P-256")) => self.on_curve(Algorithm::ES256),
            ("EC", Some("P-384")) => self.on_curve(Algorithm::ES384),
            ("EC", _) => Err(UnusableKey::Curve),
            ("OKP", Some("Ed25519")) => VerifyingKey::from_edwards_point(&decode_member(self.x.as_ref())?),
            ("OKP", _) => Err(UnusableKey::Edwards),
            _ => Err(UnusableKey::Kind),
        }
    }

    fn on_curve(&self, algorithm: Algorithm) -> Result<VerifyingKey, UnusableKey> {
        let (x, y) = (decode_member(self.x.as_ref())?, decode_member(self.y.as_ref())?);
        let key = VerifyingKey::from_curve_point(&[&[UNCOMPRESSED], x.as_slice(), y.as_slice()].concat())?;
        // The point decides about the curve; a `crv` that names another one is a mistake.
        if key.is_for(algorithm) { Ok(key) } else { Err(UnusableKey::Curve) }
    }
}

fn decode_member(member: Option<&String>) -> Result<Vec<u8>, UnusableKey> {
    URL_SAFE_NO_PAD.decode(member.ok_or(UnusableKey::Kind)?).map_err(|_| UnusableKey::Kind)
}
