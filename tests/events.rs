//! Events: who gets one, in which envelope, in which order, and that what is stored equals what was sent (S30-S33).

use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::token;

const STATUS: &str = r#"{"id":"u1","type":"order.status_changed","timestamp":1735689600000,"payload":{"orderId":"ord_123","status":"confirmed"},"meta":{"source":"api"}}"#;

/// The frame of [`STATUS`], as the design writes it.
fn status_frame(offset: &str) -> String {
    format!(
        r#"42/realtime,["order.status_changed",{{"event":{{"id":"u1","type":"order.status_changed","priority":"NORMAL","timestamp":1735689600000,"payload":{{"orderId":"ord_123","status":"confirmed"}},"meta":{{"source":"api","room":"order:ord_123","offset":"{offset}"}}}},"requiresAck":false}}]"#
    )
}

async fn fcall(redis: &Redis, rooms: &[&str], event: &str) -> Vec<String> {
    let published = redis.fcall(rooms, event, &[]).await.expect("it is published");
    published.placed.into_iter().map(|(_, offset, _)| offset).collect()
}

async fn missed(client: &mut Client, room: &str, after: &Value) -> Value {
    let reply = client.call("get_missed_events", &json!({"room": room, "after": after}).to_string()).await;
    assert_eq!(reply["ok"], true, "{reply}");
    reply["data"].clone()
}

async fn event(client: &mut Client) -> Value {
    client.event().await.1["event"].clone()
}

#[tokio::test]
async fn the_frame_of_an_event_is_the_documented_one_to_the_byte() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.join("order:ord_123").await;
    let offset = fcall(&redis, &["order:ord_123"], STATUS).await.remove(0);
    assert_eq!(client.frame().await, Some(status_frame(&offset)));

    let embedded = Node::embedded().await;
    let mut client = Client::connect(embedded.main(), &token::user("u1")).await;
    client.join("order:ord_123").await;
    let body = STATUS.replacen('{', r#"{"room":"order:ord_123","#, 1);
    let (status, reply) = embedded.post("/v1/publish", body).await;
    assert_eq!((status, &reply["id"], &reply["duplicate"]), (200, &json!("u1"), &json!(false)));
    let offset = reply["offsets"]["order:ord_123"].as_str().expect("an offset");
    assert_eq!(client.frame().await, Some(status_frame(offset)));
}

#[tokio::test]
async fn what_the_publisher_leaves_out_is_filled_in_once_for_all_copies() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut clients = [
        Client::connect(node.main(), &token::user("u1")).await,
        Client::connect(node.main(), &token::user("u2")).await,
    ];
    let head = clients[0].join("order:o1").await["offset"].clone();
    clients[1].join("order:o1").await;
    for (kind, priority) in [
        ("order.status_changed", "NORMAL"),
        ("inventory.stock_updated", "NORMAL"),
        ("delivery.assigned", "HIGH"),
        ("chat.message:new-1_x", "NORMAL"),
    ] {
        let offset = fcall(&redis, &["order:o1"], &format!(r#"{{"type":"{kind}","payload":{{}}}}"#)).await.remove(0);
        let live = event(&mut clients[0]).await;
        assert_eq!(event(&mut clients[1]).await, live);
        let timestamp = live["timestamp"].as_u64().expect("whole milliseconds");
        assert_eq!(offset.split('-').next(), Some(timestamp.to_string().as_str()), "the broker's clock");
        assert!(live["id"].as_str().is_some_and(|id| id.len() == 36), "a UUID: {live}");
        assert_eq!(
            live,
            json!({
                "id": live["id"], "type": kind, "priority": priority, "timestamp": timestamp, "payload": {},
                "meta": {"room": "order:o1", "offset": offset},
            })
        );
        let history = missed(&mut clients[0], "order:o1", &head).await;
        assert_eq!(history["events"].as_array().and_then(|events| events.last()), Some(&live));
    }
}

#[tokio::test]
async fn a_timestamp_ahead_of_the_brokers_clock_is_brought_back_to_it() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.join("order:o1").await;
    fcall(&redis, &["order:o1"], r#"{"type":"t","timestamp":9000000000000000,"payload":1}"#).await;
    let (status, _) =
        node.post("/v1/publish", r#"{"room":"order:o1","type":"t","timestamp":9000000000000000,"payload":1}"#).await;
    assert_eq!(status, 200);
    for _ in 0..2 {
        let live = event(&mut client).await;
        let now = token::now_s() * 1000 + 1000;
        assert!(live["timestamp"].as_u64().is_some_and(|ms| ms <= now && ms > now - 60_000), "{live}");
    }
}

#[tokio::test]
async fn every_member_sees_one_order_and_it_is_the_histories() {
    let redis = Redis::start().await;
    let (one, two) = (Node::on(&redis.url()).await, Node::on(&redis.url()).await);
    let mut first = Client::connect(one.main(), &token::user("u1")).await;
    let mut second = Client::connect(two.main(), &token::user("u2")).await;
    let head = first.join("order:o1").await["offset"].clone();
    second.join("order:o1").await;
    let publisher = |name: &'static str| {
        let redis = &redis;
        async move {
            for n in 0..20 {
                fcall(redis, &["order:o1"], &format!(r#"{{"id":"{name}{n}","type":"t","payload":{n}}}"#)).await;
            }
        }
    };
    tokio::join!(publisher("a"), publisher("b"), publisher("c"), async {
        for n in 0..20 {
            let body = format!(r#"{{"room":"order:o1","id":"d{n}","type":"t","payload":{n}}}"#);
            assert_eq!(one.post("/v1/publish", body).await.0, 200);
        }
    });
    let (mut seen_by_first, mut seen_by_second) = (Vec::new(), Vec::new());
    for _ in 0..80 {
        seen_by_first.push(event(&mut first).await);
        seen_by_second.push(event(&mut second).await);
    }
    assert_eq!(seen_by_first, seen_by_second);
    assert_eq!(missed(&mut first, "order:o1", &head).await["events"].as_array(), Some(&seen_by_first));
    first.nothing_came().await;
    second.nothing_came().await;
}

#[tokio::test]
async fn who_is_not_in_the_room_gets_nothing() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.join("order:o1").await;
    client.join("store:s1").await;
    for room in ["order:o2", "user:u1", "store:s1:orders", "store:s1:zone:o1", "order:o11", "product:o1"] {
        fcall(&redis, &[room], r#"{"type":"t","payload":1}"#).await;
        redis.publish(room, br#"{"type":"t","payload":1}"#).await;
        node.post("/v1/publish", format!(r#"{{"room":"{room}","type":"t","payload":1}}"#)).await;
    }
    fcall(&redis, &["order:o1"], r#"{"id":"mine","type":"t","payload":1}"#).await;
    assert_eq!(event(&mut client).await["id"], "mine");
}

#[tokio::test]
async fn what_a_publisher_says_in_meta_stays_but_for_the_names_that_are_ours() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.join("order:o1").await;
    let forged = r#"{"type":"t","payload":1,"meta":{"trace":"x","room":"user:u2","offset":"99-99","offsets":{"user:u2":"1-1"},"ro\u006fm":"user:u3","n":1.0}}"#;
    let offset = fcall(&redis, &["order:o1"], forged).await.remove(0);
    let (_, reply) = node.post("/v1/publish", forged.replacen('{', r#"{"room":"order:o1","#, 1)).await;
    for offset in [json!(offset), reply["offsets"]["order:o1"].clone()] {
        let meta = event(&mut client).await["meta"].clone();
        assert_eq!(meta, json!({"trace": "x", "n": 1.0, "room": "order:o1", "offset": offset}));
    }
    redis.publish("order:o1", forged.as_bytes()).await;
    assert_eq!(event(&mut client).await["meta"], json!({"trace": "x", "n": 1.0, "room": "order:o1"}));
}

#[tokio::test]
async fn an_id_that_is_published_again_is_stored_and_delivered_once() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    let head = client.join("order:o1").await["offset"].clone();
    let first = redis.fcall(&["order:o1"], r#"{"type":"t","payload":1}"#, &["ID", "e1"]).await.expect("published");
    assert_eq!((first.id.as_str(), first.placed[0].2), ("e1", 0));
    for (event, options) in [
        (r#"{"type":"t","payload":1}"#, &["ID", "e1"][..]),
        (r#"{"id":"e1","type":"t","payload":2}"#, &[]),
        (r#"{"id":"e1","type":"t","payload":3}"#, &["ID", "e1"]),
    ] {
        let again = redis.fcall(&["order:o1"], event, options).await.expect("it is known");
        assert_eq!(again.placed, [("order:o1".to_owned(), first.placed[0].1.clone(), 1)]);
    }
    let (status, reply) = node.post("/v1/publish", r#"{"room":"order:o1","id":"e1","type":"t","payload":4}"#).await;
    assert_eq!(
        (status, &reply["duplicate"], &reply["offsets"]["order:o1"]),
        (200, &json!(true), &json!(first.placed[0].1))
    );
    fcall(&redis, &["order:o1"], r#"{"id":"e2","type":"t","payload":5}"#).await;
    let (one, two) = (event(&mut client).await, event(&mut client).await);
    assert_eq!((&one["id"], &one["payload"], &two["id"]), (&json!("e1"), &json!(1), &json!("e2")));
    assert_eq!(missed(&mut client, "order:o1", &head).await["events"], json!([one, two]));
}

#[tokio::test]
async fn an_event_that_wants_an_answer_says_so() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.join("order:o1").await;
    redis.fcall(&["order:o1"], r#"{"type":"t","payload":1}"#, &["REQUIRESACK"]).await.expect("published");
    node.post("/v1/publish", r#"{"room":"order:o1","type":"t","payload":1,"requiresAck":true}"#).await;
    node.post("/v1/publish", r#"{"room":"order:o1","type":"t","payload":1,"requiresAck":false}"#).await;
    for wanted in [true, true, false] {
        assert_eq!(client.event().await.1["requiresAck"], wanted);
    }
}

#[tokio::test]
async fn a_plain_publish_is_delivered_live_and_never_stored() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    let head = client.join("order:o1").await["offset"].clone();
    assert_eq!(redis.publish("order:o1", br#"{"type":"typing","payload":{"by":"u2"}}"#).await, 1);
    let (name, live) = client.event().await;
    assert_eq!((name.as_str(), &live["requiresAck"]), ("typing", &json!(false)));
    let live = &live["event"];
    assert!(live["id"].is_string() && live["timestamp"].is_u64(), "{live}");
    assert_eq!((&live["priority"], &live["payload"]), (&json!("NORMAL"), &json!({"by": "u2"})));
    assert_eq!(live["meta"], json!({"room": "order:o1"}));
    let history = missed(&mut client, "order:o1", &head).await;
    assert_eq!((&history["events"], &history["complete"]), (&json!([]), &json!(true)));
}
