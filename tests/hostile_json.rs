//! Hostile JSON and packets: nesting without end, ids beyond all numbers, attachments that never come. Each is refused
//! where it stands, at the cost of its own transport at most.

use std::time::Duration;

use serde_json::json;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::{eventually, token};

/// A frame of a client with so many levels on either side stays below `limits.frame_bytes`.
const LEVELS: usize = 10_000;
/// A hostile transport is closed by then.
const SOON: Duration = Duration::from_secs(10);

fn deep(levels: usize) -> String {
    format!("{}1{}", "[".repeat(levels), "]".repeat(levels))
}

fn deep_object(levels: usize) -> String {
    format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels))
}

async fn member(node: &Node) -> Client {
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.join("order:r").await;
    client
}

async fn is_served(node: &Node, reader: &mut Client) {
    let (status, reply) = node.post("/v1/publish", r#"{"room":"order:r","type":"t","payload":1}"#).await;
    assert_eq!(status, 200, "{reply}");
    assert_eq!(reader.event().await.1["event"]["id"], reply["id"]);
}

#[tokio::test]
async fn deep_json_in_any_field_of_a_command_is_an_invalid_payload() {
    let node = Node::embedded().await;
    let mut reader = member(&node).await;
    let mut hostile = Client::connect(node.main(), &token::with(json!({"sub": "a", "role": "agent"}))).await;
    let good = json!({"room": "order:r", "after": "1-0", "since": 1, "limit": 1, "eventId": "e", "status": "failed",
        "error": "x", "token": token::user("u1"), "lat": 1, "lng": 1, "accuracy": 1});
    let commands = [
        ("join_room", &["room", "after", "since"][..]),
        ("leave_room", &["room"]),
        ("get_missed_events", &["room", "after", "since", "limit"]),
        ("event_ack", &["eventId", "status", "error"]),
        ("update_location", &["lat", "lng", "accuracy"]),
        ("refresh_token", &["token"]),
    ];
    for nested in [deep(100), deep(LEVELS), deep_object(100), deep_object(LEVELS)] {
        for (command, fields) in commands {
            let refused = json!({"ok": false, "error": "invalid-payload"});
            assert_eq!(hostile.call(command, &nested).await, refused, "{command}");
            for field in fields {
                let exclusive =
                    |name: &str| !(name == "after" && *field != "after" || name == "since" && *field == "after");
                let others = fields.iter().filter(|name| *name != field && exclusive(name));
                let others: String = others.map(|name| format!(r#","{name}":{}"#, good[*name])).collect();
                let argument = format!(r#"{{"{field}":{nested}{others}}}"#);
                assert_eq!(hostile.call(command, &argument).await, refused, "{command} {field}");
            }
        }
        assert_eq!(hostile.call("fly_away", &nested).await["error"], "unknown-command");
        let (mut stranger, _) = Client::open(node.main()).await;
        for payload in [nested.clone(), format!(r#"{{"token":{nested}}}"#)] {
            assert_eq!(stranger.offer(&payload).await, r#"44/realtime,{"message":"unauthorized"}"#);
        }
        stranger.sign_in(&token::user("u1")).await;
        is_served(&node, &mut reader).await;
    }
    hostile.join("order:1").await;
}

#[tokio::test]
async fn deep_json_in_any_field_of_a_body_is_an_invalid_event() {
    let node = Node::embedded().await;
    let mut reader = member(&node).await;
    for nested in [deep(65), deep(LEVELS), deep_object(65), deep_object(LEVELS)] {
        for field in
            ["type", "payload", "meta", "id", "priority", "timestamp", "room", "rooms", "requiresAck", "delivery", "x"]
        {
            let others = [("room", r#""order:r""#), ("type", r#""t""#), ("payload", "1")];
            let others = others.iter().filter(|(name, _)| *name != field);
            let others: String = others.map(|(name, value)| format!(r#","{name}":{value}"#)).collect();
            let body = format!(r#"{{"{field}":{nested}{others}}}"#);
            let (status, reply) = node.post("/v1/publish", body.clone()).await;
            assert_eq!((status, &reply["error"]["code"]), (400, &json!("invalid-event")), "{field}: {reply}");
            let (status, reply) = node.post("/v1/publish/batch", format!(r#"{{"events":[{body}]}}"#)).await;
            assert_eq!((status, &reply["results"][0]["error"]["code"]), (200, &json!("invalid-event")), "{field}");
        }
        for body in [nested.clone(), format!(r#"{{"events":{nested}}}"#)] {
            let (status, reply) = node.post("/v1/publish/batch", body).await;
            let error = if status == 200 { &reply["results"][0]["error"] } else { &reply["error"] };
            assert_eq!(error["code"], "invalid-event", "{status} {reply}");
        }
        is_served(&node, &mut reader).await;
    }
    reader.nothing_came().await;
}

#[tokio::test]
async fn deep_json_by_redis_reaches_nobody_and_stops_nobody() {
    let redis = Redis::start_forgetful().await;
    let node = Node::on(&redis.url()).await;
    let mut reader = member(&node).await;
    let mut client = redis.client().await;
    let mut bad = 0;
    for nested in [deep(65), deep(LEVELS), deep_object(65), deep_object(LEVELS)] {
        for (field, payload) in [("payload", ""), ("meta", r#","payload":1"#)] {
            let event = format!(r#"{{"type":"t","{field}":{nested}{payload}}}"#);
            let refused = redis.fcall(&["order:r"], &event, &[]).await.expect_err("it is refused").to_string();
            assert!(refused.contains("invalid-event"), "{refused}");
            redis.publish("order:r", event.as_bytes()).await;
            let whole = event.replacen('{', r#"{"room":"order:r","#, 1);
            let flat = ["room", "order:r", "type", "t", "payload", "1", field, &nested];
            let flat = if field == "payload" { [&flat[..4], &flat[6..]].concat() } else { flat.to_vec() };
            for fields in [vec!["event", &whole], flat] {
                let mut add = redis::cmd("XADD");
                add.arg("hallway:ingest").arg("*").arg(fields);
                add.query_async::<String>(&mut client).await.expect("redis is up");
                bad += 1;
            }
        }
        is_served(&node, &mut reader).await;
    }
    eventually("every bad entry is put aside", || async {
        let mut length = redis::cmd("XLEN");
        let length: i64 = length.arg("hallway:ingest:rejected").query_async(&mut client.clone()).await.ok()?;
        (length == bad).then_some(())
    })
    .await;
    is_served(&node, &mut reader).await;
    reader.nothing_came().await;
}

#[tokio::test]
async fn an_ack_id_comes_back_as_it_was_or_ends_its_transport() {
    let node = Node::embedded().await;
    let mut reader = member(&node).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    for id in ["0", "9007199254740993", "9223372036854775807"] {
        client.send(&format!(r#"42/realtime,{id}["leave_room",{{"room":"order:1"}}]"#)).await;
        let reply = client.frame().await.expect("a reply");
        assert!(reply.starts_with(&format!(r#"43/realtime,{id}[{{"ok":true"#)), "{reply}");
    }
    for id in
        ["9223372036854775808", "18446744073709551616", &"9".repeat(400), &"9".repeat(50_000), &"0".repeat(50_000)]
    {
        let mut hostile = Client::connect(node.main(), &token::user("u1")).await;
        hostile.send(&format!(r#"42/realtime,{id}["leave_room",{{"room":"order:1"}}]"#)).await;
        hostile.send(r#"42/realtime,7["leave_room",{"room":"order:1"}]"#).await;
        let first = hostile.frame().await;
        let answered = first.as_deref().is_some_and(|frame| frame.starts_with("43/realtime,") && frame.len() < 200);
        assert!(first.is_none() || answered, "{first:?}");
        is_served(&node, &mut reader).await;
    }
    client.join("order:1").await;
}

async fn ends_unanswered(client: &mut Client) {
    let frames = client.until_closed(SOON).await;
    assert!(frames.iter().all(|frame| frame == "1"), "more than Engine.IO's close packet: {frames:?}");
}

#[tokio::test]
async fn attachments_that_never_come_end_their_transport_and_leave_nothing() {
    let node = Node::with(&[("HALLWAY_SOCKETIO__PING_TIMEOUT", "5s")]).await;
    let mut reader = member(&node).await;
    let before = node.descriptors();
    let placeholder = r#"["join_room",{"room":{"_placeholder":true,"num":0}}]"#;
    let (mut silent, mut others) = (Vec::new(), Vec::new());
    for announced in [1, 4] {
        for waiting in [&mut silent, &mut others] {
            let mut hostile = Client::connect(node.main(), &token::user("u1")).await;
            hostile.send(&format!("45{announced}-/realtime,7{placeholder}")).await;
            waiting.push(hostile);
        }
    }
    is_served(&node, &mut reader).await;
    for hostile in &mut others {
        // Until then it has a frame's worth of memory, as a client that is silent in the middle of a frame.
        hostile.send(r#"42/realtime,8["leave_room",{"room":"order:1"}]"#).await;
        ends_unanswered(hostile).await;
    }
    for hostile in &mut silent {
        ends_unanswered(hostile).await;
    }
    drop((silent, others));
    eventually("their sessions are gone", || async { (node.metric("hallway_sessions").await < 1.5).then_some(()) })
        .await;
    eventually("their descriptors are back", || async { (node.descriptors() <= before).then_some(()) }).await;
    is_served(&node, &mut reader).await;
}
