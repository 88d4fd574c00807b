//! S11a: several rooms joined in one act. What was missed of all of them comes in one row, each event once, in an order that
//! is every room's own, and what is new comes behind it.

mod commuter;

use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::token;

const DEEP: (&str, &str) = ("HALLWAY_HISTORY__MAX_EVENTS", "10000");

async fn both_brokers(settings: &[(&str, &str)]) -> (Redis, [Node; 2]) {
    let redis = Redis::start().await;
    let url = redis.url();
    let on_redis = [settings, &[("HALLWAY_REDIS__URL", url.as_str())]].concat();
    let nodes = [Node::with(settings).await, Node::with(&on_redis).await];
    (redis, nodes)
}

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
