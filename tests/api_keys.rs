//! The keys of the HTTP interface: what each may do, how often, and that none can be tried out fast.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::harness::node::Node;
use crate::harness::token::API_KEY;
use crate::harness::{eventually, free_address, http};

const SHOP: &str = "the-key-of-the-shop-has-more-than-32-bytes";
const DASHBOARD: &str = "the-key-of-the-dashboard-of-more-than-32-bytes";
const OPERATOR: &str = "the-key-of-the-operator-of-more-than-32-bytes";
const EVENT: &str = r#"{"room":"order:o1","type":"t","payload":1}"#;
const BATCH: &str = r#"{"events":[{"room":"order:o1","type":"t","payload":1}]}"#;

/// A key of the configuration.
fn key(name: &str, secret: &str, scopes: &str, more: &str) -> String {
    format!("[api.keys.{name}]\nkey = \"{secret}\"\nscopes = [{scopes}]\n{more}\n")
}

fn three_keys() -> String {
    key("shop", SHOP, "\"publish\"", "")
        + &key("dashboard", DASHBOARD, "\"read\"", "")
        + &key("operator", OPERATOR, "\"admin\"", "")
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("room on the disk");
    file
}

/// A node with this file and, if any, this key in the environment.
async fn node(toml: &str, single: Option<&str>) -> Node {
    let file = file(toml);
    Node::changed(&[], |command| configure(command, file.path(), single)).await
}

fn configure(command: &mut Command, file: &Path, single: Option<&str>) {
    command.env_remove("HALLWAY_API__KEY").envs(single.map(|key| ("HALLWAY_API__KEY", key)));
    command.arg("--config").arg(file);
}

/// What a request with this key is answered: status, body, and `Retry-After`.
async fn ask(at: SocketAddr, key: &str, method: Method, path: &str, body: &str) -> (u16, Value, Option<String>) {
    let request = http().request(method, format!("http://{at}{path}")).bearer_auth(key).body(body.to_owned());
    let response = request.send().await.expect("an answer");
    let (status, wait) = (response.status().as_u16(), response.headers().get("retry-after").cloned());
    let wait = wait.map(|wait| wait.to_str().expect("text").to_owned());
    (status, response.json().await.unwrap_or_default(), wait)
}

async fn publish(at: SocketAddr, key: &str) -> u16 {
    ask(at, key, Method::POST, "/v1/publish", EVENT).await.0
}

/// So many publishes with this key, at once; how many of each status.
async fn burst(at: SocketAddr, key: &str, times: usize, status: u16) -> usize {
    let all = join_all((0..times).map(|_| publish(at, key))).await;
    all.into_iter().filter(|got| *got == status).count()
}

/// The value of `hallway_api_requests_total` with these labels.
async fn counted(node: &Node, key: &str, outcome: &str) -> f64 {
    let text = http().get(format!("http://{}/metrics", node.admin())).send().await.expect("metrics");
    let text = text.text().await.expect("text");
    let lead = format!("hallway_api_requests_total{{key=\"{key}\",outcome=\"{outcome}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&lead)?.parse().ok()).unwrap_or(0.0)
}

#[tokio::test]
async fn a_key_opens_the_routes_of_its_scopes_and_no_other() {
    let node = node(&three_keys(), Some(API_KEY)).await;
    let routes = [
        (Method::POST, "/v1/publish", EVENT, Some("publish")),
        (Method::POST, "/v1/publish/batch", BATCH, Some("publish")),
        (Method::GET, "/v1/rooms/order:o1", "", Some("read")),
        (Method::GET, "/v1/rooms/order:o1/events?since=1", "", Some("read")),
        (Method::GET, "/v1/openapi.json", "", None),
    ];
    let keys = [(SHOP, "publish"), (DASHBOARD, "read"), (OPERATOR, "admin"), (API_KEY, "everything")];
    for (method, path, body, scope) in routes {
        for (key, good_for) in keys {
            let (status, reply, _) = ask(node.main(), key, method.clone(), path, body).await;
            let may = good_for == "everything" || scope.is_none_or(|scope| scope == good_for);
            if may {
                assert_eq!(status, 200, "{good_for} at {path}: {reply}");
                continue;
            }
            let message = reply["error"]["message"].as_str().expect("a message");
            assert_eq!((status, &reply["error"]["code"]), (403, &json!("forbidden")), "{good_for} at {path}");
            assert!(message.contains(&format!("`{}`", scope.expect("a scope"))), "{message}");
        }
        let nobody = ask(node.main(), "a-key-that-nobody-has-of-more-than-32-bytes", method.clone(), path, body).await;
        assert_eq!((nobody.0, &nobody.1["error"]["code"]), (401, &json!("unauthorized")), "{path}");
    }
    for (key, outcome, times) in [("shop", "ok", 3.0), ("shop", "forbidden", 2.0), ("api.key", "ok", 5.0)] {
        assert_eq!(counted(&node, key, outcome).await, times, "{key} {outcome}");
    }
    assert_eq!(counted(&node, "none", "unauthorized").await, 5.0);
    let nowhere = ask(node.main(), OPERATOR, Method::GET, "/v1/nowhere", "").await;
    assert_eq!((nowhere.0, &nowhere.1["error"]["code"]), (404, &json!("not-found")));
}

#[tokio::test]
async fn a_key_is_replaced_while_the_old_one_still_works() {
    let old = key("old", SHOP, "\"publish\"", "");
    let new = key("next", OPERATOR, "\"publish\"", "");
    for (toml, expected) in [(old.clone(), [200, 401]), (old + &new, [200, 200]), (new, [401, 200])] {
        let node = node(&toml, None).await;
        assert_eq!([publish(node.main(), SHOP).await, publish(node.main(), OPERATOR).await], expected);
    }
}

#[tokio::test]
async fn a_key_that_is_used_too_often_waits_and_no_other_does() {
    let toml = key("shop", SHOP, "\"publish\"", "rate = 5") + &key("operator", OPERATOR, "\"publish\"", "");
    let node = node(&toml, None).await;
    assert!(burst(node.main(), SHOP, 40, 429).await >= 10, "5 in a second pass, and what comes after");
    let refused = eventually("a refusal", || async {
        let answer = ask(node.main(), SHOP, Method::POST, "/v1/publish", EVENT).await;
        (answer.0 == 429).then_some(answer)
    })
    .await;
    assert_eq!((&refused.1["error"]["code"], refused.2.as_deref()), (&json!("rate-limited"), Some("1")));
    assert_eq!(burst(node.main(), OPERATOR, 40, 200).await, 40);
    eventually("the rate is there again", || async { (publish(node.main(), SHOP).await == 200).then_some(()) }).await;
    assert!(counted(&node, "shop", "rate-limited").await >= 10.0);
    assert_eq!(counted(&node, "operator", "rate-limited").await, 0.0);
}

#[tokio::test]
async fn the_rate_of_all_keys_holds_for_those_without_their_own() {
    let toml = format!("[api]\nrate = 5\n{}", key("shop", SHOP, "\"publish\"", "rate = 1000"));
    let node = node(&toml, Some(API_KEY)).await;
    assert!(burst(node.main(), API_KEY, 40, 429).await >= 10);
    assert_eq!(burst(node.main(), SHOP, 40, 200).await, 40);
}

#[tokio::test]
async fn keys_cannot_be_tried_out_fast_and_a_valid_one_is_not_held_up() {
    let node = node("[api]\nfailed_attempts_per_second = 3", Some(API_KEY)).await;
    let guesses = join_all((0..60).map(|i| async move { format!("a-guess-of-more-than-thirty-two-bytes-{i}") })).await;
    let answers = join_all(guesses.iter().map(|guess| publish(node.main(), guess))).await;
    let turned_away = answers.iter().filter(|status| **status == 429).count();
    assert!(turned_away >= 30, "{answers:?}");
    assert!(answers.iter().all(|status| [401, 429].contains(status)), "{answers:?}");
    assert_eq!(burst(node.main(), API_KEY, 20, 200).await, 20);
    let bare = http().get(format!("http://{}/v1/openapi.json", node.main())).send().await.expect("an answer");
    assert!([401, 429].contains(&bare.status().as_u16()), "{}", bare.status());
    assert_eq!(counted(&node, "none", "rate-limited").await + counted(&node, "none", "unauthorized").await, 61.0);
}

#[tokio::test]
async fn only_the_whole_key_in_its_header_counts() {
    let node = node("[api]\nfailed_attempts_per_second = 1000", Some(API_KEY)).await;
    let url = format!("http://{}/v1/openapi.json", node.main());
    let longer = format!("Bearer {API_KEY}x");
    let with = [
        (format!("Bearer {API_KEY}"), 200),
        (format!("bearer {API_KEY}"), 200),
        (longer, 401),
        (format!("Bearer {}", &API_KEY[1..]), 401),
        (format!("Bearer  {API_KEY}"), 401),
        (format!("Basic {API_KEY}"), 401),
        (API_KEY.to_owned(), 401),
        ("Bearer ".to_owned(), 401),
        ("Bearer".to_owned(), 401),
        (format!("Bearer {}", "x".repeat(6000)), 401),
    ];
    for (header, expected) in with {
        let answer = http().get(&url).header("authorization", &header).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), expected, "{header}");
        assert_eq!(answer.headers().contains_key("www-authenticate"), expected == 401);
    }
}

#[tokio::test]
async fn keys_come_from_mounted_files() {
    let (single, shop) = (file(&format!("{API_KEY}\n")), file(&format!("{SHOP}\r\n")));
    let toml = format!(
        "[api]\nkey_file = {:?}\n[api.keys.shop]\nkey_file = {:?}\nscopes = [\"publish\"]\n",
        single.path(),
        shop.path()
    );
    let node = node(&toml, None).await;
    assert_eq!(node.get("/v1/rooms/order:o1").await.0, 200);
    assert_eq!(publish(node.main(), SHOP).await, 200);
    assert_eq!(ask(node.main(), SHOP, Method::GET, "/v1/rooms/order:o1", "").await.0, 403);
    let path = single.path().to_str().expect("UTF-8");
    let by_variable = Node::changed(&[("HALLWAY_API__KEY_FILE", path)], |command| {
        command.env_remove("HALLWAY_API__KEY");
    })
    .await;
    assert_eq!(publish(by_variable.main(), API_KEY).await, 200);
}

#[tokio::test]
async fn the_api_on_an_address_of_its_own_is_nowhere_else() {
    let own = free_address();
    let node = Node::with(&[("HALLWAY_API__LISTEN", &own.to_string())]).await;
    assert!(node.listens_on(own), "{:?}", node.log());
    assert_eq!(publish(own, API_KEY).await, 200);
    assert_eq!(publish(own, SHOP).await, 401);
    assert_eq!(publish(node.main(), API_KEY).await, 404);
    let health = http().get(format!("http://{own}/api/health")).send().await.expect("an answer");
    assert_eq!(health.status().as_u16(), 404);
}

#[tokio::test]
async fn no_secret_of_a_key_reaches_the_log() {
    let node = node(&format!("[log]\nlevel = \"trace\"\n{}", three_keys()), Some(API_KEY)).await;
    assert_eq!(publish(node.main(), SHOP).await, 200);
    assert_eq!(publish(node.main(), DASHBOARD).await, 403);
    assert_eq!(publish(node.main(), &format!("{SHOP}-and-more")).await, 401);
    let log = node.log().join("\n");
    for secret in [SHOP, DASHBOARD, OPERATOR, API_KEY] {
        assert!(!log.contains(secret), "{log}");
    }
}

/// Runs `hallway publish` with this file.
fn command(at: SocketAddr, toml: &str, variables: &[(&str, &str)]) -> (i32, String) {
    let file = file(&format!("[server]\nlisten = [\"{at}\"]\n[auth]\nhs256_secret = \"{API_KEY}\"\n{toml}"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_hallway"));
    command.args(["publish", "order:o1", "--type", "t", "--payload", "1", "--config"]).arg(file.path());
    let output = command.envs(variables.iter().copied()).output().expect("the command ends");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().expect("no signal"), String::from_utf8(said).expect("text"))
}

#[tokio::test]
async fn the_command_publishes_with_the_configured_key_that_may() {
    let node = node(&three_keys(), Some(API_KEY)).await;
    let single = file(API_KEY);
    let single = single.path().to_str().expect("UTF-8").to_owned();
    let (dashboard, shop) =
        (key("dashboard", DASHBOARD, "\"read\"", ""), key("shop", SHOP, "\"read\", \"publish\"", ""));
    let several = shop.clone() + &key("other", OPERATOR, "\"publish\"", "");
    for (toml, variables, code, words) in [
        ("", &[("HALLWAY_API__KEY_FILE", single.as_str())][..], 0, "\"duplicate\":false"),
        (&three_keys(), &[("HALLWAY_API__KEY", API_KEY)], 0, "\"duplicate\":false"),
        (&(dashboard.clone() + &shop), &[], 0, "\"duplicate\":false"),
        (&several, &[], 1, "(other, shop); pass the one to use with --key"),
        (&dashboard, &[], 1, "there is no API key to publish with"),
        (&key("shop", DASHBOARD, "\"publish\"", ""), &[], 1, "lacks the scope `publish`"),
    ] {
        let (got, said) = command(node.main(), toml, variables);
        assert_eq!(got, code, "{said}");
        assert!(said.contains(words), "{said}");
        assert!(![SHOP, DASHBOARD, OPERATOR, API_KEY].iter().any(|secret| said.contains(secret)), "{said}");
    }
}
