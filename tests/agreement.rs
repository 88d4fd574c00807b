//! Agreement: what the Redis function decides in Lua and a node decides in Rust, about the same rooms and the same events,
//! is the same. The library is the real one in a real Redis, with one function more that tells what it decides.

use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;

use hallway::broker::redis::function::Function;
use hallway_rooms::class::{Classes, Delivery, Retention, TypeRule};
use hallway_rooms::draft::Draft;
use hallway_rooms::event::{EventType, RESERVED};
use hallway_rooms::history::{RoomFacts, leeway_ms};
use hallway_rooms::offset::Offset;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use serde_json::json;
use tempfile::NamedTempFile;

use crate::harness::node::Node;
use crate::harness::redis::Redis;

mod texts;

use texts::{Text, keys, texts};

/// What stands behind the library, within reach of its locals.
const PEEPHOLE: &str = r"
local function place_of(class)
  for i, form in ipairs(FORMS) do
    if class_from(form).pattern == class.pattern then return i end
  end
end

local function peek_room(name, kind)
  local class = class_of(name)
  return { place_of(class), delivery_in({ class = class }, { type = kind }) }
end

local function peek_event(text)
  local event = event_of(text)
  local at = event.timestamp and integer(math.min(event.timestamp, 4102444800000) + 0) or ''
  return { event.type, event.id or '', at, key_of(event, text) }
end

local function peek_offset(words)
  local now, last = words:match('^(%d+) ?(.*)$')
  local room = { last = last ~= '' and last or nil, history_key = KEY_HEAD .. 'none}:history' }
  give_offset(room, tonumber(now), now .. '-0')
  return { room.offset, room.prev, room.kept }
end

local PEEKS = { event = peek_event, offset = peek_offset }

redis.register_function{ function_name = PREFIX .. '_peek', flags = { 'no-writes' }, callback = function(_, args)
  prepare()
  local answers = {}
  for i = 2, #args do
    local done, answer = pcall(PEEKS[args[1]] or peek_room, args[i], args[1])
    answers[#answers + 1] = done and answer or { type(answer) == 'table' and answer.reply or answer }
  end
  return answers
end }
";

/// The clock of this file: past it a timestamp is clamped.
const NOW_MS: u64 = 4_102_444_800_000;
const EVENT_BYTES: usize = 65_536;

/// A Redis that can be asked from within a property.
struct Oracle {
    _redis: Redis,
    _runtime: tokio::runtime::Runtime,
    connection: Mutex<redis::Connection>,
}

impl Oracle {
    fn start() -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let redis = runtime.block_on(Redis::start_forgetful());
        let connection = redis::Client::open(redis.url()).and_then(|client| client.get_connection());
        Self { _redis: redis, _runtime: runtime, connection: Mutex::new(connection.expect("redis is up")) }
    }

    fn load(&self, classes: &Classes) {
        let library = Function::render("hallway", classes, Duration::from_mins(10), EVENT_BYTES);
        let code = format!("{}{PEEPHOLE}", library.code());
        let mut load = redis::cmd("FUNCTION");
        load.arg("LOAD").arg("REPLACE").arg(code).exec(&mut self.connection.lock().expect("whole")).expect("it loads");
    }

    /// What the library decides of each; a lone word is a refusal.
    fn ask(&self, what: &str, of: &[Vec<u8>]) -> Vec<Vec<redis::Value>> {
        let mut call = redis::cmd("FCALL_RO");
        call.arg("hallway_peek").arg(0).arg(what).arg(of);
        call.query(&mut self.connection.lock().expect("whole")).expect("it answers")
    }
}

fn words(answer: &[redis::Value]) -> Vec<String> {
    let word = |value: &redis::Value| match redis::from_redis_value::<Vec<u8>>(value.clone()) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(_) => redis::from_redis_value::<i64>(value.clone()).expect("a text or a number").to_string(),
    };
    answer.iter().map(word).collect()
}

fn classes() -> Classes {
    let retention = Retention { max_events: 9, ttl: Duration::from_secs(9) };
    Classes::built_in(retention, Duration::from_secs(99))
}

fn run<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&strategy, test).unwrap_or_else(|found| panic!("{found}"));
}

/// A node whose configuration has this text.
async fn node(text: &str, settings: &[(&str, &str)]) -> Node {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("it is written");
    Node::changed(settings, |command| {
        command.arg("--config").arg(file.path());
    })
    .await
}

#[tokio::test]
async fn a_room_of_two_forms_is_stored_by_the_class_that_says_whether_it_is_complete() {
    const FORMS: [&str; 2] =
        ["[rooms.\"x:b:{d}\"]\nhistory = { max_events = 0 }\n", "[rooms.\"x:{a}:c\"]\nhistory = { max_events = 50 }\n"];
    let redis = Redis::start_forgetful().await;
    let url = redis.url();
    let on_redis = [("HALLWAY_REDIS__URL", url.as_str())];
    for (text, settings) in
        [(FORMS.concat(), &on_redis[..]), (FORMS.concat(), &[]), ([FORMS[1], FORMS[0]].concat(), &on_redis)]
    {
        let node = node(&text, settings).await;
        for (room, is_kept) in [("x:b:c", false), ("x:b:d", false), ("x:a:c", true)] {
            let event = json!({"room": room, "type": "t", "payload": 1}).to_string();
            let (status, reply) = node.post("/v1/publish", event).await;
            assert_eq!((status, !reply["offsets"][room].is_null()), (200, is_kept), "{room}: {reply}");
            let (status, page) = node.get(&format!("/v1/rooms/{room}/events?since=0")).await;
            let told = if is_kept { json!(1) } else { json!("history-disabled") };
            let tells =
                page["events"].as_array().map_or_else(|| page["error"]["code"].clone(), |all| json!(all.len().min(1)));
            assert_eq!((status == 200, tells), (is_kept, told), "{room}: {page}");
        }
        let differs = node.metric("hallway_function_differs").await;
        assert_eq!(differs, 0.0, "nodes whose files have another order have the same table");
    }
}

const KINDS: [&str; 4] = ["agent.location_updated", "order.created", "noise", "news"];

/// Forms with their retention and delivery, in the order in which they are configured.
fn forms() -> impl Strategy<Value = Vec<(String, u64, Delivery)>> {
    let segment = prop::sample::select(vec!["x", "b", "c", "a-b", "user", "orders", "{id}", "{id}", "{id}", "{id}"]);
    let form = prop::collection::vec(segment, 1..5).prop_map(|segments| segments.join(":"));
    let delivery = prop::sample::select(vec![Delivery::Durable, Delivery::Latest, Delivery::Ephemeral]);
    prop::collection::vec((form, 0..3_u64, delivery), 0..9)
}

#[test]
fn a_room_is_of_the_same_class_and_an_event_delivered_alike_whatever_the_forms() {
    let oracle = Oracle::start();
    run(150, (forms(), keys()), |(forms, keys)| {
        let mut classes = classes();
        for (form, max_events, delivery) in forms {
            let retention = Retention { max_events, ttl: Duration::from_secs(1) };
            let change =
                |class: &mut hallway_rooms::class::Class| (class.retention, class.delivery) = (retention, delivery);
            classes.configure(&form, retention, change).expect("a form");
        }
        classes.configure_type("noise", TypeRule { delivery: Delivery::Ephemeral, key: None });
        classes.configure_type("news", TypeRule { delivery: Delivery::Durable, key: None });
        oracle.load(&classes);
        let texts: Vec<Vec<u8>> = keys.iter().map(|key| key.clone().into_bytes()).collect();
        for kind in KINDS {
            for (key, answer) in keys.iter().zip(oracle.ask(kind, &texts)) {
                let kind: EventType = kind.parse().expect("a type");
                let answer = words(&answer);
                match classes.find_room(key) {
                    Ok(room) => {
                        let delivery = format!("{:?}", classes.delivery_of(&kind, &room)).to_lowercase();
                        prop_assert_eq!(answer, [(room.class().index() + 1).to_string(), delivery], "{} {}", key, kind);
                    }
                    Err(_) => prop_assert!(answer[0].starts_with("ERR invalid-room "), "{key:?}: {answer:?}"),
                }
            }
        }
        Ok(())
    });
}

/// Asserts that both read the same in each text, or both refuse it.
#[track_caller]
fn check(oracle: &Oracle, classes: &Classes, texts: &[Text]) -> Result<(), TestCaseError> {
    let bytes: Vec<Vec<u8>> = texts.iter().map(|text| text.0.clone()).collect();
    for (text, answer) in texts.iter().zip(oracle.ask("event", &bytes)) {
        let answer = words(&answer);
        match Draft::parse(&text.0) {
            Ok(draft) => {
                let id = draft.id.as_ref().map_or("", |id| id.as_str()).to_owned();
                let at = draft.timestamp.map_or_else(String::new, |ms| ms.min(NOW_MS).to_string());
                let expected = [draft.kind.to_string(), id, at, classes.latest_key(&draft)];
                prop_assert_eq!(answer, expected, "{:?}", text);
            }
            Err(error) => {
                prop_assert!(answer[0].starts_with("ERR invalid-event "), "{error}, but {answer:?} of {text:?}");
            }
        }
    }
    Ok(())
}

/// A clock of today, and a last offset that is behind, ahead, or not there.
fn moments() -> impl Strategy<Value = Vec<(u64, Option<Offset>)>> {
    let last = (0..3_u8, 0..100_000_000_u64, 0..1_000_000_000_u64);
    let moment = (1_700_000_000_000..1_900_000_000_000_u64, last).prop_map(|(now, (way, by, n))| {
        let ms = [now - by, now, now + by][usize::from(way)];
        (now, (by % 7 > 0).then_some(Offset { ms, n }))
    });
    prop::collection::vec(moment, 1..50)
}

#[test]
fn an_offset_follows_the_last_one_and_is_kept_alike_whatever_the_clock_says() {
    let oracle = Oracle::start();
    run(40, (1_000..1_000_000_000_u64, moments()), |(memory, moments)| {
        let memory = Duration::from_millis(memory);
        let retention = Retention { max_events: 9, ttl: Duration::from_millis(1) };
        oracle.load(&Classes::built_in(retention, memory));
        let asked = moments
            .iter()
            .map(|(now, last)| last.map_or_else(|| now.to_string(), |last| format!("{now} {last}")).into_bytes());
        for ((now, last), answer) in moments.iter().zip(oracle.ask("offset", &asked.collect::<Vec<_>>())) {
            let offset = Offset::next(*last, *now);
            let facts =
                RoomFacts { now_ms: *now, birth_ms: None, last: *last, memory, memory_since_ms: 0, twice: None };
            let prev = last.unwrap_or_else(|| facts.silence_horizon());
            let kept = offset.ms - now + u64::try_from(memory.as_millis()).expect("short") + leeway_ms(memory);
            prop_assert_eq!(words(&answer), [offset.to_string(), prev.to_string(), kept.to_string()]);
        }
        Ok(())
    });
}

fn with_keys() -> Classes {
    let mut classes = classes();
    for (name, key) in [("t", "k"), ("u", "payload")] {
        classes.configure_type(name, TypeRule { delivery: Delivery::Latest, key: Some(key.to_owned()) });
    }
    classes
}

#[test]
fn an_event_is_read_or_refused_alike_however_odd() {
    let (oracle, classes) = (Oracle::start(), with_keys());
    oracle.load(&classes);
    run(400, texts(), |texts| check(&oracle, &classes, &texts));
}

#[test]
fn what_once_was_read_differently_is_read_alike() {
    let (oracle, classes) = (Oracle::start(), with_keys());
    oracle.load(&classes);
    let mut all: Vec<Text> = texts::known();
    all.extend(RESERVED.map(|name| Text::of(format!(r#"{{"type":"{name}","payload":1}}"#))));
    check(&oracle, &classes, &all).unwrap_or_else(|found| panic!("{found}"));
}
