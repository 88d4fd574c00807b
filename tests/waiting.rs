//! Commands that meet a Redis out of reach wait for it a little: a blip costs time and not a room (S13, `redis.answer_wait`).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::{eventually, token};

async fn node(redis: &Redis, answer_wait: &str) -> Node {
    let url = redis.url();
    Node::with(&[("HALLWAY_REDIS__URL", &url), ("HALLWAY_REDIS__ANSWER_WAIT", answer_wait)]).await
}

/// An agent, who may do all that needs the broker.
async fn agent(node: &Node) -> Client {
    Client::connect(node.main(), &token::with(json!({"sub": "a1", "role": "agent"}))).await
}

async fn becomes(node: &Node, status: u16) {
    eventually(&format!("readyz says {status}"), || async { (node.readyz().await == status).then_some(()) }).await;
}

/// What needs the broker, with an ack id each.
fn all() -> [(&'static str, String); 5] {
    [
        ("join_room", json!({"room": "order:new", "since": 0}).to_string()),
        ("join_rooms", json!({"rooms": [{"room": "order:known", "since": 0}, {"room": "order:other"}]}).to_string()),
        ("get_missed_events", json!({"room": "order:known", "since": 0}).to_string()),
        ("update_location", json!({"lat": 1.5, "lng": 2}).to_string()),
        ("leave_room", json!({"room": "order:new"}).to_string()),
    ]
}

/// Sends all of it in one breath, and gives the replies as they come.
async fn send(client: &mut Client) {
    for (id, (command, argument)) in all().iter().enumerate() {
        client.send(&format!(r#"42/realtime,90{id}["{command}",{argument}]"#)).await;
    }
}

async fn replies(client: &mut Client) -> Vec<Value> {
    let mut replies: Vec<Value> = Vec::new();
    while replies.len() < all().len() {
        let frame = client.frame().await.expect("the socket stays");
        let head = format!("43/realtime,90{}", replies.len());
        let body = frame.strip_prefix(&head).unwrap_or_else(|| panic!("the answers are in order: {frame}"));
        replies.push(serde_json::from_str::<Value>(body).expect("a reply")[0].take());
    }
    replies
}

#[tokio::test]
async fn a_redis_that_comes_back_in_time_costs_no_command() {
    let mut redis = Redis::start().await;
    let node = node(&redis, "15s").await;
    let mut client = agent(&node).await;
    client.join("order:known").await;
    redis.fcall(&["order:known"], r#"{"type":"t","payload":1}"#, &["ID", "one"]).await.expect("it is published");
    assert_eq!(client.event().await.1["event"]["id"], "one");
    redis.kill();
    becomes(&node, 503).await;
    send(&mut client).await;
    redis.restart().await;
    let replies = replies(&mut client).await;
    assert!(replies.iter().all(|reply| reply["ok"] == true), "{replies:?}");
    assert_eq!((&replies[0]["data"]["roomSize"], &replies[4]["data"]["roomSize"]), (&json!(1), &json!(0)));
    assert_eq!(replies[1]["data"]["rooms"][0]["roomSize"], 1);
    for answered in [&replies[1], &replies[2]] {
        assert_eq!(answered["data"]["events"][0]["id"], "one", "{answered}");
    }
    for (room, id) in [("order:other", "two"), ("order:known", "three")] {
        redis.fcall(&[room], r#"{"type":"t","payload":1}"#, &["ID", id]).await.expect("it is published");
        assert_eq!(client.event().await.1["event"]["id"], id);
    }
    client.nothing_came().await;
}

/// All but the last of the commands, which needs no broker, were refused in time.
#[track_caller]
fn refused_in_time(replies: &[Value], took: Duration) {
    let refused = json!({"ok": false, "error": "unavailable"});
    assert!(replies[..4].iter().all(|reply| *reply == refused), "{replies:?}");
    assert_eq!(replies[4]["ok"], true, "{replies:?}");
    assert!(took >= Duration::from_secs(1), "it was waited for: {took:?}");
}

#[tokio::test]
async fn a_redis_that_stays_away_is_told_after_the_wait_and_commands_in_a_row_do_not_wait_one_after_the_other() {
    let mut redis = Redis::start().await;
    let node = node(&redis, "1s").await;
    let mut client = agent(&node).await;
    client.join("order:known").await;
    redis.kill();
    becomes(&node, 503).await;
    let began = Instant::now();
    send(&mut client).await;
    let replies = replies(&mut client).await;
    refused_in_time(&replies, began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    redis.restart().await;
    node.ready().await;
    client.join("order:new").await;
    redis.fcall(&["order:new", "order:known"], r#"{"type":"t","payload":1}"#, &["ID", "one"]).await.expect("published");
    assert_eq!(client.event().await.1["event"]["id"], "one");
}

#[tokio::test]
async fn a_redis_that_is_silent_is_waited_for_no_longer_than_one_that_refuses() {
    let redis = Redis::start().await;
    let node = node(&redis, "1s").await;
    let mut client = agent(&node).await;
    client.join("order:known").await;
    redis.pause();
    let began = Instant::now();
    let many: Value = (0..100).map(|n| json!({"room": format!("order:{n}"), "since": 0})).collect();
    let many = ("join_rooms", json!({"rooms": many}).to_string());
    for (command, argument) in [&all()[0], &many, &all()[2], &all()[3]] {
        let reply = client.call(command, argument).await;
        assert_eq!(reply, json!({"ok": false, "error": "unavailable"}), "{command}");
    }
    let took = began.elapsed();
    redis.go_on();
    // The answer of Redis itself may take 5 s (`redis.response_timeout`).
    assert!((Duration::from_secs(4)..Duration::from_secs(12)).contains(&took), "{took:?}");
    node.ready().await;
    // Of what was refused nothing is joined, however far it got.
    redis.fcall(&["order:5"], r#"{"type":"t","payload":1}"#, &[]).await.expect("it is published");
    client.join("order:new").await;
    client.nothing_came().await;
}

#[tokio::test]
async fn what_waits_ends_with_its_session() {
    let mut redis = Redis::start().await;
    let mut node = node(&redis, "60s").await;
    let mut gone = agent(&node).await;
    let mut client = agent(&node).await;
    redis.kill();
    becomes(&node, 503).await;
    send(&mut gone).await;
    gone.drop_connection();
    eventually("it is gone", || async { (node.metric("hallway_sessions").await < 1.5).then_some(()) }).await;
    client.tell("join_rooms", r#"{"rooms":[{"room":"order:o"}]}"#).await;
    assert_eq!(node.terminate().await.code(), Some(0));
    let log = node.log();
    assert!(!log.iter().any(|line| line.contains("some tasks did not end in time")), "{log:#?}");
}

#[tokio::test]
async fn rooms_without_an_ack_id_are_joined_after_the_outage_or_cost_the_transport() {
    let mut redis = Redis::start().await;
    let url = redis.url();
    let node = Node::with(&[("HALLWAY_REDIS__URL", &url), ("HALLWAY_REDIS__JOIN_WAIT", "6s")]).await;
    let mut client = agent(&node).await;
    redis.kill();
    becomes(&node, 503).await;
    client.tell("join_rooms", r#"{"rooms":[{"room":"order:one"},{"room":"order:two"}]}"#).await;
    redis.restart().await;
    eventually("they are joined", || async { (node.get("/v1/rooms/order:two").await.1["size"] == 1).then_some(()) })
        .await;
    redis.fcall(&["order:one", "order:two"], r#"{"type":"t","payload":1}"#, &["ID", "one"]).await.expect("published");
    assert_eq!(client.event().await.1["event"]["meta"]["offsets"].as_object().map(serde_json::Map::len), Some(2));
    redis.kill();
    becomes(&node, 503).await;
    client.tell("join_rooms", r#"{"rooms":[{"room":"order:three"}]}"#).await;
    assert_eq!(client.until_closed(Duration::from_secs(25)).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_room_whose_keys_cannot_be_read_is_refused_alone() {
    let redis = Redis::start().await;
    let node = node(&redis, "10s").await;
    let mut client = agent(&node).await;
    let mut spoil = redis::cmd("SET");
    spoil.arg("hallway:{order:bad}:history").arg("no stream");
    spoil.exec_async(&mut redis.client().await).await.expect("redis is up");
    let began = Instant::now();
    let joined =
        client.join_rooms(&json!([{"room": "order:good", "since": 0}, {"room": "order:bad", "since": 0}])).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(joined["rooms"][1], json!({"room": "order:bad", "error": "unavailable"}));
    redis.fcall(&["order:good"], r#"{"type":"t","payload":1}"#, &["ID", "one"]).await.expect("it is published");
    assert_eq!(client.event().await.1["event"]["id"], "one");
}
