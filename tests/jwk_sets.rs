//! What a JWKS may hold: which keys are of use, for which algorithms, and why the others are passed over.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallway::auth::keys::KeySet;
use jsonwebtoken::Algorithm::{self, ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::pair::Pair;

const ALL: [Algorithm; 12] = [
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
];

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn read(keys: &[Value]) -> KeySet {
    KeySet::parse_document(json!({ "keys": keys }).to_string().as_bytes()).expect("a JWKS")
}

fn with(mut key: Value, member: &str, value: Value) -> Value {
    key[member] = value;
    key
}

#[track_caller]
fn serves(key: Value, algorithms: &[Algorithm]) {
    let set = read(&[key]);
    assert_eq!(set.skipped(), [""; 0]);
    let served: Vec<Algorithm> = ALL.into_iter().filter(|algorithm| set.keys()[0].is_for(*algorithm)).collect();
    assert_eq!(served, algorithms);
}

#[track_caller]
fn is_passed_over(key: Value, why: &str) {
    let set = read(std::slice::from_ref(&key));
    assert!(set.keys().is_empty() && set.skipped().len() == 1, "{key}");
    assert!(set.skipped()[0].ends_with(why), "{:?} for {key}", set.skipped());
}

#[test]
fn a_key_serves_the_algorithms_of_its_kind_or_the_one_it_names() {
    let folder = folder();
    let rsa = Pair::rsa(&folder, "rsa").jwk(RS256, "a");
    serves(rsa.clone(), &[RS256, RS384, RS512, PS256, PS384, PS512]);
    serves(with(rsa.clone(), "alg", json!("PS384")), &[PS384]);
    serves(with(rsa.clone(), "key_ops", json!(["sign", "verify"])), &[RS256, RS384, RS512, PS256, PS384, PS512]);
    serves(with(rsa, "x5c", json!(5)), &[RS256, RS384, RS512, PS256, PS384, PS512]);
    serves(Pair::curve(&folder, "p256", "P-256").jwk(ES256, "b"), &[ES256]);
    serves(Pair::curve(&folder, "p384", "P-384").jwk(ES384, "c"), &[ES384]);
    serves(Pair::ed25519(&folder, "ed").jwk(EdDSA, "d"), &[EdDSA]);
}

#[test]
fn a_key_of_no_use_is_passed_over_and_the_reason_told() {
    let folder = folder();
    let rsa = Pair::rsa(&folder, "rsa").jwk(RS256, "a");
    let (p256, p384) = (Pair::curve(&folder, "p256", "P-256").jwk(ES256, "b"), Pair::curve(&folder, "p384", "P-384"));
    for length in [32, 64] {
        let secret = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(vec![7; length]), "alg": "HS256"});
        is_passed_over(secret, "is a shared secret, which a public document cannot have");
    }
    is_passed_over(
        with(rsa.clone(), "d", json!("AQAB")),
        "is a private key, which a public document must not have: replace it",
    );
    is_passed_over(with(rsa.clone(), "use", json!("enc")), "is not meant for signatures");
    is_passed_over(with(rsa.clone(), "key_ops", json!(["encrypt"])), "is not meant for signatures");
    for alg in ["RSA-OAEP", "ES256", "HS256", "none", "RS1"] {
        is_passed_over(with(rsa.clone(), "alg", json!(alg)), "is for an algorithm that is unknown or not of its kind");
    }
    for bits in [1024, 2040, 2047] {
        let short = with(rsa.clone(), "n", json!(Pair::rsa_of(&folder, "short", bits).modulus()));
        is_passed_over(short, "is no RSA key of 2048 to 8192 bits with a sound exponent");
    }
    for modulus in [vec![0xff; 1025], vec![0; 256], vec![1]] {
        is_passed_over(
            with(rsa.clone(), "n", json!(URL_SAFE_NO_PAD.encode(modulus))),
            "is no RSA key of 2048 to 8192 bits with a sound exponent",
        );
    }
    for exponent in [vec![1], vec![2], vec![0], vec![0xff; 64]] {
        is_passed_over(
            with(rsa.clone(), "e", json!(URL_SAFE_NO_PAD.encode(exponent))),
            "is no RSA key of 2048 to 8192 bits with a sound exponent",
        );
    }
    is_passed_over(with(p256.clone(), "crv", json!("P-384")), "is no point on P-256 or P-384");
    is_passed_over(with(p384.jwk(ES384, "c"), "crv", json!("P-256")), "is no point on P-256 or P-384");
    is_passed_over(with(p256.clone(), "crv", json!("P-521")), "is no point on P-256 or P-384");
    is_passed_over(with(p256.clone(), "crv", json!("secp256k1")), "is no point on P-256 or P-384");
    is_passed_over(with(p256.clone(), "y", p256["x"].clone()), "is no point on P-256 or P-384");
    is_passed_over(json!({"kty": "OKP", "crv": "Ed448", "x": "AAAA"}), "is no Ed25519 key");
    is_passed_over(json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}), "is no Ed25519 key");
    for odd in [json!({"kty": "RSA"}), json!({"kty": "AKP", "kid": "a"}), json!({"kid": "a"}), json!("x"), json!(null)]
    {
        is_passed_over(odd, "is of an unknown kind or incomplete");
    }
}

#[test]
fn a_key_of_no_use_does_not_spoil_the_others_and_its_name_is_shortened() {
    let folder = folder();
    let good = Pair::ed25519(&folder, "ed").jwk(EdDSA, "good");
    let set = read(&[json!({"kty": "x", "kid": format!("a\n{}", "k".repeat(500))}), good, json!(5)]);
    assert_eq!((set.keys().len(), set.skipped().len()), (1, 2));
    assert!(set.keys()[0].is_called("good"));
    assert!(set.skipped()[0].len() < 150 && !set.skipped()[0].contains('\n'), "{:?}", set.skipped());
    assert!(set.skipped()[1].starts_with("the key at place 2 "), "{:?}", set.skipped());
}

#[test]
fn of_very_many_keys_the_first_count() {
    let folder = folder();
    let key = Pair::ed25519(&folder, "ed").jwk(EdDSA, "a");
    let set = read(&vec![key; 40]);
    assert_eq!(
        (set.keys().len(), set.skipped()),
        (32, ["8 keys more than the 32 that are looked at".to_owned()].as_slice())
    );
}

#[test]
fn an_empty_jwks_is_one_and_other_documents_are_none() {
    assert!(read(&[]).keys().is_empty());
    for none in [
        "",
        "{}",
        "[]",
        "null",
        "<html></html>",
        r#"{"keys":{}}"#,
        r#"{"keys":null}"#,
        r#"{"keys":[]"#,
        "{\"keys\":[]}x",
    ] {
        assert!(KeySet::parse_document(none.as_bytes()).is_err(), "{none}");
    }
}
