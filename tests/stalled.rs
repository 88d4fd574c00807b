//! S36, S37, S40, S41: peers that do not read, peers that leave, and a node that goes away.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::{eventually, token, within};

const ROOM: &str = "order:r";
/// A client that reads has an event by then, whatever the others do.
const PROMPT: Duration = Duration::from_secs(8);

async fn member(node: &Node) -> Client {
    let mut client = Client::connect(node.main(), &token::staff()).await;
    client.join(ROOM).await;
    client
}

async fn size(node: &Node) -> u64 {
    node.get(&format!("/v1/rooms/{ROOM}")).await.1["size"].as_u64().expect("a size")
}

/// Publishes an event with so many bytes of payload and asserts that `reader` has it promptly.
async fn publish_to(node: &Node, reader: &mut Client, bytes: usize) {
    let event = json!({"room": ROOM, "type": "order.status_changed", "payload": "x".repeat(bytes)});
    let (status, reply) = node.post("/v1/publish", event.to_string()).await;
    assert_eq!(status, 200, "{reply}");
    let (_, argument) = timeout(PROMPT, reader.event()).await.expect("a reader is not held up");
    assert_eq!(argument["event"]["id"], reply["id"]);
}

fn is_never_told_to_go(frames: &[String]) {
    assert!(!frames.iter().any(|frame| frame.starts_with("41")), "{frames:?}");
}

#[tokio::test]
async fn a_socket_that_stops_reading_is_gone_with_its_rooms_and_nobody_else_is_held_up() {
    let node = Node::embedded().await;
    let mut stalled = member(&node).await;
    let mut reader = member(&node).await;
    let began = Instant::now();
    for _ in 0..60 {
        publish_to(&node, &mut reader, 50_000).await;
    }
    let mut pace = interval(Duration::from_millis(25));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut published = 0;
    while size(&node).await == 2 {
        assert!(began.elapsed() < Duration::from_secs(15), "the stalled socket is still a member");
        pace.tick().await;
        publish_to(&node, &mut reader, 100).await;
        published += 1;
    }
    assert!(published > 20, "it was cut off for its backlog, not for standing still: {published}");
    assert_eq!(reader.join(ROOM).await["roomSize"], 1);
    is_never_told_to_go(&stalled.until_closed(PROMPT).await);
}

#[tokio::test]
async fn a_socket_over_the_bound_of_its_queue_is_closed_before_it_counts_as_stalled() {
    let node = Node::with(&[("HALLWAY_LIMITS__QUEUE_BYTES", "256KiB")]).await;
    let mut slow = member(&node).await;
    let mut reader = member(&node).await;
    let began = Instant::now();
    while size(&node).await == 2 {
        assert!(began.elapsed() < Duration::from_secs(8), "its queue has no bound");
        publish_to(&node, &mut reader, 50_000).await;
    }
    is_never_told_to_go(&slow.until_closed(PROMPT).await);
    publish_to(&node, &mut reader, 100).await;
}

#[tokio::test]
async fn a_socket_that_reads_slowly_but_reads_has_everything() {
    let node = Node::with(&[("HALLWAY_WIRE__WRITE_DEADLINE", "2s")]).await;
    let mut slow = member(&node).await;
    let mut reader = member(&node).await;
    for _ in 0..40 {
        publish_to(&node, &mut reader, 50_000).await;
    }
    let mut pace = interval(Duration::from_millis(100));
    for _ in 0..40 {
        pace.tick().await;
        assert_eq!(slow.event().await.0, "order.status_changed");
    }
    slow.nothing_came().await;
    assert_eq!(size(&node).await, 2);
}

#[tokio::test]
async fn a_socket_that_leaves_or_is_dropped_leaves_its_rooms_at_once() {
    let node = Node::embedded().await;
    let (gone, mut leaving, _staying) = (member(&node).await, member(&node).await, member(&node).await);
    assert_eq!(size(&node).await, 3);
    gone.drop_connection();
    within(PROMPT, "the dropped one left", || async { (size(&node).await == 2).then_some(()) }).await;
    leaving.send("41/realtime,").await;
    within(PROMPT, "the leaving one left", || async { (size(&node).await == 1).then_some(()) }).await;
}

#[tokio::test]
async fn sigterm_closes_transports_without_41_and_exits_with_0_whoever_stalls() {
    let mut node = Node::with(&[("HALLWAY_SHUTDOWN__DRAIN", "1s")]).await;
    let mut stalled = member(&node).await;
    let mut reader = member(&node).await;
    for _ in 0..60 {
        publish_to(&node, &mut reader, 50_000).await;
    }
    let began = Instant::now();
    let status = node.terminate().await;
    assert_eq!(status.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(6), "it took {:?}", began.elapsed());
    let last_words = reader.until_closed(PROMPT).await;
    assert_eq!(last_words.len(), 1, "{last_words:?}");
    assert_eq!(reader.parse_event(&last_words[0]).expect("an event").0, "server.draining");
    is_never_told_to_go(&stalled.until_closed(PROMPT).await);
}

#[tokio::test]
async fn nothing_durable_is_lost_to_a_client_that_moves_to_another_node_on_sigterm() {
    let redis = Redis::start().await;
    let settings = [("HALLWAY_REDIS__URL", redis.url()), ("HALLWAY_HISTORY__MAX_EVENTS", "10000".to_owned())];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let (mut first, second) = (Node::with(&settings).await, Node::with(&settings).await);
    let mut client = member(&first).await;
    let publish = async {
        let mut offsets = Vec::new();
        for _ in 0..400 {
            let event = r#"{"type":"order.status_changed","payload":{}}"#;
            let published = redis.fcall(&[ROOM], event, &[]).await.expect("redis is up");
            offsets.push(published.placed[0].1.clone());
        }
        offsets
    };
    let offset = |event: &serde_json::Value| event["meta"]["offset"].as_str().expect("an offset").to_owned();
    let (got_before, stop) = (std::cell::Cell::new(0), tokio::sync::Notify::new());
    let follow = async {
        let mut got = Vec::new();
        while let Some(frame) = client.frame().await {
            let (name, argument) = client.parse_event(&frame).expect("nothing but events comes");
            if name == "server.draining" {
                continue;
            }
            got.push(offset(&argument["event"]));
            if got.len() == 100 {
                stop.notify_one();
            }
        }
        got_before.set(got.len());
        let mut next = Client::connect(second.main(), &token::staff()).await;
        let data = next.resume(ROOM, got.last().expect("an event")).await;
        assert_eq!(data["complete"], true);
        got.extend(data["events"].as_array().expect("events").iter().map(offset));
        while got.len() < 400 {
            got.push(offset(&next.event().await.1["event"]));
        }
        got
    };
    let terminate = async {
        stop.notified().await;
        first.terminate().await
    };
    let (stored, got, status) = tokio::join!(publish, follow, terminate);
    assert!(status.success());
    assert!((100..400).contains(&got_before.get()), "the node went away in the middle: {}", got_before.get());
    assert_eq!(got, stored);
    eventually("the other node is ready", || async { (second.readyz().await == 200).then_some(()) }).await;
}
