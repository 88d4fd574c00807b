//! Key pairs made by openssl, as files, as signers and as members of a JWKS.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::token::now_s;

/// A key pair.
pub struct Pair {
    /// The private key, PEM.
    pub private: Vec<u8>,
    /// The file of the public key, PEM.
    pub public: PathBuf,
}

impl Pair {
    /// One with these options of `openssl genpkey`.
    pub fn make(folder: &TempDir, name: &str, options: &[&str]) -> Self {
        let file = |suffix: &str| folder.path().join(format!("{name}.{suffix}"));
        let (private, public) = (file("key"), file("pub"));
        openssl(&[&["genpkey", "-out", text(&private)], options].concat());
        openssl(&["pkey", "-in", text(&private), "-pubout", "-out", text(&public)]);
        Self { private: std::fs::read(private).expect("openssl wrote it"), public }
    }

    /// RSA of 2048 bits.
    pub fn rsa(folder: &TempDir, name: &str) -> Self {
        Self::rsa_of(folder, name, 2048)
    }

    /// RSA of so many bits.
    pub fn rsa_of(folder: &TempDir, name: &str, bits: usize) -> Self {
        Self::make(folder, name, &["-algorithm", "RSA", "-pkeyopt", &format!("rsa_keygen_bits:{bits}")])
    }

    /// A point on a curve.
    pub fn curve(folder: &TempDir, name: &str, curve: &str) -> Self {
        Self::make(folder, name, &["-algorithm", "EC", "-pkeyopt", &format!("ec_paramgen_curve:{curve}")])
    }

    /// Ed25519.
    pub fn ed25519(folder: &TempDir, name: &str) -> Self {
        Self::make(folder, name, &["-algorithm", "ED25519"])
    }

    /// The modulus of an RSA key as a JWKS has it.
    pub fn modulus(&self) -> String {
        let told = openssl(&["rsa", "-pubin", "-in", text(&self.public), "-noout", "-modulus"]);
        let digits = told.trim().strip_prefix("Modulus=").expect("a number in hexadecimal");
        let bytes: Vec<u8> = (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16))
            .collect::<Result<_, _>>()
            .expect("two digits each");
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What signs with this algorithm.
    pub fn signer(&self, algorithm: Algorithm) -> EncodingKey {
        let key = if matches!(algorithm, Algorithm::ES256 | Algorithm::ES384) {
            EncodingKey::from_ec_pem(&self.private)
        } else if algorithm == Algorithm::EdDSA {
            EncodingKey::from_ed_pem(&self.private)
        } else {
            EncodingKey::from_rsa_pem(&self.private)
        };
        key.expect("a private key")
    }

    /// A token of user `u1` that names no key.
    pub fn sign(&self, algorithm: Algorithm) -> String {
        sign(&Header::new(algorithm), &self.signer(algorithm))
    }

    /// A token of user `u1` that names its key.
    pub fn sign_as(&self, algorithm: Algorithm, kid: &str) -> String {
        sign(&Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) }, &self.signer(algorithm))
    }

    /// The public key as a JWKS has it, without `alg`.
    pub fn jwk(&self, algorithm: Algorithm, kid: &str) -> Value {
        let jwk = Jwk::from_encoding_key(&self.signer(algorithm), algorithm).expect("a public key");
        let mut jwk = serde_json::to_value(jwk).expect("a JWK is JSON");
        jwk.as_object_mut().expect("an object").remove("alg");
        jwk["kid"] = kid.into();
        jwk["use"] = "sig".into();
        jwk
    }
}

/// A token of user `u1`, good for an hour.
pub fn sign(header: &Header, key: &EncodingKey) -> String {
    encode(header, &json!({"sub": "u1", "exp": now_s() + 3600}), key).expect("claims encode")
}

/// A path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

/// Runs openssl and returns what it printed.
pub fn openssl(arguments: &[&str]) -> String {
    let done = Command::new("openssl").args(arguments).output().expect("openssl is installed");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}
