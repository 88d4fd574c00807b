//! Who may join what without a word in the configuration: every class, for everybody who may come, the same for a join,
//! for missed events, and in what `/v1/policy` explains.

use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::token::{self, now_s};

/// A user who may come, with claims.
const CUSTOMER: usize = 0;
const AGENT: usize = 1;
const STORE: usize = 2;
const DISPATCHER: usize = 3;
const ADMIN: usize = 4;

const ALL: &[usize] = &[CUSTOMER, AGENT, STORE, DISPATCHER, ADMIN];
const STAFF: &[usize] = &[DISPATCHER, ADMIN];

fn people() -> [Value; 5] {
    [
        json!({"sub": "u1", "role": "customer"}),
        json!({"sub": "u2", "role": "agent", "agentId": "a1", "zoneId": "z1"}),
        json!({"sub": "u3", "role": "store", "storeId": "s1"}),
        json!({"sub": "u4", "role": "dispatcher", "zoneId": "z1"}),
        json!({"sub": "u5", "role": "admin"}),
    ]
}

/// A room of each of the fifteen classes and one of another user where that differs, with who may enter.
const ROOMS: [(&str, &str, &[usize]); 21] = [
    ("user:{userId}", "user:u1", &[CUSTOMER, DISPATCHER, ADMIN]),
    ("user:{userId}", "user:u2", &[AGENT, DISPATCHER, ADMIN]),
    ("order:{orderId}", "order:o1", ALL),
    ("store:{storeId}", "store:s1", ALL),
    ("store:{storeId}:orders", "store:s1:orders", &[STORE, DISPATCHER, ADMIN]),
    ("store:{storeId}:orders", "store:s2:orders", STAFF),
    ("zone:{zoneId}", "zone:z1", ALL),
    ("zone:{zoneId}:agents", "zone:z1:agents", &[AGENT, DISPATCHER, ADMIN]),
    ("zone:{zoneId}:agents", "zone:z2:agents", STAFF),
    ("agent:{agentId}", "agent:a1", &[AGENT, DISPATCHER, ADMIN]),
    ("agent:{agentId}", "agent:u2", STAFF),
    ("agent:{agentId}:orders", "agent:a1:orders", &[AGENT, DISPATCHER, ADMIN]),
    ("agent:{agentId}:orders", "agent:a2:orders", STAFF),
    ("product:{productId}", "product:p1", ALL),
    ("variant:{variantId}", "variant:v1", ALL),
    ("orders:active", "orders:active", STAFF),
    ("agents:all", "agents:all", STAFF),
    ("stores:all", "stores:all", STAFF),
    ("store:{storeId}:zone:{zoneId}", "store:s1:zone:z1", ALL),
    ("store:{storeId}:zone:{zoneId}", "store:s2:zone:z2", ALL),
    ("dashboard:admin", "dashboard:admin", &[ADMIN]),
];

async fn explain(node: &Node, token: &str, room: &str) -> Value {
    let (status, reply) = node.post("/v1/policy", json!({"token": token, "room": room}).to_string()).await;
    assert_eq!(status, 200, "{reply}");
    reply
}

/// What a command is answered with: `ok`, or the error.
fn word(reply: &Value) -> &str {
    if reply["ok"] == true { "ok" } else { reply["error"].as_str().expect("a refusal has an error") }
}

#[tokio::test]
async fn every_class_opens_to_the_same_people_for_joins_missed_events_and_explanations() {
    let node = Node::embedded().await;
    for (at, claims) in people().into_iter().enumerate() {
        let token = token::with(claims.clone());
        let mut client = Client::connect(node.main(), &token).await;
        for (class, room, who) in ROOMS {
            let expected = if who.contains(&at) { "ok" } else { "forbidden" };
            let joined = client.call("join_room", &json!({ "room": room }).to_string()).await;
            assert_eq!(word(&joined), expected, "join {room}: {claims}");
            client.call("leave_room", &json!({ "room": room }).to_string()).await;
            let since = json!({"room": room, "since": now_s() * 1000}).to_string();
            let missed = client.call("get_missed_events", &since).await;
            assert_eq!(word(&missed), expected, "missed {room}: {claims}");
            let explained = explain(&node, &token, room).await;
            assert_eq!(explained["allowed"], expected == "ok", "{room}: {claims}: {explained}");
            assert_eq!(explained["class"], class, "{explained}");
            let reason = if expected == "ok" { Value::Null } else { json!("forbidden") };
            assert_eq!(explained["reason"], reason, "{explained}");
        }
    }
    assert_eq!(node.metric("hallway_policy_failures_total").await, 0.0, "the default rules can always be judged");
}

/// Asserts that a token admits no client, and that every room is explained with this reason.
async fn opens_nothing(node: &Node, token: Option<&str>, reason: &str) {
    let (mut client, _) = Client::open(node.main()).await;
    let offer = token.map_or_else(|| json!({}), |token| json!({ "token": token }));
    let reply = client.offer(&offer.to_string()).await;
    assert!(reply.starts_with("44/realtime,") && reply.contains("unauthorized"), "{reason}: {reply}");
    for (_, room, _) in ROOMS {
        let explained = explain(node, token.unwrap_or_default(), room).await;
        assert_eq!((&explained["allowed"], &explained["reason"]), (&json!(false), &json!(reason)), "{explained}");
        assert!(explained.get("saw").is_none() && explained.get("rule").is_none(), "{explained}");
    }
}

#[tokio::test]
async fn nobody_enters_without_a_token_or_with_one_that_is_expired_or_revoked() {
    let node = Node::embedded().await;
    opens_nothing(&node, None, "token-invalid").await;
    let expired = token::with(json!({"sub": "u5", "role": "admin", "exp": now_s() - 60}));
    opens_nothing(&node, Some(&expired), "token-expired").await;
    let revoked = token::with(json!({"sub": "u6", "role": "admin", "iat": now_s() - 5}));
    let (status, reply) = node.post("/v1/revoke", r#"{"sub":"u6"}"#).await;
    assert_eq!(status, 200, "{reply}");
    opens_nothing(&node, Some(&revoked), "token-revoked").await;
}

#[tokio::test]
async fn a_question_that_is_none_is_refused_and_an_unknown_room_is_said_to_be_one() {
    let node = Node::embedded().await;
    for body in ["", "{}", r#"{"token":"x"}"#, r#"{"token":1,"room":"user:u1"}"#, r#"{"token":"","room":"","x":1}"#] {
        let (status, reply) = node.post("/v1/policy", body.to_owned()).await;
        assert_eq!((status, &reply["error"]["code"]), (400, &json!("invalid-payload")), "{body}: {reply}");
    }
    let explained = explain(&node, &token::staff(), "chat:1").await;
    assert_eq!((&explained["allowed"], &explained["reason"]), (&json!(false), &json!("invalid-room")), "{explained}");
    let unsigned = crate::harness::http().post(format!("http://{}/v1/policy", node.main())).body("{}").send().await;
    assert_eq!(unsigned.expect("an answer").status(), 401);
}
