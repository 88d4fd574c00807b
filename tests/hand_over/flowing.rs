//! Hand-overs while events flow: every reply and every event once, however the bytes are cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::dice::Dice;
use super::raw::{FIN, PONG, RawSocket, TEXT, frame, message};
use super::{cases, node};
use crate::harness::node::Node;
use crate::harness::token;

const ROOM: &str = "order:1";
/// Clients that are there at once.
const AT_ONCE: u64 = 30;
/// Commands that a client sends behind its join.
const COMMANDS: usize = 6;

/// The events of a room: their payloads count up.
#[derive(Default)]
struct Published {
    /// The number of the last one.
    last: AtomicU64,
    over: AtomicBool,
}

async fn publish_all(node: Arc<Node>, published: Arc<Published>) {
    while !published.over.load(Ordering::Acquire) {
        let number = published.last.load(Ordering::Acquire) + 1;
        let event = json!({"room": ROOM, "type": "t", "payload": number}).to_string();
        assert_eq!(node.post("/v1/publish", event).await.0, 200);
        published.last.store(number, Ordering::Release);
    }
}

/// What one client has received.
#[derive(Default)]
struct Log {
    /// Ids of replies, in the order of their arrival.
    replies: Vec<usize>,
    /// Numbers of events.
    events: Vec<u64>,
}

impl Log {
    fn note(&mut self, text: &str) {
        if let Some(reply) = text.strip_prefix("43/realtime,") {
            let (id, body) = reply.split_once('[').expect("a reply has a body");
            assert!(body.starts_with(r#"{"ok":true"#), "{text}");
            self.replies.push(id.parse().expect("an id"));
        } else {
            let event = text.strip_prefix("42/realtime,").unwrap_or_else(|| panic!("nothing else comes: {text}"));
            let event: Value = serde_json::from_str(event).expect("an event is JSON");
            self.events.push(event[1]["event"]["payload"].as_u64().expect("a number"));
        }
    }
}

/// One client: it signs in, joins, and sends commands, all in parts; then it waits for an event that comes later.
async fn one_client(node: Arc<Node>, published: Arc<Published>, seed: u64) {
    let (mut dice, mut log) = (Dice::new(seed), Log::default());
    let mut socket = RawSocket::open(node.main()).await;
    let connect = format!(r#"40/realtime,{{"token":"{}"}}"#, token::user(&format!("u{seed}")));
    let connect = message(TEXT, connect.as_bytes(), &mut dice);
    socket.write_parts(&connect, &mut dice).await;
    let open = socket.next_text(&mut dice).await.expect("the handshake comes first");
    assert!(open.starts_with('0'), "{open}");
    let admitted = socket.next_text(&mut dice).await.expect("a reply to CONNECT");
    assert!(admitted.starts_with("40/realtime,{"), "{admitted}");
    let join = format!(r#"42/realtime,0["join_room",{{"room":"{ROOM}"}}]"#);
    let mut bytes = message(TEXT, join.as_bytes(), &mut dice);
    for id in 1..=COMMANDS {
        let fill = "x".repeat(dice.roll(3000));
        let command = format!(r#"42/realtime,{id}["leave_room",{{"room":"order:2","fill":"{fill}"}}]"#);
        bytes.extend(message(TEXT, command.as_bytes(), &mut dice));
        // Some at once, and some one after the other: the hand-over comes before, between or behind them.
        if dice.roll(2) == 0 {
            socket.write_parts(&bytes, &mut dice).await;
            bytes.clear();
            if dice.roll(2) == 0 {
                read_until(&mut socket, &mut log, &mut dice, |log| log.replies.contains(&id)).await;
            }
        }
    }
    socket.write_parts(&bytes, &mut dice).await;
    read_until(&mut socket, &mut log, &mut dice, |log| log.replies.len() > COMMANDS).await;
    let later = published.last.load(Ordering::Acquire) + 2;
    read_until(&mut socket, &mut log, &mut dice, |log| log.events.last().is_some_and(|last| *last >= later)).await;
    // Nothing more is to come before the answer to a ping but events.
    let ping = frame(FIN | super::raw::PING, b"the end", &mut dice);
    socket.write_parts(&ping, &mut dice).await;
    loop {
        let frame = socket.next_frame().await.expect("it is open");
        match frame.text() {
            Some(text) => log.note(text),
            None if frame.payload == b"the end" => break,
            None => assert_eq!(frame.first, FIN | PONG),
        }
    }
    assert_eq!(log.replies, (0..=COMMANDS).collect::<Vec<_>>(), "seed {seed}");
    let first = *log.events.first().expect("events flow");
    let expected: Vec<u64> = (first..).take(log.events.len()).collect();
    assert_eq!(log.events, expected, "seed {seed}");
}

async fn read_until(socket: &mut RawSocket, log: &mut Log, dice: &mut Dice, is_there: impl Fn(&Log) -> bool) {
    while !is_there(log) {
        let text = socket.next_text(dice).await.expect("the transport is open");
        log.note(&text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_events_flow_every_reply_and_every_event_comes_once() {
    let (node, published) = (Arc::new(node("true").await), Arc::new(Published::default()));
    let mut others = JoinSet::new();
    others.spawn(publish_all(node.clone(), published.clone()));
    let seen = node.clone();
    others.spawn(async move { seen.moves("hallway_handed_over").await });
    let (mut clients, mut seeds) = (JoinSet::new(), 0..cases(300));
    loop {
        while clients.len() < usize::try_from(AT_ONCE).expect("few") {
            let Some(seed) = seeds.next() else { break };
            clients.spawn(one_client(node.clone(), published.clone(), seed));
        }
        let Some(done) = clients.join_next().await else { break };
        done.expect("every client has what it is to get");
    }
    published.over.store(true, Ordering::Release);
    while let Some(done) = others.join_next().await {
        done.expect("events are published, and transports were handed over");
    }
}
