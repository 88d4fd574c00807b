//! `POST /v1/disconnect`: a user's sockets are kicked on every node, and the user is welcome again.

use std::time::Duration;

use serde_json::json;

use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::token;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_users_sockets_are_kicked_on_every_node_counted_and_welcome_again() {
    let redis = Redis::start().await;
    let nodes = [Node::on(&redis.url()).await, Node::on(&redis.url()).await, Node::on(&redis.url()).await];
    let (mut theirs, mut others) = (Vec::new(), Vec::new());
    for (at, node) in nodes.iter().enumerate() {
        for _ in 0..=at {
            theirs.push(Client::connect(node.main(), &token::user("u1")).await);
        }
        others.push(Client::connect(node.main(), &token::user("u2")).await);
    }
    let (status, reply) = nodes[1].post("/v1/disconnect", r#"{"userId":"u1"}"#).await;
    assert_eq!((status, reply), (200, json!({"sockets": 6, "complete": true})));
    for mut client in theirs {
        assert_eq!(client.until_closed(SECOND).await, ["41/realtime,"]);
    }
    for node in &nodes {
        Client::connect(node.main(), &token::user("u1")).await.join("user:u1").await;
        let gone = node.metric("hallway_sessions_kicked_total").await;
        assert!(gone >= 1.0, "{gone}");
    }
    for client in &mut others {
        client.nothing_came().await;
    }
    assert_eq!(nodes[0].post("/v1/disconnect", r#"{"userId":"u1\n"}"#).await.0, 400, "no user is called so");
    let (_, reply) = nodes[0].post("/v1/disconnect", r#"{"userId":"nobody"}"#).await;
    assert_eq!(reply, json!({"sockets": 0, "complete": true}));
}

#[tokio::test]
async fn a_node_that_does_not_answer_makes_the_count_incomplete() {
    let redis = Redis::start().await;
    let (one, other) = (Node::on(&redis.url()).await, Node::on(&redis.url()).await);
    let mut near = Client::connect(one.main(), &token::user("u1")).await;
    let mut far = Client::connect(other.main(), &token::user("u1")).await;
    other.pause();
    let (status, reply) = one.post("/v1/disconnect", r#"{"userId":"u1"}"#).await;
    other.go_on();
    assert_eq!((status, reply), (200, json!({"sockets": 1, "complete": false})));
    for client in [&mut near, &mut far] {
        assert_eq!(client.until_closed(SECOND * 3).await, ["41/realtime,"]);
    }
}

#[tokio::test]
async fn without_redis_this_nodes_sockets_are_kicked_and_the_answer_says_so() {
    let mut redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    redis.kill();
    eventually("the outage is noticed", || async { (node.readyz().await == 503).then_some(()) }).await;
    let (status, reply) = node.post("/v1/disconnect", r#"{"userId":"u1"}"#).await;
    assert_eq!((status, &reply["error"]["code"]), (503, &json!("unavailable")));
    assert!(reply["error"]["message"].as_str().expect("a sentence").starts_with("kicked 1 sockets of this node only"));
    assert_eq!(client.until_closed(SECOND).await, ["41/realtime,"]);
}

#[tokio::test]
async fn the_embedded_broker_kicks_and_a_bad_request_does_not() {
    let node = Node::with(&[("HALLWAY_SERVER__ALIASES", "/")]).await;
    let mut client = Client::open(node.main()).await.0;
    client.send(&format!("40{}", json!({"token": token::user("u1")}))).await;
    assert!(client.frame().await.expect("a reply").starts_with("40{"));
    for body in
        ["", "{}", "[]", r#"{"userId":5.5}"#, r#"{"userId":""}"#, r#"{"userId":"u1","sub":"u1"}"#, r#"{"sub":"u1"}"#]
    {
        let (status, reply) = node.post("/v1/disconnect", body).await;
        assert_eq!((status, &reply["error"]["code"]), (400, &json!("invalid-payload")), "{body}");
    }
    let (status, reply) = node.post("/v1/disconnect", r#"{"userId":"u1"}"#).await;
    assert_eq!((status, reply), (200, json!({"sockets": 1, "complete": true})));
    assert_eq!(client.until_closed(SECOND).await, ["41"], "of the root namespace");
}
