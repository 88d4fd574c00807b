//! Rules of one's own: who they let in, that what cannot be judged denies, and how an operator is told what is in force.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::token::{self, SECRET, now_s};

const RULES: &str = r#"
[auth]
update_location = "claims.role in ['agent', 'driver']"

[rooms."store:{id}:orders"]
join = "room.id in claims.stores"

[rooms."order:{orderId}"]
join = "claims.level > 5"

[rooms."deal:{dealId}"]
join = "claims.deals.exists(d, id(d) == room.dealId) || key == claims.only"

[rooms."fleet:{fleetId}:alerts"]
history = { max_events = 10 }
"#;

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("room on the disk");
    file
}

async fn node(text: &str) -> Node {
    let file = file(text);
    Node::changed(&[], |command| {
        command.arg("--config").arg(file.path());
    })
    .await
}

fn refused(error: &str) -> Value {
    json!({"ok": false, "error": error})
}

async fn may(client: &mut Client, room: &str) -> bool {
    let joined = client.call("join_room", &json!({ "room": room }).to_string()).await;
    let missed = client.call("get_missed_events", &json!({"room": room, "since": now_s() * 1000}).to_string()).await;
    assert_eq!(joined["ok"], missed["ok"], "{room}: {joined} {missed}");
    if joined["ok"] != true {
        assert_eq!((&joined, &missed), (&refused("forbidden"), &refused("forbidden")));
    }
    joined["ok"] == true
}

#[tokio::test]
async fn a_rule_of_ones_own_decides_for_its_class_and_for_no_other() {
    let node = node(RULES).await;
    let claims = json!({"sub": "u1", "stores": ["1", "2"], "level": 6, "deals": [7, "x"], "only": "deal:y"});
    let mut client = Client::connect(node.main(), &token::with(claims)).await;
    for room in
        ["store:1:orders", "store:2:orders", "order:o", "deal:7", "deal:x", "deal:y", "fleet:f:alerts", "user:u1"]
    {
        assert!(may(&mut client, room).await, "{room}");
    }
    for room in ["store:3:orders", "deal:8", "user:u2", "stores:all"] {
        assert!(!may(&mut client, room).await, "{room}");
    }
    let mut staff = Client::connect(node.main(), &token::staff()).await;
    assert!(!may(&mut staff, "store:1:orders").await, "the rule in force says nothing of staff");
    assert!(may(&mut staff, "stores:all").await);
}

/// Classes that single out rooms of wider ones, and say nothing of who may join.
const NARROWER: &str = r#"
[rooms."user:boss"]
history = { max_events = 10 }

[rooms."store:{id}:orders"]
join = "room.id in claims.stores"

[rooms."store:main:orders"]
delivery = "ephemeral"

[rooms."product:secret"]
join = "claims.level > 5"
"#;

#[tokio::test]
async fn a_narrower_class_without_a_rule_has_that_of_the_wider_one() {
    let node = node(NARROWER).await;
    let joins = async |claims: Value, room: &str| {
        let mut client = Client::connect(node.main(), &token::with(claims)).await;
        client.call("join_room", &json!({ "room": room }).to_string()).await["ok"] == true
    };
    for (claims, room) in [
        (json!({"sub": "boss"}), "user:boss"),
        (json!({"sub": "u1", "stores": ["main"]}), "store:main:orders"),
        (json!({"sub": "u1", "level": 6}), "product:secret"),
        (json!({"sub": "u1"}), "product:p"),
    ] {
        assert!(joins(claims.clone(), room).await, "{claims} {room}");
    }
    for (claims, room) in [
        (json!({"sub": "u1"}), "user:boss"),
        (json!({"sub": "u1", "storeId": "main", "stores": ["2"]}), "store:main:orders"),
        (json!({"sub": "u1", "level": 5}), "product:secret"),
    ] {
        assert!(!joins(claims.clone(), room).await, "{claims} {room}");
    }
    let question = json!({"token": token::user("u1"), "room": "user:boss"}).to_string();
    let (_, explained) = node.post("/v1/policy", question).await;
    assert_eq!(explained["class"], "user:boss");
    assert_eq!(explained["rule"], "staff || claims.sub == room.userId");
    assert_eq!(explained["saw"]["room"], json!({"userId": "boss"}));
}

#[tokio::test]
async fn what_cannot_be_judged_denies_and_is_counted() {
    let node = node(RULES).await;
    let long: Vec<u32> = (0..300).collect();
    let deep = (0..40).fold(json!("1"), |inner, _| json!([inner]));
    for claims in [
        json!({"sub": "u"}),
        json!({"sub": "u", "stores": 5, "level": "6", "deals": "x"}),
        json!({"sub": "u", "stores": null, "level": null, "deals": null}),
        json!({"sub": "u", "stores": long, "level": [7], "deals": long}),
        json!({"sub": "u", "stores": deep, "level": {}, "deals": deep}),
    ] {
        let before = node.metric("hallway_policy_failures_total").await;
        let mut client = Client::connect(node.main(), &token::with(claims.clone())).await;
        for room in ["store:1:orders", "order:o", "deal:7"] {
            assert!(!may(&mut client, room).await, "{room}: {claims}");
        }
        assert!(may(&mut client, "product:p").await, "no rule that holds there looks at these claims");
        let counted = node.metric("hallway_policy_failures_total").await - before;
        assert!((4.0..=6.0).contains(&counted), "{counted}: {claims}");
        node.moves("hallway_policy_failures_total").await;
    }
    let huge = json!({"sub": "u", "level": u64::MAX, "stores": [1.5e300, true, null, {"a": []}, "1"]});
    let mut client = Client::connect(node.main(), &token::with(huge)).await;
    assert!(may(&mut client, "order:o").await && may(&mut client, "store:1:orders").await);
}

#[tokio::test]
async fn joined_rooms_are_judged_again_by_the_rule_when_the_token_is_refreshed() {
    let node = node(RULES).await;
    let of = |stores: Value| token::with(json!({"sub": "u1", "stores": stores}));
    let mut client = Client::connect(node.main(), &of(json!(["1", "2"]))).await;
    client.join("store:1:orders").await;
    client.join("store:2:orders").await;
    let reply = client.call("refresh_token", &json!({"token": of(json!(["2"]))}).to_string()).await;
    assert_eq!(reply["ok"], true, "{reply}");
    let notices = client.events_aside();
    let revoked: Vec<_> = notices.iter().map(|(name, event)| (name.as_str(), &event["event"]["payload"])).collect();
    assert_eq!(revoked, [("room.revoked", &json!({"room": "store:1:orders"}))]);
    let reply = client.call("refresh_token", &json!({"token": of(json!("nonsense"))}).to_string()).await;
    assert_eq!(reply["ok"], true, "{reply}");
    assert_eq!(client.events_aside()[0].1["event"]["payload"], json!({"room": "store:2:orders"}));
}

#[tokio::test]
async fn whoever_the_condition_names_reports_locations_for_the_id_of_the_token() {
    let node = node(RULES).await;
    let mut staff = Client::connect(node.main(), &token::staff()).await;
    staff.join("agents:all").await;
    for (claims, id) in [
        (json!({"sub": "d1", "role": "driver"}), "d1"),
        (json!({"sub": "d2", "role": "driver", "agentId": "van-2"}), "van-2"),
    ] {
        let mut driver = Client::connect(node.main(), &token::with(claims)).await;
        assert_eq!(driver.call("update_location", r#"{"lat":1,"lng":2}"#).await, json!({"ok": true}));
        assert_eq!(staff.event().await.1["event"]["payload"]["agentId"], id);
    }
    let mut other = Client::connect(node.main(), &token::user("u1")).await;
    assert_eq!(other.call("update_location", r#"{"lat":1,"lng":2}"#).await, refused("forbidden"));
}

/// What a run of `hallway` left behind.
struct Done {
    code: i32,
    said: String,
    complained: String,
}

fn hallway(arguments: &[&str], config: Option<&Path>, signed: bool) -> Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hallway"));
    command.args(arguments);
    if let Some(path) = config {
        command.arg("--config").arg(path);
    }
    if signed {
        command.env("HALLWAY_AUTH__HS256_SECRET", SECRET);
    }
    let output = command.output().expect("the command runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Done { code: output.status.code().expect("no signal"), said: text(output.stdout), complained: text(output.stderr) }
}

#[test]
fn a_broken_rule_stops_the_start_and_every_one_is_named_at_once() {
    let broken = r#"
[auth]
update_location = "agent = null"
[authorizer]
url = "ftp://x"
[rooms."order:{orderId}"]
join = "claims.role == "
[rooms."store:{id}:orders"]
join = "room.storeId == claims.storeId"
authorizer = 1
[rooms."zone:{zoneId}"]
join = "claims.a.all(x, claims.b.all(y, claims.c.all(z, x == y && y == z)))"
"#;
    let config = file(broken);
    for command in ["serve", "check-config"] {
        let done = hallway(&[command], Some(config.path()), true);
        assert_eq!((done.code, done.said.as_str()), (64, ""), "{}", done.complained);
        assert_eq!(done.complained.lines().count(), 6, "{}", done.complained);
        for (key, line, word) in [
            ("auth.update_location: is not CEL", 3, "`agent`"),
            ("authorizer.url: is not an HTTP URL", 5, "https://"),
            (r#"rooms."order:{orderId}".join: is not CEL"#, 7, "`claims`"),
            (r#"rooms."store:{id}:orders".join: names `room.storeId`"#, 9, "`claims`"),
            (r#"rooms."store:{id}:orders".authorizer: 1 is not"#, 10, "true or false"),
            (r#"rooms."zone:{zoneId}".join: might take"#, 12, "steps"),
        ] {
            let said = done.complained.lines().find(|said| said.starts_with(key));
            let said = said.unwrap_or_else(|| panic!("{key}: {}", done.complained));
            assert!(said.contains(&format!(":{line})")) && said.contains(word), "{said}");
        }
    }
    let config = file("[rooms.\"order:{orderId}\"]\nauthorizer = true\n");
    let done = hallway(&["check-config"], Some(config.path()), true);
    assert_eq!(done.code, 64);
    assert!(
        done.complained.starts_with(r#"rooms."order:{orderId}".authorizer: asks an authorizer"#),
        "{}",
        done.complained
    );
}

#[test]
fn check_config_shows_the_rule_of_every_class() {
    let config = file(RULES);
    let done = hallway(&["check-config"], Some(config.path()), true);
    assert_eq!((done.code, done.complained.as_str()), (0, ""), "{}", done.said);
    assert!(done.said.starts_with("the configuration is good\n"), "{}", done.said);
    let rule = |form: &str| {
        let line = done.said.lines().find(|line| line.split_whitespace().next() == Some(form));
        line.unwrap_or_else(|| panic!("{form}: {}", done.said)).split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(rule("store:{id}:orders"), "room.id in claims.stores");
    assert_eq!(rule("user:{userId}"), "staff || claims.sub == room.userId (default)");
    assert_eq!(rule("fleet:{fleetId}:alerts"), "true (default)");
    assert_eq!(rule("dashboard:admin"), "has(claims.role) && claims.role == 'admin' (default)");
    assert_eq!(done.said.lines().filter(|line| line.starts_with("  ")).count(), 17, "{}", done.said);
    assert!(done.said.contains("claims.role in ['agent', 'driver']"), "{}", done.said);
}

#[test]
fn a_class_that_shares_rooms_with_one_that_has_a_rule_must_say_who_may_join() {
    let config = file("[rooms.\"store:main:{what}\"]\nhistory = { max_events = 5 }\n");
    let done = hallway(&["check-config"], Some(config.path()), true);
    assert_eq!((done.code, done.said.as_str()), (64, ""), "{}", done.complained);
    for word in [r#"rooms."store:main:{what}""#, r#""store:{storeId}:orders""#, "join"] {
        assert!(done.complained.contains(word), "{}", done.complained);
    }
    for good in [
        "[rooms.\"store:main:{what}\"]\njoin = \"staff\"\n",
        "[rooms.\"{tenant}:orders\"]\n",
        "[rooms.\"{tenant}:{id}\"]\n",
        "[rooms.\"order:{id}\"]\n[rooms.\"order:vip\"]\n[rooms.\"user:vip\"]\n[rooms.\"{x}:{y}:{z}:notes\"]\n",
    ] {
        let done = hallway(&["check-config"], Some(file(good).path()), true);
        assert_eq!(done.code, 0, "{good}: {}", done.complained);
    }
}

#[test]
fn check_config_shows_whose_rule_a_narrower_class_has() {
    let asked =
        "\n[authorizer]\nurl = \"http://x\"\n[rooms.\"order:{id}\"]\nauthorizer = true\n[rooms.\"order:vip\"]\n";
    let config = file(&format!("{NARROWER}{asked}"));
    let done = hallway(&["check-config"], Some(config.path()), true);
    let line = |form: &str| done.said.lines().find(|line| line.trim_start().starts_with(form)).unwrap_or("").to_owned();
    let (inherited, own) = (line("user:boss "), line("store:main:orders "));
    assert!(inherited.ends_with("staff || claims.sub == room.userId   (as user:{userId})"), "{}", done.said);
    assert!(own.ends_with("room.id in claims.stores   (as store:{id}:orders)"), "{}", done.said);
    assert!(line("order:vip ").ends_with("true   (as order:{orderId})   (then the authorizer)"), "{}", done.said);
}

/// Runs `hallway policy` and returns its lines by what stands before the colon; the first has none.
#[track_caller]
fn decided(token: &str, room: &str, code: i32) -> Vec<(String, String)> {
    let config = file(RULES);
    let done = hallway(&["policy", "--token", token, "--room", room], Some(config.path()), true);
    assert_eq!((done.code, done.complained.as_str()), (code, ""), "{}", done.said);
    for part in token.split('.').filter(|part| part.len() > 10) {
        assert!(!done.said.contains(part), "the token is printed: {}", done.said);
    }
    let split = |line: &str| {
        line.split_once(": ").map_or((line.to_owned(), String::new()), |(a, b)| (a.to_owned(), b.to_owned()))
    };
    done.said.lines().map(split).collect()
}

fn said(lines: &[(String, String)], what: &str) -> String {
    lines.iter().find(|(name, _)| name == what).map_or_else(String::new, |(_, said)| said.clone())
}

#[test]
fn hallway_policy_says_allowed_or_denied_with_the_rule_and_what_it_saw() {
    let token = token::with(json!({"sub": "u1", "stores": ["1"], "password": "hunter2"}));
    let lines = decided(&token, "store:1:orders", 0);
    assert_eq!(lines[0].0, "allowed");
    assert_eq!(said(&lines, "class"), "store:{id}:orders");
    assert_eq!(said(&lines, "rule"), "room.id in claims.stores");
    assert_eq!(said(&lines, "saw claims"), r#"{"stores":["1"]}"#);
    assert_eq!(said(&lines, "saw room"), r#"{"id":"1"}"#);
    assert!(said(&lines, "saw now").parse::<u64>().is_ok_and(|now| now + 60 > now_s()), "{lines:?}");
    let lines = decided(&token, "store:2:orders", 1);
    assert_eq!((lines[0].0.as_str(), said(&lines, "why").as_str()), ("denied", "forbidden"));
    let lines = decided(&token, "order:o", 1);
    assert_eq!((lines[0].0.as_str(), said(&lines, "why").as_str()), ("denied", "forbidden"));
    assert!(said(&lines, "because").contains("level"), "{lines:?}");
    let lines = decided(&token, "user:u9", 1);
    assert_eq!((said(&lines, "saw staff"), said(&lines, "saw claims")), ("false".into(), r#"{"sub":"u1"}"#.into()));
}

#[test]
fn hallway_policy_says_what_is_wrong_with_a_token_or_a_room() {
    let expired = token::with(json!({"sub": "u1", "exp": now_s() - 60}));
    let lines = decided(&expired, "user:u1", 1);
    assert_eq!((lines[0].0.as_str(), said(&lines, "why").as_str()), ("denied", "token-expired"));
    for token in ["nonsense", "", "a.b.c", &format!("{}x", token::user("u1"))] {
        let lines = decided(token, "user:u1", 1);
        assert_eq!((lines[0].0.as_str(), said(&lines, "why").as_str()), ("denied", "token-invalid"), "{token}");
        assert!(!said(&lines, "because").is_empty(), "{lines:?}");
    }
    let lines = decided(&token::user("u1"), "chat:1", 1);
    assert_eq!((lines[0].0.as_str(), said(&lines, "why").as_str()), ("denied", "invalid-room"));
}

#[test]
fn hallway_policy_tells_bad_usage_a_bad_configuration_and_dev_mode_apart() {
    let token = token::user("u1");
    let ask = ["policy", "--token", &token, "--room", "user:u2"];
    assert_eq!(hallway(&["policy", "--token", &token], None, true).code, 2);
    assert_eq!(hallway(&["policy", "--room", "user:u1"], None, true).code, 2);
    let keyless = hallway(&ask, None, false);
    assert_eq!((keyless.code, keyless.said.as_str()), (64, ""));
    assert!(keyless.complained.contains("no key to verify tokens with"), "{}", keyless.complained);
    let broken = file("[rooms.\"order:{orderId}\"]\njoin = \"x\"");
    assert_eq!(hallway(&ask, Some(broken.path()), true).code, 64);
    let minted = hallway(&["token", "--sub", "u1"], None, false).said;
    let dev = hallway(&["policy", "--dev", "--token", minted.trim(), "--room", "user:u2"], None, false);
    assert_eq!(dev.code, 0, "{}", dev.complained);
    assert!(dev.said.starts_with("allowed\n") && dev.said.contains("\ndev mode: "), "{}", dev.said);
}
