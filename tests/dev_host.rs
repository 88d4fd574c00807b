//! `serve --dev` for an emulator or a phone: the names of `--dev-host` and no others are let in, and a developer is told why
//! a client is not.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::client::{Client, UNAUTHORIZED};
use crate::harness::node::Node;
use crate::harness::token::{self, now_s};
use crate::harness::{eventually, free_address, http};

const EMULATOR: &str = "10.0.2.2";

/// A gateway in dev mode with these hosts, whose lines can be read.
async fn dev(hosts: &[&str], settings: &[(&str, &str)]) -> Node {
    Node::changed(&[&[("HALLWAY_LOG__FORMAT", "json")], settings].concat(), |command| {
        command.arg("--dev").args(hosts.iter().flat_map(|host| ["--dev-host", host]));
        command.env_remove("HALLWAY_API__KEY");
    })
    .await
}

/// The status of an upgrade with these header lines.
async fn upgrade(address: SocketAddr, query: &str, lines: &str) -> u16 {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!(
        "GET /socket.io/?{query} HTTP/1.1\r\n{lines}Connection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("it takes bytes");
    let mut answer = [0; 64];
    let read = stream.read(&mut answer).await.expect("an answer");
    let text = String::from_utf8_lossy(&answer[..read]).into_owned();
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

async fn comes_as(node: &Node, host: &str, origin: Option<&str>) -> u16 {
    let origin = origin.map_or_else(String::new, |origin| format!("Origin: {origin}\r\n"));
    upgrade(node.main(), "EIO=4&transport=websocket", &format!("Host: {host}\r\n{origin}")).await
}

/// The lines of an event.
fn said(node: &Node, event: &str) -> Vec<Value> {
    let lines = node.log();
    let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["event"] == event).collect()
}

#[tokio::test]
async fn the_hosts_that_are_named_get_in_and_no_name_that_looks_like_them() {
    let node = dev(&[EMULATOR, "My-Mac.local", "fd00::1"], &[]).await;
    let port = node.main().port();
    for host in [EMULATOR, "10.0.2.2:8080", "my-mac.LOCAL:1", "[fd00::1]:8080", "localhost", "127.0.0.1"] {
        assert_eq!(comes_as(&node, host, None).await, 101, "{host}");
    }
    for origin in
        [format!("http://{EMULATOR}:{port}"), "http://my-mac.local:3000".to_owned(), "http://localhost".to_owned()]
    {
        assert_eq!(comes_as(&node, EMULATOR, Some(&origin)).await, 101, "{origin}");
    }
    for host in
        ["10.0.2.3", "10.0.2.2.nip.io", "x.my-mac.local", "my-mac.local.evil.example", "my-mac.local.", "evil.example"]
    {
        assert_eq!(comes_as(&node, host, None).await, 403, "{host}");
    }
    for origin in ["http://evil.example", "null", "http://10.0.2.2.evil.example", "http://10.0.2.2@evil.example"] {
        assert_eq!(comes_as(&node, EMULATOR, Some(origin)).await, 403, "a page of {origin} that knows the address");
    }
    let health = http().get(format!("http://{}/api/health", node.main())).header("host", EMULATOR).send().await;
    assert_eq!(health.expect("an answer").status(), 200);
}

#[tokio::test]
async fn a_refused_host_is_said_with_the_flag_that_lets_it_in_and_not_each_time() {
    let node = dev(&[], &[]).await;
    for _ in 0..20 {
        assert_eq!(comes_as(&node, "10.0.2.2:8080", None).await, 403);
        assert_eq!(comes_as(&node, "localhost", Some("http://10.0.2.7:3000")).await, 403);
    }
    let lines = eventually("both are said", || async {
        Some(said(&node, "dev-request-refused")).filter(|lines| lines.len() >= 2)
    });
    let lines = lines.await;
    let names: Vec<&Value> = lines.iter().map(|line| &line["name"]).collect();
    assert_eq!(names, ["10.0.2.2", "10.0.2.7"], "each once: {lines:#?}");
    for line in &lines {
        assert!(line["message"].as_str().is_some_and(|words| words.contains("--dev-host")), "{line}");
    }
    for number in 0..300 {
        comes_as(&node, &format!("{number}.made-up.example"), None).await;
    }
    assert!(said(&node, "dev-request-refused").len() <= 64, "strangers do not fill the log");
}

#[tokio::test]
async fn a_developer_is_told_once_why_a_token_or_a_handshake_is_refused_and_never_sees_the_token() {
    let secret_part = "not-a-token-but-nobody-may-see-it";
    let node = dev(&[], &[("HALLWAY_LIMITS__ROOMS_PER_SOCKET", "5")]).await;
    let expired = token::with(json!({"sub": "u1", "exp": now_s() - 100}));
    for _ in 0..3 {
        for payload in [json!({"token": secret_part}), json!({"token": expired}), json!({})] {
            let (mut client, _) = Client::open(node.main()).await;
            assert_eq!(client.offer(&payload.to_string()).await, UNAUTHORIZED);
        }
        let polling = format!("http://{}/socket.io/?EIO=4&transport=polling&token={secret_part}", node.main());
        assert_eq!(http().get(polling).send().await.expect("an answer").status(), 400);
        let query = format!("EIO=3&transport=websocket&token={secret_part}");
        assert_eq!(upgrade(node.main(), &query, "Host: localhost\r\n").await, 400);
    }
    let reasons =
        |event: &str, field: &str| said(&node, event).iter().map(|l| l[field].to_string()).collect::<Vec<_>>();
    eventually("all of them are said", || async {
        (reasons("dev-token-refused", "reason").len() + reasons("dev-handshake-refused", "reason").len() >= 5)
            .then_some(())
    })
    .await;
    assert_eq!(reasons("dev-token-refused", "reason"), [r#""malformed""#, r#""expired""#, r#""no-token""#]);
    assert_eq!(reasons("dev-handshake-refused", "reason"), [r#""polling""#, r#""engine""#]);
    let mut parts = expired.split('.').skip(1).chain([secret_part]);
    assert!(parts.all(|part| node.log().iter().all(|line| !line.contains(part))), "{:#?}", node.log());
}

#[tokio::test]
async fn in_production_such_refusals_are_counted_and_not_said() {
    let node = Node::embedded().await;
    let (mut client, _) = Client::open(node.main()).await;
    assert_eq!(client.offer(r#"{"token":"x"}"#).await, UNAUTHORIZED);
    assert_eq!(comes_as(&node, "10.0.2.2", None).await, 101, "a Host is of no interest");
    for event in ["dev-token-refused", "dev-handshake-refused", "dev-request-refused", "dev-exposed"] {
        assert_eq!(said(&node, event), [] as [Value; 0]);
    }
}

#[tokio::test]
async fn with_a_named_host_clients_may_be_listened_for_beyond_loopback_and_that_is_said() {
    let port = free_address().port();
    let node = dev(&["192.168.1.7"], &[("HALLWAY_SERVER__LISTEN", &format!("0.0.0.0:{port}"))]).await;
    let warned = said(&node, "dev-exposed");
    assert_eq!(
        (warned.len(), &warned[0]["level"], &warned[0]["address"]),
        (1, &json!("WARN"), &json!(format!("0.0.0.0:{port}")))
    );
    let here = SocketAddr::from(([127, 0, 0, 1], port));
    let query = "EIO=4&transport=websocket";
    assert_eq!(upgrade(here, query, "Host: 192.168.1.7:8080\r\n").await, 101);
    assert_eq!(upgrade(here, query, "Host: 192.168.1.8:8080\r\n").await, 403);
    assert_eq!(
        said(&dev(&[EMULATOR], &[]).await, "dev-exposed"),
        [] as [Value; 0],
        "nothing is exposed by a name alone"
    );
}

fn serve(arguments: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hallway"));
    command.arg("serve").args(arguments).envs(settings.iter().copied()).stdin(Stdio::null());
    let output = command.output().expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_named_host_opens_nothing_but_the_listener_of_clients() {
    for (key, value) in [
        ("HALLWAY_ADMIN__LISTEN", "0.0.0.0:9090"),
        ("HALLWAY_API__LISTEN", "0.0.0.0:9091"),
        ("HALLWAY_REDIS__URL", "redis://10.0.0.1"),
    ] {
        let (code, said) = serve(&["--dev", "--dev-host", EMULATOR], &[(key, value)]);
        assert!(code == Some(64) && said.contains("loopback, which --dev insists on"), "{value}: {said}");
    }
    let (code, said) = serve(&["--dev"], &[("HALLWAY_SERVER__LISTEN", "0.0.0.0:8080")]);
    assert!(code == Some(64) && said.contains("--dev-host"), "{said}");
}

#[test]
fn what_is_no_host_and_a_host_without_dev_are_bad_usage() {
    let (code, said) = serve(&["--dev-host", EMULATOR], &[]);
    assert!(code == Some(2) && said.contains("--dev"), "{said}");
    for bad in ["", "*", "*.local", "http://10.0.2.2", "10.0.2.2:8080", "0.0.0.0", "127.1", "a b"] {
        let (code, said) = serve(&["--dev", "--dev-host", bad], &[]);
        assert!(code == Some(2) && said.contains("without scheme, port or wildcard"), "{bad}: {said}");
    }
}
