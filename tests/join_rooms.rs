//! S11a: several rooms joined in one act. What was missed of all of them comes in one row, each event once, in an order that
//! is every room's own, and what is new comes behind it.

mod commuter;

use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::node::{Node, both_brokers};
use crate::harness::proxy::Proxy;
use crate::harness::redis::Redis;
use crate::harness::{eventually, token};

const DEEP: (&str, &str) = ("HALLWAY_HISTORY__MAX_EVENTS", "10000");

async fn client(node: &Node) -> Client {
    Client::connect(node.main(), &token::staff()).await
}

/// Publishes events of these rooms, in this order.
async fn publish(node: &Node, events: &[(&str, &[&str])]) {
    let event = |(id, rooms): &(&str, &[&str])| json!({"id": id, "rooms": rooms, "type": "t", "payload": 1});
    for chunk in events.chunks(500) {
        let body = json!({"events": chunk.iter().map(event).collect::<Vec<_>>()});
        let (status, reply) = node.post("/v1/publish/batch", body.to_string()).await;
        assert_eq!(status, 200, "{reply}");
        assert!(reply["results"].as_array().expect("results").iter().all(|one| one["id"].is_string()), "{reply}");
    }
}

fn ids(data: &Value) -> Vec<&str> {
    data["events"].as_array().expect("a list").iter().map(|event| event["id"].as_str().expect("an id")).collect()
}

async fn live(client: &mut Client, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(client.event().await.1["event"]["id"].as_str().expect("an id").to_owned());
    }
    ids
}

fn offset_of(data: &Value, room: &str) -> String {
    let rooms = data["rooms"].as_array().expect("rooms");
    let one = rooms.iter().find(|one| one["room"] == room).expect("it was asked for");
    one["offset"].as_str().unwrap_or_else(|| panic!("no offset: {data}")).to_owned()
}

fn after(data: &Value, rooms: &[&str]) -> Value {
    rooms.iter().map(|room| json!({"room": room, "after": offset_of(data, room)})).collect()
}

#[tokio::test]
async fn what_was_missed_of_all_rooms_comes_in_one_row_and_what_is_new_behind_it() {
    const ROOMS: [&str; 3] = ["store:s", "product:p", "order:o"];
    let (_redis, nodes) = both_brokers(&[]).await;
    for node in &nodes {
        publish(node, &[("before", &["product:p"])]).await;
        let mut first = client(node).await;
        let joined = first.join_rooms(&json!(ROOMS.map(|room| json!({"room": room})))).await;
        assert_eq!((joined["events"].clone(), joined.get("hasMore")), (json!([]), None), "{joined}");
        assert!(
            joined["rooms"]
                .as_array()
                .expect("rooms")
                .iter()
                .all(|one| one["roomSize"] == 1 && one.get("complete").is_none())
        );
        publish(node, &[("heard", &["product:p", "store:s"])]).await;
        let meta = first.event().await.1["event"]["meta"].clone();
        assert_eq!(meta["offsets"].as_object().map(serde_json::Map::len), Some(2), "{meta}");
        first.drop_connection();
        let missed: [(&str, &[&str]); 6] = [
            ("a", &["store:s"]),
            ("b", &["order:o", "store:s"]),
            ("c", &["product:p"]),
            ("d", &["store:s", "product:p", "order:o"]),
            ("e", &["order:o"]),
            ("f", &["product:p", "user:elsewhere"]),
        ];
        publish(node, &missed).await;
        let mut second = client(node).await;
        let wanted = json!([
            {"room": "store:s", "after": meta["offsets"]["store:s"]},
            {"room": "product:p", "after": meta["offsets"]["product:p"]},
            {"room": "order:o", "after": offset_of(&joined, "order:o")},
        ]);
        let back = second.join_rooms(&wanted).await;
        let mut sorted = ids(&back);
        sorted.sort_unstable();
        assert_eq!(sorted, ["a", "b", "c", "d", "e", "f"], "{back}");
        for room in ROOMS {
            let order: Vec<&str> =
                missed.iter().filter(|(_, rooms)| rooms.contains(&room)).map(|(id, _)| *id).collect();
            let got: Vec<&str> = ids(&back).into_iter().filter(|id| order.contains(id)).collect();
            assert_eq!(got, order, "{room}");
        }
        let rooms = back["rooms"].as_array().expect("rooms");
        assert_eq!(rooms.iter().map(|one| &one["room"]).collect::<Vec<_>>(), ROOMS, "in the order of the command");
        assert!(rooms.iter().all(|one| one["complete"] == true && one["roomSize"] == 1), "{back}");
        let of = |id: &str| {
            back["events"].as_array().expect("a list").iter().find(|event| event["id"] == id).expect("it came")["meta"]
                .clone()
        };
        let everywhere = of("d");
        assert_eq!(
            (&everywhere["room"], everywhere["offset"].as_str()),
            (&json!("store:s"), everywhere["offsets"]["store:s"].as_str())
        );
        assert_eq!(everywhere["offsets"]["store:s"], offset_of(&back, "store:s"));
        assert_eq!(everywhere["offsets"].as_object().map(serde_json::Map::len), Some(3), "{everywhere}");
        assert_eq!(
            of("f"),
            json!({"room": "product:p", "offset": offset_of(&back, "product:p")}),
            "no room it is not in"
        );
        publish(node, &[("g", &["order:o", "product:p"]), ("h", &["store:s"])]).await;
        assert_eq!(live(&mut second, 2).await, ["g", "h"]);
        second.nothing_came().await;
        let same = second.join_rooms(&after(&back, &ROOMS)).await;
        assert_eq!(ids(&same), ["g", "h"], "a member that asks again gets it again, from there on");
    }
}

#[tokio::test]
async fn a_room_that_is_refused_says_so_and_keeps_out_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("hallway.toml");
    std::fs::write(&file, "[rooms.\"stores:all\"]\nhistory = { max_events = 0 }\n").expect("it can be written");
    let redis = Redis::start().await;
    let url = redis.url();
    for settings in [&[][..], &[("HALLWAY_REDIS__URL", url.as_str())]] {
        let node = Node::changed(settings, |command| _ = command.arg("--config").arg(&file)).await;
        let mut client = Client::connect(node.main(), &token::user("u1")).await;
        let wanted = json!([
            {"room": "order:o1"},
            {"room": "user:somebody_else", "since": 0},
            {"room": "attic \"x\""},
            {"room": "order:o2", "after": "no offset"},
            {"room": "order:o3", "since": 1, "after": "1-1"},
            {"room": "order:o4", "after": null, "since": null},
            {"room": ""},
            {"room": "order:o5", "since": 0},
        ]);
        let joined = client.join_rooms(&wanted).await;
        let errors: Vec<&str> =
            joined["rooms"].as_array().expect("rooms").iter().map(|one| one["error"].as_str().unwrap_or("-")).collect();
        assert_eq!(
            errors,
            ["-", "forbidden", "invalid-room", "invalid-payload", "invalid-payload", "-", "invalid-room", "-"]
        );
        assert_eq!(joined["rooms"][2], json!({"room": "attic \"x\"", "error": "invalid-room"}));
        publish(&node, &[("one", &["order:o1"]), ("four", &["order:o4"]), ("two", &["order:o2"])]).await;
        assert_eq!(live(&mut client, 2).await, ["one", "four"]);
        let mut staff = self::client(&node).await;
        let joined = staff.join_rooms(&json!([{"room": "stores:all"}, {"room": "order:o1"}])).await;
        assert_eq!(joined["rooms"][0]["roomSize"], 1);
        let joined = staff.join_rooms(&json!([{"room": "stores:all", "since": 0}])).await;
        assert_eq!(joined["rooms"], json!([{"room": "stores:all", "error": "history-disabled"}]));
        node.numbers().await;
        publish(&node, &[("unkept", &["stores:all", "order:o1"])]).await;
        assert_eq!(live(&mut staff, 1).await, ["unkept"]);
        staff.nothing_came().await;
    }
}

#[tokio::test]
async fn what_is_no_list_of_rooms_is_refused_as_a_whole() {
    let node = Node::with(&[("HALLWAY_LIMITS__ROOMS_PER_SOCKET", "3")]).await;
    let mut client = client(&node).await;
    for argument in [
        "null",
        "[]",
        "{}",
        r#"{"rooms":null}"#,
        r#"{"rooms":"order:o"}"#,
        r#"{"rooms":{"room":"order:o"}}"#,
        r#"{"rooms":["order:o"]}"#,
        r#"{"rooms":[null]}"#,
        r#"{"rooms":[{}]}"#,
        r#"{"rooms":[{"room":null}]}"#,
        r#"{"rooms":[{"room":"order:o"},{"room":5}]}"#,
    ] {
        let reply = client.call("join_rooms", argument).await;
        assert_eq!(reply, json!({"ok": false, "error": "invalid-payload"}), "{argument}");
    }
    let reply = client.call("join_rooms", r#"{"rooms":[]}"#).await;
    assert_eq!(reply, json!({"ok": true, "data": {"rooms": [], "events": []}}));
    let named =
        |from: usize, to: usize| json!((from..to).map(|n| json!({"room": format!("order:{n}")})).collect::<Vec<_>>());
    let reply = client.call("join_rooms", &json!({"rooms": named(0, 4)}).to_string()).await;
    assert_eq!(reply, json!({"ok": false, "error": "too-many-rooms"}), "nothing is joined");
    client.join_rooms(&named(0, 2)).await;
    let joined = client.join_rooms(&named(1, 4)).await;
    let errors: Vec<bool> =
        joined["rooms"].as_array().expect("rooms").iter().map(|one| one["error"] == "too-many-rooms").collect();
    assert_eq!(errors, [false, false, true], "{joined}");
}

#[tokio::test]
async fn a_room_that_is_named_twice_is_joined_once_from_the_earlier_place() {
    let (_redis, nodes) = both_brokers(&[]).await;
    for node in &nodes {
        let mut first = client(node).await;
        let head = first.join("order:o").await["offset"].clone();
        publish(node, &[("one", &["order:o"])]).await;
        let later = first.event().await.1["event"]["meta"]["offset"].clone();
        publish(node, &[("two", &["order:o"])]).await;
        assert_eq!(live(&mut first, 1).await, ["two"]);
        first.drop_connection();
        let mut second = client(node).await;
        let wanted =
            json!([{"room": "order:o"}, {"room": "order:o", "after": later}, {"room": "order:o", "after": head}]);
        let joined = second.join_rooms(&wanted).await;
        assert_eq!(ids(&joined), ["one", "two"]);
        let rooms = joined["rooms"].as_array().expect("rooms");
        assert!(rooms.len() == 3 && rooms.iter().all(|one| *one == rooms[0]) && rooms[0]["roomSize"] == 1, "{joined}");
        publish(node, &[("three", &["order:o"])]).await;
        assert_eq!(live(&mut second, 1).await, ["three"]);
        second.nothing_came().await;
    }
}

/// Publishes so many events of two rooms, numbered, in turns: of the first, of both, of the second.
async fn fill(node: &Node, from: usize, count: usize) -> Vec<String> {
    const IN_TURN: [&[&str]; 3] = [&["store:s"], &["store:s", "order:o"], &["order:o"]];
    let ids: Vec<String> = (from..from + count).map(|n| format!("n{n}")).collect();
    let events: Vec<(&str, &[&str])> = ids.iter().enumerate().map(|(n, id)| (id.as_str(), IN_TURN[n % 3])).collect();
    publish(node, &events).await;
    ids
}

/// What a client asks for that was in both rooms before so many events came, and those events.
async fn missed_by_two(node: &Node, count: usize) -> (Value, Vec<String>) {
    let heads = client(node).await.join_rooms(&json!([{"room": "store:s"}, {"room": "order:o"}])).await;
    (after(&heads, &["order:o", "store:s"]), fill(node, 0, count).await)
}

#[tokio::test]
async fn a_page_that_is_full_is_followed_by_the_rest_of_all_rooms_in_order_and_then_by_what_is_new() {
    let (_redis, nodes) = both_brokers(&[DEEP]).await;
    for node in &nodes {
        let mut first = client(node).await;
        let heads = first.join_rooms(&json!([{"room": "store:s"}, {"room": "order:o"}, {"room": "user:quiet"}])).await;
        first.drop_connection();
        let mut owed = fill(node, 0, 2400).await;
        let mut second = client(node).await;
        let wanted = after(&heads, &["user:quiet", "order:o", "store:s"]);
        let (joined, new) = tokio::join!(second.join_rooms(&wanted), fill(node, 2400, 300));
        owed.extend(new);
        assert_eq!((ids(&joined).len(), &joined["hasMore"]), (1000, &json!(true)));
        let mut got: Vec<String> = ids(&joined).into_iter().map(str::to_owned).collect();
        for room in ["store:s", "order:o"] {
            let last = joined["events"].as_array().expect("a list").iter().rev().find_map(|event| {
                let meta = &event["meta"];
                meta["offsets"].get(room).or((meta["room"] == room).then_some(&meta["offset"])).cloned()
            });
            assert_eq!(last, Some(offset_of(&joined, room).into()), "of the last event returned");
        }
        assert_eq!(offset_of(&joined, "user:quiet"), offset_of(&heads, "user:quiet"), "where it stood");
        owed.extend(fill(node, 2700, 30).await);
        publish(node, &[("q", &["user:quiet"])]).await;
        got.extend(live(&mut second, owed.len() - 1000 + 1).await);
        let quiet = got.iter().position(|id| id == "q").expect("it came");
        got.remove(quiet);
        let of = |ids: &[String], turns: [usize; 2]| -> Vec<String> {
            let number = |id: &String| id[1..].parse::<usize>().expect("a number");
            ids.iter().filter(|id| turns.contains(&(number(id) % 3))).cloned().collect()
        };
        // Numbers start anew at a multiple of three, so that the turn tells the rooms.
        for turns in [[0, 1], [1, 2]] {
            assert_eq!(of(&got, turns), of(&owed, turns));
        }
        second.nothing_came().await;
    }
}

#[tokio::test]
async fn rooms_that_the_socket_is_in_go_on_and_those_that_catch_up_as_well() {
    let (_redis, nodes) = both_brokers(&[DEEP]).await;
    for node in &nodes {
        let (wanted, owed) = missed_by_two(node, 2400).await;
        let mut second = client(node).await;
        second.join("product:p").await;
        publish(node, &[("p1", &["product:p"])]).await;
        assert_eq!(live(&mut second, 1).await, ["p1"]);
        // The second command finds two rooms that catch up, one that is live, and one that is new.
        second.send(&format!(r#"42/realtime,901["join_rooms",{{"rooms":{wanted}}}]"#)).await;
        second.send(r#"42/realtime,902["join_rooms",{"rooms":[{"room":"store:s"},{"room":"product:p"},{"room":"order:o"},{"room":"variant:v"}]}]"#).await;
        let (mut got, mut replies) = (Vec::new(), Vec::new());
        while got.len() < owed.len() || replies.len() < 2 {
            let frame = second.frame().await.expect("a frame");
            match second.parse_event(&frame) {
                Some((_, argument)) => got.push(argument["event"]["id"].as_str().expect("an id").to_owned()),
                None => {
                    let reply: Value = serde_json::from_str(&frame["43/realtime,901".len()..]).expect("a reply");
                    got.extend(ids(&reply[0]["data"]).into_iter().map(str::to_owned));
                    replies.push(reply[0]["data"].clone());
                }
            }
        }
        assert_eq!((ids(&replies[0]).len(), ids(&replies[1]).len()), (1000, 0));
        let rooms = replies[1]["rooms"].as_array().expect("rooms");
        assert!(rooms.iter().all(|one| one["roomSize"] == 1 && one.get("complete").is_none()), "{rooms:?}");
        let mut sorted = (got.clone(), owed.clone());
        sorted.0.sort_unstable();
        sorted.1.sort_unstable();
        assert_eq!(sorted.0, sorted.1, "each once");
        publish(node, &[("p2", &["variant:v", "product:p", "order:o"])]).await;
        assert_eq!(live(&mut second, 1).await, ["p2"]);
        second.nothing_came().await;
    }
}

#[tokio::test]
async fn who_asks_without_an_ack_id_gets_what_was_missed_of_all_rooms_as_events() {
    let (_redis, nodes) = both_brokers(&[DEEP]).await;
    for node in &nodes {
        let (mut wanted, mut owed) = missed_by_two(node, 1200).await;
        let mut second = client(node).await;
        wanted.as_array_mut().expect("a list").extend([json!({"room": "variant:v"}), json!({"room": "attic"})]);
        second.tell("join_rooms", &json!({"rooms": wanted}).to_string()).await;
        let mut got = live(&mut second, owed.len()).await;
        publish(node, &[("v", &["variant:v", "order:o"])]).await;
        owed.push("v".to_owned());
        got.extend(live(&mut second, 1).await);
        let both = |ids: &[String]| {
            ids.iter().filter(|id| id[1..].parse::<usize>().is_ok_and(|n| n % 3 != 2)).cloned().collect::<Vec<_>>()
        };
        assert_eq!((both(&got), got.len()), (both(&owed), owed.len()));
        second.nothing_came().await;
    }
}

#[tokio::test]
async fn an_event_that_came_with_the_answer_comes_by_no_other_room_again() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.address()).await;
    let node = Node::with(&[("HALLWAY_REDIS__URL", &proxy.url()), ("HALLWAY_REDIS__CANARY", "1m")]).await;
    for (n, command) in ["join_rooms", "join_room"].into_iter().enumerate() {
        let (store, product) = (format!("store:s{n}"), format!("product:p{n}"));
        let mut client = client(&node).await;
        let head = client.join(&product).await["offset"].clone();
        client.call("leave_room", &json!({"room": product}).to_string()).await;
        client.join(&store).await;
        // It is stored, and on its way to the node.
        proxy.deafen(true);
        let both = [store.as_str(), product.as_str()];
        redis
            .fcall(&both, r#"{"type":"t","payload":1}"#, &["ID", &format!("both-{n}")])
            .await
            .expect("it is published");
        let asked = json!({"room": product, "after": head});
        let argument = if command == "join_room" { asked } else { json!({"rooms": [asked]}) };
        let reply = client.call(command, &argument.to_string()).await;
        assert_eq!(ids(&reply["data"]), [format!("both-{n}")], "{reply}");
        proxy.deafen(false);
        // Of two rooms the feed misses one event, which the next one tells.
        redis
            .fcall(&both, r#"{"type":"t","payload":2}"#, &["ID", &format!("next-{n}")])
            .await
            .expect("it is published");
        assert_eq!(live(&mut client, 1).await, [format!("next-{n}")], "{command}");
        client.nothing_came().await;
    }
}

#[tokio::test]
async fn what_is_current_in_several_rooms_comes_once_behind_what_was_missed() {
    let (_redis, nodes) = both_brokers(&[]).await;
    let location = |agent: &str, n: usize, rooms: &[&str]| json!({"id": format!("{agent}-{n}"), "rooms": rooms, "type": "agent.location_updated", "payload": {"agentId": agent, "n": n}});
    for node in &nodes {
        let post = async |event: Value| assert_eq!(node.post("/v1/publish", event.to_string()).await.0, 200);
        post(location("a", 1, &["agents:all", "agent:a"])).await;
        post(location("a", 2, &["agents:all", "agent:a"])).await;
        post(location("b", 1, &["agents:all", "agent:b"])).await;
        post(location("b", 2, &["agent:b"])).await;
        publish(node, &[("durable", &["agents:all"])]).await;
        let mut client = client(node).await;
        let wanted = json!([{"room": "agents:all", "since": 0}, {"room": "agent:a", "since": 0}, {"room": "agent:b"}]);
        let joined = client.join_rooms(&wanted).await;
        let mut behind = ids(&joined);
        assert_eq!(behind.remove(0), "durable");
        behind.sort_unstable();
        assert_eq!(behind, ["a-2", "b-1"], "{joined}");
        post(location("b", 3, &["agents:all", "agent:b"])).await;
        post(location("a", 3, &["agents:all", "agent:a"])).await;
        assert_eq!(live(&mut client, 2).await, ["b-3", "a-3"]);
        client.nothing_came().await;
    }
}

#[tokio::test]
async fn it_counts_once_and_ends_with_its_socket() {
    let settings = [DEEP, ("HALLWAY_LIMITS__COMMANDS_PER_MINUTE", "2"), ("HALLWAY_REDIS__LINGER", "0s")];
    let (_redis, nodes) = both_brokers(&settings).await;
    for node in &nodes {
        let all: Value = (0..100).map(|n| json!({"room": format!("order:{n}"), "since": 0})).collect();
        let mut client = client(node).await;
        assert_eq!(client.join_rooms(&all).await["rooms"].as_array().map(Vec::len), Some(100));
        assert_eq!(client.join_rooms(&all).await["rooms"][99]["roomSize"], 1);
        let third = client.call("join_rooms", r#"{"rooms":[]}"#).await;
        assert_eq!(third, json!({"ok": false, "error": "rate-limited"}));
        client.drop_connection();
        // In the middle of it, however far it got.
        for _ in 0..10 {
            let mut client = self::client(node).await;
            client.tell("join_rooms", &json!({"rooms": all}).to_string()).await;
            client.send(&format!(r#"42/realtime,1["join_rooms",{{"rooms":{all}}}]"#)).await;
            client.drop_connection();
        }
        for room in ["order:0", "order:99"] {
            eventually("nobody is left", || async { (node.room_size(room).await == 0).then_some(()) }).await;
        }
    }
}

#[tokio::test]
async fn what_is_current_finds_no_place_in_a_page_that_is_just_full_and_follows() {
    let (_redis, nodes) = both_brokers(&[DEEP]).await;
    for node in &nodes {
        let head = client(node).await.join("agents:all").await["offset"].clone();
        let missed: Vec<String> = (0..1000).map(|n| format!("n{n}")).collect();
        publish(node, &missed.iter().map(|id| -> (&str, &[&str]) { (id, &["agents:all"]) }).collect::<Vec<_>>()).await;
        let location =
            json!({"id": "a-1", "room": "agents:all", "type": "agent.location_updated", "payload": {"agentId": "a"}});
        assert_eq!(node.post("/v1/publish", location.to_string()).await.0, 200);
        let asked = json!({"room": "agents:all", "after": head});
        for (command, argument) in [("join_room", asked.clone()), ("join_rooms", json!({"rooms": [asked]}))] {
            let mut client = client(node).await;
            let data = client.call(command, &argument.to_string()).await["data"].clone();
            assert_eq!(
                (ids(&data), &data["hasMore"]),
                (missed.iter().map(String::as_str).collect(), &json!(true)),
                "{command}"
            );
            assert_eq!(live(&mut client, 1).await, ["a-1"], "{command}");
            client.nothing_came().await;
        }
    }
}
