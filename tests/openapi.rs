//! `GET /v1/openapi.json`: a valid document, and what it says is so.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use hallway_rooms::close::Refusal;
use reqwest::Method;
use serde_json::{Map, Value};

use crate::harness::http;
use crate::harness::node::Node;
use crate::harness::token::API_KEY;

/// Every operation with its scope, and requests to it: path with query, body, expected status.
type Tried = (&'static str, &'static str, Option<&'static str>, &'static [(&'static str, &'static str, u16)]);

const EVENT: &str = r#"{"room":"order:o1","type":"t","payload":1}"#;

const OPERATIONS: &[Tried] = &[
    (
        "post",
        "/v1/publish",
        Some("publish"),
        &[("/v1/publish", EVENT, 200), ("/v1/publish", r#"{"room":"nowhere","type":"t","payload":1}"#, 400)],
    ),
    (
        "post",
        "/v1/publish/batch",
        Some("publish"),
        &[("/v1/publish/batch", r#"{"events":[]}"#, 200), ("/v1/publish/batch", "[]", 400)],
    ),
    ("get", "/v1/rooms/{room}", Some("read"), &[("/v1/rooms/order:o1", "", 200), ("/v1/rooms/nowhere", "", 400)]),
    (
        "get",
        "/v1/rooms/{room}/events",
        Some("read"),
        &[("/v1/rooms/order:o1/events?since=1", "", 200), ("/v1/rooms/order:o1/events", "", 400)],
    ),
    (
        "post",
        "/v1/policy",
        Some("admin"),
        &[("/v1/policy", r#"{"token":"x","room":"order:o1"}"#, 200), ("/v1/policy", "[]", 400)],
    ),
    ("post", "/v1/revoke", Some("admin"), &[("/v1/revoke", r#"{"sub":"u-9"}"#, 200), ("/v1/revoke", "{}", 400)]),
    (
        "post",
        "/v1/disconnect",
        Some("admin"),
        &[("/v1/disconnect", r#"{"userId":"u-9"}"#, 200), ("/v1/disconnect", "{}", 400)],
    ),
    // Its bad request is one without a key.
    ("get", "/v1/openapi.json", None, &[("/v1/openapi.json", "", 200)]),
];

/// Paths of the interface that may or may not be there in this version.
const CANDIDATES: [&str; 9] = [
    "/v1/publish",
    "/v1/publish/batch",
    "/v1/rooms/{room}",
    "/v1/rooms/{room}/events",
    "/v1/rooms/{room}/presence",
    "/v1/revoke",
    "/v1/disconnect",
    "/v1/policy",
    "/v1/openapi.json",
];

async fn document(node: &Node) -> Value {
    let (status, document) = node.get("/v1/openapi.json").await;
    assert_eq!((status, document["openapi"].as_str()), (200, Some("3.1.0")), "{document}");
    document
}

async fn status(node: &Node, method: &str, path: &str, key: Option<&str>, body: &str) -> u16 {
    let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
    let request = http().request(method, format!("http://{}{path}", node.main())).body(body.to_owned());
    let request = if let Some(key) = key { request.bearer_auth(key) } else { request };
    request.send().await.expect("an answer").status().as_u16()
}

fn paths(document: &Value) -> &Map<String, Value> {
    document["paths"].as_object().expect("paths")
}

/// Every operation of the document: method, path, and the operation.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let mut all = Vec::new();
    for (path, item) in paths(document) {
        let methods = item.as_object().expect("operations");
        all.extend(methods.iter().map(|(method, operation)| (method.as_str(), path.as_str(), operation)));
    }
    all
}

fn statuses(operation: &Value) -> BTreeSet<u16> {
    let responses = operation["responses"].as_object().expect("responses");
    responses.keys().map(|status| status.parse().expect("a status")).collect()
}

#[tokio::test]
async fn it_is_valid() {
    let node = Node::embedded().await;
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(document(&node).await.to_string().as_bytes()).expect("room on the disk");
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/.venv/bin/python");
    let done = Command::new(&python).args(["-m", "openapi_spec_validator"]).arg(file.path()).output();
    let done = done.unwrap_or_else(|error| panic!("{python:?} does not run ({error}): ./check installs it"));
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "{said}\n./check installs what this needs");
}

#[tokio::test]
async fn what_answers_is_in_it_and_what_is_in_it_answers() {
    let node = Node::embedded().await;
    let document = document(&node).await;
    for path in CANDIDATES.into_iter().chain(paths(&document).keys().map(String::as_str)) {
        let there = status(&node, "get", &path.replace("{room}", "order:o1"), Some(API_KEY), "").await != 404;
        assert_eq!(there, paths(&document).contains_key(path), "{path}");
    }
    for (method, path, _) in operations(&document) {
        let got = status(&node, method, &path.replace("{room}", "order:o1"), Some(API_KEY), "").await;
        assert!(![404, 405].contains(&got), "{method} {path}: {got}");
    }
    let source =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api.rs")).expect("it is there");
    let beside: Vec<&str> =
        source.lines().filter(|line| line.contains(".route(\"") && !line.contains("{*rest}")).collect();
    assert!(beside.is_empty(), "mount it with `.routes(guard.route(…))`, so that it is in the document: {beside:?}");
}

#[tokio::test]
async fn a_good_and_a_bad_request_are_answered_as_it_says() {
    let node = Node::embedded().await;
    let document = document(&node).await;
    let told: BTreeSet<_> = operations(&document).iter().map(|(method, path, _)| (*method, *path)).collect();
    assert_eq!(told, OPERATIONS.iter().map(|(method, path, _, _)| (*method, *path)).collect());
    for (method, path, scope, requests) in OPERATIONS {
        let operation = &document["paths"][path][method];
        let needed = serde_json::json!([{"apiKey": scope.iter().collect::<Vec<_>>()}]);
        assert_eq!(operation["security"], needed, "{path}");
        for (target, body, expected) in *requests {
            let got = status(&node, method, target, Some(API_KEY), body).await;
            assert_eq!(got, *expected, "{method} {target}");
            assert!(statuses(operation).contains(&got), "{method} {target}: {got}");
        }
        assert_eq!(status(&node, method, requests[0].0, None, "").await, 401);
        assert!(statuses(operation).is_superset(&[200, 401, 403, 429].into()), "{path}");
    }
}

#[tokio::test]
async fn its_errors_are_those_of_the_table() {
    let node = Node::embedded().await;
    let document = document(&node).await;
    for (method, path, operation) in operations(&document) {
        for (status, answer) in operation["responses"].as_object().expect("responses") {
            if status == "200" {
                continue;
            }
            let codes: Vec<&str> =
                answer["description"].as_str().expect("a text").split('`').skip(1).step_by(2).collect();
            assert!(!codes.is_empty(), "{method} {path} {status}");
            for code in codes {
                let refusal = Refusal::ALL.into_iter().find(|refusal| refusal.code() == code);
                let refusal =
                    refusal.unwrap_or_else(|| panic!("{code} of {method} {path} is not in rooms/src/close.rs"));
                assert_eq!(&refusal.status().to_string(), status, "{code} of {method} {path}");
            }
            assert_eq!(answer["content"]["application/json"]["schema"]["$ref"], "#/components/schemas/ErrorReply");
        }
    }
}
