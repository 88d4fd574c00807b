//! Refusals: what services publish wrongly is told to them where that can be, and never reaches a client.

use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::http;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::token::{self, API_KEY};

const GOOD: &str = r#"{"id":"good","type":"t","payload":1}"#;

/// Texts that are no events, with what is wrong with them.
fn bad_events() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let payload = |payload: &str| text(&format!(r#"{{"type":"t","payload":{payload}}}"#));
    let nested = |open: &str, close: &str| payload(&format!("{}1{}", open.repeat(65), close.repeat(65)));
    let deep = format!("{}1{}", r#"{"a":"#.repeat(65), "}".repeat(65));
    let meta = text(&format!(r#"{{"type":"t","payload":1,"meta":{deep}}}"#));
    let invalid = "invalid-event";
    let mut bad = vec![
        ("not JSON", text("nonsense"), invalid),
        ("cut short", text(r#"{"type":"t","payload":1"#), invalid),
        ("nothing", text(""), invalid),
        ("an array", text(r#"["t",1]"#), invalid),
        ("an array of an event's values", text(r#"["id","t","LOW",5,1,{}]"#), invalid),
        (
            "an array of a body's values",
            text(r#"[["order:o1"],"order:o1","t",1,"id","LOW",5,{},true,"durable"]"#),
            invalid,
        ),
        ("a number", text("5"), invalid),
        ("more than one", text(r#"{"type":"t","payload":1}{"type":"t","payload":1}"#), invalid),
        ("no type", text(r#"{"payload":1}"#), invalid),
        ("no payload", text(r#"{"type":"t"}"#), invalid),
        ("type twice", text(r#"{"type":"t","type":"u","payload":1}"#), invalid),
        ("type a number", text(r#"{"type":5,"payload":1}"#), invalid),
        ("type null", text(r#"{"type":null,"payload":1}"#), invalid),
        ("empty type", text(r#"{"type":"","payload":1}"#), invalid),
        ("type with a space", text(r#"{"type":"a b","payload":1}"#), invalid),
        ("type that ends the string", text(r#"{"type":"a\",{}]","payload":1}"#), invalid),
        ("long type", text(&format!(r#"{{"type":"{}","payload":1}}"#, "x".repeat(129))), invalid),
        ("bad id", text(r#"{"id":"a b","type":"t","payload":1}"#), invalid),
        ("id a number", text(r#"{"id":5,"type":"t","payload":1}"#), invalid),
        ("unknown priority", text(r#"{"type":"t","priority":"URGENT","payload":1}"#), invalid),
        ("negative timestamp", text(r#"{"type":"t","timestamp":-1,"payload":1}"#), invalid),
        ("timestamp as text", text(r#"{"type":"t","timestamp":"now","payload":1}"#), invalid),
        ("timestamp with a fraction", text(r#"{"type":"t","timestamp":1.5,"payload":1}"#), invalid),
        ("meta an array", text(r#"{"type":"t","payload":1,"meta":[]}"#), invalid),
        ("meta a text", text(r#"{"type":"t","payload":1,"meta":"x"}"#), invalid),
        ("65 arrays", nested("[", "]"), invalid),
        ("65 objects", nested(r#"{"a":"#, "}"), invalid),
        ("65 deep in meta", meta, invalid),
        ("60,000 deep", payload(&"[".repeat(60_000)), invalid),
        ("65 KiB", payload(&format!("\"{}\"", "x".repeat(65 * 1024))), "event-too-large"),
        ("a control character", payload("\"a\u{1}b\""), invalid),
        ("a line break in a text", payload("\"a\nb\""), invalid),
    ];
    bad.extend(bad_scalars(invalid));
    bad
}

/// Payloads and types that one character makes wrong.
fn bad_scalars(invalid: &'static str) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let payload = |payload: &str| text(&format!(r#"{{"type":"t","payload":{payload}}}"#));
    let mut bad = Vec::new();
    for odd in [
        "NaN",
        "nan",
        "Infinity",
        "-Infinity",
        "inf",
        "0x10",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "-",
        "'x'",
        "[1,]",
        r#"{"a":1,}"#,
    ] {
        bad.push(("no number of JSON's", payload(odd), invalid));
    }
    let nines = |count: usize| "9".repeat(count);
    for long in [
        nines(101),
        format!("-{}", nines(100)),
        format!("0.{}", nines(99)),
        format!("1e{}", nines(99)),
        format!(r#"{{"a":["9",{{"b": {} }}]}}"#, nines(5_000)),
    ] {
        bad.push(("a number of more than 100 characters", payload(&long), invalid));
    }
    let member = |rest: &str| text(&format!(r#"{{"type":"t","payload":1,{rest}}}"#));
    bad.push(("one in meta", member(&format!(r#""meta":{{"n":[{}]}}"#, nines(101))), invalid));
    bad.push(("one as a timestamp", member(&format!(r#""timestamp":0.{}"#, "0".repeat(99))), invalid));
    for lone in
        [r#""\ud800""#, r#""\udc00""#, r#""\ud800\ud800""#, r#""\udc00\ud800""#, r#""\ud800x""#, r#"{"\udfff":1}"#]
    {
        bad.push(("a lone surrogate", payload(lone), invalid));
    }
    for bytes in [&b"\xff"[..], b"\xc3\x28", b"\xed\xa0\x80", b"\xf0\x9f\x92", b"\xc0\xaf", b"\xf5\x80\x80\x80"] {
        bad.push(("invalid UTF-8", [br#"{"type":"t","payload":""#, bytes, br#""}"#].concat(), invalid));
    }
    for reserved in
        ["connect", "connect_error", "disconnect", "error", "ping", "reconnect", "room.revoked", "auth.expiring"]
    {
        bad.push(("a reserved type", text(&format!(r#"{{"type":"{reserved}","payload":1}}"#)), invalid));
    }
    bad
}

/// An event's text with the room that HTTP wants inside it.
fn in_room(event: &[u8]) -> Vec<u8> {
    match event.strip_prefix(b"{") {
        Some(rest) => [br#"{"room":"order:o1","#, rest].concat(),
        None => event.to_vec(),
    }
}

fn keys(forms: &[&str]) -> Vec<String> {
    forms.iter().map(|form| format!("hallway:{form}")).collect()
}

/// Asserts that the next event and the only one stored is [`GOOD`].
async fn only_the_good_comes(client: &mut Client, head: &Value) {
    let (_, heard) = client.event().await;
    assert_eq!(heard["event"]["id"], "good", "{heard}");
    let all = json!({"room": "order:o1", "after": head}).to_string();
    let history = client.call("get_missed_events", &all).await;
    assert_eq!((&history["data"]["events"], &history["data"]["complete"]), (&json!([heard["event"]]), &json!(true)));
}

#[tokio::test]
async fn a_bad_event_by_fcall_is_refused_with_a_reason_in_both_forms_of_keys() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    let head = client.join("order:o1").await["offset"].clone();
    for form in [&["{order:o1}"][..], &["{order:o1}:history", "{order:o1}:last"]] {
        for (what, event, code) in bad_events() {
            let refused = redis.fcall_raw(&keys(form), &[&event]).await;
            let error = refused.expect_err(&format!("{what}: {}", String::from_utf8_lossy(&event))).to_string();
            assert!(error.contains(code) && error.len() > code.len() + 10, "{what}: {error}");
        }
    }
    redis.fcall(&["order:o1"], GOOD, &[]).await.expect("published");
    only_the_good_comes(&mut client, &head).await;
}

#[tokio::test]
async fn bad_keys_and_options_of_the_function_are_refused_with_a_reason() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    let head = client.join("order:o1").await["offset"].clone();
    let good = GOOD.as_bytes();
    for bad in [
        &[][..],
        &["{chat:1}"],
        &["{order:o1"],
        &["order:o1"],
        &["{}"],
        &["{order:a b}"],
        &["{order:o1}:last"],
        &["{order:o1}:history"],
        &["{order:o1}:history", "{order:o2}:last"],
        &["{order:o1}:last", "{order:o1}:history"],
        &["{order:o1}", "{order:o1}:history"],
        &["{order:o1}", "{order:o2}:x"],
        &["{order:o1}", "{nope:1}"],
    ] {
        redis.fcall_raw(&keys(bad), &[good]).await.expect_err(&format!("{bad:?}"));
    }
    for options in [
        &["ID"][..],
        &["ID", "a b"],
        &["ID", ""],
        &["ID", "a", "ID", "b"],
        &["NOPE"],
        &["ROOMS"],
        &["ROOMS", "order:o2"],
        &["ID", "other"],
    ] {
        let arguments: Vec<&[u8]> = [GOOD].iter().chain(options).map(|text| text.as_bytes()).collect();
        redis.fcall_raw(&keys(&["{order:o1}"]), &arguments).await.expect_err(&format!("{options:?}"));
    }
    redis.fcall_raw(&keys(&["{order:o1}"]), &[]).await.expect_err("no event at all");
    redis.fcall(&["order:o1"], GOOD, &[]).await.expect("published");
    only_the_good_comes(&mut client, &head).await;
}

#[tokio::test]
async fn a_bad_plain_publish_reaches_nobody() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    let head = client.join("order:o1").await["offset"].clone();
    for (_, event, _) in bad_events() {
        assert_eq!(redis.publish("order:o1", &event).await, 1);
    }
    for odd in [
        &b"1"[..],
        b"1 ",
        b"1 x",
        b"1 id 1 0 order:o1 1-0",
        b"1 id 1 0\n{}",
        b"2 id 1 0 order:o1 1-0 0-0\n{}",
        b"\0",
        b"\n",
        b"{",
    ] {
        assert_eq!(redis.publish("order:o1", odd).await, 1);
    }
    assert_eq!(redis.publish("chat:1", GOOD.as_bytes()).await, 0, "nobody listens to a room of no known form");
    redis.fcall(&["order:o1"], GOOD, &[]).await.expect("published");
    only_the_good_comes(&mut client, &head).await;
    assert_eq!(node.readyz().await, 200);
}

/// What the function of an earlier version stored is still there, and what a publisher forges may come, too.
#[tokio::test]
async fn a_stored_event_that_no_client_can_read_is_a_link_that_reaches_nobody_and_is_counted() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    let head = client.join("order:o1").await["offset"].as_str().expect("an offset").to_owned();
    let first = redis.fcall(&["order:o1"], GOOD, &[]).await.expect("published").placed[0].1.clone();
    let (ms, _) = first.split_once('-').expect("an offset");
    let offset = format!("{ms}-7");
    let payload = "9".repeat(101);
    let line = format!("1 old {ms} 0 order:o1 {offset} {first}\n{{\"type\":\"t\",\"payload\":{payload}}}");
    let [history, last] = ["history", "last"].map(|end| format!("hallway:{{order:o1}}:{end}"));
    let mut plant = redis::pipe();
    plant.cmd("XADD").arg(history).arg(&offset).arg("m").arg(&line).cmd("SET").arg(last).arg(&offset);
    plant.exec_async(&mut redis.client().await).await.expect("redis is up");
    assert_eq!(redis.publish("order:o1", line.as_bytes()).await, 1);
    let behind = r#"{"id":"behind","type":"t","payload":1}"#;
    redis.fcall(&["order:o1"], behind, &[]).await.expect("published");
    for id in ["good", "behind"] {
        assert_eq!(client.event().await.1["event"]["id"], id);
    }
    let live = node.metric("hallway_events_refused_total").await;
    assert!(live > 0.0, "it is counted when it comes");
    for after in [&head, &first, &offset] {
        let missed = client.call("get_missed_events", &json!({"room": "order:o1", "after": after}).to_string()).await;
        let events = missed["data"]["events"].as_array().expect("events");
        let ids: Vec<&str> = events.iter().map(|event| event["id"].as_str().expect("an id")).collect();
        let expected = if after == &head { &["good", "behind"][..] } else { &["behind"] };
        assert_eq!((ids.as_slice(), &missed["data"]["complete"]), (expected, &json!(true)), "{missed}");
    }
    assert_eq!(node.metric("hallway_events_refused_total").await, live + 2.0, "and whenever it is passed over");
}

#[tokio::test]
async fn a_bad_event_by_http_is_refused_with_a_code_and_a_sentence() {
    let redis = Redis::start().await;
    for node in [Node::on(&redis.url()).await, Node::embedded().await] {
        let mut client = Client::connect(node.main(), &token::user("u1")).await;
        let head = client.join("order:o1").await["offset"].clone();
        for (what, event, code) in bad_events() {
            let body = in_room(&event);
            let text = String::from_utf8_lossy(&body).chars().take(200).collect::<String>();
            let (status, reply) = node.post("/v1/publish", body.clone()).await;
            let expected = if code == "event-too-large" { 413 } else { 400 };
            assert_eq!((status, &reply["error"]["code"]), (expected, &json!(code)), "{what}: {text}: {reply}");
            assert!(reply["error"]["message"].as_str().is_some_and(|message| message.len() > 10), "{what}: {reply}");

            let batch = [br#"{"events":["#, body.as_slice(), b"]}"].concat();
            let (status, reply) = node.post("/v1/publish/batch", batch).await;
            let error = if status == 200 { &reply["results"][0]["error"] } else { &reply["error"] };
            assert!(status == 200 || status == expected, "{what}: {status}");
            assert!(what == "nothing" || error["code"] == code, "{what}: {text}: {reply}");
        }
        for (room, code) in [
            (r#""room":"chat:1","#, "invalid-room"),
            (r#""room":"","#, "invalid-room"),
            (r#""rooms":[],"#, "invalid-room"),
            (r#""rooms":["order:o1","chat:1"],"#, "invalid-room"),
            ("", "invalid-room"),
            (r#""room":5,"#, "invalid-event"),
            (r#""rooms":"order:o1","#, "invalid-event"),
            (r#""room":"order:o1","x":1,"#, "invalid-event"),
            (r#""room":"order:o1","requiresAck":"yes","#, "invalid-event"),
            (r#""room":"order:o1","delivery":"soon","#, "invalid-event"),
        ] {
            let (status, reply) = node.post("/v1/publish", GOOD.replacen('{', &format!("{{{room}"), 1)).await;
            assert_eq!((status, &reply["error"]["code"]), (400, &json!(code)), "{room}: {reply}");
        }
        node.post("/v1/publish", in_room(GOOD.as_bytes())).await;
        only_the_good_comes(&mut client, &head).await;
    }
}

#[tokio::test]
async fn a_batch_tells_of_each_event_in_order_and_good_ones_go_through() {
    let redis = Redis::start().await;
    for node in [Node::on(&redis.url()).await, Node::embedded().await] {
        let mut client = Client::connect(node.main(), &token::user("u1")).await;
        client.join("order:o1").await;
        let event = |id: &str, rest: Value| {
            let mut event = json!({"room": "order:o1", "id": id, "type": "t", "payload": 1});
            event.as_object_mut().expect("a map").extend(rest.as_object().expect("a map").clone());
            event
        };
        let events = [
            event("a", json!({})),
            event("b", json!({"type": "connect"})),
            event("c", json!({"room": "chat:1"})),
            event("d", json!({"payload": "x".repeat(65 * 1024)})),
            event("a", json!({})),
            event("e", json!({})),
        ];
        let (status, reply) = node.post("/v1/publish/batch", json!({ "events": events }).to_string()).await;
        assert_eq!(status, 200);
        let results = reply["results"].as_array().expect("results");
        assert_eq!((&results[0]["id"], &results[0]["duplicate"]), (&json!("a"), &json!(false)));
        for (at, code) in [(1, "invalid-event"), (2, "invalid-room"), (3, "event-too-large")] {
            assert_eq!(results[at]["error"]["code"], code, "{reply}");
        }
        assert_eq!((&results[4]["id"], &results[4]["duplicate"]), (&json!("a"), &json!(true)));
        assert_eq!(results[5]["id"], "e");
        for id in ["a", "e"] {
            assert_eq!(client.event().await.1["event"]["id"], id);
        }
    }
}

#[tokio::test]
async fn the_api_is_for_whoever_has_its_key() {
    let node = Node::with(&[("HALLWAY_API__FAILED_ATTEMPTS_PER_SECOND", "1000")]).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.join("order:o1").await;
    let body = in_room(GOOD.as_bytes());
    let base = format!("http://{}", node.main());
    let http = http();
    let user = format!("Bearer {}", token::staff());
    let (short, long) = (format!("Bearer {}", &API_KEY[1..]), format!("Bearer {API_KEY}x"));
    for header in ["", "Bearer ", "Bearer wrong", API_KEY, &short, &long, &format!("Basic {API_KEY}"), &user] {
        for path in ["/v1/publish", "/v1/publish/batch", "/v1/rooms/order:o1", "/v1/nope"] {
            let request = http.post(format!("{base}{path}")).header("authorization", header).body(body.clone());
            let response = request.send().await.expect("an answer");
            assert_eq!(response.status().as_u16(), 401, "{header} {path}");
            let reply: Value = response.json().await.expect("JSON");
            assert_eq!(reply["error"]["code"], "unauthorized", "{header} {path}");
        }
    }
    let without = http.post(format!("{base}/v1/publish")).body(body.clone()).send().await.expect("an answer");
    assert_eq!(without.status().as_u16(), 401);
    let in_query = format!("{base}/v1/publish?key={API_KEY}");
    assert_eq!(http.post(in_query).body(body.clone()).send().await.expect("an answer").status().as_u16(), 401);
    assert_eq!(node.post("/v1/publish", r#"{"room":"order:o1","id":"after","type":"t","payload":1}"#).await.0, 200);
    assert_eq!(client.event().await.1["event"]["id"], "after");
}

#[tokio::test]
async fn without_a_key_of_its_own_the_api_is_off() {
    let node = Node::changed(&[], |command| {
        command.env_remove("HALLWAY_API__KEY");
    })
    .await;
    for path in ["/v1/publish", "/v1/publish/batch"] {
        let (status, reply) = node.post(path, in_room(GOOD.as_bytes())).await;
        assert_eq!((status, &reply["error"]["code"]), (403, &json!("forbidden")), "{reply}");
    }
    assert_eq!(node.get("/v1/rooms/order:o1").await.0, 403);
    let empty = http().post(format!("http://{}/v1/publish", node.main())).bearer_auth("");
    assert_eq!(empty.body(GOOD).send().await.expect("an answer").status().as_u16(), 403);
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.join("order:o1").await;
    client.nothing_came().await;
}
