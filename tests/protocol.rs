//! What the official suites of Socket.IO and Engine.IO check of a server, held against this one.
//!
//! Hallway differs on purpose: there are websockets only, so that no node must keep a session between requests, and an
//! `sid` opens nothing; a namespace is entered with a token, and the root namespace is not served; commands and events
//! carry no binary. Where a case of theirs asks for one of these, its test here says what happens instead.
//!
//! | official case | here |
//! |---|---|
//! | Engine.IO: a handshake by websocket | `handshake::the_handshake_has_whole_numbers_and_no_upgrades` |
//! | a handshake by polling, its methods, messages, heartbeat and close | `handshake::a_plain_polling_request_is_refused_and_harms_nobody` |
//! | a bad `EIO`, a bad `transport` | `an_upgrade_of_another_version_or_transport_is_refused` |
//! | the upgrade from polling; requests with the `sid` of an upgraded session | `the_sid_of_a_session_opens_nothing_and_harms_nobody` |
//! | the probe and upgrade packets | `packets_of_an_upgrade_close_a_transport_that_is_none` |
//! | pings and pongs | `pings_come_on_and_on_while_they_are_answered` |
//! | no pong | `heartbeat::who_answers_no_ping_is_closed_and_leaves_its_rooms` |
//! | a close packet | `the_close_packet_ends_the_transport` |
//! | a text packet | `a_packet_of_any_arity_is_answered_under_its_ack_id` |
//! | a binary packet, an invalid packet | `frames::{a_binary_frame_that_nothing_announced_closes_the_transport, a_malformed_frame_closes_the_transport_it_came_on}` |
//! | Socket.IO: the main namespace, with and without a payload | `the_root_namespace_is_refused_with_and_without_a_payload` |
//! | a custom namespace with a payload | `entering_the_namespace_is_answered_with_a_sid_and_nothing_more` |
//! | a custom namespace without one | `a_namespace_can_be_named_without_its_comma`, `tokens::a_payload_without_a_token_is_refused` |
//! | an unknown namespace | `a_namespace_can_be_named_without_its_comma`, `handshake::an_unknown_namespace_is_refused_and_the_transport_stays` |
//! | an invalid packet before the namespace | `an_invalid_packet_before_the_namespace_closes_the_transport` |
//! | no CONNECT at all | `handshake::a_transport_on_which_nothing_was_joined_is_closed_after_the_connect_timeout` |
//! | leaving the main namespace | `who_left_its_only_namespace_is_still_pinged` |
//! | leaving one namespace of two | `leaving_one_namespace_of_two_leaves_the_other_as_it_was` |
//! | a message, with an ack | `a_packet_of_any_arity_is_answered_under_its_ack_id` |
//! | binary attachments, with and without an ack | `attachments_are_taken_in_and_serve_no_command` |
//! | an unknown packet type, a payload that is no array | `frames::a_malformed_frame_closes_the_transport_it_came_on` |
//! | an ack id that is no number | `an_ack_id_that_is_no_number_closes_the_transport` |

use std::time::Duration;

use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Error;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::token;

const SOON: Duration = Duration::from_secs(20);
/// A command that changes nothing, without its ack id.
const HARMLESS: &str = r#"["leave_room",{"room":"order:o1"}]"#;
/// The reply to it.
const DONE: &str = r#"[{"ok":true,"data":{"room":"order:o1","roomSize":0}}]"#;

async fn signed_in(node: &Node) -> Client {
    Client::connect(node.main(), &token::user("u1")).await
}

fn connect(namespace: &str) -> String {
    format!(r#"40{namespace},{{"token":"{}"}}"#, token::user("u1"))
}

/// Asserts that the transport ends with nothing of a namespace before, and no word but the packet that says so.
async fn ends(client: &mut Client, what: &str) {
    let frames = client.until_closed(SOON).await;
    assert!(frames.iter().all(|frame| frame == "1"), "{what}: {frames:?}");
}

/// Asserts that a command sent now is the next thing that is answered.
async fn still_answers(client: &mut Client, what: &str) {
    client.send(&format!("42/realtime,99{HARMLESS}")).await;
    assert_eq!(client.frame().await, Some(format!("43/realtime,99{DONE}")), "{what}");
}

/// The status of an upgrade that must be refused.
async fn refusal(node: &Node, query: &str) -> u16 {
    match connect_async(format!("ws://{}/socket.io/?{query}", node.main())).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("{query}: {other:?}"),
    }
}

#[tokio::test]
async fn an_upgrade_of_another_version_or_transport_is_refused() {
    let node = Node::embedded().await;
    for query in [
        "transport=websocket",
        "EIO=&transport=websocket",
        "EIO=abc&transport=websocket",
        "EIO=3&transport=websocket",
        "EIO=5&transport=websocket",
        "EIO=4",
        "EIO=4&transport=",
        "EIO=4&transport=abc",
        "EIO=4&transport=webtransport",
        "",
    ] {
        assert_eq!(refusal(&node, query).await, 400, "{query}");
    }
    still_answers(&mut signed_in(&node).await, "whoever speaks it").await;
}

#[tokio::test]
async fn the_sid_of_a_session_opens_nothing_and_harms_nobody() {
    let node = Node::embedded().await;
    let (mut client, handshake) = Client::open(node.main()).await;
    client.sign_in(&token::user("u1")).await;
    let sid = handshake["sid"].as_str().expect("a sid");
    let http = reqwest::Client::new();
    let url = format!("http://{}/socket.io/?EIO=4&transport=polling&sid={sid}", node.main());
    for body in ["", "1", "3", "41/realtime,", "42/realtime,[\"join_room\",{\"room\":\"order:o1\"}]"] {
        for request in [http.get(&url), http.post(&url).body(body), http.put(&url).body(body)] {
            assert_eq!(request.send().await.expect("an answer").status().as_u16(), 400, "{body}");
        }
    }
    for sid in [sid, "AAAAAAAAAAAAAAAA"] {
        for transport in ["websocket", "polling"] {
            let url = format!("ws://{}/socket.io/?EIO=4&transport={transport}&sid={sid}", node.main());
            let Ok((socket, _)) = connect_async(url).await else { continue };
            ends(&mut Client::over(socket), "a second transport of a session").await;
        }
    }
    assert_eq!(refusal(&node, "EIO=4&transport=websocket&sid=").await, 400);
    assert_eq!(node.room_size("order:o1").await, 0);
    still_answers(&mut client, "the session itself").await;
}

#[tokio::test]
async fn packets_of_an_upgrade_close_a_transport_that_is_none() {
    let node = Node::embedded().await;
    for packet in ["2probe", "3probe", "5", "6", "0{}"] {
        let (mut fresh, _) = Client::open(node.main()).await;
        let mut inside = signed_in(&node).await;
        for client in [&mut fresh, &mut inside] {
            client.send(packet).await;
            ends(client, packet).await;
        }
    }
}

#[tokio::test]
async fn pings_come_on_and_on_while_they_are_answered() {
    let node =
        Node::with(&[("HALLWAY_SOCKETIO__PING_INTERVAL", "300ms"), ("HALLWAY_SOCKETIO__PING_TIMEOUT", "10s")]).await;
    let (mut client, _) = Client::open(node.main()).await;
    for _ in 0..4 {
        assert_eq!(client.any_frame().await.as_deref(), Some("2"));
        assert!(timeout(Duration::from_millis(100), client.any_frame()).await.is_err(), "one ping at a time");
        client.send("3").await;
    }
}

#[tokio::test]
async fn the_close_packet_ends_the_transport() {
    let node = Node::embedded().await;
    let (mut fresh, _) = Client::open(node.main()).await;
    let mut inside = signed_in(&node).await;
    for client in [&mut fresh, &mut inside] {
        client.send("1").await;
        ends(client, "1").await;
    }
}

#[tokio::test]
async fn the_root_namespace_is_refused_with_and_without_a_payload() {
    let node = Node::embedded().await;
    let (mut client, _) = Client::open(node.main()).await;
    for packet in ["40", "40{}", "40/,", &connect("/"), &connect("/").replace("/,", "")] {
        client.send(packet).await;
        assert_eq!(client.frame().await.as_deref(), Some(r#"44{"message":"Invalid namespace"}"#), "{packet}");
    }
    client.sign_in(&token::user("u1")).await;
    still_answers(&mut client, "after the refusals").await;
}

#[tokio::test]
async fn entering_the_namespace_is_answered_with_a_sid_and_nothing_more() {
    let node = Node::embedded().await;
    let (mut client, _) = Client::open(node.main()).await;
    client.send(&connect("/realtime")).await;
    let reply = client.frame().await.expect("a reply");
    let body = reply.strip_prefix("40/realtime,").expect("a CONNECT packet");
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(body).expect("an object");
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["sid"]);
    assert!(fields["sid"].as_str().is_some_and(|sid| !sid.is_empty()), "{reply}");
    still_answers(&mut client, "nothing comes in between").await;
    client.send(&connect("/realtime")).await;
    still_answers(&mut client, "a second CONNECT, which changes nothing").await;
}

#[tokio::test]
async fn a_namespace_can_be_named_without_its_comma() {
    let node = Node::embedded().await;
    let (mut client, _) = Client::open(node.main()).await;
    client.send("40/random").await;
    assert_eq!(client.frame().await.as_deref(), Some(r#"44/random,{"message":"Invalid namespace"}"#));
    client.send("40/realtime").await;
    assert_eq!(client.frame().await.as_deref(), Some(r#"44/realtime,{"message":"unauthorized"}"#));
    client.sign_in(&token::user("u1")).await;
    client.join("order:o1").await;
    client.send("41/realtime").await;
    client.sign_in(&token::user("u1")).await;
    assert_eq!(client.join("order:o1").await["roomSize"], 1, "the first membership is over");
}

#[tokio::test]
async fn an_invalid_packet_before_the_namespace_closes_the_transport() {
    let node = Node::embedded().await;
    for packet in ["4abc", "4", "49", "42[]", "43/realtime,[1]", r#"44/realtime,{"message":"no"}"#] {
        let (mut client, _) = Client::open(node.main()).await;
        client.send(packet).await;
        ends(&mut client, packet).await;
    }
}

/// The root namespace cannot be had, so `/realtime` stands for it.
#[tokio::test]
async fn who_left_its_only_namespace_is_still_pinged() {
    let node = Node::with(&[("HALLWAY_SOCKETIO__PING_INTERVAL", "300ms")]).await;
    let mut client = signed_in(&node).await;
    client.send("41/realtime,").await;
    for _ in 0..3 {
        assert_eq!(client.any_frame().await.as_deref(), Some("2"));
        client.send("3").await;
    }
    client.sign_in(&token::user("u1")).await;
    still_answers(&mut client, "back again").await;
}

#[tokio::test]
async fn leaving_one_namespace_of_two_leaves_the_other_as_it_was() {
    let node = Node::embedded().await;
    let mut client = signed_in(&node).await;
    client.join("order:o2").await;
    client.set_namespace("//realtime");
    client.sign_in(&token::user("u1")).await;
    client.join("order:o3").await;
    client.send("41//realtime").await;
    still_answers(&mut client, "right behind the packet that leaves the other").await;
    assert_eq!((node.room_size("order:o2").await, node.room_size("order:o3").await), (1, 0));
    client.send(&format!("42//realtime,1{HARMLESS}")).await;
    ends(&mut client, "a command to a namespace that was left").await;
}

#[tokio::test]
async fn a_packet_of_any_arity_is_answered_under_its_ack_id() {
    let node = Node::embedded().await;
    let mut client = signed_in(&node).await;
    let several = r#"["leave_room",{"room":"order:o1"},1,"2",{"3":[true]}]"#;
    for id in ["0", "456", "9007199254740993", "9223372036854775807"] {
        for command in [HARMLESS, several] {
            client.send(&format!("42/realtime,{id}{command}")).await;
            assert_eq!(client.frame().await, Some(format!("43/realtime,{id}{DONE}")), "{command}");
        }
    }
    client.send(&format!("42/realtime,{several}")).await;
    client.send("43/realtime,1[]").await;
    client.send(r#"43/realtime,456[1,"2",{"3":[false]}]"#).await;
    still_answers(&mut client, "without an ack id, and acks nobody asked for").await;
}

#[tokio::test]
async fn an_ack_id_that_is_no_number_closes_the_transport() {
    let node = Node::embedded().await;
    for id in ["abc", "-1", "1.5", "1e3", " 1"] {
        let mut client = signed_in(&node).await;
        client.send(&format!("42/realtime,{id}{HARMLESS}")).await;
        ends(&mut client, id).await;
    }
}

#[tokio::test]
async fn attachments_are_taken_in_and_serve_no_command() {
    let node = Node::embedded().await;
    let mut client = signed_in(&node).await;
    let two = r#"[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
    let command = two.replace('[', r#"["join_room","#);
    for (packet, reply) in [
        (format!("452-/realtime,{command}"), None),
        (format!("452-/realtime,789{command}"), Some(r#"43/realtime,789[{"ok":false,"error":"invalid-payload"}]"#)),
        (format!("462-/realtime,789{two}"), None),
    ] {
        client.send(&packet).await;
        client.send_binary(&[1, 2, 3]).await;
        client.send_binary(&[4, 5, 6]).await;
        if reply.is_some() {
            assert_eq!(client.frame().await.as_deref(), reply, "{packet}");
        }
        still_answers(&mut client, &packet).await;
    }
    client.send(&format!("452-/realtime,789{command}")).await;
    client.send_binary(&[1, 2, 3]).await;
    client.send(&format!("42/realtime,1{HARMLESS}")).await;
    ends(&mut client, "a packet where an attachment is due").await;
}

#[tokio::test]
async fn packets_in_one_breath_are_answered_in_order() {
    let node = Node::embedded().await;
    let mut client = signed_in(&node).await;
    for id in 0..50 {
        client.send(&format!(r#"42/realtime,{id}["join_room",{{"room":"order:o1"}}]"#)).await;
        client.send(&format!("42/realtime,{id}{HARMLESS}")).await;
    }
    for id in 0..50 {
        let head = format!(r#"43/realtime,{id}[{{"ok":true,"data":{{"room":"order:o1","roomSize":"#);
        let frames = [client.frame().await.expect("a reply"), client.frame().await.expect("a reply")];
        assert!(frames[0].starts_with(&format!("{head}1,")), "{frames:?}");
        assert!(frames[1].starts_with(&format!("{head}0}}")), "{frames:?}");
    }
}

/// Who does not wait to be let in may be closed for it, as one who never asked; else the answers keep their order.
#[tokio::test]
async fn a_command_right_behind_connect_is_never_answered_before_it() {
    let node = Node::embedded().await;
    for _ in 0..10 {
        let (mut hasty, _) = Client::open(node.main()).await;
        hasty.try_send(&connect("/realtime")).await;
        hasty.try_send(&format!("42/realtime,1{HARMLESS}")).await;
        let (mut let_in, mut answered) = (false, false);
        while let Some(frame) = if answered { None } else { hasty.frame().await } {
            let_in |= frame.starts_with("40/realtime,");
            answered = frame.starts_with("43/realtime,1[");
            assert!(let_in || frame == "1", "{frame}");
        }
    }
}
