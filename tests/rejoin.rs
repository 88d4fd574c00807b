//! Joining again, from a place on, a room that one is live in: what comes while the history is read comes once, in its
//! order, and a command that fails leaves the member where it was (S11, S43).

use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::proxy::Proxy;
use crate::harness::redis::Redis;
use crate::harness::{PATIENCE, eventually, token};

/// A node whose reads of histories can be held back, with a member of some rooms.
struct Scene {
    redis: Redis,
    proxy: Proxy,
    node: Node,
    client: Client,
    /// In the same rooms, by whom it is seen that an event has been delivered here.
    other: Client,
    published: u64,
}

impl Scene {
    async fn with(settings: &[(&str, &str)]) -> Self {
        let redis = Redis::start().await;
        let proxy = Proxy::to(redis.address()).await;
        let url = proxy.url();
        let node = Node::with(&[settings, &[("HALLWAY_REDIS__URL", url.as_str())]].concat()).await;
        let client = Client::connect(node.main(), &token::staff()).await;
        let other = Client::connect(node.main(), &token::staff()).await;
        Self { redis, proxy, node, client, other, published: 0 }
    }

    async fn join(&mut self, room: &str) -> String {
        let head = self.client.join(room).await["offset"].as_str().expect("an offset").to_owned();
        self.other.join(room).await;
        head
    }

    /// Publishes so many numbers, which go on where the last ones ended. They have been delivered when this returns.
    async fn publish(&mut self, rooms: &[&str], count: u64) {
        let (mut client, all) = (self.redis.client().await, row(self.published..self.published + count));
        for some in all.chunks(100) {
            let mut calls = redis::pipe();
            for number in some {
                let call = calls.cmd("FCALL").arg("hallway_publish").arg(rooms.len());
                rooms.iter().for_each(|room| _ = call.arg(format!("hallway:{{{room}}}")));
                call.arg(json!({"type": "t", "payload": number}).to_string()).ignore();
            }
            calls.exec_async(&mut client).await.expect("they are published");
        }
        self.published += count;
        for _ in 0..count {
            self.other.event().await;
        }
    }

    /// Sends a command that reads this room, whose answer Redis has given and is on its way.
    async fn ask(&mut self, room: &str, command: &str, argument: &Value) {
        self.proxy.stall("history");
        self.redis.note_commands().await;
        self.client.send(&format!(r#"42/realtime,77["{command}",{argument}]"#)).await;
        let redis = &self.redis;
        eventually("it is read", || async { redis.has_read(room).await.then_some(()) }).await;
    }

    /// Frames until so many events came, those of the answer to [`ask`](Self::ask) among them in their place.
    async fn numbers(&mut self, count: usize) -> (Vec<u64>, Option<Value>) {
        let (mut got, mut answer) = (Vec::new(), None);
        while got.len() < count || answer.is_none() {
            let frame = self.client.frame().await.expect("a frame");
            let Some(body) = frame.strip_prefix("43/realtime,77") else {
                got.push(number(&self.client.parse_event(&frame).expect("an event").1["event"]));
                continue;
            };
            let reply = serde_json::from_str::<[Value; 1]>(body).expect("one map")[0].take();
            let events = reply["data"]["events"].as_array().into_iter().flatten();
            got.extend(events.map(number));
            answer = Some(reply);
        }
        (got, answer)
    }

    async fn live(&mut self, count: u64) -> Vec<u64> {
        let mut got = Vec::new();
        for _ in 0..count {
            got.push(number(&self.client.event().await.1["event"]));
        }
        got
    }
}

fn number(event: &Value) -> u64 {
    event["payload"].as_u64().expect("a number")
}

fn row(numbers: std::ops::Range<u64>) -> Vec<u64> {
    numbers.collect()
}

/// Says where two rows part, of which the longer ones are not to be printed.
#[track_caller]
fn check_row(got: &[u64], expected: std::ops::Range<u64>) {
    let parts = got.iter().zip(expected.clone()).position(|(got, expected)| *got != expected);
    let around = parts.map(|at| &got[at.saturating_sub(3)..got.len().min(at + 5)]);
    assert_eq!((parts, around, got.len()), (None, None, row(expected).len()), "each once, in the order of the room");
}

fn since(offset: &str) -> u64 {
    offset.split('-').next().and_then(|ms| ms.parse().ok()).expect("an offset")
}

#[tokio::test]
async fn what_comes_between_the_read_and_the_answer_comes_once_behind_it() {
    let mut scene = Scene::with(&[]).await;
    for (room, command, place) in [
        ("order:a", "join_room", "after"),
        ("order:b", "join_room", "since"),
        ("order:c", "join_rooms", "after"),
        ("order:d", "join_rooms", "since"),
    ] {
        scene.published = 0;
        let head = scene.join(room).await;
        scene.publish(&[room], 3).await;
        assert_eq!(scene.live(3).await, row(0..3));
        let from = if place == "since" { json!(since(&head)) } else { json!(head) };
        let one = json!({"room": room, place: from});
        let argument = if command == "join_rooms" { json!({"rooms": [one]}) } else { one };
        scene.ask(room, command, &argument).await;
        scene.publish(&[room], 2).await;
        scene.proxy.stall("");
        let (got, answer) = scene.numbers(5).await;
        assert_eq!(answer.expect("an answer")["ok"], true);
        assert_eq!(got, row(0..5), "{command} {place}: each once, in the order of the room");
        scene.publish(&[room], 2).await;
        assert_eq!(scene.live(2).await, row(5..7));
        scene.client.nothing_came().await;
    }
}

#[tokio::test]
async fn more_than_a_page_follows_once_and_then_what_came_meanwhile() {
    let mut scene = Scene::with(&[("HALLWAY_HISTORY__MAX_EVENTS", "5000")]).await;
    let head = scene.join("order:a").await;
    scene.publish(&["order:a"], 1200).await;
    check_row(&scene.live(1200).await, 0..1200);
    for told in [true, false] {
        let behind = scene.published;
        let argument = json!({"room": "order:a", "after": head});
        if told {
            scene.ask("order:a", "join_room", &argument).await;
        } else {
            scene.proxy.stall("history");
            scene.redis.note_commands().await;
            scene.client.tell("join_room", &argument.to_string()).await;
            let redis = &scene.redis;
            eventually("it is read", || async { redis.has_read("order:a").await.then_some(()) }).await;
        }
        scene.publish(&["order:a"], 3).await;
        scene.proxy.stall("");
        let all = behind + 3;
        let got =
            if told { scene.numbers(usize::try_from(all).expect("a few")).await.0 } else { scene.live(all).await };
        check_row(&got, 0..all);
        scene.publish(&["order:a"], 2).await;
        assert_eq!(scene.live(2).await, row(all..all + 2));
        scene.client.nothing_came().await;
    }
}

#[tokio::test]
async fn of_several_rooms_each_event_comes_once_whichever_way_its_rooms_were_joined() {
    let mut scene = Scene::with(&[]).await;
    let (a, b, c) = ("order:a", "order:b", "order:c");
    let heads = [scene.join(a).await, scene.join(b).await];
    scene.join(c).await;
    for rooms in [&[a][..], &[a, b], &[b, c], &[a, b, c]] {
        scene.publish(rooms, 1).await;
    }
    assert_eq!(scene.live(4).await, row(0..4));
    // Two are asked for again, and the third one keeps its place.
    let again = json!({"rooms": [{"room": a, "after": heads[0]}, {"room": b, "after": heads[1]}, {"room": c}]});
    scene.ask(a, "join_rooms", &again).await;
    for rooms in [&[a][..], &[b], &[a, b], &[a]] {
        scene.publish(rooms, 1).await;
    }
    scene.proxy.stall("");
    let (got, answer) = scene.numbers(8).await;
    assert_eq!(got, row(0..8));
    let rooms = answer.expect("an answer")["data"]["rooms"].take();
    assert!(rooms.as_array().expect("a list").iter().all(|room| room.get("error").is_none()), "{rooms}");
    for rooms in [&[a, b, c][..], &[b], &[c, a]] {
        scene.publish(rooms, 1).await;
    }
    assert_eq!(scene.live(3).await, row(8..11));
    scene.client.nothing_came().await;
}

const IMPATIENT: [(&str, &str); 1] = [("HALLWAY_REDIS__ANSWER_WAIT", "500ms")];

#[tokio::test]
async fn a_command_that_fails_leaves_the_member_where_it_was() {
    let mut scene = Scene::with(&IMPATIENT).await;
    for (room, command) in [("order:a", "join_room"), ("order:b", "join_rooms")] {
        scene.published = 0;
        let head = scene.join(room).await;
        scene.publish(&[room], 2).await;
        assert_eq!(scene.live(2).await, row(0..2));
        let one = json!({"room": room, "after": head});
        let argument = if command == "join_rooms" { json!({"rooms": [one]}) } else { one };
        scene.ask(room, command, &argument).await;
        scene.publish(&[room], 3).await;
        let (got, answer) = scene.numbers(0).await;
        assert_eq!((got, &answer.expect("an answer")["error"]), (vec![], &json!("unavailable")), "{command}");
        scene.proxy.stall("");
        assert_eq!(scene.live(3).await, row(2..5), "what came meanwhile");
        scene.publish(&[room], 2).await;
        assert_eq!(scene.live(2).await, row(5..7));
        scene.client.nothing_came().await;
    }
}

#[tokio::test]
async fn a_member_that_missed_nothing_goes_on_at_once_when_its_command_fails() {
    let mut scene = Scene::with(&IMPATIENT).await;
    let head = scene.join("order:a").await;
    scene.publish(&["order:a"], 2).await;
    assert_eq!(scene.live(2).await, row(0..2));
    scene.ask("order:a", "join_room", &json!({"room": "order:a", "after": head})).await;
    let (got, answer) = scene.numbers(0).await;
    assert_eq!((got, &answer.expect("an answer")["error"]), (vec![], &json!("unavailable")));
    // Histories cannot be read yet.
    let live = scene.client.call("join_room", r#"{"room":"order:a"}"#).await;
    assert_eq!(live["ok"], true, "{live}");
    scene.publish(&["order:a"], 2).await;
    assert_eq!(scene.live(2).await, row(2..4));
    scene.proxy.stall("");
    scene.client.nothing_came().await;
}

#[tokio::test]
async fn a_room_that_is_left_behind_the_command_falls_silent_and_can_be_joined_again() {
    let mut scene = Scene::with(&[]).await;
    let head = scene.join("order:a").await;
    scene.publish(&["order:a"], 2).await;
    assert_eq!(scene.live(2).await, row(0..2));
    let after = json!({"room": "order:a", "after": head});
    scene.ask("order:a", "join_room", &after).await;
    scene.client.send(r#"42/realtime,78["leave_room",{"room":"order:a"}]"#).await;
    scene.publish(&["order:a"], 2).await;
    scene.proxy.stall("");
    let (mut got, mut left) = (Vec::new(), false);
    while !left {
        let frame = scene.client.frame().await.expect("a frame");
        left = frame.starts_with("43/realtime,78");
        if let Some((_, argument)) = scene.client.parse_event(&frame) {
            got.push(number(&argument["event"]));
        }
    }
    assert!(row(2..4).starts_with(&got), "{got:?}");
    scene.publish(&["order:a"], 1).await;
    scene.client.nothing_came().await;
    scene.ask("order:a", "join_room", &after).await;
    scene.proxy.stall("");
    assert_eq!(scene.numbers(5).await.0, row(0..5));
    scene.client.nothing_came().await;
}

#[tokio::test]
async fn a_member_that_catches_up_and_joins_again_gets_each_event_once_behind_the_second_answer() {
    let mut scene = Scene::with(&[("HALLWAY_HISTORY__MAX_EVENTS", "5000")]).await;
    let head = scene.join("order:a").await;
    scene.client.call("leave_room", r#"{"room":"order:a"}"#).await;
    scene.publish(&["order:a"], 2500).await;
    let join = |id: u32| format!(r#"42/realtime,{id}["join_room",{{"room":"order:a","after":"{head}"}}]"#);
    scene.client.send(&join(76)).await;
    scene.client.send(&join(77)).await;
    // The first answer, and what follows it until the second one.
    loop {
        let frame = scene.client.frame().await.expect("a frame");
        if let Some(body) = frame.strip_prefix("43/realtime,77") {
            let reply = serde_json::from_str::<[Value; 1]>(body).expect("one map");
            let page = reply[0]["data"]["events"].as_array().expect("a list").iter().map(number).collect::<Vec<_>>();
            check_row(&page, 0..1000);
            break;
        }
    }
    check_row(&scene.live(1500).await, 1000..2500);
    scene.publish(&["order:a"], 2).await;
    assert_eq!(scene.live(2).await, row(2500..2502));
    scene.client.nothing_came().await;
}

#[tokio::test]
async fn a_member_that_cannot_be_brought_up_to_date_is_told_by_the_end_of_its_transport() {
    let mut scene = Scene::with(&[IMPATIENT[0], ("HALLWAY_REDIS__JOIN_WAIT", "1s")]).await;
    let head = scene.join("order:a").await;
    scene.ask("order:a", "join_room", &json!({"room": "order:a", "after": head})).await;
    scene.publish(&["order:a"], 1).await;
    let spoil = redis::cmd("SET").arg("hallway:{order:a}:history").arg("x").to_owned();
    spoil.exec_async(&mut scene.redis.client().await).await.expect("redis is up");
    assert_eq!(scene.numbers(0).await.1.expect("an answer")["error"], "unavailable");
    scene.proxy.stall("");
    assert_eq!(scene.client.until_closed(PATIENCE).await, Vec::<String>::new());
    eventually("the reason is counted", || async {
        let numbers = scene.node.numbers().await;
        numbers.contains(r#"hallway_disconnects_total{reason="room-unreadable"} 1"#).then_some(())
    })
    .await;
    assert_eq!(scene.node.readyz().await, 200);
}
