//! Handshake: what opens a transport, which namespaces there are, and how long one may stay unused (S1, S2, S5, S7).

use std::time::{Duration, Instant};

use crate::harness::client::Client;
use crate::harness::http;
use crate::harness::node::Node;
use crate::harness::token;

const SHORT: (&str, &str) = ("HALLWAY_SOCKETIO__CONNECT_TIMEOUT", "2s");

async fn publish(node: &Node, room: &str) -> String {
    let (status, reply) = node.post("/v1/publish", format!(r#"{{"room":"{room}","type":"t","payload":1}}"#)).await;
    assert_eq!(status, 200, "{reply}");
    reply["id"].as_str().expect("an id").to_owned()
}

async fn hears(client: &mut Client, node: &Node, room: &str) {
    client.join(room).await;
    let id = publish(node, room).await;
    assert_eq!(client.event().await.1["event"]["id"], id.as_str());
}

#[tokio::test]
async fn the_handshake_has_whole_numbers_and_no_upgrades() {
    let node = Node::embedded().await;
    let (_client, handshake) = Client::open(node.main()).await;
    let fields = handshake.as_object().expect("an object");
    let mut names: Vec<&str> = fields.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["maxPayload", "pingInterval", "pingTimeout", "sid", "upgrades"]);
    assert!(handshake["sid"].as_str().is_some_and(|sid| !sid.is_empty()), "{handshake}");
    assert_eq!(handshake["upgrades"], serde_json::json!([]));
    assert_eq!(handshake["pingInterval"].as_u64(), Some(25_000));
    assert_eq!(handshake["pingTimeout"].as_u64(), Some(20_000));
    assert!(handshake["maxPayload"].is_u64(), "{handshake}");
}

#[tokio::test]
async fn an_upgrade_that_says_polling_is_served_as_a_websocket() {
    let node = Node::embedded().await;
    for query in ["EIO=4&transport=polling", "transport=polling&EIO=4", "EIO=4&transport=polling&t=1700000000&b64=1"] {
        let (mut client, _) = Client::open_with(node.main(), query).await;
        client.sign_in(&token::user("u1")).await;
        hears(&mut client, &node, "order:o1").await;
    }
}

#[tokio::test]
async fn an_unknown_namespace_is_refused_and_the_transport_stays() {
    let node = Node::embedded().await;
    let (mut client, _) = Client::open(node.main()).await;
    let payload = format!(r#"{{"token":"{}"}}"#, token::user("u1"));
    for namespace in ["/nope", "/realtime/x", "/Realtime", "/api/realtime"] {
        client.set_namespace(namespace);
        assert_eq!(client.offer(&payload).await, format!(r#"44{namespace},{{"message":"Invalid namespace"}}"#));
    }
    client.send(&format!("40{payload}")).await;
    assert_eq!(client.frame().await.as_deref(), Some(r#"44{"message":"Invalid namespace"}"#));
    client.set_namespace("/realtime");
    client.sign_in(&token::user("u1")).await;
    hears(&mut client, &node, "order:o1").await;
}

#[tokio::test]
async fn the_slashed_and_the_configured_aliases_are_served_as_the_namespace() {
    let default = Node::embedded().await;
    let (mut client, _) = Client::open(default.main()).await;
    client.set_namespace("//realtime");
    client.sign_in(&token::user("u1")).await;
    hears(&mut client, &default, "order:o1").await;

    let node = Node::with(&[("HALLWAY_SERVER__ALIASES", "//realtime,/api/realtime")]).await;
    for namespace in ["/realtime", "//realtime", "/api/realtime"] {
        let (mut client, _) = Client::open(node.main()).await;
        client.set_namespace(namespace);
        client.sign_in(&token::user("u1")).await;
        hears(&mut client, &node, "order:o1").await;
    }
}

#[tokio::test]
async fn two_namespaces_of_one_transport_each_have_their_own_rooms() {
    let node = Node::embedded().await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.join("order:o1").await;
    client.set_namespace("//realtime");
    client.sign_in(&token::user("u1")).await;
    client.join("order:o2").await;
    publish(&node, "order:o1").await;
    publish(&node, "order:o2").await;
    let frames = [client.frame().await.expect("an event"), client.frame().await.expect("an event")];
    assert!(frames[0].starts_with("42/realtime,") && frames[0].contains(r#""room":"order:o1""#), "{frames:?}");
    assert!(frames[1].starts_with("42//realtime,") && frames[1].contains(r#""room":"order:o2""#), "{frames:?}");
}

#[tokio::test]
async fn a_transport_on_which_nothing_was_joined_is_closed_after_the_connect_timeout() {
    let node = Node::with(&[SHORT]).await;
    let began = Instant::now();
    let (mut silent, _) = Client::open(node.main()).await;
    let (mut refused, _) = Client::open(node.main()).await;
    assert_eq!(refused.offer(r#"{"token":"x"}"#).await, r#"44/realtime,{"message":"unauthorized"}"#);
    let (mut lost, _) = Client::open(node.main()).await;
    lost.set_namespace("/nope");
    lost.offer("{}").await;
    for client in [&mut silent, &mut refused, &mut lost] {
        let frames = client.until_closed(Duration::from_secs(20)).await;
        assert_eq!(frames.iter().filter(|frame| *frame != "1").count(), 0, "{frames:?}");
    }
    assert!(began.elapsed() >= Duration::from_millis(1900), "closed after {:?}", began.elapsed());
}

#[tokio::test]
async fn a_transport_that_signed_in_outlives_the_connect_timeout() {
    let node = Node::with(&[SHORT]).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    let (mut second_try, _) = Client::open(node.main()).await;
    second_try.offer(r#"{"token":"x"}"#).await;
    second_try.sign_in(&token::user("u1")).await;
    for client in [&mut client, &mut second_try] {
        assert!(client.frame_within(Duration::from_millis(2300)).await.is_err(), "nothing comes, least of all the end");
        hears(client, &node, "order:o1").await;
    }
}

#[tokio::test]
async fn a_plain_polling_request_is_refused_and_harms_nobody() {
    let node = Node::embedded().await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.join("order:o1").await;
    let http = http();
    let queries = ["EIO=4&transport=polling", "EIO=4&transport=websocket", "EIO=3&transport=polling", "EIO=4", "", "x"];
    for query in queries {
        let url = format!("http://{}/socket.io/?{query}", node.main());
        for request in [http.get(&url), http.post(&url).body("40/realtime,"), http.delete(&url)] {
            let response = request.send().await.expect("an answer");
            assert!(response.status().is_client_error(), "{query}: {}", response.status());
        }
    }
    let id = publish(&node, "order:o1").await;
    assert_eq!(client.event().await.1["event"]["id"], id.as_str());
    assert_eq!(node.readyz().await, 200);
}
