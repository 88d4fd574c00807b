//! Keys that hold something else, as after a slip with redis-cli: what rests on them says so, and nothing else suffers.

use serde_json::json;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::{PATIENCE, eventually, token};

async fn spoil(redis: &Redis, key: &str) {
    redis::cmd("SET").arg(key).arg("x").exec_async(&mut redis.client().await).await.expect("redis is up");
}

async fn mend(redis: &Redis, key: &str) {
    redis::cmd("DEL").arg(key).exec_async(&mut redis.client().await).await.expect("redis is up");
}

async fn is_told(node: &Node, key: &str) {
    let told = |line: &String| line.contains(key) && line.contains("rename or delete it");
    eventually("an operator is told", || async { node.log().iter().any(told).then_some(()) }).await;
}

#[tokio::test]
async fn a_room_that_cannot_be_read_says_so_and_others_are_served() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    for (room, key) in [("order:1", "hallway:{order:1}:latest"), ("order:2", "hallway:{order:2}:history")] {
        spoil(&redis, key).await;
        let mut client = Client::connect(node.main(), &token::staff()).await;
        let argument = json!({"room": room, "since": 0}).to_string();
        for command in ["join_room", "get_missed_events"] {
            assert_eq!(client.call(command, &argument).await, json!({"ok": false, "error": "unavailable"}));
        }
        let told = |line: &String| line.contains(&key[..17]) && line.contains("rename or delete it");
        eventually("an operator is told", || async {
            let (status, body) = node.get(&format!("/v1/rooms/{room}/events?since=0")).await;
            assert_eq!((status, &body["error"]["code"]), (503, &json!("unavailable")));
            node.log().iter().any(told).then_some(())
        })
        .await;
        client.join("order:3").await;
        redis.fcall(&["order:3"], r#"{"type":"t","payload":1}"#, &[]).await.expect("it is published");
        client.event().await;
        mend(&redis, key).await;
        assert_eq!(client.call("join_room", &argument).await["ok"], true);
    }
    assert!(node.metric("hallway_join_refused_total").await >= 2.0);
    assert_eq!(node.readyz().await, 200);
}

#[tokio::test]
async fn a_fleet_that_cannot_count_says_so_and_counts_again_when_it_can() {
    let redis = Redis::start().await;
    let nodes = [Node::on(&redis.url()).await, Node::on(&redis.url()).await];
    spoil(&redis, "hallway:nodes").await;
    let mut members = Vec::new();
    for node in &nodes {
        let mut client = Client::connect(node.main(), &token::staff()).await;
        client.join("order:1").await;
        members.push(client);
        is_told(node, "hallway:nodes").await;
    }
    mend(&redis, "hallway:nodes").await;
    for node in &nodes {
        eventually("both are counted", || async { (node.room_size("order:1").await == 2).then_some(()) }).await;
    }
}

#[tokio::test]
async fn a_room_that_became_unreadable_costs_its_own_members_and_no_others() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let event = r#"{"type":"t","payload":1}"#;
    let mut good = Client::connect(node.main(), &token::staff()).await;
    good.join("order:good").await;
    let mut member = Client::connect(node.main(), &token::staff()).await;
    member.join("order:spoilt").await;
    let heard = redis.fcall(&["order:spoilt"], event, &[]).await.expect("it is published");
    assert_eq!(member.event().await.1["event"]["id"], heard.id.as_str());
    spoil(&redis, "hallway:{order:spoilt}:history").await;
    // Its last offset says that something was missed, which cannot be read.
    let mut spoil_and_break = redis::pipe();
    spoil_and_break.cmd("SET").arg("hallway:{order:spoilt}:last").arg(format!("{}1", heard.placed[0].1));
    spoil_and_break.cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"]);
    spoil_and_break.exec_async(&mut redis.client().await).await.expect("redis is up");
    assert_eq!(member.until_closed(PATIENCE).await, Vec::<String>::new(), "without a 41");
    for _ in 0..3 {
        let heard = redis.fcall(&["order:good"], event, &[]).await.expect("it is published");
        assert_eq!(good.event().await.1["event"]["id"], heard.id.as_str());
    }
    node.ready().await;
    node.moves("hallway_rooms_unreadable_total").await;
    assert!(node.log().iter().any(|line| line.contains("room-unreadable") && line.contains("order:spoilt")));
    mend(&redis, "hallway:{order:spoilt}:history").await;
    mend(&redis, "hallway:{order:spoilt}:last").await;
    let mut back = Client::connect(node.main(), &token::staff()).await;
    eventually("it can be joined again", || async {
        let mut client = Client::connect(node.main(), &token::staff()).await;
        (client.call("join_room", r#"{"room":"order:spoilt"}"#).await["ok"] == true).then_some(())
    })
    .await;
    back.join("order:spoilt").await;
    let heard = redis.fcall(&["order:spoilt"], event, &[]).await.expect("it is published");
    assert_eq!(back.event().await.1["event"]["id"], heard.id.as_str());
}
