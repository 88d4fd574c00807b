//! `hallway check-config` passes what `hallway serve` can start with, and nothing else.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::harness::pair::{openssl, text};
use crate::harness::record::says_listening;
use crate::harness::token::SECRET;

/// A case: what stands in the file, and whether it is good.
type Case = (String, bool);

fn hallway(command: &str, config: &str) -> Command {
    let mut hallway = Command::new(env!("CARGO_BIN_EXE_hallway"));
    hallway.args([command, "--config", config]);
    hallway
}

/// Whether `serve` comes to listen on its last listener.
fn serves(config: &str, admin: &str) -> bool {
    let mut child = hallway("serve", config).stderr(Stdio::piped()).spawn().expect("it starts");
    let lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let listens = lines.into_iter().any(|line| says_listening(&line, admin));
    child.kill().ok();
    child.wait().expect("it ends");
    listens
}

#[test]
fn both_commands_give_one_verdict_on_odd_configurations() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("hallway.toml");
    for (at, (toml, good)) in cases(&folder).into_iter().enumerate() {
        // A port of its own, so that a listener of a case before does not decide.
        let admin = crate::harness::free_address().to_string();
        let server = if toml.contains("[server]") { "" } else { "[server]\nlisten = [\"127.0.0.1:0\"]\n" };
        let whole = format!("{toml}\n{server}[admin]\nlisten = {admin:?}\n").replace("ADMIN", &admin);
        std::fs::write(&config, &whole).expect("room on the disk");
        let checked = hallway("check-config", text(&config)).output().expect("it runs");
        let said = String::from_utf8_lossy(&checked.stderr);
        assert_eq!(checked.status.code(), Some(if good { 0 } else { 64 }), "case {at}: {whole}\n{said}");
        assert_eq!(serves(text(&config), &admin), good, "case {at}: {whole}\n{said}");
    }
}

fn cases(folder: &TempDir) -> Vec<Case> {
    [redis(), listeners(), keys(folder), rooms()].into_iter().flatten().collect()
}

fn signed(more: &str) -> String {
    format!("[auth]\nhs256_secret = {SECRET:?}\n{more}\n")
}

fn redis() -> Vec<Case> {
    let of = |(url, good): (&str, bool)| (signed(&format!("[redis]\nurl = {url:?}")), good);
    let urls = [
        ("redis://127.0.0.1:1", true),
        ("redis://127.0.0.1:1/0", true),
        ("rediss://127.0.0.1:1", true),
        ("redis://127.0.0.1:0", false),
        ("rediss://-x-", false),
        ("rediss://h..x", false),
        ("unix:///nowhere/redis.sock", true),
        ("redis://:a:b@127.0.0.1:1", true),
        ("redis://127.0.0.1:1/x", false),
        ("redis://127.0.0.1:1/2", false),
        ("redis://127.0.0.1:1?db=2", false),
        ("redis://0.0.0.0:1", false),
        ("rediss://127.0.0.1:1/#insecure", false),
        ("unix:///nowhere/redis.sock?db=2", false),
        ("unix://host/redis.sock", false),
        ("redis://:a/b@127.0.0.1:1", false),
        ("redis://u@127.0.0.1:1", false),
        ("redis://%ff:x@127.0.0.1:1", false),
        ("redis://127.0.0.1:99999", false),
    ];
    urls.into_iter().map(of).chain([(signed("[redis]\npassword = \"x\""), false)]).collect()
}

fn listeners() -> Vec<Case> {
    let of = |(list, good): (&str, bool)| (signed(&format!("[server]\nlisten = {list}")), good);
    let port = crate::harness::free_address().port();
    let all = [
        (format!("[\"0.0.0.0:{port}\", \"[::]:{port}\"]"), false),
        (format!("[\"[::]:{port}\", \"127.0.0.1:{port}\"]"), false),
        (format!("[\"[::]:{port}\", \"[::1]:{port}\"]"), false),
        (format!("[\"[::ffff:127.0.0.1]:{port}\", \"127.0.0.1:{port}\"]"), false),
        ("[\"ADMIN\"]".to_owned(), false),
        ("[]".to_owned(), false),
        ("[\"127.0.0.1:0\", \"127.0.0.1:0\"]".to_owned(), true),
    ];
    all.iter().map(|(list, good)| of((list, *good))).collect()
}

fn keys(folder: &TempDir) -> Vec<Case> {
    let file = |name: &str, content: &str| {
        std::fs::write(folder.path().join(name), content).expect("room on the disk");
        text(&folder.path().join(name)).to_owned()
    };
    let broken = file("broken.pem", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n");
    let spaced = file("spaced", &format!("  {SECRET}\r\n\n"));
    let (weak, weak_key) = (folder.path().join("weak.pem"), folder.path().join("weak.key"));
    openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-out", text(&weak_key)]);
    openssl(&["pkey", "-in", text(&weak_key), "-pubout", "-out", text(&weak)]);
    vec![
        (format!("[auth]\nhs256_secret_file = [{spaced:?}]"), true),
        (format!("[auth]\nhs256_secret_file = [{spaced:?}]\n[api]\nkey_file = {spaced:?}"), true),
        (format!("[auth]\npublic_key_file = [{broken:?}]"), false),
        (format!("[auth]\npublic_key_file = [{:?}]", text(&weak)), false),
        ("[auth]\njwks_url = \"https://127.0.0.1:1/keys\"".to_owned(), true),
        ("[auth]\njwks_url = \"https://127.0.0.1:99999/keys\"".to_owned(), false),
        (signed("[authorizer]\nurl = \"http://[::1\""), false),
        (String::new(), false),
    ]
}

fn rooms() -> Vec<Case> {
    let classes = [
        ("[rooms.\"x:{a}:c\"]\n[rooms.\"x:b:{d}\"]", true),
        ("[rooms.\"x:{a}\"]\n[rooms.\"x:{b}\"]", false),
        ("[rooms.\"order:{o}\"]\n[rooms.\"order:{orderId}\"]", false),
        ("[rooms.\"order:{o}\"]\njoin = \"claims.\"", false),
        ("[rooms.\"order:{o}\"]\nauthorizer = true", false),
        ("[rooms.\"no form\"]", false),
    ];
    classes.map(|(classes, good)| (signed(classes), good)).to_vec()
}
