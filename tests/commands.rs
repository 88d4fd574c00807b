//! Commands: joining and leaving, what each is answered with, and that they are carried out in the order sent (S10-S15,
//! S24).

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::token;

const FORMS: [&str; 15] = [
    "user:u9",
    "order:o1",
    "store:s1",
    "store:s1:orders",
    "zone:z1",
    "zone:z1:agents",
    "agent:a1",
    "agent:a1:orders",
    "product:p1",
    "variant:v1",
    "orders:active",
    "agents:all",
    "stores:all",
    "store:s1:zone:z1",
    "dashboard:admin",
];

fn refused(error: &str) -> Value {
    json!({"ok": false, "error": error})
}

fn room(key: &str) -> String {
    json!({ "room": key }).to_string()
}

/// The argument of a command that is right but for its room.
fn in_room(command: &str, room: Value) -> String {
    if command == "get_missed_events" { json!({"room": room, "since": 1}) } else { json!({ "room": room }) }.to_string()
}

async fn publish(node: &Node, room: &str) -> Value {
    let (status, reply) = node.post("/v1/publish", format!(r#"{{"room":"{room}","type":"t","payload":1}}"#)).await;
    assert_eq!(status, 200, "{reply}");
    reply
}

/// Asserts that the next event is one published to `room` now, so that nothing came before it.
async fn hears_next(client: &mut Client, node: &Node, room: &str) {
    let published = publish(node, room).await;
    assert_eq!(client.event().await.1["event"]["id"], published["id"]);
}

#[tokio::test]
async fn a_join_is_answered_with_the_room_its_size_and_its_head() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut first = Client::connect(node.main(), &token::user("u1")).await;
    let reply = first.call("join_room", &room("order:o1")).await;
    let offset = reply["data"]["offset"].as_str().expect("an offset").to_owned();
    assert_eq!(reply, json!({"ok": true, "data": {"room": "order:o1", "roomSize": 1, "offset": offset}}));
    let published = publish(&node, "order:o1").await;
    let mut second = Client::connect(node.main(), &token::user("u1")).await;
    let joined = second.join("order:o1").await;
    assert_eq!(joined, json!({"room": "order:o1", "roomSize": 2, "offset": published["offsets"]["order:o1"]}));
}

#[tokio::test]
async fn joining_twice_is_joining_once() {
    let node = Node::embedded().await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    for _ in 0..3 {
        assert_eq!(client.join("order:o1").await["roomSize"], 1);
    }
    hears_next(&mut client, &node, "order:o1").await;
    client.nothing_came().await;
    let left = client.call("leave_room", &room("order:o1")).await;
    assert_eq!(left, json!({"ok": true, "data": {"room": "order:o1", "roomSize": 0}}));
    publish(&node, "order:o1").await;
    client.join("order:o2").await;
    hears_next(&mut client, &node, "order:o2").await;
}

#[tokio::test]
async fn every_form_of_room_can_be_joined_and_heard() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::staff()).await;
    let long = format!("order:{}", "x".repeat(128));
    for key in FORMS.iter().copied().chain(["order:A-z_0.9~", &long]) {
        assert_eq!(client.join(key).await["room"], key);
        let published = redis.fcall(&[key], r#"{"type":"t","payload":1}"#, &[]).await.expect("a room of this form");
        let (_, heard) = client.event().await;
        assert_eq!(heard["event"]["meta"], json!({"room": key, "offset": published.placed[0].1}));
    }
}

#[tokio::test]
async fn what_is_no_payload_or_no_room_is_answered_and_the_socket_stays() {
    let node = Node::embedded().await;
    let mut client = Client::connect(node.main(), &token::staff()).await;
    for command in ["join_room", "leave_room", "get_missed_events"] {
        for argument in ["null", "5", "true", r#""order:o1""#, "[]", r#"["order:o1"]"#, "{}", r#"{"Room":"order:o1"}"#]
        {
            assert_eq!(client.call(command, argument).await, refused("invalid-payload"), "{command} {argument}");
        }
        for value in [json!(null), json!(5), json!(true), json!([]), json!({})] {
            let argument = in_room(command, value);
            assert_eq!(client.call(command, &argument).await, refused("invalid-payload"), "{command} {argument}");
        }
        let (long, longer) = (format!("order:{}", "x".repeat(129)), format!("order:{}", "x".repeat(5000)));
        for key in [
            "",
            " ",
            "order",
            "order:",
            ":o1",
            "order:o1:",
            "order:o1:x",
            "Order:o1",
            "orders:o1",
            "order:{o1}",
            "order:a b",
            "order:é",
            "order:o1\n",
            "order:?",
            "store:s1:zone",
            "dashboard:x",
            "chat:1",
            &long,
            &longer,
        ] {
            let argument = in_room(command, key.into());
            assert_eq!(client.call(command, &argument).await, refused("invalid-room"), "{command} {key:?}");
        }
    }
    client.join("order:o1").await;
    hears_next(&mut client, &node, "order:o1").await;
}

#[tokio::test]
async fn a_command_without_any_argument_is_answered() {
    let node = Node::embedded().await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    for command in ["join_room", "leave_room", "get_missed_events"] {
        client.send(&format!(r#"42/realtime,77["{command}"]"#)).await;
        let reply = client.frame().await.expect("a reply");
        assert_eq!(reply, r#"43/realtime,77[{"ok":false,"error":"invalid-payload"}]"#);
    }
    client.send(r#"42/realtime,78["join_room",{"room":"order:o1"},"more",[1]]"#).await;
    let reply = client.frame().await.expect("a reply");
    assert!(reply.starts_with(r#"43/realtime,78[{"ok":true,"#), "further arguments do no harm: {reply}");
}

#[tokio::test]
async fn rooms_that_the_policy_closes_are_forbidden_and_stay_silent() {
    let node = Node::embedded().await;
    let closed = [
        "user:u2",
        "store:s1:orders",
        "zone:z1:agents",
        "agent:a1",
        "agent:a1:orders",
        "orders:active",
        "agents:all",
        "stores:all",
        "dashboard:admin",
    ];
    let customer = json!({"sub": "u1"});
    let agent = json!({"sub": "u1", "role": "agent", "agentId": "a1", "zoneId": "z1"});
    let store = json!({"sub": "u1", "role": "store", "storeId": "s1"});
    for (claims, open) in [
        (customer, &[][..]),
        (agent, &["zone:z1:agents", "agent:a1", "agent:a1:orders"]),
        (store, &["store:s1:orders"]),
        (json!({"sub": "u1", "role": "dispatcher"}), &closed[..8]),
    ] {
        let mut client = Client::connect(node.main(), &token::with(claims.clone())).await;
        for key in closed {
            if open.contains(&key) {
                client.join(key).await;
                continue;
            }
            assert_eq!(client.call("join_room", &room(key)).await, refused("forbidden"), "{key} {claims}");
            let since = json!({"room": key, "since": 1}).to_string();
            assert_eq!(client.call("get_missed_events", &since).await, refused("forbidden"), "{key} {claims}");
            publish(&node, key).await;
        }
        client.join("user:u1").await;
        hears_next(&mut client, &node, "user:u1").await;
    }
}

#[tokio::test]
async fn more_rooms_than_a_socket_may_be_in_are_refused() {
    let node = Node::embedded().await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    for i in 0..128 {
        client.join(&format!("order:o{i}")).await;
    }
    assert_eq!(client.call("join_room", &room("order:more")).await, refused("too-many-rooms"));
    client.join("order:o5").await;
    client.call("leave_room", &room("order:o5")).await;
    client.join("order:more").await;
    assert_eq!(client.call("join_room", &room("order:o5")).await, refused("too-many-rooms"));
    hears_next(&mut client, &node, "order:more").await;
}

#[tokio::test]
async fn leaving_a_room_ends_its_events_and_leaving_one_that_one_is_not_in_is_fine() {
    let node = Node::embedded().await;
    let mut stays = Client::connect(node.main(), &token::user("u1")).await;
    let mut leaves = Client::connect(node.main(), &token::user("u2")).await;
    for client in [&mut stays, &mut leaves] {
        client.join("order:o1").await;
        client.join("order:o2").await;
    }
    let left = leaves.call("leave_room", &room("order:o1")).await;
    assert_eq!(left, json!({"ok": true, "data": {"room": "order:o1", "roomSize": 1}}));
    let again = leaves.call("leave_room", &room("order:o1")).await;
    assert_eq!(again, json!({"ok": true, "data": {"room": "order:o1", "roomSize": 0}}), "it is not in there");
    hears_next(&mut stays, &node, "order:o1").await;
    hears_next(&mut leaves, &node, "order:o2").await;
    leaves.join("order:o1").await;
    leaves.nothing_came().await;
}

#[tokio::test]
async fn an_unknown_command_is_answered_where_an_answer_is_wanted_and_else_ignored() {
    let node = Node::embedded().await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    for command in ["fly_away", "JOIN_ROOM", "join_room ", "", "connect", "message", "💥"] {
        assert_eq!(client.call(command, "{}").await, refused("unknown-command"), "{command}");
        client.tell(command, r#"{"room":"order:o1"}"#).await;
    }
    client.nothing_came().await;
    assert_eq!(node.room_size("order:o1").await, 0);
}

#[tokio::test]
async fn a_command_without_an_ack_id_does_its_work_and_sends_nothing() {
    let node = Node::embedded().await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.tell("join_room", &room("order:o1")).await;
    client.tell("join_room", &room("order:nope:nope")).await;
    client.tell("join_room", &room("user:u2")).await;
    client.tell("get_missed_events", r#"{"room":"order:o1","since":0}"#).await;
    eventually("the join is done", || async { (node.room_size("order:o1").await == 1).then_some(()) }).await;
    hears_next(&mut client, &node, "order:o1").await;
    client.tell("leave_room", &room("order:o1")).await;
    client.nothing_came().await;
    assert_eq!(node.room_size("order:o1").await, 0);
}

#[tokio::test]
async fn three_thousand_commands_in_one_breath_are_answered_in_order() {
    let redis = Redis::start().await;
    let url = redis.url();
    let node = Node::with(&[("HALLWAY_REDIS__URL", &url), ("HALLWAY_LIMITS__COMMANDS_PER_MINUTE", "1000000")]).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    for i in 0..1000 {
        let (joins, reads, leaves) = (3 * i, 3 * i + 1, 3 * i + 2);
        client.send(&format!(r#"42/realtime,{joins}["join_room",{{"room":"order:o{i}"}}]"#)).await;
        client.send(&format!(r#"42/realtime,{reads}["get_missed_events",{{"room":"order:o{i}","since":0}}]"#)).await;
        client.send(&format!(r#"42/realtime,{leaves}["leave_room",{{"room":"order:o{i}"}}]"#)).await;
    }
    for id in 0..3000 {
        let frame = client.frame().await.expect("a reply");
        let body = frame.strip_prefix(&format!("43/realtime,{id}[")).unwrap_or_else(|| panic!("not {id}: {frame}"));
        let reply: Value = body.strip_suffix(']').and_then(|map| serde_json::from_str(map).ok()).expect("one map");
        assert_eq!(reply["ok"], true, "{id}: {frame}");
        match id % 3 {
            0 => assert_eq!(reply["data"]["roomSize"], 1, "{frame}"),
            1 => assert_eq!(reply["data"]["events"], json!([]), "{frame}"),
            _ => assert_eq!(reply["data"]["roomSize"], 0, "{frame}"),
        }
    }
    client.nothing_came().await;
}

#[tokio::test]
async fn while_the_broker_is_away_commands_say_unavailable_and_the_socket_stays() {
    let mut redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.join("order:o1").await;
    redis.kill();
    assert_eq!(client.call("join_room", &room("order:o2")).await, refused("unavailable"));
    let missed = client.call("get_missed_events", r#"{"room":"order:o1","since":1}"#).await;
    assert_eq!(missed, refused("unavailable"));
    redis.restart().await;
    node.ready().await;
    client.join("order:o2").await;
    hears_next(&mut client, &node, "order:o2").await;
    hears_next(&mut client, &node, "order:o1").await;
}

#[tokio::test]
async fn a_join_without_an_ack_id_that_the_broker_cannot_serve_costs_the_transport() {
    let mut redis = Redis::start().await;
    let url = redis.url();
    let node = Node::with(&[("HALLWAY_REDIS__URL", &url), ("HALLWAY_REDIS__JOIN_WAIT", "1s")]).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    let mut patient = Client::connect(node.main(), &token::user("u2")).await;
    redis.kill();
    client.tell("join_room", &room("order:o1")).await;
    let frames = client.until_closed(Duration::from_secs(10)).await;
    assert_eq!(frames, Vec::<String>::new(), "no packet, least of all 41");
    redis.restart().await;
    node.ready().await;
    patient.tell("join_room", &room("order:o1")).await;
    eventually("the join is done", || async { (node.room_size("order:o1").await == 1).then_some(()) }).await;
    hears_next(&mut patient, &node, "order:o1").await;
}
