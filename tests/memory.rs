//! One bound for what waits for all sockets of a node: those who do not read pay for it, and no others.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::node::Node;
use crate::harness::token;

/// A small node: 16 MiB of its memory may wait for sockets.
const SMALL: [(&str, &str); 4] = [
    ("HALLWAY_LIMITS__MEMORY", "64MiB"),
    ("HALLWAY_LIMITS__PENDING_PUBLISH_BYTES", "16MiB"),
    ("HALLWAY_LIMITS__READ_BYTES", "4MiB"),
    ("HALLWAY_WIRE__WRITE_DEADLINE", "1m"),
];
const BUDGET: f64 = 16.0 * 1024.0 * 1024.0;

/// Events that make up a page.
const PAGE: usize = 16;
const LARGE: usize = 60_000;

async fn small() -> Node {
    Node::with(&SMALL).await
}

async fn publish(node: &Node, room: &str, length: usize) {
    let event = json!({"room": room, "type": "t", "payload": "x".repeat(length)});
    assert_eq!(node.post("/v1/publish", event.to_string()).await.0, 200);
}

async fn sign_in(node: &Node, user: usize) -> Client {
    Client::connect(node.main(), &token::user(&format!("u{user}"))).await
}

async fn held_is(node: &Node, what: &str, is: impl Fn(f64) -> bool) {
    eventually(what, || async { is(node.metric("hallway_memory_held_bytes").await).then_some(()) }).await;
}

#[tokio::test]
async fn those_who_ask_for_histories_and_do_not_read_are_closed_when_the_node_holds_too_much_and_nobody_else() {
    let node = small().await;
    for _ in 0..PAGE {
        publish(&node, "order:long", LARGE).await;
    }
    let mut member = sign_in(&node, 1000).await;
    member.join("order:live").await;
    let mut greedy = join_all((0..40).map(|user| sign_in(&node, user))).await;
    for _ in 0..4 {
        for client in &mut greedy {
            client.try_send(r#"42/realtime,1["get_missed_events",{"room":"order:long","since":0,"limit":1000}]"#).await;
        }
    }
    node.moves("hallway_memory_shed_total").await;
    for number in 0..100 {
        publish(&node, "order:live", 100).await;
        assert_eq!(member.event().await.1["event"]["type"], json!("t"), "{number}");
    }
    held_is(&node, "no more is held than may be", |held| held <= BUDGET).await;
    let page = member.call("get_missed_events", r#"{"room":"order:long","since":0,"limit":1000}"#).await;
    assert_eq!(page["data"]["events"].as_array().map(Vec::len), Some(PAGE), "who reads is served: {page}");
    let numbers = node.numbers().await;
    assert!(numbers.contains(r#"hallway_disconnects_total{why="memory-full"}"#), "{numbers}");
    assert_eq!(node.metric("hallway_memory_budget_bytes").await, BUDGET);
    let told: Vec<String> = node.log().into_iter().filter(|line| line.contains("memory-shed")).collect();
    assert!(matches!(&told[..], [line] if line.contains("limits.memory")), "{told:?}");
    greedy.clear();
    held_is(&node, "nothing is held for those who have gone", |held| held == 0.0).await;
}

#[tokio::test]
async fn what_many_wait_for_counts_once() {
    let node = small().await;
    let mut members = join_all((0..60).map(|user| sign_in(&node, user))).await;
    for member in &mut members {
        member.join("order:o1").await;
    }
    const EVENTS: usize = 32;
    for _ in 0..EVENTS {
        publish(&node, "order:o1", LARGE).await;
    }
    // Nearly two mebibytes for each of sixty are seven times what may be held, and are there once.
    held_is(&node, "something waits", |held| held > BUDGET / 32.0).await;
    node.moves("hallway_memory_held_bytes").await;
    assert_eq!(node.metric("hallway_memory_shed_total").await, 0.0);
    for member in &mut members {
        for _ in 0..EVENTS {
            member.event().await;
        }
    }
    held_is(&node, "nothing waits", |held| held == 0.0).await;
}

#[tokio::test]
async fn no_page_is_read_for_a_socket_that_has_something_waiting_while_memory_is_tight() {
    let node = small().await;
    for _ in 0..PAGE {
        publish(&node, "order:long", LARGE).await;
    }
    // Ten pages are more than the lower mark, and less than the upper one.
    let mut idle = join_all((0..11).map(|user| sign_in(&node, user))).await;
    for client in &mut idle {
        for number in 0..3 {
            let ask =
                format!(r#"42/realtime,{number}["get_missed_events",{{"room":"order:long","since":0,"limit":1000}}]"#);
            client.send(&ask).await;
        }
    }
    held_is(&node, "the lower mark is passed", |held| held > BUDGET / 2.0).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(node.metric("hallway_memory_shed_total").await, 0.0, "there was no need to close anybody");
    for client in &mut idle {
        for _ in 0..3 {
            let frame = client.frame().await.expect("an answer");
            assert!(frame.starts_with("43") && frame.len() > PAGE * LARGE, "{}", &frame[..60]);
        }
    }
}

/// The head of a frame of a client with so many bytes, of which none follow.
fn head(length: u16) -> Vec<u8> {
    let mut head = vec![0x81, 0x80 | 126];
    head.extend(length.to_be_bytes());
    head.extend([0; 4]);
    head
}

async fn announce(stream: &mut TcpStream, at: SocketAddr, length: u16) {
    let upgrade = format!(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nhost: {at}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(upgrade.as_bytes()).await.expect("the head is taken");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 101");
    stream.write_all(&head(length)).await.expect("it is taken");
}

#[tokio::test]
async fn messages_of_strangers_that_do_not_end_are_bounded_for_the_node() {
    let node = small().await;
    let mut member = sign_in(&node, 1000).await;
    member.join("order:live").await;
    let mut strangers = Vec::new();
    for _ in 0..300 {
        let mut stranger = TcpStream::connect(node.main()).await.expect("it listens");
        announce(&mut stranger, node.main(), 65_000).await;
        strangers.push(stranger);
    }
    node.moves("hallway_memory_shed_total").await;
    held_is(&node, "no more is held than may be", |held| held > 0.0 && held <= BUDGET).await;
    publish(&node, "order:live", 100).await;
    assert_eq!(member.event().await.1["event"]["type"], json!("t"));
    strangers.clear();
    held_is(&node, "nothing is held for those who have gone", |held| held == 0.0).await;
}

#[tokio::test]
async fn a_node_says_how_much_it_may_hold_when_nothing_is_set() {
    let node = Node::embedded().await;
    eventually("a budget", || async { (node.metric("hallway_memory_budget_bytes").await > BUDGET).then_some(()) })
        .await;
    node.moves("hallway_memory_budget_bytes").await;
}
