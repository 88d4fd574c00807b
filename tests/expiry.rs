//! Expiry: at a live socket's `exp` its transport is closed, without a word that keeps clients away (S41).

use std::time::Duration;

use serde_json::json;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::token::{self, now_s};

#[tokio::test]
async fn a_transport_is_closed_when_its_token_expires_and_no_disconnect_packet_comes() {
    let node = Node::with(&[("HALLWAY_AUTH__EXPIRING_LEAD", "0s")]).await;
    let mut lasting = Client::connect(node.main(), &token::user("u2")).await;
    lasting.join("order:o1").await;
    let exp = now_s() + 2;
    let mut client = Client::connect(node.main(), &token::with(json!({"sub": "u1", "exp": exp}))).await;
    assert_eq!(client.join("order:o1").await["roomSize"], 2);
    let (_, published) = node.post("/v1/publish", r#"{"room":"order:o1","type":"t","payload":1}"#).await;
    assert_eq!(client.event().await.1["event"]["id"], published["id"]);

    let frames = client.until_closed(Duration::from_secs(6)).await;
    assert!(now_s() >= exp, "not before its time");
    assert!(now_s() <= exp + 2, "at its time, without leeway");
    assert!(frames.iter().all(|frame| !frame.starts_with("41")), "{frames:?}");

    assert_eq!(lasting.join("order:o1").await["roomSize"], 1, "its rooms were left at once");
    assert_eq!(lasting.event().await.1["event"]["id"], published["id"]);
    lasting.nothing_came().await;
}

#[tokio::test]
async fn each_of_many_sockets_is_closed_at_its_own_time() {
    let node = Node::embedded().await;
    let now = now_s();
    let mut clients = Vec::new();
    for after in [3, 1, 2, 600, 1] {
        let claims = json!({"sub": "u1", "exp": now + after + 1});
        clients.push((now + after + 1, Client::connect(node.main(), &token::with(claims)).await));
    }
    clients.sort_by_key(|(exp, _)| *exp);
    let (_, mut lasting) = clients.pop().expect("the one of 600 seconds");
    for (exp, mut client) in clients {
        client.until_closed(Duration::from_secs(8)).await;
        assert!((exp..=exp + 2).contains(&now_s()), "{} is not {exp}", now_s());
    }
    lasting.join("order:o1").await;
}
