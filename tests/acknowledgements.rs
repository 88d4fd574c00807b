//! Acknowledgements: what a client says became of an event (S21).

use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::token;
use crate::harness::{eventually, http};

const COUNTER: &str = "hallway_acknowledgements_total";

fn refused() -> Value {
    json!({"ok": false, "error": "invalid-payload"})
}

/// What is counted with this status.
async fn counted(node: &Node, status: &str) -> u64 {
    let text = http().get(format!("http://{}/metrics", node.admin())).send().await.expect("metrics").text().await;
    let line = format!("{COUNTER}{{status=\"{status}\"}} ");
    let text = text.expect("metrics are text");
    text.lines().find_map(|l| l.strip_prefix(&line)).map_or(0, |count| count.parse().expect("a number"))
}

#[tokio::test]
async fn an_acknowledgement_is_answered_and_counted_by_its_status() {
    let node = Node::embedded().await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.join("order:o1").await;
    node.post("/v1/publish", r#"{"room":"order:o1","type":"t","payload":1}"#).await;
    let id = client.event().await.1["event"]["id"].as_str().expect("an id").to_owned();
    for rest in [
        json!({}),
        json!({"status": null, "error": null}),
        json!({"status": "received", "more": 1}),
        json!({"status": "processed"}),
        json!({"status": "failed", "error": "the printer is on fire"}),
        json!({"status": "failed"}),
    ] {
        let mut argument = rest;
        argument["eventId"] = id.clone().into();
        assert_eq!(client.call_raw("event_ack", &argument.to_string()).await, r#"{"ok":true}"#, "{argument}");
    }
    let long = "x".repeat(128);
    for unheard_of in ["a", "A-z_0.9:", &long] {
        let argument = json!({"eventId": unheard_of}).to_string();
        assert_eq!(client.call("event_ack", &argument).await, json!({"ok": true}), "{unheard_of}");
    }
    assert_eq!(counted(&node, "received").await, 6);
    assert_eq!((counted(&node, "processed").await, counted(&node, "failed").await), (1, 2));
    client.nothing_came().await;
}

#[tokio::test]
async fn what_is_no_acknowledgement_is_an_invalid_payload() {
    let node = Node::embedded().await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    for argument in
        ["null", "5", "true", r#""e1""#, "[]", r#"["e1"]"#, "{}", r#"{"eventid":"e1"}"#, r#"{"status":"failed"}"#]
    {
        assert_eq!(client.call("event_ack", argument).await, refused(), "{argument}");
    }
    let long = "x".repeat(129);
    for id in [json!(null), json!(5), json!(["e1"]), json!({}), json!(""), json!("a b"), json!("é"), json!(long)] {
        let argument = json!({"eventId": id}).to_string();
        assert_eq!(client.call("event_ack", &argument).await, refused(), "{argument}");
    }
    for (name, value) in [
        ("status", json!("done")),
        ("status", json!("Received")),
        ("status", json!("")),
        ("status", json!(5)),
        ("status", json!(["failed"])),
        ("error", json!(5)),
        ("error", json!({})),
        ("error", json!(false)),
    ] {
        let mut argument = json!({"eventId": "e1"});
        argument[name] = value;
        assert_eq!(client.call("event_ack", &argument.to_string()).await, refused(), "{argument}");
    }
    assert_eq!(node.metric(COUNTER).await as u64, 0);
    client.send(r#"42/realtime,77["event_ack"]"#).await;
    let reply = client.frame().await.expect("a reply");
    assert_eq!(reply, r#"43/realtime,77[{"ok":false,"error":"invalid-payload"}]"#);
}

#[tokio::test]
async fn an_acknowledgement_without_an_ack_id_is_counted_and_sends_nothing() {
    let node = Node::embedded().await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.tell("event_ack", r#"{"eventId":"e1","status":"processed"}"#).await;
    client.tell("event_ack", "null").await;
    client.nothing_came().await;
    eventually("it is counted", || async { (counted(&node, "processed").await == 1).then_some(()) }).await;
}
