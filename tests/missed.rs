//! Missed events: a room's history, asked for by time or by offset (S16-S18).

use std::io::Write;

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::token;

/// A room with events `e0`, `e1`, … and their offsets.
async fn history(redis: &Redis, room: &str, count: usize) -> Vec<String> {
    let mut offsets = Vec::new();
    for i in 0..count {
        let event = format!(r#"{{"id":"e{i}","type":"t","payload":{{"n":{i}}}}}"#);
        let published = redis.fcall(&[room], &event, &[]).await.expect("it is published");
        offsets.push(published.placed[0].1.clone());
    }
    offsets
}

fn millis(offset: &str) -> u64 {
    offset.split('-').next().and_then(|ms| ms.parse().ok()).expect("an offset")
}

async fn missed(client: &mut Client, argument: Value) -> Value {
    let reply = client.call("get_missed_events", &argument.to_string()).await;
    assert_eq!(reply["ok"], true, "{argument}: {reply}");
    reply["data"].clone()
}

fn ids(data: &Value) -> Vec<&str> {
    data["events"].as_array().expect("a list").iter().map(|event| event["id"].as_str().expect("an id")).collect()
}

#[tokio::test]
async fn events_missed_are_bare_ascending_and_equal_to_their_live_copies() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut member = Client::connect(node.main(), &token::user("u1")).await;
    let head = member.join("order:o1").await["offset"].clone();
    let offsets = history(&redis, "order:o1", 5).await;
    let mut live = Vec::new();
    for _ in 0..5 {
        live.push(member.event().await.1["event"].clone());
    }
    let mut stranger = Client::connect(node.main(), &token::user("u2")).await;
    let data = missed(&mut stranger, json!({"room": "order:o1", "after": head})).await;
    assert_eq!(data, json!({"events": live, "offset": offsets[4], "complete": true, "hasMore": false}));
    let names: Vec<&String> = data["events"][0].as_object().expect("a map").keys().collect();
    assert_eq!(names.len(), 6, "{names:?}");
    assert_eq!(node.room_size("order:o1").await, 1, "asking is not joining");
    stranger.nothing_came().await;
}

#[tokio::test]
async fn since_is_inclusive_and_after_is_not() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let offsets = history(&redis, "order:o1", 6).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    for (i, offset) in offsets.iter().enumerate() {
        let since = millis(offset);
        let expected: Vec<String> = (0..6).filter(|n| millis(&offsets[*n]) >= since).map(|n| format!("e{n}")).collect();
        assert!(expected.contains(&format!("e{i}")));
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of this age are exact in a float")]
        for since in [json!(since), json!(since as f64)] {
            let data = missed(&mut client, json!({"room": "order:o1", "since": since})).await;
            assert_eq!(ids(&data), expected);
            assert_eq!((&data["complete"], &data["offset"]), (&json!(true), &json!(offsets[5])));
        }
        let data = missed(&mut client, json!({"room": "order:o1", "after": offset})).await;
        let expected: Vec<String> = (i + 1..6).map(|n| format!("e{n}")).collect();
        assert_eq!((ids(&data), &data["complete"]), (expected.iter().map(String::as_str).collect(), &json!(true)));
    }
    let everything = missed(&mut client, json!({"room": "order:o1", "since": 0})).await;
    assert_eq!((ids(&everything).len(), &everything["complete"]), (6, &json!(false)), "0 is before the data's birth");
}

#[tokio::test]
async fn a_limit_gives_pages_that_join_without_a_seam() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let offsets = history(&redis, "order:o1", 7).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    let mut argument = json!({"room": "order:o1", "since": millis(&offsets[0]), "limit": 3});
    let mut seen = Vec::new();
    for (count, last, more) in [(3, 2, true), (3, 5, true), (1, 6, false)] {
        let data = missed(&mut client, argument).await;
        assert_eq!((ids(&data).len(), &data["offset"]), (count, &json!(offsets[last])));
        assert_eq!((&data["hasMore"], &data["complete"]), (&json!(more), &json!(true)));
        seen.extend(ids(&data).into_iter().map(str::to_owned));
        argument = json!({"room": "order:o1", "after": data["offset"], "limit": 3});
    }
    assert_eq!(seen, ["e0", "e1", "e2", "e3", "e4", "e5", "e6"]);
    let exact = missed(&mut client, json!({"room": "order:o1", "after": offsets[3], "limit": 3})).await;
    assert_eq!((ids(&exact), &exact["hasMore"]), (vec!["e4", "e5", "e6"], &json!(false)));
}

#[tokio::test]
async fn a_page_is_bounded_in_bytes_and_holds_at_least_one_event() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let event = format!(r#"{{"type":"t","payload":"{}"}}"#, "x".repeat(60_000));
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    let mut after = client.join("order:o1").await["offset"].clone();
    for _ in 0..40 {
        redis.fcall(&["order:o1"], &event, &[]).await.expect("it is published");
    }
    let (mut pages, mut events) = (0, 0);
    let mut more = true;
    let mut reader = Client::connect(node.main(), &token::user("u2")).await;
    while more {
        let reply =
            reader.call_raw("get_missed_events", &json!({"room": "order:o1", "after": after}).to_string()).await;
        assert!(reply.len() < 1024 * 1024 + 16 * 1024, "{} bytes", reply.len());
        let data = serde_json::from_str::<Value>(&reply).expect("a map")["data"].clone();
        assert!(!ids(&data).is_empty());
        (pages, events) = (pages + 1, events + ids(&data).len());
        (more, after) = (data["hasMore"] == true, data["offset"].clone());
    }
    assert_eq!((events, pages), (40, 3));
}

#[tokio::test]
async fn a_history_that_was_trimmed_is_not_called_complete() {
    let redis = Redis::start().await;
    let url = redis.url();
    let node = Node::with(&[("HALLWAY_REDIS__URL", &url), ("HALLWAY_HISTORY__MAX_EVENTS", "3")]).await;
    let offsets = history(&redis, "order:o1", 6).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    for (after, complete) in [(0, false), (1, false), (2, true), (3, true), (5, true)] {
        let data = missed(&mut client, json!({"room": "order:o1", "after": offsets[after]})).await;
        let expected: Vec<String> = ((after + 1).max(3)..6).map(|n| format!("e{n}")).collect();
        assert_eq!((ids(&data), &data["complete"]), (expected.iter().map(String::as_str).collect(), &json!(complete)));
    }
}

#[tokio::test]
async fn the_future_and_the_unknown_hold_no_events() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let offsets = history(&redis, "order:o1", 2).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    for since in [json!(millis(&offsets[1]) + 1_000_000), json!(u64::MAX), json!(9_007_199_254_740_993_u64)] {
        let data = missed(&mut client, json!({"room": "order:o1", "since": since})).await;
        assert_eq!((ids(&data), &data["hasMore"]), (vec![], &json!(false)));
        assert_eq!((&data["offset"], &data["complete"]), (&json!(offsets[1]), &json!(false)), "{since}");
    }
    let ahead = format!("{}-0", millis(&offsets[1]) + 1_000_000);
    let data = missed(&mut client, json!({"room": "order:o1", "after": ahead})).await;
    assert_eq!((ids(&data), &data["complete"]), (vec![], &json!(false)), "the newest entries were lost, it must seem");
    let data = missed(&mut client, json!({"room": "order:never", "since": 1})).await;
    assert_eq!((ids(&data), &data["hasMore"]), (vec![], &json!(false)));
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    u64::try_from(since.as_millis()).expect("not that late")
}

/// A phone's clock may be ahead: what it calls the past may be what the broker has yet to see.
async fn check_a_clock_that_is_ahead_is_not_told_that_it_missed_nothing(node: &Node) {
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    for room in ["order:o1", "order:never"] {
        for (ahead_ms, complete) in [(0, true), (1_000, true), (60_000, false), (3_600_000, false)] {
            let since = now_ms() + 300 + ahead_ms;
            let data = missed(&mut client, json!({"room": room, "since": since})).await;
            assert_eq!((ids(&data), &data["complete"]), (vec![], &json!(complete)), "{room} {ahead_ms}");
            let head = data["offset"].clone();
            let (status, read) = node.get(&format!("/v1/rooms/{room}/events?since={since}")).await;
            assert_eq!((status, &read["events"], &read["complete"]), (200, &json!([]), &json!(complete)), "{room}");
            let joined = client.call("join_room", &json!({"room": room, "since": since}).to_string()).await;
            let (joined, empty) = (&joined["data"], json!([]));
            assert_eq!((&joined["events"], &joined["complete"]), (&empty, &json!(complete)), "{room} {ahead_ms}");
            assert!(room == "order:never" || joined["offset"] == head, "{joined}");
            let event = json!({"room": room, "type": "t", "payload": 1}).to_string();
            let published = (room == "order:never").then_some(event);
            if let Some(event) = published.filter(|_| ahead_ms == 3_600_000) {
                let (_, published) = node.post("/v1/publish", event).await;
                assert_eq!(client.event().await.1["event"]["id"], published["id"], "it has joined");
            }
        }
    }
}

#[tokio::test]
async fn a_since_ahead_of_the_brokers_clock_is_incomplete_and_still_joins() {
    let redis = Redis::start().await;
    for node in [Node::on(&redis.url()).await, Node::embedded().await] {
        for payload in [1, 2] {
            let event = json!({"room": "order:o1", "type": "t", "payload": payload}).to_string();
            assert_eq!(node.post("/v1/publish", event).await.0, 200);
        }
        check_a_clock_that_is_ahead_is_not_told_that_it_missed_nothing(&node).await;
    }
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_an_invalid_payload() {
    let node = Node::embedded().await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    for rest in [
        "",
        r#","since":-1"#,
        r#","since":1.5"#,
        r#","since":"1""#,
        r#","since":true"#,
        r#","since":[]"#,
        r#","since":null"#,
        r#","since":1e300"#,
        r#","after":"""#,
        r#","after":"x""#,
        r#","after":"1""#,
        r#","after":"1-""#,
        r#","after":"-1""#,
        r#","after":"1-1-1""#,
        r#","after":" 1-1""#,
        r#","after":"+1-1""#,
        r#","after":"(1-1""#,
        r#","after":"-""#,
        r#","after":"1-99999999999999999999999""#,
        r#","after":1"#,
        r#","after":1.1"#,
        r#","since":1,"after":"1-1""#,
        r#","since":1,"limit":0"#,
        r#","since":1,"limit":1001"#,
        r#","since":1,"limit":-1"#,
        r#","since":1,"limit":1.5"#,
        r#","since":1,"limit":"5""#,
        r#","limit":5"#,
    ] {
        let reply = client.call("get_missed_events", &format!(r#"{{"room":"order:o1"{rest}}}"#)).await;
        assert_eq!(reply, json!({"ok": false, "error": "invalid-payload"}), "{rest}");
    }
    for limit in [1, 1000] {
        missed(&mut client, json!({"room": "order:o1", "since": 1, "limit": limit})).await;
    }
}

#[tokio::test]
async fn a_class_without_history_says_so_and_still_delivers() {
    let mut file = NamedTempFile::new().expect("a file");
    writeln!(file, "[rooms.\"order:{{id}}\"]\nhistory = {{ max_events = 0 }}").expect("room on the disk");
    let redis = Redis::start().await;
    let url = redis.url();
    for settings in [&[("HALLWAY_REDIS__URL", url.as_str())][..], &[]] {
        let node = Node::changed(settings, |command| {
            command.arg("--config").arg(file.path());
        })
        .await;
        let mut client = Client::connect(node.main(), &token::user("u1")).await;
        let disabled = json!({"ok": false, "error": "history-disabled"});
        for argument in [json!({"room": "order:o1", "since": 1}), json!({"room": "order:o1", "after": "1-1"})] {
            assert_eq!(client.call("get_missed_events", &argument.to_string()).await, disabled);
            assert_eq!(client.call("join_room", &argument.to_string()).await, disabled);
        }
        assert_eq!(client.join("order:o1").await["roomSize"], 1);
        let (status, published) = node.post("/v1/publish", r#"{"room":"order:o1","type":"t","payload":1}"#).await;
        assert_eq!((status, &published["offsets"]), (200, &json!({})));
        let (_, heard) = client.event().await;
        assert_eq!(heard["event"]["id"], published["id"]);
        assert_eq!(heard["event"]["meta"], json!({"room": "order:o1"}));
        assert_eq!(node.get("/v1/rooms/order:o1/events?since=1").await.0, 409);
        missed(&mut client, json!({"room": "store:s1", "since": 1})).await;
    }
}

#[tokio::test]
async fn a_place_ahead_of_the_head_hides_nothing_of_what_comes_next() {
    let redis = Redis::start().await;
    for node in [Node::on(&redis.url()).await, Node::embedded().await] {
        for (n, (ahead_ms, by_time)) in [(1_500, true), (60_000, true), (60_000, false)].into_iter().enumerate() {
            for command in ["join_room", "join_rooms"] {
                let room = format!("order:{command}-{n}");
                let mut client = Client::connect(node.main(), &token::user("u1")).await;
                let place = now_ms() + ahead_ms;
                let mut argument = match by_time {
                    true => json!({"room": room, "since": place}),
                    false => json!({"room": room, "after": format!("{place}-0")}),
                };
                if command == "join_rooms" {
                    argument = json!({"rooms": [argument]});
                }
                let reply = client.call(command, &argument.to_string()).await;
                assert_eq!(reply["ok"], true, "{reply}");
                let joined = if command == "join_rooms" { &reply["data"]["rooms"][0] } else { &reply["data"] };
                let head = joined["offset"].as_str().and_then(|offset| offset.split('-').next()?.parse::<u64>().ok());
                assert!(head.is_some_and(|head| head < place), "no place that was never given: {reply}");
                let event = json!({"room": room, "id": room.replace(':', "-"), "type": "t", "payload": {}});
                assert_eq!(node.post("/v1/publish", event.to_string()).await.0, 200);
                assert_eq!(client.event().await.1["event"]["id"], event["id"], "{command} {argument}");
            }
        }
    }
}
