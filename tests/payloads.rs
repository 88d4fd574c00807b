//! Payloads: passed on byte for byte, live and from the history, whichever way they came in (S34).

use serde_json::json;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::token;

fn payloads() -> Vec<String> {
    let nested = format!("{}{}", "[".repeat(64), "]".repeat(64));
    let objects = format!("{}1{}", r#"{"a":"#.repeat(64), "}".repeat(64));
    let mut payloads = vec![nested, objects, "9".repeat(100), format!("[-{},\"{}\"]", "9".repeat(99), "9".repeat(999))];
    payloads.extend(
        [
            "9007199254740993",
            "123456789012345678901234567890.123456789012345678901234567890",
            "1e-7",
            r#"{"small":1e-7,"E":1E+2,"negative":-0,"one":1.0,"long":0.1000}"#,
            "null",
            "true",
            "[]",
            "{}",
            r#""""#,
            r#""🦀 né 日本 \ud83d\ude00 \u00e9 \/ \\ \" \b\f\n\r\t \u0000 \u001f \u2028""#,
            "\"\u{2028}\u{2029}\u{7f}\u{feff}\"",
            r#"{"b":1,"a":2,"10":3,"2":4,"A":{"z":1,"y":2},"\u0061b":5}"#,
            "{ \"a\" : [ 1 ,\t2 ] ,\n\r\n  \"text\" : \"two  spaces\" }",
            r#"{"room":"user:u2","offset":"1-1","meta":{"offset":"9-9"},"event":{"id":"x"}}"#,
            r#"{"brackets":"]}[{","quotes":"\"","ends":"\\"}"#,
        ]
        .map(str::to_owned),
    );
    payloads
}

fn whole(payload: &str) -> String {
    format!(r#""payload":{payload},"meta":{{"room":"order:o1""#)
}

#[tokio::test]
async fn a_payload_is_the_same_to_the_byte_live_and_from_the_history() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.join("order:o1").await;
    for payload in payloads() {
        let event = format!(r#"{{"type":"t","payload":{payload}}}"#);
        redis.fcall(&["order:o1"], &event, &[]).await.unwrap_or_else(|error| panic!("{payload}: {error}"));
        let (status, reply) = node.post("/v1/publish", event.replacen('{', r#"{"room":"order:o1","#, 1)).await;
        assert_eq!(status, 200, "{payload}: {reply}");
        redis.publish("order:o1", event.as_bytes()).await;
        for way in ["FCALL", "HTTP", "PUBLISH"] {
            let frame = client.frame().await.expect("an event");
            assert!(frame.contains(&whole(&payload)), "{way}: {payload}\n{frame}");
        }
        let since = r#"{"room":"order:o1","since":1}"#;
        let history = client.call_raw("get_missed_events", since).await;
        let copies = history.matches(&whole(&payload)).count();
        assert!(copies >= 2, "{copies} copies of {payload}\n{history}");
    }
}

#[tokio::test]
async fn the_embedded_broker_passes_payloads_on_untouched_too() {
    let node = Node::embedded().await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    let head = client.join("order:o1").await["offset"].clone();
    for payload in payloads() {
        let body = format!(r#"{{"room":"order:o1","type":"t","payload":{payload}}}"#);
        assert_eq!(node.post("/v1/publish", body).await.0, 200, "{payload}");
        let frame = client.frame().await.expect("an event");
        assert!(frame.contains(&whole(&payload)), "{payload}\n{frame}");
    }
    let all = json!({"room": "order:o1", "after": head}).to_string();
    let history = client.call_raw("get_missed_events", &all).await;
    for payload in payloads() {
        assert!(history.contains(&whole(&payload)), "{payload}\n{history}");
    }
}

#[tokio::test]
async fn an_event_as_large_as_allowed_arrives_whole() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.join("order:o1").await;
    let around = r#"{"type":"t","payload":""}"#.len();
    let payload = format!("\"{}\"", "x".repeat(65_536 - around));
    let event = format!(r#"{{"type":"t","payload":{payload}}}"#);
    assert_eq!(event.len(), 65_536);
    redis.fcall(&["order:o1"], &event, &[]).await.expect("just small enough");
    assert_eq!(node.post("/v1/publish", event.replacen('{', r#"{"room":"order:o1","#, 1)).await.0, 200);
    redis.publish("order:o1", event.as_bytes()).await;
    for _ in 0..3 {
        let frame = client.frame().await.expect("an event");
        assert!(frame.contains(&whole(&payload)), "{} bytes", frame.len());
    }
}
