//! Refreshing a token on a live socket: the end moves, and rooms are judged again (S22).

use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::token::{self, now_s};

fn refused(error: &str) -> Value {
    json!({"ok": false, "error": error})
}

fn token_of(token: &str) -> String {
    json!({ "token": token }).to_string()
}

fn until(exp: u64) -> String {
    token::with(json!({"sub": "u1", "exp": exp}))
}

fn renewed(exp: u64) -> Value {
    json!({"ok": true, "data": {"expiresAt": exp * 1000}})
}

/// A node that does not tell that a token is about to expire.
async fn untold() -> Node {
    Node::with(&[("HALLWAY_AUTH__EXPIRING_LEAD", "0s")]).await
}

async fn publish(node: &Node, room: &str) -> Value {
    let (status, reply) = node.post("/v1/publish", format!(r#"{{"room":"{room}","type":"t","payload":1}}"#)).await;
    assert_eq!(status, 200, "{reply}");
    reply["id"].clone()
}

async fn hears(client: &mut Client, node: &Node, room: &str) {
    let id = publish(node, room).await;
    assert_eq!(client.event().await.1["event"]["id"], id, "{room}");
}

/// Waits for the end of the transport, which must come at `exp`.
async fn ends_at(client: &mut Client, exp: u64) -> Vec<String> {
    let frames = client.until_closed(Duration::from_secs(20)).await;
    assert!((exp..=exp + 2).contains(&now_s()), "{} is not {exp}", now_s());
    assert!(frames.iter().all(|frame| !frame.starts_with("41")), "{frames:?}");
    frames
}

#[tokio::test]
async fn a_later_end_keeps_the_socket_and_an_earlier_one_ends_it() {
    let node = untold().await;
    let now = now_s();
    let mut longer = Client::connect(node.main(), &until(now + 3)).await;
    let mut shorter = Client::connect(node.main(), &until(now + 600)).await;
    let mut twice = Client::connect(node.main(), &until(now + 3)).await;
    let mut as_it_was = Client::connect(node.main(), &until(now + 3)).await;
    longer.join("order:o1").await;
    assert_eq!(longer.call("refresh_token", &token_of(&until(now + 7))).await, renewed(now + 7));
    assert_eq!(shorter.call("refresh_token", &token_of(&until(now + 4))).await, renewed(now + 4));
    assert_eq!(twice.call("refresh_token", &token_of(&until(now + 600))).await, renewed(now + 600));
    assert_eq!(twice.call("refresh_token", &token_of(&until(now + 5))).await, renewed(now + 5));
    ends_at(&mut as_it_was, now + 3).await;
    ends_at(&mut shorter, now + 4).await;
    ends_at(&mut twice, now + 5).await;
    hears(&mut longer, &node, "order:o1").await;
    ends_at(&mut longer, now + 7).await;
    let mut last = Client::connect(node.main(), &until(now_s() + 60)).await;
    assert_eq!(last.join("order:o1").await["roomSize"], 1);
    assert_eq!(node.metric("hallway_token_refreshes_total").await as u64, 4);
}

#[tokio::test]
async fn a_bad_token_is_unauthorized_and_the_old_one_stays_in_force() {
    let node = untold().await;
    let exp = now_s() + 4;
    let mut client = Client::connect(node.main(), &until(exp)).await;
    client.join("user:u1").await;
    let claims = json!({"sub": "u1", "exp": now_s() + 600});
    let forged = encode(&Header::default(), &claims, &EncodingKey::from_secret("x".repeat(40).as_bytes()));
    let good = until(now_s() + 600);
    let bad = [
        String::new(),
        " ".to_owned(),
        "x".to_owned(),
        "Bearer ".to_owned(),
        forged.expect("claims encode"),
        good[..good.len() - 1].to_owned(),
        until(now_s() - 100),
        until(now_s() - 1),
        token::with(json!({"sub": "u1", "exp": now_s() + 30 * 86_400, "iat": now_s()})),
        token::with(json!({"sub": "u1", "exp": "never"})),
        token::with(json!({"exp": now_s() + 600})),
    ];
    for token in &bad {
        assert_eq!(client.call("refresh_token", &token_of(token)).await, refused("unauthorized"), "{token}");
        client.tell("refresh_token", &token_of(token)).await;
    }
    for argument in ["null", "5", "[]", "{}", r#""x""#, r#"{"token":null}"#, r#"{"token":5}"#, r#"{"token":{}}"#] {
        assert_eq!(client.call("refresh_token", argument).await, refused("invalid-payload"), "{argument}");
    }
    let other = token::user("u2");
    assert_eq!(client.call("refresh_token", &token_of(&other)).await, refused("forbidden"));
    assert_eq!(client.call("join_room", r#"{"room":"user:u2"}"#).await, refused("forbidden"));
    hears(&mut client, &node, "user:u1").await;
    ends_at(&mut client, exp).await;
}

#[tokio::test]
async fn bearer_in_front_is_taken_off_and_no_ack_id_is_no_hindrance() {
    let node = untold().await;
    let now = now_s();
    let mut client = Client::connect(node.main(), &until(now + 3)).await;
    let bearer = format!("Bearer {}", until(now + 600));
    assert_eq!(client.call("refresh_token", &token_of(&bearer)).await, renewed(now + 600));
    client.tell("refresh_token", &token_of(&until(now + 4))).await;
    client.nothing_came().await;
    ends_at(&mut client, now + 4).await;
}

fn agent(id: &str, zone: &str) -> String {
    token::with(json!({"sub": "u1", "role": "agent", "agentId": id, "zoneId": zone}))
}

async fn check_rooms_are_judged_again(node: &Node) {
    let mut client = Client::connect(node.main(), &agent("a1", "z1")).await;
    let mut other = Client::connect(node.main(), &agent("a1", "z1")).await;
    for room in ["zone:z1:agents", "order:o1", "agent:a1", "agent:a1:orders", "user:u1"] {
        client.join(room).await;
        other.join(room).await;
    }
    let next = token_of(&agent("a2", "z1"));
    client.send(&format!(r#"42/realtime,500["refresh_token",{next}]"#)).await;
    for room in ["agent:a1", "agent:a1:orders"] {
        let (name, notice) = client.event().await;
        assert_eq!((name.as_str(), &notice["event"]["payload"]), ("room.revoked", &json!({ "room": room })));
        assert_eq!(notice["event"]["meta"], json!({"source": "hallway"}));
    }
    let reply = client.frame().await.expect("the reply behind the notices");
    assert!(reply.starts_with(r#"43/realtime,500[{"ok":true,"data":{"expiresAt":"#), "{reply}");
    for room in ["agent:a1", "agent:a1:orders"] {
        hears(&mut other, node, room).await;
        assert_eq!(node.room_size(room).await, 1, "{room}");
        let join = json!({ "room": room }).to_string();
        assert_eq!(client.call("join_room", &join).await, refused("forbidden"), "{room}");
    }
    for room in ["order:o1", "zone:z1:agents", "user:u1"] {
        hears(&mut client, node, room).await;
    }
    client.join("agent:a2").await;
    node.moves("hallway_rooms_revoked_total").await;
    hears(&mut client, node, "agent:a2").await;
    client.nothing_came().await;
}

#[tokio::test]
async fn a_room_that_the_new_token_does_not_open_is_left_and_the_others_go_on() {
    let redis = Redis::start().await;
    check_rooms_are_judged_again(&Node::on(&redis.url()).await).await;
    check_rooms_are_judged_again(&Node::embedded().await).await;
}

#[tokio::test]
async fn commands_behind_a_refresh_are_judged_by_the_new_token() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &agent("a1", "z1")).await;
    let next = token_of(&agent("a2", "z2"));
    let back = token_of(&agent("a1", "z1"));
    for (id, command) in [
        r#""join_room",{"room":"agent:a1"}"#.to_owned(),
        r#""join_room",{"room":"agent:a2"}"#.to_owned(),
        format!(r#""refresh_token",{next}"#),
        r#""join_room",{"room":"agent:a1"}"#.to_owned(),
        r#""join_room",{"room":"agent:a2"}"#.to_owned(),
        r#""update_location",{"lat":1,"lng":2}"#.to_owned(),
        format!(r#""refresh_token",{back}"#),
        r#""join_room",{"room":"agent:a1"}"#.to_owned(),
    ]
    .iter()
    .enumerate()
    {
        client.send(&format!("42/realtime,{id}[{command}]")).await;
    }
    let mut replies = Vec::new();
    let mut notices = Vec::new();
    let mut agents = Vec::new();
    while replies.len() < 8 {
        let frame = client.frame().await.expect("a frame");
        match client.parse_event(&frame) {
            Some((name, notice)) if name == "room.revoked" => {
                notices.push((replies.len(), notice["event"]["payload"]["room"].clone()));
            }
            Some((_, event)) => agents.push(event["event"]["payload"]["agentId"].clone()),
            None => {
                assert!(frame.starts_with(&format!("43/realtime,{}[", replies.len())), "{frame}");
                replies.push(frame.contains(r#"{"ok":true"#));
            }
        }
    }
    assert_eq!(replies, [true, false, true, false, true, true, true, true]);
    assert_eq!(notices, [(2, json!("agent:a1")), (6, json!("agent:a2"))]);
    assert!(agents.iter().all(|agent| agent == "a2"), "{agents:?}");
}

#[tokio::test]
async fn a_member_that_is_still_catching_up_is_stopped_too() {
    let redis = Redis::start().await;
    let node = Node::with(&[("HALLWAY_REDIS__URL", &redis.url()), ("HALLWAY_HISTORY__MAX_EVENTS", "5000")]).await;
    let mut client = Client::connect(node.main(), &agent("a1", "z1")).await;
    let before = client.join("agent:a1").await["offset"].as_str().expect("an offset").to_owned();
    client.call("leave_room", r#"{"room":"agent:a1"}"#).await;
    let mut some = redis::pipe();
    for _ in 0..200 {
        some.cmd("FCALL").arg("hallway_publish").arg(1).arg("hallway:{agent:a1}").arg(r#"{"type":"t","payload":1}"#);
    }
    let mut publisher = redis.client().await;
    for _ in 0..15 {
        some.exec_async(&mut publisher).await.expect("redis is up");
    }
    client.tell("join_room", &json!({"room": "agent:a1", "after": before}).to_string()).await;
    client.send(&format!(r#"42/realtime,900["refresh_token",{}]"#, token_of(&agent("a2", "z1")))).await;
    let mut frames = Vec::new();
    while !frames.last().is_some_and(|frame: &String| frame.starts_with("43/realtime,900[")) {
        frames.push(client.frame().await.expect("a frame"));
    }
    let notice = &frames[frames.len() - 2];
    assert!(notice.starts_with(r#"42/realtime,["room.revoked""#), "{notice}");
    client.nothing_came().await;
}

#[tokio::test]
async fn no_new_token_is_ever_logged() {
    let node = Node::with(&[("HALLWAY_LOG__LEVEL", "trace")]).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    let good = until(now_s() + 900);
    let expired = until(now_s() - 900);
    for token in [&good, &expired, &token::user("u2")] {
        client.call("refresh_token", &token_of(token)).await;
        client.call("refresh_token", &json!({"token": [token]}).to_string()).await;
        client.call("fly_away", &token_of(token)).await;
        client.tell("refresh_token", &token_of(token)).await;
    }
    client.nothing_came().await;
    let log = node.log();
    assert!(log.iter().any(|line| line.contains("a new token was refused")), "it is logged at this level");
    for token in [&good, &expired] {
        for part in token.split('.').skip(1) {
            let leaked: Vec<&String> = log.iter().filter(|line| line.contains(part)).collect();
            assert!(leaked.is_empty(), "{leaked:?}");
        }
    }
}
