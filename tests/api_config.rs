//! What an operator is told of the keys of the HTTP interface: every mistake at once, and never a key.

use std::io::Write;
use std::process::Command;

use hallway::config::{ApiScope, Config, Mode};
use tempfile::NamedTempFile;

const SECRET: &str = "a-secret-of-thirty-two-bytes-or-more";
const ONE: &str = "one-key-hunter2-of-thirty-two-bytes-or-more";
const TWO: &str = "two-key-hunter2-of-thirty-two-bytes-or-more";

fn file(text: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(text).expect("room on the disk");
    file
}

/// What `hallway check-config` says of this file and these variables: exit code, and lines.
fn check(toml: &str, variables: &[(&str, &str)]) -> (i32, Vec<String>) {
    let file = file(toml.as_bytes());
    let mut command = Command::new(env!("CARGO_BIN_EXE_hallway"));
    command.arg("check-config").arg("--config").arg(file.path()).env("HALLWAY_AUTH__HS256_SECRET", SECRET);
    let output = command.envs(variables.iter().copied()).output().expect("the command ends");
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(!said.contains("hunter2"), "{said}");
    let bare = said.replace(file.path().to_str().expect("UTF-8"), "FILE");
    (output.status.code().expect("no signal"), bare.lines().map(str::to_owned).collect())
}

/// Asserts that this is refused for these reasons alone, each a line that begins with one of `expected`.
#[track_caller]
fn refuses(toml: &str, variables: &[(&str, &str)], expected: &[&str]) {
    let (code, lines) = check(toml, variables);
    assert_eq!((code, lines.len()), (64, expected.len()), "{lines:#?}");
    for (line, lead) in lines.iter().zip(expected) {
        assert!(line.starts_with(lead), "{line}\ndoes not begin with\n{lead}");
    }
}

#[test]
fn every_mistake_in_the_keys_is_told_at_once() {
    let toml = format!(
        r#"[api]
key = "{ONE}"
rate = 0

[api.keys.Shop]
key = "{ONE}-3"
scopes = ["publish"]

[api.keys.none]
key = "{ONE}-4"
scopes = ["publish"]

[api.keys.a]
key = "{ONE}"
scopes = ["publish", "write"]

[api.keys.b]
scopes = []
rate = 0

[api.keys.c]
key = "short-hunter2"
scope = ["read"]

[api.keys.d]
key = "{TWO}"
key_file = "/nowhere/hunter.two"
scopes = ["read"]
"#
    );
    refuses(
        &toml,
        &[("HALLWAY_API__FAILED_ATTEMPTS_PER_SECOND", "0"), ("HALLWAY_API__KEYS__E__KEY", TWO)],
        &[
            "HALLWAY_API__KEYS__E__KEY: is not a known variable (from HALLWAY_API__KEYS__E__KEY); set further API keys in the TOML file",
            "api.rate: 0 is out of range (from FILE:3)",
            "api.failed_attempts_per_second: 0 is out of range (from HALLWAY_API__FAILED_ATTEMPTS_PER_SECOND)",
            "api.keys.Shop: is not a name of an API key (from FILE:5)",
            "api.keys.a.scopes: \"write\" is not publish, read or admin (from FILE:15)",
            "api.keys.b.scopes: is empty (from FILE:18)",
            "api.keys.b.rate: 0 is out of range (from FILE:19)",
            "api.keys.b: has neither key nor key_file (from FILE:17)",
            "api.keys.c.scope: is not a known key (from FILE:23); did you mean `scopes`?",
            "api.keys.c.key: is 13 bytes long, 32 is the least (from FILE:22)",
            "api.keys.c: has no scopes (from FILE:21)",
            "api.keys.d.key_file: \"/nowhere/hunter.two\" cannot be read: No such file or directory (os error 2) (from FILE:27)",
            "api.keys.none: is not a name of an API key (from FILE:9)",
            "api.keys.d.key_file: is set, and api.keys.d.key is too (from FILE:26) (from FILE:27); keep one of the two",
            "api.keys.a.key: is the same key as api.key (from FILE:14)",
        ],
    );
}

#[test]
fn a_key_in_two_places_names_both() {
    let single = file(format!("{TWO}\n").as_bytes());
    refuses(
        "",
        &[("HALLWAY_API__KEY", ONE), ("HALLWAY_API__KEY_FILE", single.path().to_str().expect("UTF-8"))],
        &[
            "api.key_file: is set, and api.key is too (from HALLWAY_API__KEY) (from HALLWAY_API__KEY_FILE); keep one of the two",
        ],
    );
}

#[test]
fn a_key_file_holds_one_strong_key_alone() {
    let two_lines = format!("{ONE}\n{TWO}\n");
    let long = "x".repeat(70_000);
    for (content, problem) in [
        (&b"short-hunter2\n"[..], "is 13 bytes long, 32 is the least"),
        (b"\n", "is empty"),
        (b"", "is empty"),
        (two_lines.as_bytes(), "has characters that no header can carry"),
        (long.as_bytes(), "cannot be read: it is longer than any key"),
        (&[0xff; 40], "cannot be read: stream did not contain valid UTF-8"),
    ] {
        let single = file(content);
        let path = single.path().to_str().expect("UTF-8");
        refuses(
            &format!("[api]\nkey_file = {path:?}"),
            &[],
            &[&format!("api.key_file: {path:?} {problem} (from FILE:2)")],
        );
    }
    refuses("[api]\nkey_file = \"/\"", &[], &["api.key_file: \"/\" cannot be read: Is a directory"]);
}

#[test]
fn what_stands_where_a_key_belongs_is_not_repeated() {
    refuses(&format!("[api]\nkeys = \"{ONE}\""), &[], &["api.keys: a string is not a table (from FILE:2)"]);
    refuses(&format!("[api.keys]\nshop = \"{ONE}\""), &[], &["api.keys.shop: a string is not a table (from FILE:2)"]);
    let listed = format!("[api.keys.shop]\nkey = [\"{ONE}\"]\nscopes = [\"read\"]");
    refuses(&listed, &[], &["api.keys.shop.key: a list is not a string (from FILE:2)"]);
}

#[test]
fn the_key_of_development_is_refused_wherever_it_stands() {
    let toml = format!("[api.keys.shop]\nkey = \"{}\"\nscopes = [\"read\"]", Config::DEV_API_KEY);
    refuses(&toml, &[], &["api.keys.shop.key: is the development value, which everybody knows (from FILE:2)"]);
}

#[test]
fn keys_print_without_their_secrets() {
    let single = file(format!("{ONE}\n").as_bytes());
    let toml = format!(
        "[api]\nkey_file = {:?}\nrate = 7\n[api.keys.shop]\nkey = \"{TWO}\"\nscopes = [\"read\", \"admin\"]\nrate = 9",
        single.path()
    );
    let main = file(toml.as_bytes());
    let variables = [("HALLWAY_AUTH__HS256_SECRET".to_owned(), SECRET.to_owned())];
    let config = Config::load(Some(main.path()), variables.into_iter(), Mode::Production).expect("a good file");
    let bearers = config.api.bearers();
    assert!(!format!("{config:?} {bearers:?}").contains("hunter2"));
    let told = bearers.iter().map(|b| (b.name, b.secret.expose(), b.scopes.to_vec(), b.rate)).collect::<Vec<_>>();
    let shop = (Some("shop"), TWO, vec![ApiScope::Read, ApiScope::Admin], Some(9));
    assert_eq!(told, [(None, ONE, ApiScope::ALL.to_vec(), Some(7)), shop]);
}
