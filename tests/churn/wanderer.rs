//! A client that does things at random, and writes down all it sees in the order in which it came.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use hallway_rooms::offset::Offset;
use serde_json::{Value, json};
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
    /// It came with the answer to a join, which is written down before it.
    Told(Value),
    Left(String),
    Event(Value),
    /// The gateway closed the transport.
    Closed,
}

impl Item {
    /// One line, where it is of one of these rooms.
    pub(super) fn told_of(&self, places: &[(String, Offset)]) -> Option<String> {
        let is_of = |room: &str| places.iter().any(|(one, _)| one == room);
        let event = |event: &Value| {
            let meta = &event["meta"];
            let rooms = meta["offsets"].as_object().map(|all| all.keys().cloned().collect::<Vec<_>>());
            let rooms = rooms.unwrap_or_else(|| vec![meta["room"].as_str().unwrap_or_default().to_owned()]);
            rooms.iter().any(|room| is_of(room)).then(|| format!("{} {meta}", event["id"]))
        };
        match self {
            Self::Connected => Some("connected".to_owned()),
            Self::Closed => Some("closed".to_owned()),
            Self::Moves(room) => is_of(room).then(|| format!("moves {room}")),
            Self::Refused(room) => is_of(room).then(|| format!("refused {room}")),
            Self::Left(room) => is_of(room).then(|| format!("left {room}")),
            Self::Joined { room, after, data } => is_of(room).then(|| {
                let events = data["events"].as_array().map_or(0, Vec::len);
                let [offset, complete, more] = ["offset", "complete", "hasMore"].map(|key| &data[key]);
                format!("joined {room} after {after:?}: to {offset}, {events} events, complete {complete}, more {more}")
            }),
            Self::Told(told) => event(told).map(|line| format!("told {line}")),
            Self::Event(came) => event(came).map(|line| format!("event {line}")),
        }
    }
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
    what: Command,
}

enum Command {
    Leave(String),
    Join(String, Option<String>),
    JoinAll(Vec<(String, Option<String>)>),
}

impl Command {
    /// Its name and its argument.
    fn text(&self) -> (&'static str, Value) {
        let one = |room: &String, after: &Option<String>| match after {
            Some(after) => json!({"room": room, "after": after}),
            None => json!({"room": room}),
        };
        match self {
            Self::Leave(room) => ("leave_room", json!({"room": room})),
            Self::Join(room, after) => ("join_room", one(room, after)),
            Self::JoinAll(rooms) => {
                let rooms: Vec<Value> = rooms.iter().map(|(room, after)| one(room, after)).collect();
                ("join_rooms", json!({"rooms": rooms}))
            }
        }
    }

    /// The rooms in which a stay may end from when it was sent.
    fn moves(&self) -> Vec<String> {
        match self {
            Self::Leave(room) | Self::Join(room, Some(_)) => vec![room.clone()],
            Self::Join(_, None) => Vec::new(),
            Self::JoinAll(rooms) => {
                rooms.iter().filter(|(_, after)| after.is_some()).map(|(room, _)| room.clone()).collect()
            }
        }
    }
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
                14 if self.dice.roll(2) == 0 => self.answers().await,
                14 => self.join_several(rooms).await,
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
        self.ask(Command::Join(room.to_owned(), after)).await;
    }

    /// Joins some rooms in one act: from where it stands, from the start, or as they are.
    async fn join_several(&mut self, rooms: &[String]) {
        let first = self.dice.roll(rooms.len());
        let some = (0..4).map(|step| rooms[(first + step * 5) % rooms.len()].clone());
        let mut wanted = Vec::new();
        for room in some {
            let after = match self.dice.roll(3) {
                0 => None,
                1 => self.been.get(&room).and_then(|been| been.first().cloned()),
                _ => self.at.get(&room).cloned(),
            };
            wanted.push((room, after));
        }
        self.ask(Command::JoinAll(wanted)).await;
    }

    async fn leave(&mut self, room: &str) {
        self.ask(Command::Leave(room.to_owned())).await;
    }

    /// Sends a command; half of the time it goes on before the answer has come.
    async fn ask(&mut self, what: Command) {
        self.send(what).await;
        if self.dice.roll(2) == 0 {
            self.answers().await;
        }
    }

    async fn send(&mut self, what: Command) {
        self.log.items.extend(what.moves().into_iter().map(Item::Moves));
        self.next_ack += 1;
        let head = format!("43/realtime,{}[", self.next_ack);
        let (command, argument) = what.text();
        self.asked.push(Asked { head, what });
        self.client.try_send(&format!(r#"42/realtime,{}["{command}",{argument}]"#, self.next_ack)).await;
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
            self.log.items.extend(asked.what.moves().into_iter().map(Item::Refused));
            return;
        }
        let data = reply["data"].clone();
        match asked.what {
            Command::Leave(room) => {
                self.at.remove(&room);
                self.log.items.push(Item::Left(room));
            }
            Command::Join(room, after) => {
                let events = data["events"].as_array().cloned().unwrap_or_default();
                self.joined(room, after, data);
                self.log.items.extend(events.into_iter().map(Item::Told));
            }
            Command::JoinAll(rooms) => self.joined_all(rooms, &data),
        }
    }

    /// Writes several rooms down as if each had been joined by itself, with those of the events that name it.
    fn joined_all(&mut self, rooms: Vec<(String, Option<String>)>, data: &Value) {
        let events = data["events"].as_array().expect("events");
        for ((room, after), one) in rooms.into_iter().zip(data["rooms"].as_array().expect("rooms")) {
            assert_eq!(one["room"], room.as_str(), "{}", self.log.name);
            if one["error"] == "unavailable" {
                self.log.items.extend(after.map(|_| Item::Refused(room)));
                continue;
            }
            let names = |event: &&Value| {
                event["meta"]["room"] == room.as_str() || event["meta"]["offsets"].get(&room).is_some()
            };
            let its: Vec<&Value> = events.iter().filter(names).collect();
            let data = json!({"offset": one["offset"], "complete": one["complete"], "events": its});
            self.joined(room, after, data);
        }
        self.log.items.extend(events.iter().cloned().map(Item::Told));
    }

    fn joined(&mut self, room: String, after: Option<String>, data: Value) {
        let offset = data["offset"].as_str().expect("an offset").to_owned();
        for event in data["events"].as_array().into_iter().flatten() {
            self.words.insert(event["id"].as_str().expect("an id").to_owned());
        }
        if after.is_some() || !self.at.contains_key(&room) {
            self.been.entry(room.clone()).or_default().push(offset.clone());
            self.at.insert(room.clone(), offset);
        }
        self.log.items.push(Item::Joined { room, after, data });
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

    /// Drops the connection and resumes every room where it left off, in one act or one after the other.
    async fn come_back(&mut self) {
        self.asked.clear();
        let node = self.nodes[self.dice.roll(self.nodes.len())];
        self.client = Client::connect(node, &token::staff()).await;
        self.log.items.push(Item::Connected);
        let rooms: Vec<_> = std::mem::take(&mut self.at).into_iter().map(|(room, from)| (room, Some(from))).collect();
        if self.dice.roll(2) == 0 {
            return self.send(Command::JoinAll(rooms)).await;
        }
        for (room, from) in rooms {
            self.send(Command::Join(room, from)).await;
        }
    }
}
