//! Public keys from PEM files.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey};

use super::{UnusableKey, VerifyingKey};

/// A key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("auth.public_key_file {path:?} cannot be read: {error}; name a PEM file this user may read")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Not a public key in PEM form.
    #[error(
        "auth.public_key_file {0:?} holds anything but one PEM public key of RSA, P-256, P-384 or Ed25519; `openssl pkey -pubout` makes one"
    )]
    Pem(PathBuf),
    /// A public key that is too weak, or of an unsupported kind.
    #[error("the key in auth.public_key_file {0:?} {1}; make another pair of keys")]
    Unusable(PathBuf, UnusableKey),
}

impl VerifyingKey {
    /// Reads a public key from a PEM file.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no sufficient key.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        let pem = std::fs::read(path).map_err(|error| KeyError::File { path: path.to_owned(), error })?;
        let key = from_pem(&pem).ok_or_else(|| KeyError::Pem(path.to_owned()))?;
        key.map_err(|why| KeyError::Unusable(path.to_owned(), why))
    }
}

/// A public key alone. A certificate's key would be trusted without a check of the certificate, and of several keys
/// all but the first would be ignored.
fn from_pem(pem: &[u8]) -> Option<Result<VerifyingKey, UnusableKey>> {
    let text = std::str::from_utf8(pem).ok()?;
    let blocks: Vec<&str> = text.lines().map(str::trim).filter(|line| line.starts_with("-----BEGIN ")).collect();
    // The decoders below would accept other blocks as well.
    if !matches!(blocks[..], ["-----BEGIN PUBLIC KEY-----" | "-----BEGIN RSA PUBLIC KEY-----"]) {
        return None;
    }
    let bytes = |key: DecodingKey| key.try_get_as_bytes().map(<[u8]>::to_vec).ok();
    // The decoders know the kind: each refuses the others' keys.
    if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
        let (modulus, exponent) = components(&key)?;
        return Some(VerifyingKey::rsa(&modulus, &exponent));
    }
    if let Ok(key) = DecodingKey::from_ec_pem(pem) {
        return Some(VerifyingKey::from_curve_point(&bytes(key)?));
    }
    Some(VerifyingKey::from_edwards_point(&bytes(DecodingKey::from_ed_pem(pem).ok()?)?))
}

fn components(key: &DecodingKey) -> Option<(Vec<u8>, Vec<u8>)> {
    let AlgorithmParameters::RSA(parameters) = Jwk::from_decoding_key(key, Some(Algorithm::RS256)).ok()?.algorithm
    else {
        return None;
    };
    Some((URL_SAFE_NO_PAD.decode(parameters.n).ok()?, URL_SAFE_NO_PAD.decode(parameters.e).ok()?))
}
