//! A client that does things at random, and writes down all it sees in the order in which it came.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{Dice, last_word};
use crate::harness::client::Client;
use crate::harness::token;

/// What a client saw.
#[derive(Debug)]
pub(super) enum Item {
    /// A new transport: all before is another connection's.
    Connected,
    /// The client asked to leave a room or to have it again from an offset on: its stay may end from here.
    Moves(String),
    /// It was told that what it asked for cannot be had.
    Refused(String),
    Joined {
        room: String,
        after: Option<String>,
        data: Value,
    },
    Left(String),
    Event(Value),
    /// The gateway closed the transport.
    Closed,
}

/// A client's transcript.
pub(super) struct Log {
    pub(super) name: String,
    pub(super) items: Vec<Item>,
    /// It waited in vain for the last words of its rooms.
    pub(super) stuck: bool,
}

impl Log {
    pub(super) fn new(name: String) -> Self {
        Self { name, items: Vec::new(), stuck: false }
    }
}

/// A command that waits for its reply.
struct Asked {
    head: String,
    room: String,
    /// None for a leave.
    join: Option<Option<String>>,
}

pub(super) struct Wanderer {
    dice: Dice,
    nodes: Vec<SocketAddr>,
    client: Client,
    asked: Vec<Asked>,
    next_ack: u64,
    log: Log,
    /// The rooms it is in, with its position.
    at: BTreeMap<String, String>,
    /// Positions it once had, to go back to.
    been: BTreeMap<String, Vec<String>>,
    words: BTreeSet<String>,
}

impl Wanderer {
    pub(super) async fn arrive(name: String, mut dice: Dice, nodes: Vec<SocketAddr>) -> Self {
        let client = Client::connect(nodes[dice.roll(nodes.len())], &token::staff()).await;
        let mut log = Log::new(name);
        log.items.push(Item::Connected);
        Self {
            dice,
            nodes,
            client,
            asked: Vec::new(),
            next_ack: 0,
            log,
            at: BTreeMap::new(),
            been: BTreeMap::new(),
            words: BTreeSet::new(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.log.name
    }

    /// Does things at random until it is over.
    pub(super) async fn wander(&mut self, rooms: &[String], over: &CancellationToken) {
        while !over.is_cancelled() {
            let room = rooms[self.dice.roll(rooms.len())].clone();
            match self.dice.roll(16) {
                0..=5 => self.listen().await,
                6 | 7 => self.join(&room, None).await,
                8 | 9 => self.go_back(&room).await,
                10 => {
                    let from = self.at.get(&room).cloned();
                    self.join(&room, from).await;
                }
                11 | 12 => self.leave(&room).await,
                13 => {
                    self.leave(&room).await;
                    self.go_back(&room).await;
                }
                14 => self.answers().await,
                _ => self.come_back().await,
            }
        }
        self.answers().await;
    }

    async fn go_back(&mut self, room: &str) {
        let been = self.been.get(room).map(Vec::as_slice).unwrap_or_default();
        let from = if been.is_empty() { None } else { Some(been[self.dice.roll(been.len())].clone()) };
        self.join(room, Some(from.unwrap_or_else(|| "1-0".to_owned()))).await;
    }

    /// Waits for the last word of each of its rooms.
    pub(super) async fn part(mut self) -> Log {
        while !self.at.keys().all(|room| self.words.contains(&last_word(room))) {
            self.read().await;
        }
        for room in self.at.keys().cloned().collect::<Vec<_>>() {
            self.join(&room, None).await;
        }
        self.answers().await;
        self.log
    }

    async fn listen(&mut self) {
        for _ in 0..self.dice.roll(40) {
            let limit = Duration::from_millis(20);
            match self.client.frame_within(limit).await {
                Ok(frame) => self.take(frame).await,
                Err(_) => return,
            }
        }
    }

    async fn join(&mut self, room: &str, after: Option<String>) {
        let from = after.as_ref().map(|after| format!(r#","after":"{after}""#)).unwrap_or_default();
        let argument = format!(r#"{{"room":"{room}"{from}}}"#);
        self.ask("join_room", &argument, Asked { head: String::new(), room: room.to_owned(), join: Some(after) }).await;
    }

    async fn leave(&mut self, room: &str) {
        let argument = format!(r#"{{"room":"{room}"}}"#);
        self.ask("leave_room", &argument, Asked { head: String::new(), room: room.to_owned(), join: None }).await;
    }

    /// Sends a command; half of the time it goes on before the answer has come.
    async fn ask(&mut self, command: &str, argument: &str, mut asked: Asked) {
        if !matches!(asked.join, Some(None)) {
            self.log.items.push(Item::Moves(asked.room.clone()));
        }
        self.next_ack += 1;
        asked.head = format!("43/realtime,{}[", self.next_ack);
        self.asked.push(asked);
        self.client.try_send(&format!(r#"42/realtime,{}["{command}",{argument}]"#, self.next_ack)).await;
        if self.dice.roll(2) == 0 {
            self.answers().await;
        }
    }

    async fn answers(&mut self) {
        while !self.asked.is_empty() {
            self.read().await;
        }
    }

    async fn read(&mut self) {
        let frame = self.client.frame().await;
        self.take(frame).await;
    }

    async fn take(&mut self, frame: Option<String>) {
        let Some(frame) = frame else {
            self.log.items.push(Item::Closed);
            return Box::pin(self.come_back()).await;
        };
        if let Some((_, mut argument)) = self.client.parse_event(&frame) {
            let event = argument["event"].take();
            self.note(&event);
            self.log.items.push(Item::Event(event));
            return;
        }
        let asked = self.asked.remove(0);
        let body = frame.strip_prefix(&asked.head).unwrap_or_else(|| panic!("{}: {frame}", self.log.name));
        let reply: Value = serde_json::from_str(&body[..body.len() - 1]).expect("a reply is a map");
        if reply["ok"] == false {
            assert_eq!(reply["error"], "unavailable", "{}", self.log.name);
            self.log.items.extend((!matches!(asked.join, Some(None))).then_some(Item::Refused(asked.room)));
            return;
        }
        self.answered(asked, reply["data"].clone());
    }

    fn answered(&mut self, asked: Asked, data: Value) {
        let Some(after) = asked.join else {
            self.at.remove(&asked.room);
            self.log.items.push(Item::Left(asked.room));
            return;
        };
        let offset = data["offset"].as_str().expect("an offset").to_owned();
        for event in data["events"].as_array().into_iter().flatten() {
            self.words.insert(event["id"].as_str().expect("an id").to_owned());
        }
        if after.is_some() || !self.at.contains_key(&asked.room) {
            self.been.entry(asked.room.clone()).or_default().push(offset.clone());
            self.at.insert(asked.room.clone(), offset);
        }
        self.log.items.push(Item::Joined { room: asked.room, after, data });
    }

    /// Takes the positions that an event gives.
    fn note(&mut self, event: &Value) {
        let meta = &event["meta"];
        let mut note = |room: &str, offset: &Value| {
            if let Some(at) = self.at.get_mut(room) {
                offset.as_str().expect("an offset").clone_into(at);
            }
        };
        note(meta["room"].as_str().expect("a room"), &meta["offset"]);
        for (room, offset) in meta["offsets"].as_object().into_iter().flatten() {
            note(room, offset);
        }
        let id = event["id"].as_str().expect("an id");
        if id.starts_with("last-") {
            self.words.insert(id.to_owned());
        }
    }

    /// Drops the connection and resumes every room where it left off, all at once.
    async fn come_back(&mut self) {
        self.asked.clear();
        let node = self.nodes[self.dice.roll(self.nodes.len())];
        self.client = Client::connect(node, &token::staff()).await;
        self.log.items.push(Item::Connected);
        for (room, from) in std::mem::take(&mut self.at) {
            self.next_ack += 1;
            let argument = format!(r#"{{"room":"{room}","after":"{from}"}}"#);
            let head = format!("43/realtime,{}[", self.next_ack);
            self.log.items.push(Item::Moves(room.clone()));
            self.client.try_send(&format!(r#"42/realtime,{}["join_room",{argument}]"#, self.next_ack)).await;
            self.asked.push(Asked { head, room, join: Some(Some(from)) });
        }
    }
}
