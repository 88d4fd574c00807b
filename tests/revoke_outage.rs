//! What a revocation survives: lost messages, a Redis that is away or comes back empty, and nodes that start later.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::client::{Client, is_admitted};
use crate::harness::node::Node;
use crate::harness::proxy::Proxy;
use crate::harness::redis::Redis;
use crate::harness::token::{self, now_s};
use crate::harness::{eventually, within};

const SECOND: Duration = Duration::from_secs(1);
/// A turn of the probe (`redis.canary`), and a second for what it finds.
const TURN: Duration = Duration::from_secs(3);

fn old(sub: &str) -> String {
    token::with(json!({"sub": sub, "iat": now_s() - 10}))
}

async fn revoke(node: &Node, sub: &str) -> (u16, Value) {
    node.post("/v1/revoke", json!({"sub": sub}).to_string()).await
}

async fn down(node: &Node) {
    eventually("the outage is noticed", || async { (node.readyz().await == 503).then_some(()) }).await;
}

#[tokio::test]
async fn it_survives_a_redis_that_comes_back_empty_and_reaches_a_node_that_starts_later() {
    let mut redis = Redis::start_forgetful().await;
    let nodes = [Node::on(&redis.url()).await, Node::on(&redis.url()).await];
    for user in 0..1200 {
        let sub = format!("u{user}");
        if user % 400 == 0 {
            assert_eq!(revoke(&nodes[0], &sub).await.0, 200);
        }
    }
    within(SECOND, "the other knows", || async { (!is_admitted(&nodes[1], &old("u800")).await).then_some(()) }).await;
    redis.kill();
    redis.restart().await;
    nodes[0].ready().await;
    nodes[1].ready().await;
    let later = Node::on(&redis.url()).await;
    for node in nodes.iter().chain([&later]) {
        for user in ["u0", "u400", "u800"] {
            within(TURN, "it is refused", || async { (!is_admitted(node, &old(user)).await).then_some(()) }).await;
        }
        assert!(is_admitted(node, &old("u1")).await);
    }
    drop(nodes);
    redis.kill();
    redis.restart().await;
    later.ready().await;
    let last = Node::on(&redis.url()).await;
    within(TURN, "it came from the one that was left", || async {
        (!is_admitted(&last, &old("u400")).await).then_some(())
    })
    .await;
}

#[tokio::test]
async fn redis_remembers_when_no_node_does() {
    let redis = Redis::start().await;
    let mut node = Node::on(&redis.url()).await;
    assert_eq!(revoke(&node, "u1").await.0, 200);
    node.kill();
    let next = Node::on(&redis.url()).await;
    assert!(!is_admitted(&next, &old("u1")).await, "ready means that the list was read");
    assert!(is_admitted(&next, &old("u2")).await);
    assert_eq!(next.checks().await["revocations"], json!({"ready": true, "known": 1}));
}

#[tokio::test]
async fn a_revocation_in_an_outage_holds_here_at_once_and_everywhere_when_redis_is_back() {
    let mut redis = Redis::start_forgetful().await;
    let nodes = [Node::on(&redis.url()).await, Node::on(&redis.url()).await];
    let mut near = Client::connect(nodes[0].main(), &old("u1")).await;
    let mut far = Client::connect(nodes[1].main(), &old("u1")).await;
    redis.kill();
    down(&nodes[0]).await;
    let (status, reply) = revoke(&nodes[0], "u1").await;
    assert_eq!((status, &reply["error"]["code"]), (503, &json!("unavailable")));
    assert!(reply["error"]["message"].as_str().expect("a sentence").contains("revoked on this node only"), "{reply}");
    assert_eq!(near.until_closed(SECOND).await, ["41/realtime,"]);
    assert!(!is_admitted(&nodes[0], &old("u1")).await);
    assert!(is_admitted(&nodes[1], &old("u2")).await, "who is not revoked is let in by a copy that was read before");
    far.call("leave_room", r#"{"room":"order:o1"}"#).await;
    redis.restart().await;
    assert_eq!(far.until_closed(TURN * 3).await, ["41/realtime,"]);
    assert!(!is_admitted(&nodes[1], &old("u1")).await);
}

#[tokio::test]
async fn a_node_that_was_cut_off_learns_what_it_missed() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.address()).await;
    let (node, deaf) = (Node::on(&redis.url()).await, Node::on(&proxy.url()).await);
    let mut client = Client::connect(deaf.main(), &old("u1")).await;
    proxy.deafen(true);
    assert_eq!(revoke(&node, "u1").await.0, 200);
    assert_eq!(client.until_closed(TURN).await, ["41/realtime,"], "the revision tells that a message was lost");
    assert!(!is_admitted(&deaf, &old("u1")).await);
}

#[tokio::test]
async fn after_a_pause_of_redis_everybody_knows() {
    let redis = Redis::start().await;
    let nodes = [Node::on(&redis.url()).await, Node::on(&redis.url()).await];
    let mut client = Client::connect(nodes[1].main(), &old("u1")).await;
    redis.pause();
    down(&nodes[0]).await;
    assert_eq!(revoke(&nodes[0], "u1").await.0, 503);
    redis.go_on();
    assert_eq!(client.until_closed(TURN * 3).await, ["41/realtime,"]);
    nodes[0].ready().await;
    assert_eq!(revoke(&nodes[0], "u1").await.0, 200, "asking again does no harm");
}

#[tokio::test]
async fn an_emptied_list_is_noticed_without_any_break() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    assert_eq!(revoke(&node, "u1").await.0, 200);
    let mut client = redis.client().await;
    redis::cmd("FLUSHALL").exec_async(&mut client).await.expect("redis is up");
    eventually("it is written back", || async {
        let known: u64 =
            redis::cmd("ZCARD").arg("hallway:revoked").query_async(&mut client.clone()).await.expect("a set");
        (known == 2).then_some(())
    })
    .await;
}

/// Closed, at most with the packet by which Engine.IO ends a transport: a client comes back with the same token.
async fn closed_without_a_verdict(client: &mut Client) {
    let frames = client.until_closed(Duration::from_secs(6)).await;
    assert!(frames.iter().all(|frame| frame == "1"), "{frames:?}");
}

#[tokio::test]
async fn before_the_list_is_read_nobody_is_admitted_and_nobody_is_told_that_the_token_is_bad() {
    let mut redis = Redis::start().await;
    redis::cmd("SET").arg("hallway:revoked").arg("x").exec_async(&mut redis.client().await).await.expect("redis is up");
    let url = redis.url();
    let settings = [("HALLWAY_REDIS__URL", url.as_str()), ("HALLWAY_SOCKETIO__CONNECT_TIMEOUT", "3s")];
    let node = Node::start(&settings).await;
    eventually("it says what is wrong", || async {
        node.log().iter().any(|line| line.contains("the key hallway:revoked holds something else")).then_some(())
    })
    .await;
    assert_eq!(node.readyz().await, 503);
    let check = node.checks().await["revocations"].clone();
    assert!(check["problem"].as_str().expect("a sentence").contains("rename or delete it"), "{check}");
    let (mut turned_away, _) = Client::open(node.main()).await;
    turned_away.send(&format!("40/realtime,{}", json!({"token": token::user("u1")}))).await;
    closed_without_a_verdict(&mut turned_away).await;
    let (mut waits, _) = Client::open(node.main()).await;
    waits.send(&format!("40/realtime,{}", json!({"token": token::user("u1")}))).await;
    redis::cmd("DEL").arg("hallway:revoked").exec_async(&mut redis.client().await).await.expect("redis is up");
    assert!(waits.frame().await.expect("a reply").starts_with("40/realtime,"), "as soon as the list is read");
    node.ready().await;
    redis.kill();
    let late = Node::start(&settings).await;
    let (mut nobody, _) = Client::open(late.main()).await;
    nobody.send(&format!("40/realtime,{}", json!({"token": token::user("u1")}))).await;
    closed_without_a_verdict(&mut nobody).await;
    let (status, reply) = revoke(&late, "u1").await;
    assert_eq!((status, &reply["error"]["code"]), (503, &json!("unavailable")), "it does not know how late it is");
}
