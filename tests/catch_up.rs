//! Catching up: a join that says where it left off gets what it missed, then what is new, without a seam (S11, S43).

use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::token;

const DEEP: (&str, &str) = ("HALLWAY_HISTORY__MAX_EVENTS", "5000");

/// Publishes events whose payload is their number, in batches.
async fn publish(node: &Node, room: &str, numbers: std::ops::Range<u64>) {
    let numbers: Vec<u64> = numbers.collect();
    for chunk in numbers.chunks(500) {
        let event = |n: &u64| json!({"room": room, "type": "t", "payload": n});
        let batch = json!({"events": chunk.iter().map(event).collect::<Vec<_>>()});
        let (status, reply) = node.post("/v1/publish/batch", batch.to_string()).await;
        assert_eq!(status, 200);
        assert!(reply["results"].as_array().expect("results").iter().all(|r| r["id"].is_string()), "{reply}");
    }
}

fn number(event: &Value) -> u64 {
    event["payload"].as_u64().expect("a number")
}

fn numbers(data: &Value) -> Vec<u64> {
    data["events"].as_array().expect("a list").iter().map(number).collect()
}

async fn live(client: &mut Client, count: u64) -> Vec<Value> {
    let mut events = Vec::new();
    for _ in 0..count {
        events.push(client.event().await.1["event"].clone());
    }
    events
}

async fn leaves_and_misses(node: &Node, count: u64) -> String {
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    let head = client.join("order:o1").await["offset"].as_str().expect("an offset").to_owned();
    client.drop_connection();
    publish(node, "order:o1", 0..count).await;
    head
}

#[tokio::test]
async fn what_was_missed_comes_with_the_reply_and_what_is_new_behind_it() {
    let redis = Redis::start().await;
    for node in [Node::on(&redis.url()).await, Node::embedded().await] {
        let head = leaves_and_misses(&node, 20).await;
        let mut client = Client::connect(node.main(), &token::user("u1")).await;
        let joined = client.resume("order:o1", &head).await;
        assert_eq!(numbers(&joined), (0..20).collect::<Vec<_>>());
        assert_eq!((&joined["complete"], &joined["roomSize"]), (&json!(true), &json!(1)));
        assert_eq!(joined["offset"], joined["events"][19]["meta"]["offset"]);
        assert!(joined.get("hasMore").is_none_or(|more| more == false), "{joined}");
        publish(&node, "order:o1", 20..30).await;
        assert_eq!(live(&mut client, 10).await.iter().map(number).collect::<Vec<_>>(), (20..30).collect::<Vec<_>>());
        client.nothing_came().await;
    }
}

#[tokio::test]
async fn since_asks_for_the_same_by_time() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let head = leaves_and_misses(&node, 5).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    let all = client.resume("order:o1", &head).await;
    let offset = all["events"][2]["meta"]["offset"].as_str().expect("an offset");
    let since: u64 = offset.split('-').next().and_then(|ms| ms.parse().ok()).expect("an offset");
    let mut second = Client::connect(node.main(), &token::user("u1")).await;
    let reply = second.call("join_room", &json!({"room": "order:o1", "since": since}).to_string()).await;
    assert_eq!((&reply["ok"], &reply["data"]["complete"]), (&json!(true), &json!(true)));
    let got = numbers(&reply["data"]);
    assert!(got.starts_with(&[2]) || got.contains(&2), "inclusive: {got:?}");
    assert!(got.ends_with(&[3, 4]), "{got:?}");
}

#[tokio::test]
async fn more_than_a_page_follows_as_ordinary_events_before_newer_ones() {
    let redis = Redis::start().await;
    let url = redis.url();
    for node in [Node::with(&[("HALLWAY_REDIS__URL", &url), DEEP]).await, Node::with(&[DEEP]).await] {
        let head = leaves_and_misses(&node, 1500).await;
        let mut client = Client::connect(node.main(), &token::user("u1")).await;
        let (joined, ()) = tokio::join!(client.resume("order:o1", &head), publish(&node, "order:o1", 1500..1700));
        assert_eq!(numbers(&joined), (0..1000).collect::<Vec<_>>());
        assert_eq!((&joined["hasMore"], &joined["complete"]), (&json!(true), &json!(true)));
        assert_eq!(joined["offset"], joined["events"][999]["meta"]["offset"], "of the last event returned");
        publish(&node, "order:o1", 1700..1800).await;
        let rest = live(&mut client, 800).await;
        assert_eq!(rest.iter().map(number).collect::<Vec<_>>(), (1000..1800).collect::<Vec<_>>());
        client.nothing_came().await;
        let (_, history) = node
            .get(&format!(
                "/v1/rooms/order:o1/events?after={}",
                rest[799 - 500]["meta"]["offset"].as_str().expect("an offset")
            ))
            .await;
        assert_eq!(
            history["events"].as_array().map(Vec::as_slice),
            Some(&rest[300..]),
            "live and stored copies are equal"
        );
    }
}

#[tokio::test]
async fn a_page_full_of_bytes_is_continued_too() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    let head = client.join("order:o1").await["offset"].as_str().expect("an offset").to_owned();
    client.drop_connection();
    for n in 0..40 {
        let event = format!(r#"{{"type":"t","payload":{{"n":{n},"fill":"{}"}}}}"#, "x".repeat(60_000));
        redis.fcall(&["order:o1"], &event, &[]).await.expect("it is published");
    }
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    let joined = client.resume("order:o1", &head).await;
    let mut got: Vec<Value> = joined["events"].as_array().expect("a list").clone();
    assert!((1..40).contains(&got.len()), "{}", got.len());
    assert_eq!(joined["hasMore"], true);
    got.extend(live(&mut client, 40 - got.len() as u64).await);
    let order: Vec<u64> = got.iter().map(|event| event["payload"]["n"].as_u64().expect("a number")).collect();
    assert_eq!(order, (0..40).collect::<Vec<_>>());
    client.nothing_came().await;
}

#[tokio::test]
async fn a_room_left_while_it_catches_up_falls_silent() {
    let redis = Redis::start().await;
    let url = redis.url();
    let node = Node::with(&[("HALLWAY_REDIS__URL", &url), DEEP]).await;
    let head = leaves_and_misses(&node, 4500).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.send(&format!(r#"42/realtime,900["join_room",{{"room":"order:o1","after":"{head}"}}]"#)).await;
    client.send(r#"42/realtime,901["leave_room",{"room":"order:o1"}]"#).await;
    while let Some(frame) = client.frame().await {
        if frame.starts_with("43/realtime,901") {
            break;
        }
    }
    publish(&node, "order:o1", 4500..4600).await;
    client.join("order:o2").await;
    client.nothing_came().await;
    let again = client.resume("order:o1", &head).await;
    assert_eq!(numbers(&again), (0..1000).collect::<Vec<_>>(), "and can be joined again from the same place");
    let rest = live(&mut client, 3600).await;
    assert_eq!(rest.iter().map(number).collect::<Vec<_>>(), (1000..4600).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_member_that_joins_again_from_an_offset_gets_all_behind_it_once_more_and_then_goes_on() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    let head = client.join("order:o1").await["offset"].as_str().expect("an offset").to_owned();
    publish(&node, "order:o1", 0..10).await;
    let first = live(&mut client, 10).await;
    let joined = client.resume("order:o1", &head).await;
    assert_eq!((joined["events"].as_array(), &joined["roomSize"]), (Some(&first), &json!(1)));
    publish(&node, "order:o1", 10..20).await;
    assert_eq!(live(&mut client, 10).await.iter().map(number).collect::<Vec<_>>(), (10..20).collect::<Vec<_>>());
    client.nothing_came().await;
}

/// So many bytes that the answers of a few rooms are more than a wire may hold back.
const BULK: usize = 30_000;

#[tokio::test]
async fn many_rooms_resumed_at_once_by_a_client_that_reads_slowly_are_read_to_it_at_its_pace() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let rooms: Vec<String> = (0..16).map(|n| format!("order:{n}")).collect();
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    let mut heads = Vec::new();
    for room in &rooms {
        heads.push(client.join(room).await["offset"].as_str().expect("an offset").to_owned());
    }
    client.drop_connection();
    for n in 0..60 {
        let event = format!(r#"{{"type":"t","payload":{{"n":{n},"fill":"{}"}}}}"#, "x".repeat(BULK));
        for room in &rooms {
            redis.fcall(&[room], &event, &[]).await.expect("it is published");
        }
    }
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    for (room, head) in rooms.iter().zip(&heads) {
        client.send(&format!(r#"42/realtime,7["join_room",{{"room":"{room}","after":"{head}"}}]"#)).await;
    }
    let mut got = vec![Vec::new(); rooms.len()];
    while got.iter().map(Vec::len).sum::<usize>() < 60 * rooms.len() {
        node.metric("hallway_sessions").await;
        let frame = client.frame().await.expect("the transport stays open");
        let events = match frame.strip_prefix("43/realtime,7") {
            Some(body) => {
                let reply: Value = serde_json::from_str(body).expect("JSON");
                assert_eq!(reply[0]["data"]["complete"], true, "{}", &body[..200.min(body.len())]);
                reply[0]["data"]["events"].as_array().expect("a list").clone()
            }
            None => vec![client.parse_event(&frame).expect("an event").1["event"].clone()],
        };
        for event in events {
            let at = rooms.iter().position(|room| event["meta"]["room"] == room.as_str()).expect("one of its rooms");
            got[at].push(event["payload"]["n"].as_u64().expect("a number"));
        }
    }
    assert!(got.iter().all(|numbers| numbers.iter().copied().eq(0..60)), "{got:?}");
}

#[tokio::test]
async fn who_asks_without_an_ack_id_gets_what_was_missed_as_events() {
    let redis = Redis::start().await;
    for node in [Node::embedded().await, Node::on(&redis.url()).await] {
        let head = leaves_and_misses(&node, 20).await;
        let mut client = Client::connect(node.main(), &token::user("u1")).await;
        client.send(&format!(r#"42/realtime,["join_room",{{"room":"order:o1","after":"{head}"}}]"#)).await;
        assert_eq!(live(&mut client, 20).await.iter().map(number).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
        publish(&node, "order:o1", 20..25).await;
        assert_eq!(live(&mut client, 5).await.iter().map(number).collect::<Vec<_>>(), (20..25).collect::<Vec<_>>());
        client.nothing_came().await;
    }
}

#[tokio::test]
async fn who_asks_for_a_time_without_an_ack_id_and_missed_nothing_goes_live() {
    let redis = Redis::start().await;
    for node in [Node::on(&redis.url()).await, Node::embedded().await] {
        publish(&node, "order:o1", 0..3).await;
        let mut client = Client::connect(node.main(), &token::user("u1")).await;
        for (room, command) in [("order:o1", "join_room"), ("order:o2", "join_room"), ("order:o3", "join_rooms")] {
            let behind = client.join(room).await["offset"].as_str().expect("an offset").to_owned();
            let ms: u64 = behind.split('-').next().and_then(|ms| ms.parse().ok()).expect("an offset");
            let mut other = Client::connect(node.main(), &token::user("u2")).await;
            let mut argument = json!({"room": room, "since": ms + 1});
            if command == "join_rooms" {
                argument = json!({"rooms": [argument]});
            }
            other.tell(command, &argument.to_string()).await;
            let size = || async { (node.room_size(room).await == 2).then_some(()) };
            crate::harness::eventually("it is in", size).await;
            publish(&node, room, 7..9).await;
            assert_eq!(live(&mut other, 2).await.iter().map(number).collect::<Vec<_>>(), [7, 8]);
            assert_eq!(live(&mut client, 2).await.iter().map(number).collect::<Vec<_>>(), [7, 8]);
        }
    }
}
