//! Public keys: tokens signed with RSA, elliptic curves and Ed25519, and no way to confuse one for another (S4).

use std::path::Path;
use std::process::Command;

use jsonwebtoken::{Algorithm, EncodingKey, Header};

use crate::harness::client::is_admitted;
use crate::harness::node::Node;
use crate::harness::pair::{Pair, openssl, sign, text};
use crate::harness::token::SECRET;

const NO_SECRET: &str = "HALLWAY_AUTH__HS256_SECRET";

/// A gateway that believes these keys and no secret.
async fn believing(keys: &[&Pair]) -> Node {
    let files: Vec<&str> = keys.iter().map(|pair| text(&pair.public)).collect();
    let settings = [("HALLWAY_AUTH__PUBLIC_KEY_FILE", files.join(","))];
    Node::changed(&settings.each_ref().map(|(name, files)| (*name, files.as_str())), |command| {
        command.env_remove(NO_SECRET);
    })
    .await
}

#[tokio::test]
async fn a_token_of_each_kind_of_key_is_believed_and_one_of_another_key_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let kinds = [
        (Pair::rsa(&folder, "rsa"), Pair::rsa(&folder, "rsa2"), vec![Algorithm::RS256, Algorithm::PS512]),
        (Pair::curve(&folder, "p256", "P-256"), Pair::curve(&folder, "p256b", "P-256"), vec![Algorithm::ES256]),
        (Pair::curve(&folder, "p384", "P-384"), Pair::curve(&folder, "p384b", "P-384"), vec![Algorithm::ES384]),
        (Pair::ed25519(&folder, "ed"), Pair::ed25519(&folder, "ed2"), vec![Algorithm::EdDSA]),
    ];
    for (known, unknown, algorithms) in &kinds {
        let node = believing(&[known]).await;
        for algorithm in algorithms {
            assert!(is_admitted(&node, &known.sign(*algorithm)).await, "{algorithm:?}");
            assert!(!is_admitted(&node, &unknown.sign(*algorithm)).await, "{algorithm:?}");
        }
        for (other, _, algorithms) in kinds.iter().filter(|(other, ..)| other.public != known.public) {
            assert!(!is_admitted(&node, &other.sign(algorithms[0])).await, "{algorithms:?}");
        }
    }
}

#[tokio::test]
async fn several_keys_are_believed_at_once_for_rotation() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (Pair::rsa(&folder, "old"), Pair::rsa(&folder, "new"));
    let (curve, ed) = (Pair::curve(&folder, "curve", "P-256"), Pair::ed25519(&folder, "ed"));
    let node = believing(&[&old, &new, &curve, &ed]).await;
    for token in [
        old.sign(Algorithm::RS256),
        new.sign(Algorithm::RS256),
        curve.sign(Algorithm::ES256),
        ed.sign(Algorithm::EdDSA),
    ] {
        assert!(is_admitted(&node, &token).await, "{token}");
    }
    assert!(!is_admitted(&node, &sign(&Header::default(), &EncodingKey::from_secret(SECRET.as_bytes()))).await);
}

#[tokio::test]
async fn a_public_key_is_never_taken_for_a_shared_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let pair = Pair::rsa(&folder, "rsa");
    let pem = std::fs::read(&pair.public).expect("it is there");
    let trimmed = pem.trim_ascii().to_vec();
    let der = folder.path().join("der");
    openssl(&["pkey", "-pubin", "-in", text(&pair.public), "-outform", "DER", "-out", text(&der)]);
    let der = std::fs::read(der).expect("it is there");
    let with_both = Node::with(&[("HALLWAY_AUTH__PUBLIC_KEY_FILE", text(&pair.public))]).await;
    for node in [&believing(&[&pair]).await, &with_both] {
        assert!(is_admitted(node, &pair.sign(Algorithm::RS256)).await);
        for secret in [&pem, &trimmed, &der] {
            for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                let forged = sign(&Header::new(algorithm), &EncodingKey::from_secret(secret));
                assert!(!is_admitted(node, &forged).await, "{algorithm:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_a_token_brings_along_is_not_believed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (known, own) = (Pair::rsa(&folder, "known"), Pair::rsa(&folder, "own"));
    let node = believing(&[&known]).await;
    let key = EncodingKey::from_rsa_pem(&own.private).expect("a private key");
    let mut header = Header::new(Algorithm::RS256);
    header.jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&key, Algorithm::RS256).ok();
    assert!(header.jwk.is_some(), "the key can be written into a header");
    header.jku = Some(format!("http://{}/keys", node.main()));
    header.x5u = header.jku.clone();
    assert!(!is_admitted(&node, &sign(&header, &key)).await);
    let known_key = EncodingKey::from_rsa_pem(&known.private).expect("a private key");
    assert!(is_admitted(&node, &sign(&header, &known_key)).await, "what is ignored does no harm either");
}

/// What `serve` and `check-config` say of a key file, which both refuse with the exit code of a bad configuration.
fn refusal(path: &Path) -> String {
    let said = ["serve", "check-config"].map(|command| {
        let mut hallway = Command::new(env!("CARGO_BIN_EXE_hallway"));
        let done = hallway.arg(command).env("HALLWAY_AUTH__PUBLIC_KEY_FILE", path).output().expect("it runs");
        assert_eq!(done.status.code(), Some(64), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stderr).into_owned()
    });
    assert_eq!(said[0], said[1]);
    assert!(said[0].contains(text(path)) && said[0].contains("auth.public_key_file"), "{}", said[0]);
    said[0].clone()
}

#[test]
fn a_weak_or_odd_key_file_stops_the_start_and_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    for bits in [1024, 2047] {
        let short = Pair::rsa_of(&folder, "short", bits);
        assert!(refusal(&short.public).contains("is no RSA key of 2048 to 8192 bits"), "{bits}");
    }
    let known_elsewhere = [Pair::curve(&folder, "k1", "secp256k1"), Pair::curve(&folder, "p521", "P-521")];
    for pair in &known_elsewhere {
        assert!(refusal(&pair.public).contains("is no point on P-256 or P-384"));
    }
    let good = Pair::rsa(&folder, "good");
    let (certificate, key) = (folder.path().join("certificate"), folder.path().join("good.key"));
    let subject = ["req", "-x509", "-new", "-subj", "/CN=x", "-days", "1"];
    openssl(&[&subject[..], &["-key", text(&key), "-out", text(&certificate)]].concat());
    let pem = std::fs::read_to_string(&good.public).expect("it is there");
    let twice = folder.path().join("twice");
    std::fs::write(&twice, format!("{pem}{pem}")).expect("room on the disk");
    let garbled = folder.path().join("garbled");
    std::fs::write(&garbled, pem.replace('A', "B")).expect("room on the disk");
    for path in [&certificate, &twice, &garbled] {
        assert!(refusal(path).contains("anything but one PEM public key"), "{path:?}");
    }
}

#[tokio::test]
async fn several_secrets_are_believed_at_once_and_the_first_one_signs() {
    let folder = tempfile::tempdir().expect("a folder");
    let [new, old, mounted, other] = ["n", "o", "m", "x"].map(|letter| letter.repeat(40));
    let (toml, secret) = (folder.path().join("hallway.toml"), folder.path().join("secret"));
    std::fs::write(&secret, format!("{mounted}\n")).expect("room on the disk");
    let file = text(&secret);
    let auth = format!("[auth]\nhs256_secret = [\"{new}\", \"{old}\"]\nhs256_secret_file = [\"{file}\"]\n");
    std::fs::write(&toml, auth).expect("room on the disk");
    let node = Node::changed(&[], |command| {
        command.args(["--config", text(&toml)]).env_remove(NO_SECRET);
    })
    .await;
    for (secret, good) in [(&new, true), (&old, true), (&mounted, true), (&other, false)] {
        let token = sign(&Header::default(), &EncodingKey::from_secret(secret.as_bytes()));
        assert_eq!(is_admitted(&node, &token).await, good, "{secret}");
    }
    let mut hallway = Command::new(env!("CARGO_BIN_EXE_hallway"));
    let minted = hallway.args(["token", "--sub", "u1", "--config", text(&toml)]).output().expect("it runs");
    let minted = String::from_utf8(minted.stdout).expect("a token is text");
    let message = minted.trim().rsplit_once('.').expect("three parts").0;
    let key = EncodingKey::from_secret(new.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("it can be signed");
    assert_eq!(minted.trim(), format!("{message}.{signature}"));
    assert!(is_admitted(&node, minted.trim()).await);
}
