//! Rubbish in the keys that nodes share: what only counts goes on with what can be counted, what protects stands still, and
//! either says which key it is and what mends it.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use serde_json::json;

use crate::harness::client::{Client, is_admitted};
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::token::{self, now_s};
use crate::harness::{eventually, within};

const ROOM: &str = "order:1";

async fn run(redis: &mut MultiplexedConnection, words: &[&str]) {
    redis::cmd(words[0]).arg(&words[1..]).exec_async(redis).await.expect("redis is up");
}

async fn member(node: &Node, room: &str) -> Client {
    let mut client = Client::connect(node.main(), &token::staff()).await;
    client.join(room).await;
    client
}

async fn counts(node: &Node, room: &str, size: u64) {
    eventually(&format!("{size} in {room}"), || async { (node.room_size(room).await == size).then_some(()) }).await;
}

async fn is_told(node: &Node, words: &[&str]) {
    let told = |line: &String| words.iter().all(|word| line.contains(word));
    eventually(&format!("{words:?} is told"), || async { node.log().iter().any(told).then_some(()) }).await;
}

#[tokio::test]
async fn a_table_of_nodes_with_rubbish_in_it_still_tells_who_lives() {
    let redis = Redis::start().await;
    let mut admin = redis.client().await;
    run(&mut admin, &["HSET", "hallway:nodes", "a", "rubbish", "b", "1.5", "c", "99999999999999999999"]).await;
    let nodes = [Node::on(&redis.url()).await, Node::on(&redis.url()).await];
    for node in &nodes {
        eventually("both are seen", || async { (node.metric("hallway_nodes").await == 2.0).then_some(()) }).await;
        is_told(node, &["nodes-key-strange", "hallway:nodes"]).await;
    }
    let _members = [member(&nodes[0], ROOM).await, member(&nodes[1], ROOM).await];
    for node in &nodes {
        counts(node, ROOM, 2).await;
    }
    // Also where it is a node's own counter.
    let names: Vec<String> =
        redis::cmd("HKEYS").arg("hallway:nodes").query_async(&mut admin).await.expect("redis is up");
    for name in &names {
        run(&mut admin, &["HSET", "hallway:nodes", name, "rubbish"]).await;
    }
    for name in names.iter().filter(|name| name.len() > 1) {
        eventually("it counts again", || async {
            let counter: Option<String> = redis::cmd("HGET")
                .arg(&["hallway:nodes", name])
                .query_async(&mut admin.clone())
                .await
                .expect("redis is up");
            counter?.parse::<i64>().is_ok().then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_rooms_counts_with_rubbish_in_them_cost_no_room() {
    let redis = Redis::start().await;
    let mut admin = redis.client().await;
    let nodes = [Node::on(&redis.url()).await, Node::on(&redis.url()).await];
    let [nobody, spoilt] = ["hallway:{order:2}:members", "hallway:{order:3}:members"];
    let names: Vec<String> =
        redis::cmd("HKEYS").arg("hallway:nodes").query_async(&mut admin).await.expect("redis is up");
    for value in ["-7", "x", "1e3", "18446744073709551615"] {
        run(&mut admin, &["HSET", nobody, value, value]).await;
    }
    run(&mut admin, &["HSET", nobody, &names[0], "x", &names[1], "x"]).await;
    run(&mut admin, &["SET", spoilt, "x"]).await;
    let mut members = Vec::new();
    for node in &nodes {
        for room in ["order:1", "order:2", "order:3"] {
            members.push(member(node, room).await);
        }
    }
    for node in &nodes {
        counts(node, "order:1", 2).await;
        counts(node, "order:2", 2).await;
        eventually("an operator is told", || async {
            assert_eq!(node.room_size("order:3").await, 1, "the node's own");
            let told = |line: &String| line.contains("members-key-strange") && line.contains(spoilt);
            node.log().iter().any(told).then_some(())
        })
        .await;
        assert_eq!(node.readyz().await, 200);
    }
    run(&mut admin, &["DEL", spoilt]).await;
    members.push(member(&nodes[0], "order:3").await);
    counts(&nodes[1], "order:3", 2 + 1).await;
}

#[tokio::test]
async fn a_users_counts_with_rubbish_in_them_neither_lock_out_nor_give_more_seats() {
    let redis = Redis::start().await;
    let mut admin = redis.client().await;
    let url = redis.url();
    let node = Node::with(&[("HALLWAY_REDIS__URL", url.as_str()), ("HALLWAY_LIMITS__CONNECTIONS_PER_USER", "2")]).await;
    let mut first = Client::connect(node.main(), &token::user("u1")).await;
    let keys: Vec<String> =
        redis::cmd("KEYS").arg("hallway:user:*:sockets").query_async(&mut admin).await.expect("redis is up");
    for (name, value) in [("a", "-100"), ("b", "nan"), ("c", "inf"), ("d", "0x10"), ("e", "x")] {
        run(&mut admin, &["HSET", &keys[0], name, value]).await;
        run(&mut admin, &["HSET", "hallway:nodes", name, "1"]).await;
    }
    let mut second = Client::connect(node.main(), &token::user("u1")).await;
    let (mut third, _) = Client::open(node.main()).await;
    let reply = third.offer(&json!({"token": token::user("u1")}).to_string()).await;
    assert_eq!(reply, r#"44/realtime,{"message":"too-many-connections"}"#);
    // The table that says who lives is spoilt too: those here are counted.
    run(&mut admin, &["SET", "hallway:nodes", "x"]).await;
    let _other = Client::connect(node.main(), &token::user("u2")).await;
    first.join("order:1").await;
    second.join("order:1").await;
}

#[tokio::test]
async fn a_list_of_revocations_that_cannot_be_read_is_not_relied_on() {
    let redis = Redis::start().await;
    let mut admin = redis.client().await;
    let node = Node::on(&redis.url()).await;
    let old = |user: &str| token::with(json!({"sub": user, "iat": now_s() - 10}));
    assert_eq!(node.post("/v1/revoke", json!({"sub": "u1"}).to_string()).await.0, 200);
    run(&mut admin, &["ZADD", "hallway:revoked", "9999999999999", "rubbish"]).await;
    let late = Node::start(&[("HALLWAY_REDIS__URL", &redis.url())]).await;
    eventually("it is told", || async {
        let said = late.checks().await["revocations"]["problem"].as_str().unwrap_or_default().to_owned();
        (said.contains("\"rubbish\"") && said.contains("ZREM hallway:revoked")).then_some(())
    })
    .await;
    assert_eq!(late.readyz().await, 503);
    run(&mut admin, &["ZREM", "hallway:revoked", "rubbish"]).await;
    late.ready().await;
    assert!(!is_admitted(&late, &old("u1")).await && is_admitted(&late, &old("u2")).await);
    assert_eq!(node.readyz().await, 200);
}

#[tokio::test]
async fn a_revision_that_nothing_can_follow_hides_no_revocation() {
    let redis = Redis::start().await;
    let mut admin = redis.client().await;
    let url = redis.url();
    let nodes = [Node::on(&url).await, Node::on(&url).await];
    let old = |user: &str| token::with(json!({"sub": user, "iat": now_s() - 10}));
    for revision in ["inf", "-inf", "1e17", "-1e17", "-5.5", "0"] {
        run(&mut admin, &["ZADD", "hallway:revoked", revision, "revision"]).await;
        let user = format!("u{revision}");
        assert_eq!(nodes[0].post("/v1/revoke", json!({"sub": user}).to_string()).await.0, 200);
        let refused = || async { (!is_admitted(&nodes[1], &old(&user)).await).then_some(()) };
        within(Duration::from_secs(1), &format!("the other knows behind {revision}"), refused).await;
    }
    assert_eq!(nodes[1].readyz().await, 200);
}

#[tokio::test]
async fn heartbeats_that_fail_are_told_once_and_so_is_their_end() {
    let mut redis = Redis::start().await;
    let url = redis.url();
    let node = Node::with(&[("HALLWAY_REDIS__URL", url.as_str()), ("HALLWAY_REDIS__HEARTBEAT", "100ms")]).await;
    let said = |word: &str| node.log().iter().filter(|line| line.contains(word)).count();
    redis.kill();
    eventually("several failed", || async {
        (node.metric("hallway_heartbeats_failed_total").await >= 3.0).then_some(())
    })
    .await;
    redis.restart().await;
    eventually("the end is told", || async { (said("heartbeat-back") == 1).then_some(()) }).await;
    assert_eq!(said("heartbeat-failed"), 1);
}
