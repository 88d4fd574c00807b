//! Heartbeat: who does not answer pings is closed, and a client that is gone has left all rooms at once (S40).

use std::time::{Duration, Instant};

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::{eventually, token, within};

const SHORT: [(&str, &str); 2] =
    [("HALLWAY_SOCKETIO__PING_INTERVAL", "300ms"), ("HALLWAY_SOCKETIO__PING_TIMEOUT", "3s")];
const ROOMS: [&str; 3] = ["order:o1", "store:s1", "user:u1"];

async fn member(node: &Node) -> Client {
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    for room in ROOMS {
        client.join(room).await;
    }
    client
}

async fn all_left(node: &Node) {
    within(Duration::from_secs(20), "all rooms are left", || async {
        for room in ROOMS {
            if node.room_size(room).await != 0 {
                return None;
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test]
async fn the_handshake_tells_the_configured_heartbeat() {
    let node = Node::with(&SHORT).await;
    let (_client, handshake) = Client::open(node.main()).await;
    assert_eq!((handshake["pingInterval"].as_u64(), handshake["pingTimeout"].as_u64()), (Some(300), Some(3000)));
}

#[tokio::test]
async fn who_answers_no_ping_is_closed_and_leaves_its_rooms() {
    let node = Node::with(&SHORT).await;
    let mut client = member(&node).await;
    let began = Instant::now();
    client.until_closed_without_pongs(Duration::from_secs(20)).await;
    assert!(began.elapsed() < Duration::from_secs(15), "closed after {:?}", began.elapsed());
    all_left(&node).await;
    let (mut stranger, _) = Client::open(node.main()).await;
    stranger.until_closed_without_pongs(Duration::from_secs(20)).await;
}

#[tokio::test]
async fn who_answers_pings_stays_and_hears() {
    let node = Node::with(&SHORT).await;
    let mut client = member(&node).await;
    for _ in 0..4 {
        assert!(client.frame_within(Duration::from_millis(700)).await.is_err(), "nothing comes but pings");
        let (_, published) = node.post("/v1/publish", r#"{"room":"order:o1","type":"t","payload":1}"#).await;
        assert_eq!(client.event().await.1["event"]["id"], published["id"]);
    }
}

#[tokio::test]
async fn the_disconnect_packet_leaves_all_rooms_and_the_namespace_can_be_joined_again() {
    let node = Node::embedded().await;
    let mut client = member(&node).await;
    client.send("41/realtime,").await;
    all_left(&node).await;
    client.sign_in(&token::user("u1")).await;
    client.nothing_came().await;
    client.join("order:o2").await;
    assert_eq!(node.post("/v1/publish", r#"{"room":"order:o1","type":"t","payload":1}"#).await.0, 200);
    let (_, published) = node.post("/v1/publish", r#"{"room":"order:o2","type":"t","payload":1}"#).await;
    assert_eq!(client.event().await.1["event"]["id"], published["id"]);
}

#[tokio::test]
async fn who_leaves_the_namespace_and_comes_back_in_one_breath_is_signed_in() {
    let node = Node::embedded().await;
    for _ in 0..20 {
        let mut client = member(&node).await;
        client.send("41/realtime,").await;
        client.sign_in(&token::user("u1")).await;
        let joined = client.join("order:o1").await;
        assert_eq!(joined["roomSize"], 1, "the first membership is over");
        let (_, published) = node.post("/v1/publish", r#"{"room":"order:o1","type":"t","payload":1}"#).await;
        assert_eq!(client.event().await.1["event"]["id"], published["id"]);
        client.nothing_came().await;
        client.send("41/realtime,").await;
        all_left(&node).await;
    }
}

#[tokio::test]
async fn a_transport_that_ends_in_any_way_leaves_all_rooms() {
    let node = Node::embedded().await;
    member(&node).await.drop_connection();
    all_left(&node).await;
    let mut polite = member(&node).await;
    polite.send("1").await;
    all_left(&node).await;
    let mut other = member(&node).await;
    assert_eq!(other.join("order:o1").await["roomSize"], 1);
    eventually("only the living are counted", || async {
        (node.metric("hallway_sessions").await == 1.0).then_some(())
    })
    .await;
}
