//! `hallway publish`: one event from a shell, over Redis or by HTTP, and what it says when that does not work.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::free_address;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::token::{self, API_KEY};

const EVENT: [&str; 4] = ["--type", "order.status_changed", "--payload", r#"{"status":"ready"}"#];

/// What a run of the command left behind.
struct Done {
    code: i32,
    said: String,
    complained: String,
}

/// Runs `hallway publish` with these arguments, variables and this on its standard input.
fn publish(arguments: &[&str], settings: &[(&str, &str)], input: &str) -> Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hallway"));
    command.arg("publish").args(arguments).envs(settings.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("the command starts");
    process.stdin.take().expect("piped").write_all(input.as_bytes()).ok();
    let output = process.wait_with_output().expect("the command ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Done { code: output.status.code().expect("no signal"), said: text(output.stdout), complained: text(output.stderr) }
}

/// Publishes one event to `room` and returns the reply, which must stand alone.
#[track_caller]
fn published(room: &str, more: &[&str], settings: &[(&str, &str)]) -> Value {
    let done = publish(&[&[room], EVENT.as_slice(), more].concat(), settings, "");
    assert_eq!((done.code, done.complained.as_str()), (0, ""), "{}", done.said);
    assert_eq!(done.said.lines().count(), 1, "{}", done.said);
    serde_json::from_str(&done.said).expect("the reply is JSON")
}

/// Asserts that nothing was published, with one sentence that has these words and no secret.
#[track_caller]
fn fails(code: i32, words: &[&str], arguments: &[&str], settings: &[(&str, &str)]) {
    let done = publish(arguments, settings, "");
    assert_eq!((done.code, done.said.as_str()), (code, ""), "{}", done.complained);
    assert!(code != 1 || done.complained.lines().count() == 1, "{}", done.complained);
    for word in words {
        assert!(done.complained.contains(word), "{word}: {}", done.complained);
    }
    for secret in ["s3cret", API_KEY] {
        assert!(!done.complained.contains(secret), "{}", done.complained);
    }
}

fn at(address: std::net::SocketAddr) -> String {
    format!("http://{address}")
}

#[tokio::test]
async fn an_event_published_over_redis_reaches_the_members_of_its_rooms() {
    let redis = Redis::start().await;
    let url = redis.url();
    let node = Node::on(&url).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.join("order:o1").await;
    client.join("user:u1").await;
    let payload = r#"{ "big":9007199254740993, "b":1e-7,"a":"é\n" }"#;
    let arguments = [
        "order:o1",
        "user:u1",
        "--type",
        "x.y",
        "--payload",
        payload,
        "--id",
        "my-1",
        "--priority",
        "critical",
        "--requires-ack",
        "--meta",
        r#"{"source":"shell"}"#,
    ];
    for (again, settings, way) in [
        (false, &[("HALLWAY_REDIS__URL", url.as_str())][..], &[][..]),
        (true, &[], &["--redis", url.as_str()]),
        (true, &[("HALLWAY_REDIS__URL", "redis://127.0.0.1:1")], &["--redis", url.as_str()]),
    ] {
        let done = publish(&[&arguments, way].concat(), settings, "");
        assert_eq!((done.code, done.complained.as_str()), (0, ""));
        let reply: Value = serde_json::from_str(&done.said).expect("the reply is JSON");
        assert_eq!((&reply["id"], &reply["duplicate"]), (&json!("my-1"), &json!(again)));
        if again {
            continue;
        }
        let frame = client.frame().await.expect("the event");
        assert!(frame.contains(&format!(r#""payload":{payload},"#)), "{frame}");
        let (name, heard) = client.parse_event(&frame).expect("an event");
        assert_eq!(
            (name.as_str(), &heard["requiresAck"], &heard["event"]["priority"]),
            ("x.y", &json!(true), &json!("CRITICAL"))
        );
        let offset = &reply["offsets"]["order:o1"];
        let meta = json!({"source": "shell", "room": "order:o1", "offset": offset, "offsets": reply["offsets"]});
        assert_eq!(heard["event"]["meta"], meta);
    }
    client.nothing_came().await;
}

#[tokio::test]
async fn an_event_published_by_http_reaches_the_members_of_its_rooms() {
    let node = Node::embedded().await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.join("order:o1").await;
    let (listen, base) = (node.main().to_string(), at(node.main()));
    let anywhere = format!("0.0.0.0:{}", node.main().port());
    let elsewhere = free_address().to_string();
    let key = ("HALLWAY_API__KEY", API_KEY);
    for (settings, more) in [
        (vec![("HALLWAY_SERVER__LISTEN", listen.as_str()), key], vec![]),
        (vec![("HALLWAY_SERVER__LISTEN", anywhere.as_str()), key], vec!["--requires-ack", "--priority", "LOW"]),
        (vec![("HALLWAY_SERVER__LISTEN", elsewhere.as_str()), ("HALLWAY_API__LISTEN", listen.as_str()), key], vec![]),
        (vec![], vec!["--http", base.as_str(), "--key", API_KEY]),
        (vec![key, ("HALLWAY_REDIS__URL", "redis://127.0.0.1:1")], vec!["--http", base.as_str()]),
    ] {
        let reply = published("order:o1", &more, &settings);
        let (_, heard) = client.event().await;
        let event = &heard["event"];
        assert_eq!(
            reply,
            json!({"id": event["id"], "offsets": {"order:o1": event["meta"]["offset"]}, "duplicate": false})
        );
        assert_eq!(event["payload"], json!({"status": "ready"}));
        assert_eq!(heard["requiresAck"], more.contains(&"--requires-ack"));
    }
    let remote = [("HALLWAY_REDIS__URL", "redis://redis.internal"), ("HALLWAY_SERVER__LISTEN", anywhere.as_str())];
    let named = ["--http", base.as_str(), "--key", API_KEY, "--id", "my-1"];
    assert_eq!(published("order:o1", &named[..4], &remote)["duplicate"], false, "a publisher needs no key for tokens");
    assert_eq!(published("order:o1", &named, &[])["duplicate"], false);
    assert_eq!(published("order:o1", &named, &[])["duplicate"], true);
}

#[tokio::test]
async fn dev_mode_needs_no_key_and_a_payload_may_come_from_standard_input() {
    let dev = |command: &mut Command| {
        command.arg("--dev").env_remove("HALLWAY_API__KEY");
    };
    let node = Node::changed(&[], dev).await;
    let listen = node.main().to_string();
    let settings = [("HALLWAY_SERVER__LISTEN", listen.as_str())];
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.join("order:o1").await;
    for (payload, input, expected) in [
        ("-", "\n {\"from\":\"stdin\"} \n", json!({"from": "stdin"})),
        ("-5", "", json!(-5)),
        ("null", "", json!(null)),
        (r#""a text""#, "", json!("a text")),
    ] {
        for dev in [&[][..], &["--dev"]] {
            let done = publish(&[&["order:o1", "--type", "t", "--payload", payload], dev].concat(), &settings, input);
            assert_eq!((done.code, done.complained.as_str()), (0, ""));
            assert_eq!(client.event().await.1["event"]["payload"], expected);
        }
    }
    let done = publish(&["order:o1", "--type", "t", "--payload", "-"], &settings, "{status: 1}");
    assert_eq!((done.code, done.said.as_str()), (1, ""));
    assert!(done.complained.contains("standard input is no JSON"), "{}", done.complained);
}

#[tokio::test]
async fn what_a_prefix_is_configured_is_used() {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("hallway.toml");
    std::fs::write(&file, format!("[redis]\nurl = \"{}\"\nprefix = \"shop\"\n", redis.url())).expect("it is written");
    let node = Node::with(&[("HALLWAY_REDIS__URL", &redis.url()), ("HALLWAY_REDIS__PREFIX", "shop")]).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.join("order:o1").await;
    let reply = published("order:o1", &["--config", file.to_str().expect("text")], &[]);
    assert_eq!(client.event().await.1["event"]["id"], reply["id"]);
}

#[tokio::test]
async fn a_refused_event_is_told_in_one_sentence() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let (url, base) = (redis.url(), at(node.main()));
    let by_http = ["--http", base.as_str(), "--key", API_KEY];
    let over_redis = ["--redis", url.as_str()];
    for way in [by_http.as_slice(), &over_redis] {
        fails(1, &["invalid-room"], &[&["chat:1"], EVENT.as_slice(), way].concat(), &[]);
        let reserved = ["order:o1", "--type", "connect", "--payload", "1"];
        fails(1, &["invalid-event", "reserved"], &[reserved.as_slice(), way].concat(), &[]);
        let large = format!("\"{}\"", "x".repeat(70_000));
        let large = ["order:o1", "--type", "t", "--payload", large.as_str()];
        fails(1, &["event-too-large", "limits.event_bytes"], &[large.as_slice(), way].concat(), &[]);
        fails(1, &["invalid-event"], &[&["order:o1", "--id", "a b"], EVENT.as_slice(), way].concat(), &[]);
    }
    let wrong = ["--http", base.as_str(), "--key", "s3cret"];
    fails(1, &["unauthorized", "--key", "HALLWAY_API__KEY"], &[&["order:o1"], EVENT.as_slice(), &wrong].concat(), &[]);
    let admin = at(node.admin());
    let no_api = ["--http", admin.as_str(), "--key", API_KEY];
    fails(1, &["is no gateway's API", "--http"], &[&["order:o1"], EVENT.as_slice(), &no_api].concat(), &[]);
}

#[tokio::test]
async fn an_unreachable_server_is_told_in_one_sentence() {
    let mut redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let nobody = free_address();
    let run = |words: &[&str], way: &[&str]| fails(1, words, &[&["order:o1"], EVENT.as_slice(), way].concat(), &[]);
    run(
        &["no gateway can be reached", "--http"],
        &["--http", &format!("http://u:s3cret@{nobody}/?k=s3cret"), "--key", "s3cret"],
    );
    run(&["Redis did not take the event", "redis.url"], &["--redis", &format!("redis://u:s3cret@{nobody}")]);
    run(&["refuses the password", "redis.url"], &["--redis", &format!("redis://u:s3cret@{}", redis.address())]);
    redis.kill();
    run(&["unavailable", "repeat with --id"], &["--http", &at(node.main()), "--key", API_KEY]);
}

#[tokio::test]
async fn a_redis_without_the_function_is_told_how_it_gets_there() {
    let redis = Redis::start().await;
    let url = redis.url();
    let arguments = [&["order:o1"], EVENT.as_slice(), &["--redis", url.as_str()]].concat();
    fails(1, &["no gateway has loaded", "hallway redis-function", "hallway_publish"], &arguments, &[]);
    fails(1, &["shop_publish"], &arguments, &[("HALLWAY_REDIS__PREFIX", "shop")]);
    let mut few = redis::cmd("ACL");
    few.arg(&["SETUSER", "few", "on", ">s3cret", "~*", "&*", "-@all", "+hello", "+client"]);
    few.exec_async(&mut redis.client().await).await.expect("redis is up");
    let few = format!("redis://few:s3cret@{}", redis.address());
    fails(1, &["lacks a right", "ACL"], &[&["order:o1"], EVENT.as_slice(), &["--redis", few.as_str()]].concat(), &[]);
}

#[test]
fn bad_usage_ends_with_2_and_a_bad_configuration_with_64() {
    let nobody = at(free_address());
    let good = [&["order:o1"], EVENT.as_slice()].concat();
    let with = |more: &[&'static str]| [good.as_slice(), more].concat();
    fails(2, &["ROOM"], &EVENT, &[]);
    fails(2, &["--payload"], &["order:o1", "--type", "t"], &[]);
    fails(2, &["--type"], &["order:o1", "--payload", "1"], &[]);
    fails(2, &["is no JSON", "quotes"], &["order:o1", "--type", "t", "--payload", "ready"], &[]);
    fails(2, &["no JSON object"], &with(&["--meta", "[]"]), &[]);
    fails(2, &["CRITICAL"], &with(&["--priority", "urgent"]), &[]);
    fails(2, &["--redis", "--http"], &with(&["--redis", "redis://x", "--http", "http://x"]), &[]);
    for url in ["127.0.0.1:8080", "localhost:8080", "ws://x", "http://", "s3cret"] {
        fails(2, &["http://127.0.0.1:8080"], &[good.as_slice(), &["--http", url, "--key", "k"]].concat(), &[]);
    }
    fails(2, &["redis://[user:password@]host"], &with(&["--redis", "s3cret"]), &[]);
    fails(64, &["HALLWAY_REDIS__PREFIX"], &good, &[("HALLWAY_REDIS__PREFIX", "Not a prefix")]);
    fails(64, &["HALLWAY_NOTHING__SUCH"], &with(&["--dev"]), &[("HALLWAY_NOTHING__SUCH", "1")]);
    let production = [("HALLWAY_AUTH__HS256_SECRET", token::SECRET)];
    fails(
        1,
        &["no API key", "--key", "api.key"],
        &[good.as_slice(), &["--http", nobody.as_str()]].concat(),
        &production,
    );
}
