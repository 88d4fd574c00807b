//! Floods of rooms: a client that names thousands of them gets its share and no more, and leaves nothing behind.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::{eventually, token, within};

/// `limits.rooms_per_socket`.
const CAP: usize = 128;
const NAMED: usize = 10_000;
/// An event reaches its members by then while others flood.
const PROMPT: Duration = Duration::from_secs(8);
/// For thousands of commands on a busy machine.
const LONG: Duration = Duration::from_secs(60);
/// What an allocator may keep of what it had once.
const KEPT_KIB: u64 = 24 * 1024;

async fn node(redis: &Redis) -> Node {
    let url = redis.url();
    Node::with(&[
        ("HALLWAY_REDIS__URL", &url),
        ("HALLWAY_REDIS__LINGER", "0s"),
        ("HALLWAY_LIMITS__COMMANDS_PER_MINUTE", "1000000"),
    ])
    .await
}

/// Channels of rooms that a node is subscribed to.
async fn channels(redis: &mut MultiplexedConnection) -> Vec<String> {
    let mut list = redis::cmd("PUBSUB");
    list.arg("CHANNELS").arg("hallway:{*").query_async(redis).await.expect("redis is up")
}

async fn channels_become(redis: &Redis, count: usize) {
    let client = redis.client().await;
    within(LONG, "the subscriptions are what the members need", || async {
        (channels(&mut client.clone()).await.len() == count).then_some(())
    })
    .await;
}

/// Sends a command for each room without waiting, and returns the replies in order.
async fn all(client: &mut Client, command: &str, rooms: impl Iterator<Item = String>) -> Vec<Value> {
    let rooms: Vec<String> = rooms.collect();
    let mut replies = Vec::with_capacity(rooms.len());
    for chunk in rooms.chunks(200) {
        for (id, room) in chunk.iter().enumerate() {
            let argument = json!({"room": room, "since": 0});
            client.send(&format!(r#"42/realtime,{id}["{command}",{argument}]"#)).await;
        }
        for id in 0..chunk.len() {
            let frame = client.frame().await.expect("a reply");
            let body = frame.strip_prefix(&format!("43/realtime,{id}[")).and_then(|body| body.strip_suffix(']'));
            replies.push(serde_json::from_str(body.unwrap_or_else(|| panic!("{frame}"))).expect("one map"));
        }
    }
    replies
}

fn rooms(lead: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |i| format!("order:{lead}{i}"))
}

#[tokio::test]
async fn of_ten_thousand_rooms_a_client_joins_its_share_and_reading_the_rest_leaves_nothing_behind() {
    let redis = Redis::start_forgetful().await;
    let node = node(&redis).await;
    let mut hostile = Client::connect(node.main(), &token::user("u1")).await;
    let replies = all(&mut hostile, "join_room", rooms("r", NAMED)).await;
    assert!(replies[..CAP].iter().all(|reply| reply["ok"] == true), "{:?}", &replies[..CAP]);
    let refused = json!({"ok": false, "error": "too-many-rooms"});
    assert!(replies[CAP..].iter().all(|reply| *reply == refused));
    channels_become(&redis, CAP).await;

    let missed = |reply: &Value| reply["ok"] == true && reply["data"]["events"] == json!([]);
    assert!(all(&mut hostile, "get_missed_events", rooms("warm", NAMED / 5)).await.iter().all(missed));
    let warm = node.rss_kib();
    assert!(all(&mut hostile, "get_missed_events", rooms("x", NAMED)).await.iter().all(missed));
    assert!(all(&mut hostile, "leave_room", rooms("y", NAMED / 5)).await.iter().all(|reply| reply["ok"] == true));
    channels_become(&redis, CAP).await;
    let grown = node.rss_kib().saturating_sub(warm);
    assert!(grown < KEPT_KIB, "reading 10,000 rooms left {grown} KiB behind");
    hostile.drop_connection();
    channels_become(&redis, 0).await;
    let mut keys = redis::cmd("KEYS");
    let keys: Vec<String> = keys.arg("hallway:{*").query_async(&mut redis.client().await).await.expect("redis is up");
    // The node tries its rights on keys of what is no room.
    let of_rooms = keys.iter().filter(|key| !key.starts_with("hallway:{canary}"));
    let members = of_rooms.filter(|key| !key.ends_with(":members")).collect::<Vec<_>>();
    assert!(members.is_empty(), "reading has stored something: {members:?}");
}

/// Joins and leaves, over and over, without looking at what is answered.
async fn flood(node: std::net::SocketAddr, name: usize, rounds: usize) {
    let mut client = Client::connect(node, &token::user("flood")).await;
    for i in 0..rounds {
        let room = format!("order:f{}-{}", name % 4, i % 50);
        let argument = json!({ "room": room }).to_string();
        client.tell("join_room", &argument).await;
        client.tell("leave_room", &argument).await;
    }
    client.call("leave_room", r#"{"room":"order:last-word"}"#).await;
}

#[tokio::test]
async fn while_some_join_and_leave_without_end_others_have_their_events_promptly_and_the_memory_comes_back() {
    let redis = Redis::start_forgetful().await;
    let node = node(&redis).await;
    let mut reader = Client::connect(node.main(), &token::user("u1")).await;
    reader.join("order:quiet").await;
    let mut after_first = None;
    for _ in 0..3 {
        let mut floods = JoinSet::new();
        (0..12).for_each(|name| drop(floods.spawn(flood(node.main(), name, 300))));
        while !floods.is_empty() {
            let began = Instant::now();
            let (status, reply) = node.post("/v1/publish", r#"{"room":"order:quiet","type":"t","payload":1}"#).await;
            assert_eq!((status, &reader.event().await.1["event"]["id"]), (200, &reply["id"]));
            assert!(began.elapsed() < PROMPT, "an event took {:?}", began.elapsed());
            while let Some(done) = floods.try_join_next() {
                done.expect("a flood comes to its end");
            }
        }
        channels_become(&redis, 1).await;
        after_first.get_or_insert(node.rss_kib());
    }
    eventually("the sessions are gone", || async { (node.metric("hallway_sessions").await < 1.5).then_some(()) }).await;
    let grown = node.rss_kib().saturating_sub(after_first.expect("there was a first"));
    assert!(grown < KEPT_KIB, "two more floods left {grown} KiB behind");
    reader.nothing_came().await;
}
