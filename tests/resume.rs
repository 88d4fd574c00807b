//! S11, S16, S17, S43: a resume gets exactly what was missed, and `complete` is true just when that is so.

use serde_json::Value;

use crate::harness::client::Client;
use crate::harness::node::{Node, both_brokers};
use crate::harness::redis::Redis;
use crate::harness::{eventually, token};

const ROOM: &str = "order:r";

/// Stores events and returns their offsets.
async fn store(node: &Node, rooms: &[&str], count: usize) -> Vec<String> {
    let event = serde_json::json!({"rooms": rooms, "type": "order.status_changed", "payload": {}});
    let mut offsets = Vec::new();
    for chunk in vec![event; count].chunks(1000) {
        let body = serde_json::json!({"events": chunk}).to_string();
        let (status, reply) = node.post("/v1/publish/batch", body).await;
        assert_eq!(status, 200, "{reply}");
        let results = reply["results"].as_array().expect("results");
        let offset = |result: &Value| result["offsets"][rooms[0]].as_str().expect("an offset").to_owned();
        offsets.extend(results.iter().map(offset));
    }
    offsets
}

async fn client(node: &Node) -> Client {
    Client::connect(node.main(), &token::staff()).await
}

/// The offsets in an answer's `events`.
fn offsets(data: &Value) -> Vec<String> {
    let events = data["events"].as_array().expect("events");
    events.iter().map(|event| event["meta"]["offset"].as_str().expect("an offset").to_owned()).collect()
}

/// Joins and asks for missed events from the same place; both must answer alike.
async fn resumed(node: &Node, room: &str, after: &str) -> (Vec<String>, bool) {
    let mut client = client(node).await;
    let missed = client.call("get_missed_events", &format!(r#"{{"room":"{room}","after":"{after}"}}"#)).await;
    let joined = client.resume(room, after).await;
    assert_eq!(joined["events"], missed["data"]["events"], "a join and get_missed_events disagree");
    assert_eq!(joined["complete"], missed["data"]["complete"], "a join and get_missed_events disagree");
    (offsets(&joined), joined["complete"].as_bool().expect("a verdict"))
}

async fn complete_since(node: &Node, room: &str, since: u64) -> bool {
    let mut client = client(node).await;
    let reply = client.call("get_missed_events", &format!(r#"{{"room":"{room}","since":{since}}}"#)).await;
    reply["data"]["complete"].as_bool().expect("a verdict")
}

fn ms(offset: &str) -> u64 {
    offset.split('-').next().and_then(|ms| ms.parse().ok()).expect("an offset")
}

async fn key_is_there(redis: &Redis, key: &str) -> bool {
    redis::cmd("EXISTS").arg(key).query_async(&mut redis.client().await).await.expect("redis is up")
}

#[tokio::test]
async fn after_flushall_nothing_from_before_is_called_complete() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let quiet = client(&node).await.join("order:quiet").await["offset"].as_str().expect("an offset").to_owned();
    let stored = store(&node, &[ROOM], 3).await;
    let mut member = client(&node).await;
    member.join(ROOM).await;
    redis::cmd("FLUSHALL").query_async::<()>(&mut redis.client().await).await.expect("redis is up");
    let cut_off = async |when: &str| {
        for after in &stored {
            assert!(!resumed(&node, ROOM, after).await.1, "{after} {when}");
        }
        assert!(!resumed(&node, "order:quiet", &quiet).await.1, "a quiet room {when}");
        assert!(!complete_since(&node, ROOM, ms(&stored[0])).await, "since {when}");
    };
    cut_off("at once").await;
    eventually("the birth is noted", || async { key_is_there(&redis, "hallway:birth").await.then_some(()) }).await;
    cut_off("after the birth").await;
    let later = store(&node, &[ROOM], 2).await;
    store(&node, &["order:quiet"], 1).await;
    cut_off("with newer events").await;
    assert_eq!(resumed(&node, ROOM, &later[0]).await, (vec![later[1].clone()], true));
    for offset in &later {
        assert_eq!(member.event().await.1["event"]["meta"]["offset"], offset.as_str());
    }
}

#[tokio::test]
async fn an_expired_stream_is_complete_for_whoever_saw_its_last_event_and_for_nobody_else() {
    let redis = Redis::start().await;
    let url = redis.url();
    let node = Node::with(&[("HALLWAY_REDIS__URL", &url), ("HALLWAY_HISTORY__TTL", "1s")]).await;
    let stored = store(&node, &[ROOM], 2).await;
    let history = format!("hallway:{{{ROOM}}}:history");
    eventually("the stream expires", || async { (!key_is_there(&redis, &history).await).then_some(()) }).await;
    assert_eq!(resumed(&node, ROOM, &stored[0]).await, (vec![], false));
    assert_eq!(resumed(&node, ROOM, &stored[1]).await, (vec![], true));
    assert!(!complete_since(&node, ROOM, ms(&stored[0])).await);
    assert!(complete_since(&node, ROOM, ms(&stored[1]) + 1).await);
    let later = store(&node, &[ROOM], 1).await;
    assert_eq!(resumed(&node, ROOM, &stored[1]).await, (later.clone(), true));
    assert_eq!(resumed(&node, ROOM, &stored[0]).await, (later, false));
    assert!(!complete_since(&node, ROOM, ms(&stored[0])).await);
}

#[tokio::test]
async fn a_trimmed_history_is_complete_from_the_oldest_link_it_kept_on() {
    let (_redis, nodes) = both_brokers(&[("HALLWAY_HISTORY__MAX_EVENTS", "3")]).await;
    for node in &nodes {
        let stored = store(node, &[ROOM], 7).await;
        for (i, after) in stored.iter().enumerate() {
            let kept = stored[(i + 1).max(4)..].to_vec();
            assert_eq!(resumed(node, ROOM, after).await, (kept, i >= 3), "after event {i}");
        }
    }
}

#[tokio::test]
async fn a_client_that_joined_and_saw_nothing_resumes_exactly() {
    let (_redis, nodes) = both_brokers(&[]).await;
    for node in &nodes {
        let mut first = client(node).await;
        let never = first.join("order:never").await["offset"].clone();
        let head = first.join(ROOM).await["offset"].clone();
        first.drop_connection();
        let (never, head) = (never.as_str().expect("an offset"), head.as_str().expect("an offset"));
        assert_eq!(resumed(node, "order:never", never).await, (vec![], true));
        let stored = store(node, &[ROOM], 2).await;
        assert_eq!(resumed(node, ROOM, head).await, (stored.clone(), true));
        let head = client(node).await.join(ROOM).await["offset"].clone();
        assert_eq!(head, stored[1].as_str());
    }
}

#[tokio::test]
async fn a_head_in_a_quiet_room_is_good_for_a_resume_when_the_memory_is_short() {
    let redis = Redis::start().await;
    let url = redis.url();
    let long_ago = redis::cmd("SET").arg("hallway:birth").arg(1).query_async::<()>(&mut redis.client().await).await;
    long_ago.expect("redis is up");
    let short = [("HALLWAY_HISTORY__TTL", "1s"), ("HALLWAY_HISTORY__MEMORY", "30s"), ("HALLWAY_REDIS__URL", &url)];
    let node = Node::with(&short).await;
    let mut member = client(&node).await;
    let head = member.join(ROOM).await["offset"].as_str().expect("an offset").to_owned();
    assert_eq!(resumed(&node, ROOM, &head).await, (vec![], true));
    let stored = store(&node, &[ROOM], 1).await;
    assert_eq!(member.event().await.1["event"]["meta"]["offset"], stored[0].as_str());
    assert_eq!(resumed(&node, ROOM, &head).await, (stored, true));
}

#[tokio::test]
async fn an_offset_newer_than_the_rooms_last_is_not_complete() {
    let (_redis, nodes) = both_brokers(&[]).await;
    for node in &nodes {
        let stored = store(node, &[ROOM], 1).await;
        let newer = format!("{}-7", ms(&stored[0]));
        assert_eq!(resumed(node, ROOM, &newer).await, (vec![], false));
        let future = format!("{}-0", ms(&stored[0]) + 3_600_000);
        assert_eq!(resumed(node, ROOM, &future).await, (vec![], false));
        assert_eq!(resumed(node, "order:never", &future).await, (vec![], false));
    }
}

#[tokio::test]
async fn pages_with_more_behind_them_are_followed_by_the_rest_in_order_and_then_by_newer_events() {
    let (_redis, nodes) = both_brokers(&[("HALLWAY_HISTORY__MAX_EVENTS", "10000")]).await;
    for node in &nodes {
        let mut stored = store(node, &[ROOM], 3500).await;
        let mut late = client(node).await;
        let data = late.resume(ROOM, &stored[0]).await;
        assert_eq!((&data["complete"], &data["hasMore"]), (&true.into(), &true.into()));
        assert_eq!(offsets(&data), stored[1..=1000]);
        assert_eq!(data["offset"], stored[1000].as_str(), "the offset is that of the last event returned");
        stored.extend(store(node, &[ROOM], 50).await);
        for expected in &stored[1001..] {
            assert_eq!(late.event().await.1["event"]["meta"]["offset"], expected.as_str());
        }
        late.nothing_came().await;

        let (mut at, mut read) = (stored[0].clone(), Vec::new());
        loop {
            let part = format!(r#"{{"room":"{ROOM}","after":"{at}","limit":700}}"#);
            let page = late.call("get_missed_events", &part).await["data"].clone();
            assert_eq!(page["complete"], true);
            read.extend(offsets(&page));
            page["offset"].as_str().expect("an offset").clone_into(&mut at);
            if page["hasMore"] == false {
                break;
            }
        }
        assert_eq!(read, stored[1..]);
    }
}

#[tokio::test]
async fn a_position_in_several_rooms_neither_repeats_an_event_nor_calls_a_history_incomplete() {
    let (_redis, nodes) = both_brokers(&[]).await;
    for node in &nodes {
        store(node, &["product:p"], 3).await;
        let mut first = client(node).await;
        first.join("store:s").await;
        first.join("product:p").await;
        store(node, &["store:s", "product:p"], 1).await;
        let meta = first.event().await.1["event"]["meta"].clone();
        first.drop_connection();
        let later = store(node, &["product:p", "store:s"], 1).await;
        for room in ["store:s", "product:p"] {
            let after = meta["offsets"][room].as_str().expect("an offset of each room");
            let (events, complete) = resumed(node, room, after).await;
            assert_eq!((events.len(), complete), (1, true), "{room}");
            assert!(room == "store:s" || events == later);
        }
    }
}

#[tokio::test]
async fn a_client_that_comes_and_goes_while_events_are_published_has_every_event_once() {
    let (_redis, nodes) = both_brokers(&[("HALLWAY_HISTORY__MAX_EVENTS", "10000")]).await;
    for node in &nodes {
        let mut at = client(node).await.join(ROOM).await["offset"].as_str().expect("an offset").to_owned();
        let publish = async {
            let mut stored = Vec::new();
            for _ in 0..40 {
                stored.extend(store(node, &[ROOM], 25).await);
            }
            stored
        };
        let come_and_go = async {
            let mut got: Vec<String> = Vec::new();
            while got.len() < 1000 {
                let mut client = client(node).await;
                let data = client.resume(ROOM, &at).await;
                assert_eq!(data["complete"], true, "after {at}");
                got.extend(offsets(&data));
                let live = (1000 - got.len()).min(10);
                for _ in 0..live {
                    got.push(client.event().await.1["event"]["meta"]["offset"].as_str().expect("an offset").to_owned());
                }
                got.last().expect("an event").clone_into(&mut at);
                client.drop_connection();
            }
            got
        };
        let (stored, got) = tokio::join!(publish, come_and_go);
        assert_eq!(got, stored);
    }
}
