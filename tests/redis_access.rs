//! How Redis is reached: a user and a password beside the URL, TLS with an authority and a certificate of one's own, and
//! what is said of settings that do not agree.

use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};

use hallway::config::{Config, ConfigErrors, Mode};
use tempfile::TempDir;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::pair::{openssl, text};
use crate::harness::redis::Redis;
use crate::harness::token::{self, SECRET};
use crate::harness::{eventually, free_address};

const PASSWORD: &str = "pa/ss:wo#rd@ of redis";

type Settings<'a> = &'a [(&'a str, &'a str)];

fn load(settings: Settings<'_>) -> Result<Config, ConfigErrors> {
    let all = settings.iter().chain(&[("HALLWAY_AUTH__HS256_SECRET", SECRET)]);
    let named = |(key, value): &(&str, &str)| match key.strip_prefix("redis.") {
        Some(key) => (format!("HALLWAY_REDIS__{}", key.to_uppercase()), (*value).to_owned()),
        None => ((*key).to_owned(), (*value).to_owned()),
    };
    Config::load(None, all.map(named), Mode::Production)
}

/// Asserts that these settings are refused with exactly these mistakes, as `key: problem`, and that no password is shown.
#[track_caller]
fn refuses(settings: Settings<'_>, expected: &[&str]) {
    let errors = load(settings).expect_err("the settings are wrong");
    let said: Vec<String> = errors.iter().map(|error| format!("{}: {}", error.key, error.problem)).collect();
    assert_eq!(said, expected, "{settings:?}");
    assert!(!errors.to_string().contains("hunter2"), "{errors}");
}

fn file(folder: &TempDir, name: &str, content: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, content).expect("room on the disk");
    text(&path).to_owned()
}

/// Makes `<name>.pem` and `<name>.key`: an authority, or a certificate of `by` for this machine.
fn certificate(folder: &TempDir, name: &str, by: Option<&str>) {
    let at = |name: String| text(&folder.path().join(name)).to_owned();
    let (pem, key) = (at(format!("{name}.pem")), at(format!("{name}.key")));
    let subject = format!("/CN={name}");
    let make = ["req", "-x509", "-new", "-nodes", "-days", "2", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let of = ["-subj", &subject, "-keyout", &key, "-out", &pem];
    let Some(by) = by else {
        openssl(&[&make[..], &of[..]].concat());
        return;
    };
    let (authority, authority_key) = (at(format!("{by}.pem")), at(format!("{by}.key")));
    let signed = ["-CA", &authority, "-CAkey", &authority_key, "-addext", "basicConstraints=critical,CA:FALSE"];
    let host = ["-addext", "subjectAltName=IP:127.0.0.1"];
    openssl(&[&make[..], &signed[..], &host[..], &of[..]].concat());
}

fn path(folder: &TempDir, name: &str) -> String {
    text(&folder.path().join(name)).to_owned()
}

/// A Redis that speaks TLS alone, and asks for a certificate of `ca`.
struct Encrypted {
    address: SocketAddr,
    process: Child,
}

impl Encrypted {
    fn start(folder: &TempDir) -> Self {
        let address = free_address();
        let port = address.port().to_string();
        let files = ["server.pem", "server.key", "ca.pem"].map(|name| path(folder, name));
        let process = Command::new("redis-server")
            .args([
                "--port",
                "0",
                "--tls-port",
                &port,
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--tls-auth-clients",
                "yes",
            ])
            .args(["--tls-cert-file", &files[0], "--tls-key-file", &files[1], "--tls-ca-cert-file", &files[2]])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed (./check installs it)");
        Self { address, process }
    }
}

impl Drop for Encrypted {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn publish(settings: Settings<'_>, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hallway"));
    command.args(["publish", "order:1", "--type", "t", "--payload", "1"]).args(arguments);
    command.envs(settings.iter().copied()).output().expect("it runs")
}

/// Joins, and gets an event that `hallway publish` with the same settings publishes.
async fn delivers(node: &Node, settings: Settings<'_>) {
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    assert_eq!(client.join("order:1").await["roomSize"], 1);
    let published = publish(settings, &[]);
    assert!(published.status.success(), "{}", String::from_utf8_lossy(&published.stderr));
    assert_eq!(client.event().await.1["event"]["payload"], 1);
}

#[tokio::test]
async fn a_user_and_a_password_from_a_file_open_a_redis() {
    let redis = Redis::start_forgetful().await;
    let mut user = redis::cmd("ACL");
    user.arg("SETUSER").arg("svc").arg(&["on", &format!(">{PASSWORD}"), "~*", "&*", "+@all"]);
    user.query_async::<()>(&mut redis.client().await).await.expect("redis has users");
    let mut off = redis::cmd("ACL");
    off.arg("SETUSER").arg("default").arg("off");
    off.query_async::<()>(&mut redis.client().await).await.expect("redis has users");
    let folder = tempfile::tempdir().expect("a folder");
    let (url, good) = (redis.url(), file(&folder, "good", &format!("{PASSWORD} \r\n\n")));
    let settings =
        [("HALLWAY_REDIS__URL", &*url), ("HALLWAY_REDIS__USERNAME", "svc"), ("HALLWAY_REDIS__PASSWORD_FILE", &good)];
    let node = Node::with(&settings).await;
    delivers(&node, &settings).await;

    // Another Redis than the configured one is not shown its password.
    let published = publish(&settings, &["--redis", &url]);
    assert!(!published.status.success(), "{}", String::from_utf8_lossy(&published.stderr));
    let whole = url.replace("redis://", "redis://svc:pa%2Fss%3Awo%23rd%40%20of%20redis@");
    let published = publish(&settings, &["--redis", &whole]);
    assert!(published.status.success(), "{}", String::from_utf8_lossy(&published.stderr));

    let bad = [settings[0], settings[1], ("HALLWAY_REDIS__PASSWORD", "hunter2")];
    let node = Node::start(&bad).await;
    eventually("the password is refused", || async {
        let said = node.checks().await.to_string();
        (said.contains("refuses the password") && said.contains("redis.password")).then_some(())
    })
    .await;
    assert!(!node.log().concat().contains("hunter2"));
}

#[tokio::test]
async fn a_redis_with_an_authority_of_its_own_asks_for_a_certificate_and_every_link_shows_it() {
    let folder = tempfile::tempdir().expect("a folder");
    certificate(&folder, "ca", None);
    certificate(&folder, "other", None);
    certificate(&folder, "server", Some("ca"));
    certificate(&folder, "client", Some("ca"));
    certificate(&folder, "stranger", Some("other"));
    let redis = Encrypted::start(&folder);
    let url = format!("rediss://{}", redis.address);
    let [ca, other, cert, key] = ["ca.pem", "other.pem", "client.pem", "client.key"].map(|name| path(&folder, name));
    let [strange, strange_key] = ["stranger.pem", "stranger.key"].map(|name| path(&folder, name));
    let with = |ca, cert, key| {
        [
            ("HALLWAY_REDIS__URL", &*url),
            ("HALLWAY_REDIS__CA_FILE", ca),
            ("HALLWAY_REDIS__CLIENT_CERT_FILE", cert),
            ("HALLWAY_REDIS__CLIENT_KEY_FILE", key),
        ]
    };
    let good = with(&ca, &cert, &key);
    let node = Node::with(&good).await;
    delivers(&node, &good).await;

    for (settings, expected) in [
        (&with(&other, &cert, &key)[..], "redis.ca_file"),
        (&good[..2], "redis.client_cert_file"),
        (&with(&ca, &strange, &strange_key)[..], "redis.client_cert_file"),
    ] {
        let node = Node::start(settings).await;
        let problem = eventually("TLS is refused", || async {
            let said = node.checks().await.to_string();
            said.contains(expected).then_some(said)
        })
        .await;
        assert!(problem.contains("TLS"), "{problem}");
        assert_eq!(node.readyz().await, 503);
    }
}

#[test]
fn what_the_url_says_is_not_said_beside_it_and_a_user_has_a_password() {
    let folder = tempfile::tempdir().expect("a folder");
    let hidden = file(&folder, "password", "hunter2");
    refuses(
        &[("redis.url", "redis://u:hunter2@h"), ("redis.username", "v"), ("redis.password", "hunter2")],
        &[
            "redis.username: is set, and redis.url names a user too",
            "redis.password: is set, and redis.url has a password too",
        ],
    );
    let url = file(&folder, "url", "redis://u:hunter2@h\n");
    refuses(
        &[("redis.url_file", &url), ("redis.password_file", &hidden)],
        &["redis.password_file: is set, and redis.url_file has a password too"],
    );
    refuses(
        &[("redis.url", "redis://h"), ("redis.password", "hunter2"), ("redis.password_file", &hidden)],
        &["redis.password_file: is set, and redis.password too"],
    );
    refuses(&[("redis.url", "redis://u@h")], &["redis.url: names a user without a password"]);
    refuses(
        &[("redis.url", "redis://h"), ("redis.username", "u")],
        &["redis.username: names a user without a password"],
    );
    refuses(&[("redis.password", "hunter2")], &["redis.password: is set, and no redis.url"]);
    load(&[("redis.url", "redis://u@h"), ("redis.password", "hunter2")]).expect("each in one place");
    let config = load(&[("redis.url", "redis://h"), ("redis.password_file", &hidden)]).expect("a default user");
    assert!(!format!("{config:?} {:?}", config.redis.client()).contains("hunter2"));
}

#[test]
fn every_bad_file_is_told_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    certificate(&folder, "one", None);
    certificate(&folder, "two", None);
    let [pem, key, strange] = ["one.pem", "one.key", "two.key"].map(|name| path(&folder, name));
    let (empty, words) = (file(&folder, "empty", "\n"), file(&folder, "words", "hunter2"));
    refuses(
        &[
            ("redis.url", "rediss://h"),
            ("redis.password_file", &empty),
            ("redis.ca_file", "/nowhere/ca.pem"),
            ("redis.client_cert_file", &words),
            ("redis.client_key_file", &empty),
        ],
        &[
            &format!("redis.password_file: {empty:?} is empty"),
            "redis.ca_file: \"/nowhere/ca.pem\" cannot be read: No such file or directory (os error 2)",
            &format!("redis.client_cert_file: {words:?} is not PEM"),
            &format!("redis.client_key_file: {empty:?} is empty"),
        ],
    );
    let tls = ("redis.url", "rediss://h");
    refuses(&[tls, ("redis.ca_file", &key)], &[&format!("redis.ca_file: {key:?} holds no certificate")]);
    refuses(
        &[tls, ("redis.client_cert_file", &pem), ("redis.client_key_file", &pem)],
        &[&format!("redis.client_key_file: {pem:?} holds no private key")],
    );
    refuses(
        &[tls, ("redis.client_cert_file", &pem), ("redis.client_key_file", &strange)],
        &[&format!(
            "redis.client_key_file: {strange:?} is of no use with redis.client_cert_file: keys may not be consistent: KeyMismatch"
        )],
    );
    refuses(&[tls, ("redis.client_cert_file", &pem)], &["redis.client_cert_file: has no key"]);
    refuses(&[tls, ("redis.client_key_file", &key)], &["redis.client_key_file: has no certificate"]);
    refuses(
        &[("redis.url", "redis://h"), ("redis.ca_file", &pem)],
        &["redis.ca_file: is set, and redis.url is not rediss://"],
    );
    load(&[tls, ("redis.ca_file", &pem), ("redis.client_cert_file", &pem), ("redis.client_key_file", &key)])
        .expect("all is well");
}

#[test]
fn a_url_is_understood_in_all_its_parts_or_refused() {
    for (url, problem) in [
        ("redis://h/x", "names a database that is no number"),
        ("redis://h/-1", "names a database that is no number"),
        ("unix:///s?db=x", "names a database that is no number"),
        ("redis://h?db=2", "has a part behind ? that means nothing"),
        ("unix:///s?database=2", "has a part behind ? that means nothing"),
        ("rediss://h/#insecure", "ends with #insecure, and certificates are always checked"),
        ("redis://h#x", "has a part behind #, which means nothing"),
        ("redis://:hunter2/x@h", "has a bare '/' in its user or password"),
        ("redis://u:12?hunter2@h", "has a bare '?' in its user or password"),
        ("redis://u:12#hunter2@h:6379", "has a bare '#' in its user or password"),
        ("redis://0.0.0.0", "is not a Redis URL"),
    ] {
        refuses(&[("redis.url", url)], &[&format!("redis.url: {problem}")]);
    }
    for url in ["redis://:a:b@h", "redis://:a%3Ab@h/0", "redis://:a@b@h"] {
        let client = load(&[("redis.url", url)]).expect(url).redis.client().expect(url).expect("a client");
        let password = client.get_connection_info().redis_settings().password().map(str::to_owned);
        assert_eq!(password.as_deref(), Some(if url.contains("b@h/") || url.contains("a:b") { "a:b" } else { "a@b" }));
    }
}

#[test]
fn a_database_number_wants_a_prefix_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let by_file = file(&folder, "url", "redis://h/3");
    for (key, url) in [("redis.url", "redis://h/3"), ("redis.url", "unix:///s?db=3"), ("redis.url_file", &by_file)] {
        let said = load(&[(key, url)]).expect_err(url).to_string();
        assert!(said.starts_with(&format!("{key}: names database 3")) && said.contains("redis.prefix"), "{said}");
        load(&[(key, url), ("redis.prefix", "shop")]).expect("a prefix of its own");
    }
    load(&[("redis.url", "redis://h/0")]).expect("the first database");
    let said = publish(&[], &["--redis", "redis://127.0.0.1:1/3"]);
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(2), "{words}");
    assert!(words.starts_with("--redis: names database 3") && words.contains("redis.prefix"), "{words}");
}
