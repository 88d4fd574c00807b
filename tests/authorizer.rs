//! The authorizer: asked after the rule and never instead of it, once however many ask, and no answer is no.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Router, body::Body};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::token::{self, now_s};
use crate::harness::{PATIENCE, eventually, free_address};

/// What the service answers.
#[derive(Clone)]
enum Say {
    Json(Value),
    Raw(u16, String),
    /// Never.
    Nothing,
    /// To another path, which would allow everything.
    Redirect,
    /// Without an end.
    Endless,
}

/// A request under way; one that the gateway gave up ends, too.
struct UnderWay(Arc<Facts>);

impl UnderWay {
    fn begin(facts: &Arc<Facts>) -> Self {
        let now = facts.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        facts.most.fetch_max(now, Ordering::SeqCst);
        Self(facts.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A service that knows who may enter.
struct Oracle {
    address: SocketAddr,
    facts: Arc<Facts>,
    /// Ends with it.
    _tasks: JoinSet<std::io::Result<()>>,
}

struct Facts {
    say: Mutex<Say>,
    asked: Mutex<Vec<(String, Value)>>,
    redirected: AtomicUsize,
    /// Requests under way, and the most there ever were at once.
    under_way: AtomicUsize,
    most: AtomicUsize,
    /// Each answer takes one.
    gate: Semaphore,
}

impl Oracle {
    async fn start() -> Self {
        let facts = Arc::new(Facts {
            say: Mutex::new(Say::Json(json!({"allow": true}))),
            asked: Mutex::default(),
            redirected: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let routes = Router::new().route("/ask", post(ask)).route("/elsewhere", post(elsewhere).get(elsewhere));
        let server = axum::serve(listener, routes.with_state(facts.clone()));
        let tasks = JoinSet::from_iter([async move { server.await }]);
        Self { address, facts, _tasks: tasks }
    }

    fn say(&self, say: Say) {
        *self.facts.say.lock().expect("no panic holds it") = say;
    }

    /// Holds every answer back until [`Oracle::release`].
    fn hold(&self) {
        self.facts.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    fn release(&self) {
        self.facts.gate.add_permits(1000);
    }

    fn asked(&self) -> Vec<(String, Value)> {
        self.facts.asked.lock().expect("no panic holds it").clone()
    }

    async fn asked_times(&self, times: usize) {
        eventually("the service is asked", || async { (self.asked().len() >= times).then_some(()) }).await;
        assert_eq!(self.asked().len(), times);
    }
}

async fn ask(State(facts): State<Arc<Facts>>, headers: HeaderMap, body: String) -> Response {
    let bearer = headers.get(header::AUTHORIZATION).map_or("", |value| value.to_str().expect("text")).to_owned();
    let question = serde_json::from_str(&body).expect("a question is JSON");
    facts.asked.lock().expect("no panic holds it").push((bearer, question));
    let _under_way = UnderWay::begin(&facts);
    facts.gate.acquire().await.expect("never closed").forget();
    let say = facts.say.lock().expect("no panic holds it").clone();
    if matches!(say, Say::Nothing) {
        tokio::time::sleep(PATIENCE).await;
    }
    match say {
        Say::Json(answer) => answer.to_string().into_response(),
        Say::Raw(status, text) => (StatusCode::from_u16(status).expect("a status"), text).into_response(),
        Say::Nothing => StatusCode::GATEWAY_TIMEOUT.into_response(),
        Say::Redirect => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/elsewhere")]).into_response(),
        Say::Endless => {
            let piece = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(" ".repeat(1024)));
            Body::from_stream(piece).into_response()
        }
    }
}

async fn elsewhere(State(facts): State<Arc<Facts>>) -> &'static str {
    facts.redirected.fetch_add(1, Ordering::SeqCst);
    r#"{"allow":true}"#
}

const ROOMS: &str = r#"
[rooms."order:{orderId}"]
join = "!has(claims.banned)"
authorizer = true
[rooms."store:{storeId}"]
authorizer = true
"#;

/// A gateway that asks at this address, with these keys of the section more.
async fn node_at(address: SocketAddr, more: &str) -> Node {
    let mut file = NamedTempFile::new().expect("a temporary file");
    let text = format!("[authorizer]\nurl = \"http://{address}/ask\"\nsecret = \"s3cret\"\n{more}\n{ROOMS}");
    file.write_all(text.as_bytes()).expect("room on the disk");
    let path = file.path();
    Node::changed(&[], |command| {
        command.arg("--config").arg(path);
    })
    .await
}

async fn join(client: &mut Client, room: &str) -> Value {
    let reply = client.call("join_room", &json!({ "room": room }).to_string()).await;
    if reply["ok"] == true { json!("ok") } else { reply["error"].clone() }
}

async fn missed(client: &mut Client, room: &str) -> Value {
    let reply = client.call("get_missed_events", &json!({"room": room, "since": now_s() * 1000}).to_string()).await;
    if reply["ok"] == true { json!("ok") } else { reply["error"].clone() }
}

#[tokio::test]
async fn it_is_asked_about_whom_the_rule_lets_in_and_has_the_last_word() {
    let oracle = Oracle::start().await;
    let node = node_at(oracle.address, "").await;
    let claims = json!({"sub": "u1", "exp": now_s() + 600, "plan": {"name": "basic"}});
    let mut client = Client::connect(node.main(), &token::with(claims.clone())).await;
    assert_eq!(join(&mut client, "order:o1").await, "ok");
    oracle.say(Say::Json(json!({"allow": false})));
    assert_eq!(join(&mut client, "order:o2").await, "forbidden");
    assert_eq!(missed(&mut client, "store:s1").await, "forbidden");
    let question = |room: &str, action: &str| {
        ("Bearer s3cret".to_owned(), json!({"claims": claims, "room": room, "action": action}))
    };
    let expected = [question("order:o1", "join"), question("order:o2", "join"), question("store:s1", "missed")];
    assert_eq!(oracle.asked(), expected);
    let mut banned = Client::connect(node.main(), &token::with(json!({"sub": "u2", "banned": true}))).await;
    oracle.say(Say::Json(json!({"allow": true})));
    assert_eq!(join(&mut banned, "order:o1").await, "forbidden");
    assert_eq!(join(&mut banned, "product:p").await, "ok");
    assert_eq!(oracle.asked().len(), 3, "nobody is asked about whom the rule keeps out, or where no class says so");
    assert_eq!(node.metric("hallway_authorizer_requests_total").await, 3.0);
    node.moves("hallway_authorizer_requests_total").await;
    node.moves("hallway_authorizer_seconds").await;
    let (_, explained) =
        node.post("/v1/policy", json!({"token": token::user("u3"), "room": "order:o1"}).to_string()).await;
    assert_eq!((&explained["allowed"], &explained["authorizer"]), (&json!(true), &json!("allowed")), "{explained}");
}

#[tokio::test]
async fn an_answer_is_good_for_its_ttl_for_what_was_asked_and_for_nothing_else() {
    let oracle = Oracle::start().await;
    let node = node_at(oracle.address, "max_ttl = \"3s\"").await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    for ttl in [json!(null), json!(0)] {
        oracle.say(Say::Json(json!({"allow": true, "ttl": ttl})));
        assert_eq!(join(&mut client, "order:once").await, "ok");
    }
    oracle.asked_times(2).await;
    oracle.say(Say::Json(json!({"allow": false, "ttl": 3600})));
    assert_eq!(join(&mut client, "order:o1").await, "forbidden");
    oracle.say(Say::Json(json!({"allow": true, "ttl": 3600})));
    assert_eq!(join(&mut client, "order:o1").await, "forbidden", "a no is remembered, too");
    oracle.asked_times(3).await;
    assert_eq!(node.metric("hallway_authorizer_shared_total").await, 1.0);
    node.moves("hallway_authorizer_shared_total").await;
    assert_eq!(missed(&mut client, "order:o1").await, "ok", "another action is another question");
    assert_eq!(join(&mut client, "order:o2").await, "ok", "another room is another question");
    oracle.asked_times(5).await;
    let mut other = Client::connect(node.main(), &token::user("u2")).await;
    assert_eq!(join(&mut other, "order:o1").await, "ok", "other claims are another question");
    oracle.asked_times(6).await;
    eventually("max_ttl ends what ttl would keep", || async {
        let mut again = Client::connect(node.main(), &token::user("u3")).await;
        join(&mut again, "order:o3").await;
        (oracle.asked().len() > 7).then_some(())
    })
    .await;
}

#[tokio::test]
async fn however_many_ask_the_same_at_once_it_is_asked_once() {
    let oracle = Oracle::start().await;
    let node = node_at(oracle.address, "timeout = \"20s\"").await;
    let token = token::user("u1");
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(Client::connect(node.main(), &token).await);
    }
    oracle.say(Say::Json(json!({"allow": true, "ttl": 60})));
    oracle.hold();
    for client in &mut clients {
        client.send(r#"42/realtime,0["join_room",{"room":"order:o1"}]"#).await;
    }
    let mut other = Client::connect(node.main(), &token).await;
    assert_eq!(join(&mut other, "product:p").await, "ok", "nobody else waits");
    oracle.asked_times(1).await;
    oracle.release();
    for client in &mut clients {
        let reply = client.frame().await.expect("a reply");
        assert!(reply.starts_with(r#"43/realtime,0[{"ok":true"#), "{reply}");
    }
    assert_eq!(oracle.asked().len(), 1);
    assert_eq!(node.metric("hallway_authorizer_shared_total").await, 9.0);
}

#[tokio::test]
async fn no_answer_is_unavailable_and_nothing_is_remembered_of_it() {
    let oracle = Oracle::start().await;
    let node = node_at(oracle.address, "timeout = \"500ms\"\nbody_bytes = 512").await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    let text = |text: &str| Say::Raw(200, text.to_owned());
    let faults = [
        Say::Nothing,
        Say::Redirect,
        Say::Endless,
        text(""),
        text("yes"),
        text("true"),
        text("[true, 60]"),
        text(r#"{"allow":"true"}"#),
        text(r#"{"allow":1}"#),
        text(r#"{"ttl":5}"#),
        text(r#"{"allow":true,"ttl":-1}"#),
        text(r#"{"allow":true,"ttl":1e300}"#),
        text(r#"{"allow":true,"ttl":"5"}"#),
        text(&format!(r#"{{"allow":true,"pad":"{}"}}"#, "x".repeat(600))),
        Say::Raw(500, r#"{"allow":true}"#.to_owned()),
        Say::Raw(403, r#"{"allow":false}"#.to_owned()),
        Say::Raw(201, r#"{"allow":true}"#.to_owned()),
    ];
    let count = faults.len();
    for (at, fault) in faults.into_iter().enumerate() {
        oracle.say(fault);
        assert_eq!(join(&mut client, "order:o1").await, "unavailable", "fault {at}");
        assert_eq!(join(&mut client, "product:p").await, "ok", "fault {at}");
    }
    assert_eq!(oracle.facts.redirected.load(Ordering::SeqCst), 0, "no redirect is followed");
    oracle.say(Say::Json(json!({"allow": true, "ttl": 60})));
    assert_eq!(join(&mut client, "order:o1").await, "ok");
    assert_eq!(oracle.asked().len(), count + 1);
    let said = |word: &str| node.log().iter().filter(|line| line.contains(word)).count();
    eventually("the end of the outage is logged", || async {
        (said("the authorizer answers again") == 1).then_some(())
    })
    .await;
    assert_eq!(said("the authorizer gives no answer"), 1, "an outage is logged once");
    assert_eq!(said("s3cret"), 0);
}

#[tokio::test]
async fn with_nobody_at_its_address_nobody_enters() {
    let node = node_at(free_address(), "").await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    assert_eq!(join(&mut client, "order:o1").await, "unavailable");
    assert_eq!(missed(&mut client, "order:o1").await, "unavailable");
    assert_eq!(join(&mut client, "product:p").await, "ok");
    let question = json!({"token": token::user("u1"), "room": "order:o1"}).to_string();
    let (_, explained) = node.post("/v1/policy", question).await;
    let expected = (&json!(false), &json!("unavailable"), &json!("unavailable"));
    assert_eq!((&explained["allowed"], &explained["reason"], &explained["authorizer"]), expected, "{explained}");
}

/// Six users who ask for the same room at once, while the service holds its answers back.
async fn six_ask(node: &Node, oracle: &Oracle) -> Vec<Client> {
    let mut clients = Vec::new();
    for user in 0..6 {
        clients.push(Client::connect(node.main(), &token::user(&format!("u{user}"))).await);
    }
    oracle.hold();
    for client in &mut clients {
        client.send(r#"42/realtime,0["join_room",{"room":"order:o1"}]"#).await;
    }
    clients
}

#[tokio::test]
async fn requests_at_once_are_bounded() {
    let oracle = Oracle::start().await;
    oracle.say(Say::Json(json!({"allow": true})));
    let node = node_at(oracle.address, "timeout = \"20s\"\nconcurrent = 2").await;
    let mut clients = six_ask(&node, &oracle).await;
    oracle.asked_times(2).await;
    oracle.release();
    for client in &mut clients {
        let reply = client.frame().await.expect("a reply");
        assert!(reply.starts_with(r#"43/realtime,0[{"ok":true"#), "{reply}");
    }
    assert_eq!(oracle.facts.most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn whoever_waits_too_long_for_a_request_is_told() {
    let oracle = Oracle::start().await;
    let node = node_at(oracle.address, "timeout = \"1s\"\nconcurrent = 2").await;
    let mut clients = six_ask(&node, &oracle).await;
    for client in &mut clients {
        let reply = client.frame().await.expect("a reply");
        assert_eq!(reply, r#"43/realtime,0[{"ok":false,"error":"unavailable"}]"#);
    }
    assert_eq!(node.metric("hallway_authorizer_requests_total").await, 6.0);
}

#[tokio::test]
async fn a_slow_answer_holds_up_its_own_socket_alone_and_keeps_its_commands_in_order() {
    let oracle = Oracle::start().await;
    let node = node_at(oracle.address, "timeout = \"20s\"").await;
    let mut slow = Client::connect(node.main(), &token::user("u1")).await;
    let mut other = Client::connect(node.main(), &token::user("u2")).await;
    oracle.hold();
    slow.send(r#"42/realtime,0["join_room",{"room":"order:o1"}]"#).await;
    slow.send(r#"42/realtime,1["join_room",{"room":"product:p"}]"#).await;
    oracle.asked_times(1).await;
    for _ in 0..20 {
        assert_eq!(join(&mut other, "product:p").await, "ok");
        other.call("leave_room", r#"{"room":"product:p"}"#).await;
    }
    assert!(slow.frame_within(Duration::from_millis(200)).await.is_err(), "the second command waits for the first");
    oracle.release();
    for ack in ["43/realtime,0[", "43/realtime,1["] {
        let reply = slow.frame().await.expect("a reply");
        assert!(reply.starts_with(ack) && reply.contains(r#""ok":true"#), "{reply}");
    }
}

#[tokio::test]
async fn joined_rooms_are_asked_about_again_at_a_refresh_and_no_answer_leaves_them() {
    let oracle = Oracle::start().await;
    let node = node_at(oracle.address, "timeout = \"500ms\"").await;
    let fresh = |n: u64| json!({"token": token::with(json!({"sub": "u1", "n": n}))}).to_string();
    for (n, fault) in [Say::Json(json!({"allow": false, "ttl": 60})), Say::Nothing].into_iter().enumerate() {
        oracle.say(Say::Json(json!({"allow": true, "ttl": 60})));
        let mut client = Client::connect(node.main(), &token::user("u1")).await;
        for room in ["order:o1", "order:o2", "store:s1", "product:p"] {
            assert_eq!(join(&mut client, room).await, "ok", "{room}");
        }
        let n = n as u64 * 2;
        assert_eq!(client.call("refresh_token", &fresh(n)).await["ok"], true);
        assert!(client.events_aside().is_empty(), "what is allowed stays");
        oracle.say(fault);
        assert_eq!(client.call("refresh_token", &fresh(n + 1)).await["ok"], true);
        let left: Vec<Value> =
            client.events_aside().into_iter().map(|(_, event)| event["event"]["payload"].clone()).collect();
        assert_eq!(left, [json!({"room": "order:o1"}), json!({"room": "order:o2"}), json!({"room": "store:s1"})]);
        node.post("/v1/publish", r#"{"rooms":["order:o1","product:p"],"type":"t","payload":1}"#).await;
        assert_eq!(client.event().await.1["event"]["meta"]["room"], "product:p");
    }
}

#[tokio::test]
async fn a_join_that_nobody_can_be_told_about_costs_the_transport_when_no_answer_comes() {
    let oracle = Oracle::start().await;
    let node = node_at(oracle.address, "timeout = \"200ms\"\n[redis]\njoin_wait = \"1s\"").await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    oracle.say(Say::Raw(503, String::new()));
    client.tell("join_room", r#"{"room":"order:o1"}"#).await;
    client.until_closed(PATIENCE).await;
    assert!(oracle.asked().len() > 1, "it is asked again meanwhile");
}

#[tokio::test]
async fn a_question_that_waits_does_not_hold_up_a_stop() {
    let oracle = Oracle::start().await;
    let mut node = node_at(oracle.address, "timeout = \"20s\"").await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    oracle.hold();
    client.send(r#"42/realtime,0["join_room",{"room":"order:o1"}]"#).await;
    oracle.asked_times(1).await;
    let (status, _) = tokio::join!(node.terminate(), client.until_closed(PATIENCE));
    assert_eq!(status.code(), Some(0));
    let log = node.log();
    assert!(!log.iter().any(|line| line.contains("some tasks did not end in time")), "{log:#?}");
}
