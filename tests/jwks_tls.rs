//! Keys that come over https: only from a server whose certificate the system trusts.

use std::process::{Child, Command, Stdio};

use jsonwebtoken::Algorithm::EdDSA;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::pair::{Pair, openssl, text};
use crate::harness::{eventually, free_address};

/// A server of files over TLS; it stops with this value.
struct Server(Child);

impl Server {
    fn start(folder: &TempDir, port: u16) -> Self {
        let mut openssl = Command::new("openssl");
        openssl.args([
            "s_server",
            "-WWW",
            "-accept",
            &format!("127.0.0.1:{port}"),
            "-cert",
            "leaf.pem",
            "-key",
            "leaf.key",
        ]);
        openssl.current_dir(folder.path()).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(openssl.spawn().expect("openssl is installed"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// An authority, and a certificate of its for this machine.
fn certify(folder: &TempDir) {
    let file = |name: &str| text(&folder.path().join(name)).to_owned();
    let [authority, authority_key, leaf, leaf_key] = ["ca.pem", "ca.key", "leaf.pem", "leaf.key"].map(file);
    let make = ["req", "-x509", "-new", "-nodes", "-days", "2", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    openssl(&[&make[..], &["-subj", "/CN=authority", "-keyout", &authority_key, "-out", &authority]].concat());
    let by = ["-CA", &authority, "-CAkey", &authority_key, "-addext", "basicConstraints=critical,CA:FALSE"];
    let of = ["-subj", "/CN=provider", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", &leaf_key, "-out", &leaf];
    openssl(&[&make[..], &by[..], &of[..]].concat());
}

#[tokio::test]
async fn the_server_of_a_jwks_shows_a_certificate_that_the_system_trusts() {
    let folder = tempfile::tempdir().expect("a folder");
    let (known, other) = (Pair::ed25519(&folder, "known"), tempfile::tempdir().expect("a folder"));
    certify(&folder);
    certify(&other);
    std::fs::write(folder.path().join("keys"), json!({"keys": [known.jwk(EdDSA, "k")]}).to_string()).expect("room");
    let address = free_address();
    let _server = Server::start(&folder, address.port());
    let url = format!("https://{address}/keys");
    let settings = [("HALLWAY_AUTH__JWKS_URL", url.as_str()), ("HALLWAY_AUTH__JWKS_COOLDOWN", "100ms")];
    let trusting = |authority: &TempDir| {
        let authority = authority.path().join("ca.pem");
        move |command: &mut Command| {
            command.env_remove("HALLWAY_AUTH__HS256_SECRET").env("SSL_CERT_FILE", authority);
        }
    };
    let node = Node::changed(&settings, trusting(&folder)).await;
    Client::connect(node.main(), &known.sign_as(EdDSA, "k")).await;

    let node = Node::launch(&settings, trusting(&other)).await;
    eventually("the certificate is refused", || async {
        let problem = node.checks().await["keys"]["problem"].take();
        problem.as_str().is_some_and(|text| text.contains("certificate")).then_some(())
    })
    .await;
    assert_eq!(node.readyz().await, 503);
}
