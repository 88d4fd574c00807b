//! How much publishing by HTTP a node takes on at once: what comes slowly, and what comes in masses, is bounded.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::node::Node;
use crate::harness::token::API_KEY;
use crate::harness::{eventually, within};

const EVENT: &str = r#"{"room":"order:o1","type":"t","payload":1}"#;
const MIB: usize = 1024 * 1024;

/// Begins a request whose body stays away; `length` is its header.
async fn begin(at: SocketAddr, path: &str, length: &str) -> TcpStream {
    let mut stream = TcpStream::connect(at).await.expect("it listens");
    let head = format!("POST {path} HTTP/1.1\r\nhost: {at}\r\nauthorization: Bearer {API_KEY}\r\n{length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("the head is taken");
    stream
}

/// The status that a stream is answered with, and the rest.
async fn answer(stream: &mut TcpStream) -> (u16, String) {
    let mut text = Vec::new();
    let mut part = [0; 4096];
    while !String::from_utf8_lossy(&text).contains("}}") {
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => break,
            Ok(count) => text.extend_from_slice(&part[..count]),
        }
    }
    let text = String::from_utf8(text).expect("text");
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no answer: {text}")), text)
}

fn batch(events: usize) -> String {
    format!("{{\"events\":[{}]}}", vec![EVENT; events].join(","))
}

/// Waits until the node counts so much as pending.
async fn pending(node: &Node, metric: &str, amount: f64) {
    let what = format!("{metric} is {amount}");
    eventually(&what, || async { (node.metric(metric).await == amount).then_some(()) }).await;
}

#[track_caller]
fn is_unavailable((status, reply): &(u16, Value), key: &str) {
    assert_eq!((*status, &reply["error"]["code"]), (503, &json!("unavailable")), "{reply}");
    assert!(reply["error"]["message"].as_str().expect("a message").contains(key), "{reply}");
}

#[tokio::test]
async fn bodies_that_come_slowly_take_up_no_more_than_the_bound_and_only_for_so_long() {
    let bounds = [("HALLWAY_LIMITS__PENDING_PUBLISH_BYTES", "32MiB"), ("HALLWAY_API__BODY_TIMEOUT", "8s")];
    let node = Node::with(&bounds).await;
    let length = format!("content-length: {}", 16 * MIB);
    let mut slow = begin(node.main(), "/v1/publish/batch", &length).await;
    pending(&node, "hallway_pending_publish_bytes", 16.0 * 1_048_576.0).await;
    assert_eq!(node.post("/v1/publish", EVENT).await.0, 200);
    let mut chunked = begin(node.main(), "/v1/publish/batch", "transfer-encoding: chunked").await;
    pending(&node, "hallway_pending_publish_bytes", 32.0 * 1_048_576.0).await;
    is_unavailable(&node.post("/v1/publish", EVENT).await, "limits.pending_publish_bytes");
    let mut third = begin(node.main(), "/v1/publish/batch", &length).await;
    let (status, text) = answer(&mut third).await;
    assert_eq!(status, 503, "{text}");
    assert!(text.to_lowercase().contains("retry-after: 1\r\n"), "{text}");
    assert!(node.metric("hallway_publishes_turned_away_total").await >= 2.0);
    node.moves("hallway_publishes_turned_away_total").await;
    node.moves("hallway_pending_publish_bytes").await;
    for stream in [&mut slow, &mut chunked] {
        let (status, text) = answer(stream).await;
        assert_eq!(status, 408, "{text}");
        assert!(text.contains("request-timeout") && text.contains("api.body_timeout"), "{text}");
    }
    pending(&node, "hallway_pending_publish_bytes", 0.0).await;
    assert_eq!(node.post("/v1/publish", EVENT).await.0, 200);
}

#[tokio::test]
async fn a_sender_that_vanishes_gives_its_place_back() {
    let node = Node::with(&[("HALLWAY_LIMITS__PENDING_PUBLISHES", "1"), ("HALLWAY_API__BODY_TIMEOUT", "5m")]).await;
    let slow = begin(node.main(), "/v1/publish", "content-length: 40").await;
    pending(&node, "hallway_pending_publishes", 1.0).await;
    node.moves("hallway_pending_publishes").await;
    is_unavailable(&node.post("/v1/publish", EVENT).await, "limits.pending_publishes");
    drop(slow);
    within(Duration::from_secs(5), "the place is free", || async {
        (node.post("/v1/publish", EVENT).await.0 == 200).then_some(())
    })
    .await;
    pending(&node, "hallway_pending_publishes", 0.0).await;
}

#[tokio::test]
async fn a_batch_counts_by_its_events() {
    let node = Node::with(&[("HALLWAY_LIMITS__PENDING_PUBLISHES", "10")]).await;
    let slow = begin(node.main(), "/v1/publish", "content-length: 40").await;
    pending(&node, "hallway_pending_publishes", 1.0).await;
    is_unavailable(&node.post("/v1/publish/batch", batch(10)).await, "limits.pending_publishes");
    assert_eq!(node.post("/v1/publish/batch", batch(9)).await.0, 200);
    drop(slow);
    pending(&node, "hallway_pending_publishes", 0.0).await;
    let (status, reply) = node.post("/v1/publish/batch", batch(50)).await;
    assert_eq!((status, reply["results"].as_array().map(Vec::len)), (200, Some(50)), "more than all takes all");
    pending(&node, "hallway_pending_publishes", 0.0).await;
}

#[tokio::test]
async fn what_is_announced_as_too_large_is_not_waited_for() {
    let node = Node::embedded().await;
    for (path, bytes) in [("/v1/publish", 2 * MIB), ("/v1/publish/batch", 17 * MIB), ("/v1/publish", 1 << 40)] {
        let mut stream = begin(node.main(), path, &format!("content-length: {bytes}")).await;
        let (status, text) = answer(&mut stream).await;
        assert_eq!(status, 413, "{text}");
        assert!(text.contains("event-too-large"), "{text}");
    }
    let mut endless = begin(node.main(), "/v1/publish", "transfer-encoding: chunked").await;
    let chunk = format!("40000\r\n{}\r\n", "x".repeat(0x40000));
    endless.write_all(chunk.as_bytes()).await.ok();
    assert_eq!(answer(&mut endless).await.0, 413);
    assert_eq!(node.metric("hallway_pending_publish_bytes").await, 0.0);
}

#[tokio::test]
async fn without_a_key_nothing_is_reserved() {
    let node = Node::embedded().await;
    let mut stream = TcpStream::connect(node.main()).await.expect("it listens");
    let head = format!("POST /v1/publish/batch HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", 16 * MIB);
    stream.write_all(head.as_bytes()).await.expect("the head is taken");
    let (status, text) = answer(&mut stream).await;
    assert_eq!(status, 401, "{text}");
    assert_eq!(node.metric("hallway_pending_publish_bytes").await, 0.0);
}
