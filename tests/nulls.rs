//! Null for an optional member is as good as none, in every command and every body (S20).

use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::token;

/// Commands with their required members, and the optional ones.
const COMMANDS: [(&str, &str, &[&str]); 7] = [
    ("join_room", r#""room":"order:o1""#, &["after", "since", "limit"]),
    ("leave_room", r#""room":"order:o1""#, &["after"]),
    ("get_missed_events", r#""room":"order:o1","after":"1-0""#, &["since", "limit"]),
    ("get_missed_events", r#""room":"order:o1","since":1"#, &["after", "limit"]),
    ("update_location", r#""lat":1,"lng":2"#, &["accuracy", "agentId"]),
    ("event_ack", r#""eventId":"e1""#, &["status", "error"]),
    ("refresh_token", r#""token":"<token>""#, &["more"]),
];

/// Bodies of `/v1` in the same way.
const BODIES: [(&str, &str, &[&str]); 5] = [
    (
        "/v1/publish",
        r#""room":"order:o1","type":"t","payload":null"#,
        &["rooms", "id", "priority", "timestamp", "meta", "requiresAck", "delivery"],
    ),
    ("/v1/publish", r#""rooms":["order:o1"],"type":"t","payload":1"#, &["room"]),
    ("/v1/revoke", r#""sub":"u9""#, &["jti", "issuedBefore"]),
    ("/v1/revoke", r#""jti":"t9""#, &["sub", "issuedBefore"]),
    ("/v1/disconnect", r#""userId":"u9""#, &[]),
];

/// The members that are required with each of the others as null, and with all of them.
fn with_nulls(required: &str, optional: &[&str]) -> Vec<String> {
    let null = |name: &&str| format!(r#","{name}":null"#);
    let each = optional.iter().map(null);
    let all: String = optional.iter().map(null).collect();
    each.chain([all]).map(|nulls| format!("{{{required}{nulls}}}")).collect()
}

fn agent() -> String {
    token::with(json!({"sub": "u1", "role": "agent"}))
}

#[tokio::test]
async fn null_for_an_optional_member_of_a_command_counts_as_absent() {
    let node = Node::with(&[("HALLWAY_LIMITS__LOCATIONS_PER_SECOND", "1000")]).await;
    let mut client = Client::connect(node.main(), &agent()).await;
    for (command, required, optional) in COMMANDS {
        let required = required.replace("<token>", &agent());
        let plain = client.call(command, &format!("{{{required}}}")).await;
        assert_eq!(plain["ok"], true, "{command}: {plain}");
        for argument in with_nulls(&required, optional) {
            let reply = client.call(command, &argument).await;
            let shape = |reply: &Value| reply["data"].as_object().map(|data| data.keys().cloned().collect::<Vec<_>>());
            assert_eq!((&reply["ok"], shape(&reply)), (&json!(true), shape(&plain)), "{command} {argument}: {reply}");
        }
    }
}

#[tokio::test]
async fn a_location_with_a_null_accuracy_is_told_without_one() {
    let node = Node::embedded().await;
    let mut client = Client::connect(node.main(), &agent()).await;
    client.join("agent:u1").await;
    assert_eq!(client.call("update_location", r#"{"lat":1,"lng":2,"accuracy":null}"#).await, json!({"ok": true}));
    let location = json!({"agentId": "u1", "location": {"lat": 1, "lng": 2}});
    assert_eq!(client.event().await.1["event"]["payload"], location);
}

#[tokio::test]
async fn null_for_an_optional_member_of_a_body_counts_as_absent() {
    let node = Node::embedded().await;
    for (path, required, optional) in BODIES {
        for body in with_nulls(required, optional) {
            let (status, reply) = node.post(path, body.clone()).await;
            assert_eq!(status, 200, "{path} {body}: {reply}");
        }
    }
    let event = with_nulls(BODIES[0].1, BODIES[0].2).pop().expect("the one with all of them");
    let (status, reply) = node.post("/v1/publish/batch", format!(r#"{{"events":[{event}]}}"#)).await;
    assert_eq!((status, reply["results"][0]["duplicate"].clone()), (200, json!(false)), "{reply}");
}

#[tokio::test]
async fn null_for_an_optional_member_of_an_event_counts_as_absent_in_the_ingest_stream_too() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.join("order:o1").await;
    for event in with_nulls(BODIES[0].1, BODIES[0].2) {
        let mut add = redis::cmd("XADD");
        add.arg("hallway:ingest").arg("*").arg(&[("event", &event)]);
        add.exec_async(&mut redis.client().await).await.expect("redis is up");
        let heard = client.event().await.1;
        assert!(heard["event"]["id"].is_string() && heard["event"]["timestamp"].is_u64(), "{event}: {heard}");
        assert_eq!((&heard["event"]["priority"], &heard["requiresAck"]), (&json!("NORMAL"), &json!(false)), "{event}");
    }
}
