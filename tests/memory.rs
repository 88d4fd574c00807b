//! One bound for what waits for all sockets of a node: those who do not read pay for it, and no others.

use futures_util::future::join_all;
use serde_json::json;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, client_async};

use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::node::Node;
use crate::harness::proxy::Proxy;
use crate::harness::redis::Redis;
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
    assert!(numbers.contains(r#"hallway_disconnects_total{reason="memory-full"}"#), "{numbers}");
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

/// Has sockets ask for pages that they do not read, far more than may wait. No more is read for them when memory is tight.
async fn tighten(node: &Node) -> Vec<Client> {
    let mut idle = join_all((100..112).map(|user| sign_in(node, user))).await;
    for client in &mut idle {
        for _ in 0..8 {
            let ask = r#"42/realtime,1["get_missed_events",{"room":"order:long","since":0,"limit":1000}]"#;
            client.send(ask).await;
        }
    }
    held_is(node, "memory is tight", |held| held > BUDGET / 2.0).await;
    idle
}

/// A client for which the network holds little, so that what it does not read waits in the node.
async fn narrow(node: &Node) -> Client {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let stream = MaybeTlsStream::Plain(socket.connect(node.main()).await.expect("it listens"));
    let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", node.main());
    let (socket, _) = client_async(url, stream).await.expect("the upgrade is accepted");
    let mut client = Client::over(socket);
    assert!(client.frame().await.expect("the handshake").starts_with('0'));
    client.sign_in(&token::user("narrow")).await;
    client
}

/// Sends small events to a socket that does not read until some wait for it in the node: too few to hold up anything while
/// there is memory. Says how many were sent.
async fn clog(node: &Node, client: &mut Client) -> usize {
    client.join("order:clogged").await;
    for sent in 1..5000 {
        publish(node, "order:clogged", 2000).await;
        if node.metric("hallway_memory_held_bytes").await > 5000.0 {
            return sent;
        }
    }
    panic!("the network takes everything");
}

#[tokio::test]
async fn no_page_is_read_for_a_socket_that_has_something_waiting_while_memory_is_tight() {
    let redis = Redis::start().await;
    let url = redis.url();
    let node = Node::with(&[&SMALL[..], &[("HALLWAY_REDIS__URL", url.as_str())]].concat()).await;
    for room in ["order:long", "order:asked", "order:other"] {
        for _ in 0..PAGE {
            publish(&node, room, LARGE).await;
        }
    }
    let (mut clogged, mut other) = (narrow(&node).await, sign_in(&node, 2).await);
    let waiting = clog(&node, &mut clogged).await;
    let idle = tighten(&node).await;
    redis.note_commands().await;
    clogged.send(r#"42/realtime,9["get_missed_events",{"room":"order:asked","since":0,"limit":1000}]"#).await;
    for _ in 0..20 {
        let page = other.call("get_missed_events", r#"{"room":"order:other","since":0,"limit":1000}"#).await;
        assert_eq!(page["data"]["events"].as_array().map(Vec::len), Some(PAGE), "for one that reads: {page}");
    }
    assert!(redis.has_read("order:other").await && !redis.has_read("order:asked").await);
    assert_eq!(node.metric("hallway_memory_shed_total").await, 0.0, "there was no need to close anybody");
    for _ in 0..waiting {
        clogged.event().await;
    }
    let answer = clogged.frame().await.expect("an answer");
    assert!(answer.starts_with("43/realtime,9") && answer.len() > PAGE * LARGE, "{}", &answer[..60]);
    drop(idle);
}

/// Bytes of one socket's commands that may wait.
const INBOX: f64 = 1024.0 * 1024.0;

#[tokio::test]
async fn commands_that_wait_are_bounded_in_bytes_and_a_socket_is_read_on_when_they_are_done() {
    const COMMANDS: usize = 40;
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.address()).await;
    let settings = [("HALLWAY_REDIS__URL", proxy.url()), ("HALLWAY_REDIS__ANSWER_WAIT", "20s".to_owned())];
    let node = Node::with(&settings.each_ref().map(|(key, value)| (*key, value.as_str()))).await;
    let mut client = sign_in(&node, 1).await;
    proxy.stall("history");
    let sends = async {
        client.send(r#"42/realtime,0["get_missed_events",{"room":"order:o","since":0}]"#).await;
        let long = "x".repeat(LARGE);
        for number in 1..=COMMANDS {
            client.send(&format!(r#"42/realtime,{number}["no_command","{long}"]"#)).await;
        }
        for number in 0..=COMMANDS {
            let answer = client.frame().await.expect("an answer");
            assert!(answer.starts_with(&format!("43/realtime,{number}[")), "in the order sent: {answer}");
        }
    };
    let watches = async {
        held_is(&node, "the bound is reached", |held| held >= INBOX).await;
        for _ in 0..50 {
            let held = node.metric("hallway_memory_held_bytes").await;
            assert!(held < INBOX + 2.0 * LARGE as f64, "{held} bytes wait");
        }
        proxy.stall("");
    };
    tokio::join!(sends, watches);
    held_is(&node, "nothing waits", |held| held == 0.0).await;
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
