//! Secrets: whatever the log level and whatever is sent, no token, key, password or payload is in any log.
//!
//! A case of one's own: a function beside the others that marks what it sends ([`Watched::mark`]), entered in
//! [`everything`].

use std::process::{Command, Stdio};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::token::{self, API_KEY, SECRET, now_s};
use crate::harness::{eventually, http};

const QUERY: &str = "EIO=4&transport=websocket";
const PASSWORD: &str = "marked-redis-password";

/// A node that says all it can, on a Redis with a password, and what its log must not have.
struct Watched {
    redis: Redis,
    node: Node,
    marks: Vec<(String, String)>,
}

impl Watched {
    async fn begin(level: &str) -> Self {
        let redis = Redis::start_forgetful().await;
        let mut user = redis::cmd("ACL");
        user.arg("SETUSER").arg("svc").arg(&["on", &format!(">{PASSWORD}"), "~*", "&*", "+@all"]);
        user.query_async::<()>(&mut redis.client().await).await.expect("redis has users");
        let url = format!("redis://svc:{PASSWORD}@{}", redis.address());
        let settings = [("HALLWAY_REDIS__URL", url.as_str()), ("HALLWAY_LOG__LEVEL", level)];
        let node = Node::with(&settings).await;
        let mut watched = Self { redis, node, marks: Vec::new() };
        watched.mark("the password of Redis", PASSWORD);
        watched.mark("the API key", API_KEY);
        watched.mark("the secret of tokens", SECRET);
        watched
    }

    /// Names a text that no log may have, and gives it back.
    fn mark(&mut self, what: &str, text: &str) -> String {
        self.marks.push((what.to_owned(), text.to_owned()));
        text.to_owned()
    }

    /// Marks the claims and the signature of a token; its header is the same for all.
    fn mark_token(&mut self, what: &str, token: String) -> String {
        for part in token.split('.').skip(1).filter(|part| part.len() > 8) {
            self.mark(what, part);
        }
        token
    }

    /// A good token, marked.
    fn token(&mut self, what: &str) -> String {
        let claims = json!({"sub": "u1", "role": "agent", "name": format!("marked-claim {what}")});
        self.mark("a claim", "marked-claim");
        self.mark_token(what, token::with(claims))
    }

    /// Asserts that the log, which has at least these words, has nothing that was marked.
    fn log_is_clean(&self, words: &[&str]) {
        let log = self.node.log();
        for word in words {
            assert!(log.iter().any(|line| line.contains(word)), "nothing was logged of {word:?}: {log:#?}");
        }
        for (what, text) in &self.marks {
            let shown = log.iter().find(|line| line.contains(text.as_str()));
            assert!(shown.is_none(), "{what} is in the log: {shown:?}");
        }
        // Some print bytes as numbers, in which no mark is found.
        let talks = |line: &&String| {
            let line: Value = serde_json::from_str(line).expect("a line is an object");
            let ours = line["target"].as_str().expect("a target").starts_with("hallway::");
            !ours && !["WARN", "ERROR"].contains(&line["level"].as_str().expect("a level"))
        };
        assert_eq!(log.iter().find(talks), None, "a library says more than warnings");
    }
}

/// Tokens that are refused, with a mark in every part that a refusal could repeat.
fn bad_tokens() -> Vec<String> {
    let sign = |claims: Value| encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()));
    let sign = |claims| sign(claims).expect("claims encode");
    let base64 = |text: &str| {
        let whole = Header { kid: Some(text.to_owned()), ..Header::default() };
        encode(&whole, &json!({}), &EncodingKey::from_secret(b"x")).expect("it encodes")
    };
    vec![
        "marked-token that is none".to_owned(),
        "marked-token.marked-token.marked-token".to_owned(),
        base64("marked-token"),
        // {"alg":"marked-alg"} and {"alg":["marked-alg"]}
        "eyJhbGciOiJtYXJrZWQtYWxnIn0.e30.c2ln".to_owned(),
        "eyJhbGciOlsibWFya2VkLWFsZyJdfQ.e30.c2ln".to_owned(),
        sign(json!({"sub": "u1", "exp": now_s() - 100, "name": "marked-claim"})),
        sign(json!({"sub": ["marked-claim"], "exp": now_s() + 100})),
        sign(json!({"sub": "u1", "exp": "marked-claim"})),
        sign(json!({"sub": "u1", "exp": now_s() + 100, "nbf": "marked-claim"})),
        sign(json!({"sub": "u1", "exp": now_s() + 100_000_000, "name": "marked-claim"})),
        format!("marked-token-{}", "x".repeat(9_000)),
    ]
}

/// A token in each of its places, good and refused, and refreshed.
async fn tokens(watched: &mut Watched) {
    watched.mark("a bad token", "marked-token");
    watched.mark("the algorithm of a bad token", "marked-alg");
    for place in ["token", "access_token", "accessToken", "authorization"] {
        let token = watched.token(place);
        let (mut client, _) = Client::open(watched.node.main()).await;
        assert!(client.offer(&json!({ place: token }).to_string()).await.starts_with("40"));
    }
    let token = watched.token("?token=");
    for name in ["token", "%74oken"] {
        let (mut client, _) = Client::open_with(watched.node.main(), &format!("{QUERY}&{name}={token}")).await;
        assert!(client.offer("").await.starts_with("40"), "{name}");
    }
    let bearer = format!("Bearer {}", watched.token("Authorization"));
    let (mut client, _) = Client::open_with_header(watched.node.main(), QUERY, "authorization", &bearer).await;
    assert!(client.offer("").await.starts_with("40"));
    let ids = json!({"sub": "marked-claim-sub", "role": "agent", "agentId": "marked-claim-id", "zoneId": "marked-claim:zone"});
    let ids = watched.mark_token("a token of ids", token::with(ids));
    let mut agent = Client::connect(watched.node.main(), &ids).await;
    assert_eq!(agent.call("update_location", r#"{"lat":1,"lng":2}"#).await["ok"], true);
    for bad in bad_tokens() {
        let bad = watched.mark_token("a refused token", bad);
        let (mut stranger, _) = Client::open(watched.node.main()).await;
        assert!(stranger.offer(&json!({ "token": bad }).to_string()).await.starts_with("44"));
        assert_eq!(client.call("refresh_token", &json!({ "token": bad }).to_string()).await["error"], "unauthorized");
    }
    let fresh = watched.token("a refresh");
    assert_eq!(client.call("refresh_token", &json!({ "token": fresh }).to_string()).await["ok"], true);
    let http = http();
    let address = watched.node.main();
    for path in ["socket.io/?EIO=3", "socket.io/?EIO=4&transport=polling", "socket.io/?transport=none", "nope?x", "?x"]
    {
        let url = format!("http://{address}/{path}&token={token}");
        let refused = http.get(url).header("authorization", &bearer).send().await.expect("an answer");
        assert!(!refused.status().is_success(), "{path}");
    }
}

/// Events by every way in, good and bad, to a member that is there.
async fn payloads(watched: &mut Watched) {
    watched.mark("a payload", "marked-payload");
    let token = watched.token("a member");
    let mut member = Client::connect(watched.node.main(), &token).await;
    member.join("order:1").await;
    let event = |id: &str| json!({"room": "order:1", "type": "t", "id": id, "payload": {"text": "marked-payload"}});
    let plain = r#"{"type":"t","payload":"marked-payload"}"#;
    let bad = [
        r#""marked-payload""#,
        r#"["marked-payload"]"#,
        r#"{"type":"t","payload":"marked-payload""#,
        r#"{"type":"marked-payload x","payload":1}"#,
        r#"{"type":["marked-payload"],"payload":1}"#,
        r#"{"type":"t","payload":1,"meta":"marked-payload"}"#,
        r#"{"type":"t","payload":1,"priority":"marked-payload"}"#,
        r#"{"type":"t","payload":1,"timestamp":"marked-payload"}"#,
        r#"{"type":"t","payload":1,"id":"marked-payload x"}"#,
        r#"{"type":"t","payload":1,"room":["marked-payload"]}"#,
        r#"{"type":"t","payload":1,"marked-payload":1}"#,
        r#"{"type":"t","payload":"\ud800 marked-payload"}"#,
    ];
    let node = &watched.node;
    assert_eq!(node.post("/v1/publish", event("http").to_string()).await.0, 200);
    assert_eq!(node.post("/v1/publish/batch", json!({"events": [event("batch")]}).to_string()).await.0, 200);
    watched.redis.fcall(&["order:1"], plain, &[]).await.expect("published");
    watched.redis.publish("order:1", plain.as_bytes()).await;
    let mut client = watched.redis.client().await;
    let mut add = async |field: &str, text: &str| {
        let mut add = redis::cmd("XADD");
        add.arg("hallway:ingest").arg("*").arg(field).arg(text);
        add.query_async::<String>(&mut client).await.expect("redis is up");
    };
    add("event", &event("ingest").to_string()).await;
    for _ in 0..5 {
        member.event().await;
    }
    for text in bad {
        assert_eq!(node.post("/v1/publish", text).await.0, 400, "{text}");
        node.post("/v1/publish/batch", format!(r#"{{"events":[{text}]}}"#)).await;
        watched.redis.publish("order:1", text.as_bytes()).await;
        watched.redis.fcall(&["order:1"], text, &[]).await.ok();
        add("event", text).await;
        add("payload", text).await;
        add(text, "1").await;
    }
    // One that no client may get, as an older or foreign writer may have stored it.
    let broken = br#"1 broken 1 0 order:1 99999999999999-0 0-0 {"type":"t","payload":1,"meta":"marked-payload"}"#;
    let broken = String::from_utf8_lossy(broken).replacen(" {", "\n{", 1);
    watched.redis.publish("order:1", broken.as_bytes()).await;
    let missed = member.call("get_missed_events", r#"{"room":"order:1","since":0}"#).await;
    assert_eq!(missed["ok"], true);
}

/// What clients send that is no command.
async fn commands(watched: &mut Watched) {
    watched.mark("what a client sent", "marked-command");
    let token = watched.token("whoever sends garbage");
    for frame in [
        r#"42/realtime,7["marked-command",{"a":"marked-command"}]"#,
        r#"42/realtime,7["join_room",{"room":"marked-command"}]"#,
        r#"42/realtime,7["join_room","marked-command"]"#,
        r#"42/realtime,7["refresh_token",{"token":{"marked-command":1}}]"#,
        r#"42/realtime,7["event_ack",{"eventId":"e","status":"failed","error":"marked-command"}]"#,
        r#"42/realtime,7["join_room",{"room":"marked-command""#,
        r#"451-/realtime,["marked-command",{"_placeholder":true,"num":0}]"#,
        "40/marked-command,{\"token\":\"marked-command\"}",
        "marked-command",
        "4marked-command",
        "2marked-command",
    ] {
        let mut client = Client::connect(watched.node.main(), &token).await;
        client.send(frame).await;
        client.try_send(r#"42/realtime,8["leave_room",{"room":"order:1"}]"#).await;
        client.frame().await;
    }
}

/// Keys of the API in all places but the right one, and wrong ones.
async fn api_keys(watched: &mut Watched) {
    let wrong = watched.mark("a wrong API key", "marked-api-key-of-more-than-32-bytes");
    let (http, base) = (http(), format!("http://{}", watched.node.main()));
    for key in [API_KEY, &wrong] {
        for path in ["/v1/rooms/order:1", "/v1/nope", "/v2", "/metrics", "/api/health"] {
            let url = format!("{base}{path}?key={key}&token={key}");
            for header in [format!("Bearer {key}"), format!("Basic {key}"), key.to_owned()] {
                let request = http.get(&url).header("authorization", header).header("x-api-key", key);
                request.send().await.expect("an answer");
            }
        }
    }
}

/// A Redis that is gone, and comes back without knowing the user.
async fn outage(watched: &mut Watched) {
    watched.redis.kill();
    eventually("the node is not ready", || async { (watched.node.readyz().await == 503).then_some(()) }).await;
    let event = r#"{"room":"order:1","type":"t","payload":"marked-payload"}"#;
    assert_eq!(watched.node.post("/v1/publish", event).await.0, 503);
    let lines = watched.node.log().len();
    watched.redis.restart().await;
    eventually("the node says that Redis does not know it", || async {
        watched.node.log()[lines..].iter().any(|line| line.contains("refuses the password")).then_some(())
    })
    .await;
}

async fn everything(level: &str) {
    let mut watched = Watched::begin(level).await;
    tokens(&mut watched).await;
    payloads(&mut watched).await;
    commands(&mut watched).await;
    api_keys(&mut watched).await;
    outage(&mut watched).await;
    watched.node.terminate().await;
    watched.log_is_clean(&["a token was refused", "a new token was refused", "is no event", "Redis", "stopping"]);
}

#[tokio::test]
async fn at_debug_no_log_has_a_token_a_key_a_password_or_a_payload() {
    everything("debug").await;
}

#[tokio::test]
async fn at_trace_no_log_has_a_token_a_key_a_password_or_a_payload() {
    everything("trace").await;
}

/// An operator who looks for a fault asks for more of one library, and of one of its modules: by target, by span, by field.
#[tokio::test]
async fn no_directive_makes_a_library_tell_what_passes_through_it() {
    let libraries = ["tungstenite", "tokio_tungstenite", "hyper", "hyper_util", "h2", "redis", "reqwest", "rustls"];
    let more = ["socketioxide", "socketioxide_core", "engineioxide", "engineioxide_core", "axum", "tower_http", "log"];
    let modules = ["tungstenite::protocol", "tungstenite::protocol::frame", "tungstenite::protocol::frame::frame"];
    let asked = libraries.iter().chain(&more).chain(&modules).map(|target| format!("{target}=trace"));
    let spans = ["[]=trace", "[{message}]=trace", "tungstenite::protocol[{message}]=trace"].map(str::to_owned);
    let level = ["trace".to_owned()].into_iter().chain(asked).chain(spans).collect::<Vec<_>>().join(",");
    everything(&level).await;
}

/// Starts a gateway that does not come up, and returns what it said.
fn fails_to_start(settings: &[(&str, &str)], file: Option<&str>) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hallway"));
    command.arg("serve").env("HALLWAY_LOG__LEVEL", "trace").envs(settings.iter().copied());
    if let Some(text) = file {
        let path = folder.path().join("hallway.toml");
        std::fs::write(&path, text).expect("a file");
        command.arg("--config").arg(path);
    }
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    assert!(!output.status.success(), "it serves with {settings:?} {file:?}");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.len() > 20, "it says nothing about {settings:?} {file:?}");
    said
}

#[test]
fn a_start_that_fails_tells_no_secret() {
    let keys = [("auth", "hs256_secret"), ("api", "key"), ("redis", "url"), ("redis", "password"), ("store", "url")];
    let secret_keys = keys
        .map(|(section, key)| (format!("HALLWAY_{}__{}", section.to_uppercase(), key.to_uppercase()), section, key));
    for (variable, section, key) in &secret_keys {
        for value in ["marked", " marked-secret-of-more-than-32-bytes-x", "http://marked:marked@x", "\u{fffd}marked"] {
            let said = fails_to_start(&[(variable, value)], None);
            assert!(!said.contains("marked"), "{variable}: {said}");
            let misspelt = format!("{variable}S");
            let said = fails_to_start(&[(&misspelt, value)], None);
            assert!(!said.contains("marked"), "{misspelt}: {said}");
        }
        for line in [
            "{key} = \"marked",
            "{key} = marked-secret",
            "{key} = 'marked' marked",
            "{key} = [\"marked\"]",
            "{key} = { marked = 'marked' }",
            "{key}s = \"marked\"",
            "{key} = \"marked\"\n{key} = \"marked\"",
            "{key} \"marked\"",
            "{key} = \"\"\"marked",
            "{key} = \"marked\\q\"",
            "{key} = \"ma\u{1}rked marked\"",
        ] {
            let text = format!("[{section}]\n{}\n", line.replace("{key}", key));
            let said = fails_to_start(&[], Some(&text));
            let without_names = said.replace("marked =", "");
            assert!(!without_names.contains("marked"), "{text}: {said}");
        }
        let said = fails_to_start(&[], Some(&format!("{section} = \"marked\"\n")));
        assert!(!said.contains("marked"), "{section}: {said}");
    }
}
