//! Frames: what is no valid packet closes its own transport and harms no other client (S42).

use std::time::Duration;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::{eventually, token};

const SOON: Duration = Duration::from_secs(20);

/// A client that must not notice anything.
struct Witness<'a> {
    node: &'a Node,
    client: Client,
}

impl<'a> Witness<'a> {
    async fn of(node: &'a Node) -> Self {
        let mut client = Client::connect(node.main(), &token::user("witness")).await;
        client.join("order:o1").await;
        Self { node, client }
    }

    async fn is_alone(&self, what: &str) {
        eventually(what, || async { (self.node.room_size("order:o1").await == 1).then_some(()) }).await;
    }

    async fn is_unharmed(&mut self) {
        let (status, published) = self.node.post("/v1/publish", r#"{"room":"order:o1","type":"t","payload":1}"#).await;
        assert_eq!(status, 200);
        assert_eq!(self.client.event().await.1["event"]["id"], published["id"]);
        assert_eq!(self.node.readyz().await, 200);
    }
}

/// A signed-in member of the witness's room.
async fn member(node: &Node) -> Client {
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.join("order:o1").await;
    client
}

async fn is_closed(client: &mut Client, what: &str) {
    loop {
        let end = client.frame_within(SOON).await.unwrap_or_else(|_| panic!("still open: {what}"));
        let Some(frame) = end else { return };
        assert!(!frame.starts_with("41") && !frame.starts_with("43"), "{what}: {frame}");
    }
}

#[tokio::test]
async fn a_malformed_frame_closes_the_transport_it_came_on() {
    let node = Node::embedded().await;
    let mut witness = Witness::of(&node).await;
    for frame in [
        "",
        "9",
        "x",
        "garbage",
        "4",
        "49",
        "4x",
        "42/realtime,",
        "42/realtime,x",
        "42/realtime,[",
        "42/realtime,{}",
        "42/realtime,[]",
        "42/realtime,[5]",
        "42/realtime,[null,{}]",
        "42/realtime,null",
        "42/realtime,5[",
        r#"42/realtime,["join_room""#,
        r#"42/realtime,["join_room",{"room":"order:o2"}"#,
        r#"42/realtime,7["join_room",{"room":"order:o2"]"#,
        r#"42/realtime,7["join_room",{room:"order:o2"}]"#,
        r#"42/realtime,7['join_room',{}]"#,
        r#"42/realtime,7["join_room",{}]x"#,
        r#"42/realtime,7["join_room",]"#,
        "42/realtime,7[\"join_room\",{\"room\":\"a\u{1}\"}]",
        "💥",
        "4💥",
        "é2/realtime,[]",
    ] {
        let mut client = member(&node).await;
        client.send(frame).await;
        is_closed(&mut client, frame).await;
        witness.is_alone(frame).await;
    }
    witness.is_unharmed().await;
}

#[tokio::test]
async fn what_json_has_no_word_for_closes_the_transport() {
    let node = Node::embedded().await;
    let mut witness = Witness::of(&node).await;
    for odd in ["NaN", "Infinity", "-Infinity", "undefined", "0x10", "01", "1.", ".5", "+1", "True", "'x'"] {
        for command in ["join_room", "get_missed_events", "nope"] {
            let mut client = member(&node).await;
            client.send(&format!(r#"42/realtime,7["{command}",{{"room":"order:o2","since":{odd}}}]"#)).await;
            is_closed(&mut client, odd).await;
        }
    }
    witness.is_unharmed().await;
}

#[tokio::test]
async fn a_command_before_signing_in_closes_the_transport() {
    let node = Node::embedded().await;
    let mut witness = Witness::of(&node).await;
    for frame in [
        r#"42/realtime,7["join_room",{"room":"order:o1"}]"#,
        r#"42/realtime,["join_room",{"room":"order:o1"}]"#,
        r#"42["join_room",{"room":"order:o1"}]"#,
        "43/realtime,1[{}]",
    ] {
        let (mut early, _) = Client::open(node.main()).await;
        early.send(frame).await;
        let (mut refused, _) = Client::open(node.main()).await;
        refused.offer(r#"{"token":"x"}"#).await;
        refused.send(frame).await;
        is_closed(&mut early, frame).await;
        is_closed(&mut refused, frame).await;
        assert_eq!(node.room_size("order:o1").await, 1, "{frame}: only the witness");
    }
    witness.is_unharmed().await;
}

#[tokio::test]
async fn a_command_after_the_disconnect_packet_is_not_carried_out() {
    let node = Node::embedded().await;
    let mut witness = Witness::of(&node).await;
    let mut client = member(&node).await;
    client.send("41/realtime,").await;
    client.send(r#"42/realtime,7["join_room",{"room":"order:o1"}]"#).await;
    is_closed(&mut client, "after 41").await;
    witness.is_alone("after 41").await;
    witness.is_unharmed().await;
}

#[tokio::test]
async fn a_frame_beyond_the_bound_closes_the_transport_and_one_at_the_bound_does_not() {
    let node = Node::embedded().await;
    let mut witness = Witness::of(&node).await;
    let command = |bytes: usize| {
        let around = r#"42/realtime,7["join_room",{"room":"order:o2","fill":""}]"#.len();
        format!(r#"42/realtime,7["join_room",{{"room":"order:o2","fill":"{}"}}]"#, "x".repeat(bytes - around))
    };
    let mut client = member(&node).await;
    client.send(&command(64 * 1024)).await;
    let reply = client.frame().await.expect("a reply");
    assert!(reply.starts_with(r#"43/realtime,7[{"ok":true"#), "{reply}");
    for bytes in [64 * 1024 + 1, 100 * 1024, 3 * 1024 * 1024] {
        let mut client = member(&node).await;
        client.try_send(&command(bytes)).await;
        is_closed(&mut client, "too large").await;
    }
    let (mut stranger, _) = Client::open(node.main()).await;
    stranger.try_send(&format!(r#"40/realtime,{{"token":"{}"}}"#, "x".repeat(70 * 1024))).await;
    is_closed(&mut stranger, "too large").await;
    drop(client);
    witness.is_unharmed().await;
}

#[tokio::test]
async fn a_binary_frame_that_nothing_announced_closes_the_transport() {
    let node = Node::embedded().await;
    let mut witness = Witness::of(&node).await;
    for bytes in [&b""[..], b"\0", br#"42/realtime,7["join_room",{"room":"order:o2"}]"#, &[0xff; 1000]] {
        let mut client = member(&node).await;
        client.send_binary(bytes).await;
        is_closed(&mut client, "binary").await;
    }
    let (mut stranger, _) = Client::open(node.main()).await;
    stranger.send_binary(b"x").await;
    is_closed(&mut stranger, "binary before CONNECT").await;
    witness.is_unharmed().await;
}

#[tokio::test]
async fn a_binary_command_is_no_payload_and_too_many_attachments_close_the_transport() {
    let node = Node::embedded().await;
    let mut witness = Witness::of(&node).await;
    let mut client = member(&node).await;
    client.send(r#"451-/realtime,7["join_room",{"_placeholder":true,"num":0}]"#).await;
    client.send_binary(b"order:o2").await;
    let reply = client.frame().await.expect("a reply");
    assert_eq!(reply, r#"43/realtime,7[{"ok":false,"error":"invalid-payload"}]"#);
    for head in ["4510-", "45999999999999999999-", "45-"] {
        let mut client = member(&node).await;
        client.send(&format!(r#"{head}/realtime,7["join_room",{{"_placeholder":true,"num":0}}]"#)).await;
        is_closed(&mut client, head).await;
    }
    witness.is_unharmed().await;
}

#[tokio::test]
async fn deep_nesting_in_a_command_harms_nobody() {
    let node = Node::embedded().await;
    let mut witness = Witness::of(&node).await;
    for depth in [100, 1000, 30_000] {
        let mut client = member(&node).await;
        client.try_send(&format!(r#"42/realtime,7["join_room",{{"room":{}"#, "[".repeat(depth))).await;
        is_closed(&mut client, "unclosed").await;
        let mut client = member(&node).await;
        let room = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        client.try_send(&format!(r#"42/realtime,7["join_room",{{"room":{room}}}]"#)).await;
        let end = client.frame().await;
        assert!(end.as_deref().is_none_or(|frame| frame == "1" || frame.contains(r#""ok":false"#)), "{depth}: {end:?}");
    }
    witness.is_unharmed().await;
}

/// What becomes of a packet with attachments.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// It is answered, with this in the reply, and the transport stays.
    Answered(&'static str),
    /// Nothing is said, and the transport stays.
    PassedOver,
    Closed,
}

const BINARY_PACKETS: [(&str, &[&[u8]], Fate); 13] = [
    // What is attached means nothing to a command.
    (r#"451-/realtime,7["leave_room",{"room":"order:o2","x":{"_placeholder":true,"num":0}}]"#, &[b"x"], OK),
    (r#"450-/realtime,7["leave_room",{"room":"order:o2"}]"#, &[], OK),
    (
        r#"452-/realtime,7["leave_room",{"_placeholder":true,"num":1}]"#,
        &[b"x", b"y"],
        Fate::Answered("invalid-payload"),
    ),
    (r#"454-/realtime,7["fly_away",{}]"#, &[b"", b"", b"", b""], Fate::Answered("unknown-command")),
    (r#"451-/realtime,["leave_room",{"room":"order:o2"}]"#, &[b"x"], Fate::PassedOver),
    (r#"461-/realtime,7[{"_placeholder":true,"num":0}]"#, &[b"x"], Fate::PassedOver),
    (r#"451-/realtime,7["leave_room",{"room":"order:o2"}]"#, &[b"x", b"one more than announced"], Fate::Closed),
    (r#"455-/realtime,7["leave_room",{"room":"order:o2"}]"#, &[], Fate::Closed),
    (r#"45-/realtime,7["leave_room",{"room":"order:o2"}]"#, &[], Fate::Closed),
    (r#"45/realtime,7["leave_room",{"room":"order:o2"}]"#, &[], Fate::Closed),
    (r#"451-/realtime,7["leave_room","#, &[b"x"], Fate::Closed),
    // Of a namespace that was not joined, with attachments or without.
    (r#"451-/elsewhere,7["leave_room",{}]"#, &[b"x"], Fate::PassedOver),
    (r#"42/elsewhere,7["leave_room",{}]"#, &[], Fate::PassedOver),
];
const OK: Fate = Fate::Answered(r#""ok":true"#);

async fn fate_of(node: &Node, packet: &str, attached: &[&[u8]], expected: Fate) -> Fate {
    let mut client = member(node).await;
    client.send(packet).await;
    for bytes in attached {
        client.send_binary(bytes).await;
    }
    client.try_send(r#"42/realtime,8["leave_room",{"room":"order:o3"}]"#).await;
    let mut answered = false;
    while let Some(frame) = client.frame_within(SOON).await.unwrap_or_else(|_| panic!("still open: {packet}")) {
        if frame.starts_with("43/realtime,8[") && expected != Fate::Closed {
            return if answered { expected } else { Fate::PassedOver };
        }
        let Fate::Answered(with) = expected else { continue };
        answered = frame.starts_with("43/realtime,7[") && frame.contains(with);
    }
    Fate::Closed
}

#[tokio::test]
async fn attachments_are_taken_as_announced_and_mean_nothing_to_a_command() {
    let node = Node::embedded().await;
    let mut witness = Witness::of(&node).await;
    for (packet, attached, expected) in BINARY_PACKETS {
        assert_eq!(fate_of(&node, packet, attached, expected).await, expected, "{packet}");
    }
    witness.is_alone("each of them").await;
    witness.is_unharmed().await;
}
