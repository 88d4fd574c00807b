//! Keys that verify tokens: shared secrets, configured public keys, and those of a JWKS.
//!
//! Each key has the algorithms that it may be used for, and no other is accepted, whatever a header says: a public
//! key is never used as a shared secret. Keys are checked when they are loaded.

use aws_lc_rs::rsa::{PublicEncryptingKey, PublicKeyComponents};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};

use crate::auth::unverified::{HMAC, UnverifiedToken};

mod pem;
mod set;

pub use pem::KeyError;
pub use set::{KeySet, NoKeySet};

const RSA: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

/// A key, ready to verify with.
pub struct VerifyingKey {
    name: KeyName,
    /// The only algorithms that it is accepted for.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// The tokens for which a key is tried.
enum KeyName {
    /// All: configured keys have no names.
    Any,
    /// Those that name this key, and those that name none.
    Is(String),
    /// Those that name none.
    None,
}

/// Why a key is unusable, as the end of the sentence "the key …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableKey {
    /// Fewer than 2048 bits can be factored; more than 8192 cost too much.
    #[error("is no RSA key of 2048 to 8192 bits with a sound exponent")]
    Rsa,
    /// Not on a supported curve.
    #[error("is no point on P-256 or P-384")]
    Curve,
    /// Not an Ed25519 key.
    #[error("is no Ed25519 key")]
    Edwards,
    /// A shared secret in a public document.
    #[error("is a shared secret, which a public document cannot have")]
    Shared,
    /// A private key in a public document.
    #[error("is a private key, which a public document must not have: replace it")]
    Private,
    /// A `use` or `key_ops` without verification of signatures.
    #[error("is not meant for signatures")]
    Purpose,
    /// An `alg` that is unknown or does not fit the kind of key.
    #[error("is for an algorithm that is unknown or not of its kind")]
    Algorithm,
    /// An unknown `kty`, or missing members.
    #[error("is of an unknown kind or incomplete")]
    Kind,
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key for {:?}", self.algorithms)
    }
}

impl VerifyingKey {
    /// A shared secret, for tokens signed with HS256, HS384 or HS512.
    #[must_use]
    pub fn secret(secret: &[u8]) -> Self {
        Self { name: KeyName::Any, algorithms: HMAC.to_vec(), key: DecodingKey::from_secret(secret) }
    }

    /// Whether tokens of this algorithm may be signed with it.
    #[must_use]
    pub fn is_for(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Whether it has this name.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        matches!(&self.name, KeyName::Is(own) if own == name)
    }

    /// Whether it is worth trying: its algorithms and its name fit.
    #[must_use]
    pub fn may_have_signed(&self, token: &UnverifiedToken<'_>) -> bool {
        let by_name = match (&self.name, token.key_id()) {
            (KeyName::Any, _) | (KeyName::Is(_) | KeyName::None, None) => true,
            (KeyName::Is(own), Some(name)) => own == name,
            (KeyName::None, Some(_)) => false,
        };
        by_name && self.is_for(token.algorithm())
    }

    /// Whether it signed the token: up to a tenth of a millisecond of work.
    #[must_use]
    pub fn has_signed(&self, token: &UnverifiedToken<'_>) -> bool {
        // An error in the signature's encoding is no other verdict than a wrong signature.
        crypto::verify(token.signature(), token.message(), &self.key, token.algorithm()).unwrap_or(false)
    }

    fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, UnusableKey> {
        let key: Result<PublicEncryptingKey, _> = PublicKeyComponents { n: modulus, e: exponent }.try_into();
        let bits = key.map_err(|_| UnusableKey::Rsa)?.key_size_bits();
        // A modulus of any size would parse, and verification with a huge one is a way to exhaust a node.
        if !(2048..=8192).contains(&bits) || !is_exponent(exponent) {
            return Err(UnusableKey::Rsa);
        }
        Ok(Self::from_decoding_key(&RSA, DecodingKey::from_rsa_raw_components(modulus, exponent)))
    }

    /// A key on P-256 or P-384; the curve follows from the point.
    fn from_curve_point(point: &[u8]) -> Result<Self, UnusableKey> {
        let algorithm = if ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).is_ok() {
            Algorithm::ES256
        } else if ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).is_ok() {
            Algorithm::ES384
        } else {
            return Err(UnusableKey::Curve);
        };
        Ok(Self::from_decoding_key(&[algorithm], DecodingKey::from_ec_der(point)))
    }

    fn from_edwards_point(point: &[u8]) -> Result<Self, UnusableKey> {
        ParsedPublicKey::new(&ED25519, point).map_err(|_| UnusableKey::Edwards)?;
        Ok(Self::from_decoding_key(&[Algorithm::EdDSA], DecodingKey::from_ed_der(point)))
    }

    fn from_decoding_key(algorithms: &[Algorithm], key: DecodingKey) -> Self {
        Self { name: KeyName::Any, algorithms: algorithms.to_vec(), key }
    }
}

/// Whether an RSA exponent is sound. With 1 any client can sign, an even one is invalid, and more than 33 bits cost
/// too much.
fn is_exponent(exponent: &[u8]) -> bool {
    let significant = &exponent[exponent.iter().take_while(|byte| **byte == 0).count()..];
    let value = significant.iter().fold(0u64, |value, byte| (value << 8) | u64::from(*byte));
    significant.len() <= 5 && value >= 3 && value % 2 == 1 && value < 1 << 33
}
