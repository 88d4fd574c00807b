//! The hand-over: a transport that the library has given up is, for its client, the one that it was.

mod dice;
mod flowing;
mod raw;
mod script;

use serde_json::Value;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::{eventually, token};
use dice::Dice;
use raw::{FIN, PING, PONG, RawSocket, ServerFrame, TEXT, frame, message};
use script::{Script, Step};

/// The number of random cases: `HAND_OVERS` (`./check --long`), or a few.
fn cases(few: u64) -> u64 {
    std::env::var("HAND_OVERS").ok().and_then(|cases| cases.parse().ok()).unwrap_or(few)
}

async fn node(hand_over: &str) -> Node {
    Node::with(&[
        ("HALLWAY_WIRE__HAND_OVER", hand_over),
        // The only ping is the first one, so that the others are not compared by the moment in which they come.
        ("HALLWAY_SOCKETIO__PING_INTERVAL", "10m"),
        ("HALLWAY_SOCKETIO__PING_TIMEOUT", "10m"),
        ("HALLWAY_LIMITS__HANDSHAKES_PER_SECOND", "10000"),
    ])
    .await
}

/// What a client has received, in order of each kind: answers of different kinds may overtake each other.
#[derive(Debug, Default, PartialEq, Eq)]
struct Received {
    connects: Vec<String>,
    replies: Vec<String>,
    pongs: Vec<Vec<u8>>,
    others: Vec<String>,
    /// The last word and the close frame.
    end: Vec<ServerFrame>,
}

impl Received {
    fn note(&mut self, frame: ServerFrame) {
        match frame.text() {
            // The heartbeat is not compared.
            Some("2") => {}
            Some("1") => self.end.push(frame),
            Some(text) if text.starts_with("40") => {
                self.connects.push(text.split("\"sid\"").next().expect("a part").to_owned());
            }
            Some(text) if text.starts_with("44") => self.connects.push(text.to_owned()),
            Some(text) if text.starts_with("43") => self.replies.push(without_offsets(text)),
            Some(text) => self.others.push(text.to_owned()),
            None if frame.first == FIN | PONG => self.pongs.push(frame.payload),
            None => self.end.push(frame),
        }
    }
}

/// A reply without what differs between two gateways.
fn without_offsets(text: &str) -> String {
    let Some((head, body)) = text.split_once('[') else { return text.to_owned() };
    let mut body: Value = serde_json::from_str(&format!("[{body}")).expect("a reply is JSON");
    remove_offsets(&mut body);
    format!("{head}{body}")
}

fn remove_offsets(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("offset");
            members.values_mut().for_each(remove_offsets);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_offsets),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Plays a script to its end.
async fn play(node: &Node, script: &Script, seed: u64, waits: bool) -> Received {
    let (mut socket, mut received) = (RawSocket::open(node.main()).await, Received::default());
    let open = socket.next_frame().await.expect("the handshake comes first");
    assert!(open.text().is_some_and(|text| text.starts_with('0')));
    let mut dice = Dice::new(seed ^ 0xd1ce);
    let (end, steps) = script.steps.split_last().expect("a script has an end");
    for (at, step) in steps.iter().enumerate() {
        socket.awaits = format!("step {at} of seed {seed}, handed over: {waits}: {}", step.what);
        socket.write_parts(&step.bytes, &mut dice).await;
        if !until_answered(&mut socket, step, at, &mut received, &mut dice).await {
            return received;
        }
        if at == 0 && waits {
            eventually("it is handed over", || async {
                (node.metric("hallway_handed_over").await > 0.0).then_some(())
            })
            .await;
        }
    }
    socket.awaits = format!("the end of seed {seed}, handed over: {waits}: {}", end.what);
    // Nothing is sent behind the end: the library may still handle what is in the same read.
    socket.write_parts(&end.bytes, &mut dice).await;
    while let Some(frame) = socket.next_frame().await {
        received.note(frame);
    }
    received
}

/// Reads until a step is answered, or is known to be handled; false when the connection has ended.
async fn until_answered(
    socket: &mut RawSocket,
    step: &Step,
    at: usize,
    received: &mut Received,
    dice: &mut Dice,
) -> bool {
    let mark = format!("step {at}").into_bytes();
    if step.answer.is_none() {
        let ping = frame(FIN | PING, &mark, dice);
        socket.write_parts(&ping, dice).await;
    }
    while let Some(frame) = socket.next_frame().await {
        let is_it = match &step.answer {
            Some(answer) => frame.text().is_some_and(|text| text.starts_with(answer.as_str())),
            None => frame.first == FIN | PONG && frame.payload == mark,
        };
        received.note(frame);
        if is_it {
            return true;
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_gets_the_same_frames_and_the_same_end_with_the_library_and_without_it() {
    let nodes = [node("true").await, node("false").await];
    for seed in 0..cases(150) {
        let script = Script::new(seed, &token::user("u1"));
        let [with, without] = &nodes;
        let (handed_over, stayed) = tokio::join!(play(with, &script, seed, true), play(without, &script, seed, false));
        let steps: Vec<&str> = script.steps.iter().map(|step| step.what.as_str()).collect();
        assert_eq!(handed_over, stayed, "handed over, and not, of seed {seed}: {steps:#?}");
        for node in &nodes {
            no_session_is_left(node).await;
        }
    }
}

async fn no_session_is_left(node: &Node) {
    eventually("the session has ended", || async {
        (node.metric("hallway_sessions").await == 0.0 && node.metric("hallway_handed_over").await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_transport_whose_first_frames_came_with_the_request_stays_with_the_library_and_is_served() {
    let (node, mut dice) = (node("true").await, Dice::new(1));
    let connect = format!(r#"40/realtime,{{"token":"{}"}}"#, token::user("u1"));
    let mut socket = RawSocket::open_with(node.main(), &message(TEXT, connect.as_bytes(), &mut dice)).await;
    for begin in ["0", "40/realtime,"] {
        let text = socket.next_text(&mut dice).await.expect("it is open");
        assert!(text.starts_with(begin), "{text}");
    }
    for id in 0..5 {
        let command = format!(r#"42/realtime,{id}["leave_room",{{"room":"order:1"}}]"#);
        let bytes = message(TEXT, command.as_bytes(), &mut dice);
        socket.write_parts(&bytes, &mut dice).await;
        let reply = socket.next_text(&mut dice).await.expect("it is open");
        assert!(reply.starts_with(&format!(r#"43/realtime,{id}[{{"ok":true"#)), "{reply}");
    }
    assert_eq!(node.metric("hallway_handed_over").await, 0.0);
}

#[tokio::test]
async fn attachments_that_do_not_come_end_a_transport_that_was_handed_over() {
    let settings = [("HALLWAY_SOCKETIO__PING_INTERVAL", "300ms"), ("HALLWAY_SOCKETIO__PING_TIMEOUT", "2s")];
    let node = Node::with(&settings).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    node.moves("hallway_handed_over").await;
    client.send(r#"451-/realtime,1["leave_room",{"_placeholder":true,"num":0}]"#).await;
    // It answers its pings all the time.
    assert_eq!(client.frame().await, None);
    eventually("it is counted", || async {
        let reason = r#"hallway_disconnects_total{reason="malformed-frame"} 1"#;
        node.numbers().await.lines().any(|line| line == reason).then_some(())
    })
    .await;
}
