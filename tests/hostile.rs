//! S42 and beyond: clients that mean harm, and what is left of them when they are gone.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::{eventually, token};

const ROOM: &str = "order:r";
/// An event reaches a well-behaved member by then, whatever the others do.
const PROMPT: Duration = Duration::from_secs(8);
/// A hostile transport is closed by then.
const SOON: Duration = Duration::from_secs(10);

async fn member(node: &Node) -> Client {
    let mut client = Client::connect(node.main(), &token::staff()).await;
    client.join(ROOM).await;
    client
}

/// Publishes an event and asserts that `reader` has it promptly.
async fn is_served(node: &Node, reader: &mut Client) {
    let event = json!({"room": ROOM, "type": "order.status_changed", "payload": 1});
    let (status, reply) = node.post("/v1/publish", event.to_string()).await;
    assert_eq!(status, 200, "{reply}");
    let (_, argument) = timeout(PROMPT, reader.event()).await.expect("a reader is not held up");
    assert_eq!(argument["event"]["id"], reply["id"]);
}

async fn only_one_session_is_left(node: &Node) {
    eventually("the other sessions are gone, each counted once", || async {
        let left = node.metric("hallway_connects_total").await - node.metric("hallway_disconnects_total").await;
        let sessions = node.metric("hallway_sessions").await;
        ((left - 1.0).abs() < 0.5 && (sessions - 1.0).abs() < 0.5).then_some(())
    })
    .await;
}

#[tokio::test]
async fn garbage_ends_its_own_transport_at_most() {
    let node = Node::embedded().await;
    let mut reader = member(&node).await;
    let deep = format!("42/realtime,0[\"join_room\",{}1{}]", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    let long = format!("42/realtime,{}[\"join_room\",{{}}]", "9".repeat(50_000));
    let namespace = format!("40/{},{{}}", "n".repeat(60_000));
    for frame in [
        "",
        "x",
        "4",
        "42/realtime,[",
        "42/realtime,0{}",
        "42/realtime,0[\"join_room\",NaN]",
        "45-",
        "451-/realtime,[\"x\"]",
        "42/realtime,0[\"join_room\",{\"room\":\"order:{a}\\u0000\"}]",
        &deep,
        &long,
        &namespace,
    ] {
        let mut hostile = Client::connect(node.main(), &token::staff()).await;
        hostile.send(frame).await;
        is_served(&node, &mut reader).await;
    }
    only_one_session_is_left(&node).await;
}

#[tokio::test]
async fn sessions_whose_connect_reply_could_not_be_sent_are_not_left_behind() {
    let node = Node::embedded().await;
    let mut reader = member(&node).await;
    let connect = format!(r#"40/realtime,{{"token":"{}"}}"#, token::staff());
    for _ in 0..40 {
        let (mut hostile, _) = Client::open(node.main()).await;
        for _ in 0..200 {
            let open = hostile.try_send(&connect).await && hostile.try_send("41/realtime,").await;
            if !open {
                break;
            }
        }
        hostile.until_closed(SOON).await;
    }
    is_served(&node, &mut reader).await;
    only_one_session_is_left(&node).await;
}

/// Opens a connection, writes this, and waits until the gateway closes it.
async fn is_closed_after(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(bytes).await.expect("it takes bytes");
    let mut rest = Vec::new();
    let end = timeout(SOON, stream.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "still open after {:?}", String::from_utf8_lossy(bytes));
}

#[tokio::test]
async fn a_connection_that_never_becomes_a_transport_is_closed() {
    let settings = [
        ("HALLWAY_SOCKETIO__CONNECT_TIMEOUT", "1s"),
        ("HALLWAY_REDIS__RESPONSE_TIMEOUT", "500ms"),
        ("HALLWAY_API__BODY_TIMEOUT", "500ms"),
    ];
    let node = Node::with(&settings).await;
    let mut reader = member(&node).await;
    let address = node.main();
    let endless = format!(
        "POST /v1/publish HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 5000\r\n\r\n{{",
        token::API_KEY
    );
    tokio::join!(
        is_closed_after(address, b""),
        is_closed_after(address, b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\n"),
        is_closed_after(address, b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n"),
        is_closed_after(address, endless.as_bytes()),
    );
    is_served(&node, &mut reader).await;
}

#[tokio::test]
async fn messages_on_a_rooms_channel_that_are_none_of_ours_reach_nobody_and_stop_nobody() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut reader = member(&node).await;
    let deep = format!(r#"{{"type":"t","payload":{}{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
    let words = format!("1 {}", "x ".repeat(30_000));
    let highest = "1 i 1 0 order:r 18446744073709551615-18446744073709551615 0-0\n{\"type\":\"t\"}";
    let refused = [
        "",
        "{",
        "1 ",
        "2 i 1 0 order:r - -\n{}",
        "1 i 99999999999999999999 0 order:r 1-0 0-0\n{}",
        &deep,
        &words,
        highest,
        r#"{"type":"connect","payload":1}"#,
    ];
    for message in refused {
        redis.publish("order:r", message.as_bytes()).await;
    }
    is_served(&node, &mut reader).await;
    for _ in 0..1000 {
        redis.publish("order:r", b"garbage").await;
    }
    is_served(&node, &mut reader).await;
    reader.nothing_came().await;
    let complaints = node.log().iter().filter(|line| line.contains("is no event")).count();
    assert!((1..20).contains(&complaints), "{complaints} log lines");
}
