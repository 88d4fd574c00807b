//! The recipes of `docs/clients/` as they stand, each in an app of its own, through what happens to a client: a refused
//! token, a gateway that restarts or is killed, a Redis that is away, a kick, a handler that throws. A ledger says that each
//! event came once, in the order of its rooms.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::{eventually, free_address, http, token};

mod app;
mod ledger;
mod readme;

use app::App;
use ledger::Ledger;

const ROOMS: [&str; 4] = ["order:o1", "store:s1", "product:p1", "user:u1"];
/// A type that no app handles.
const UNSEEN: &str = "order.unseen";

struct Scene {
    redis: Redis,
    address: SocketAddr,
    folder: TempDir,
    ledger: Ledger,
    published: usize,
}

impl Scene {
    async fn new() -> Self {
        let (redis, address, folder) = (Redis::start().await, free_address(), tempfile::tempdir().expect("a folder"));
        Self { redis, address, folder, ledger: Ledger::default(), published: 0 }
    }

    /// One whose history holds everything, whose patience with Redis is short, and whose users may be kicked.
    async fn node(&self) -> Node {
        let (address, url) = (self.address.to_string(), self.redis.url());
        Node::with(&[
            ("HALLWAY_SERVER__LISTEN", &address),
            ("HALLWAY_REDIS__URL", &url),
            ("HALLWAY_REDIS__ANSWER_WAIT", "100ms"),
            ("HALLWAY_HISTORY__MAX_EVENTS", "5000"),
        ])
        .await
    }

    fn tokens(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    fn give_token(&self, token: &str) {
        std::fs::write(self.tokens(), token).expect("a file");
    }

    fn apps(&self, offsets: &HashMap<&'static str, Value>) -> Vec<App> {
        self.apps_at(self.address, offsets)
    }

    fn apps_at(&self, address: SocketAddr, offsets: &HashMap<&'static str, Value>) -> Vec<App> {
        let config = |name| {
            let offsets = offsets.get(name).cloned().unwrap_or_else(|| json!({}));
            json!({"url": format!("http://{address}/"), "tokens": self.tokens(), "types": ["order.changed"], "offsets": offsets})
        };
        vec![App::javascript(&config("javascript")), App::python(&config("python")), App::dart(&config("dart"))]
    }

    /// Events in one room and in several, of which the apps handle all but every seventh.
    async fn publish(&mut self, count: usize) {
        for _ in 0..count {
            let at = self.published;
            let rooms: Vec<&str> = (0..=at % 3).map(|step| ROOMS[(at + step) % ROOMS.len()]).collect();
            let kind = if at.is_multiple_of(7) { UNSEEN } else { "order.changed" };
            self.publish_one(&rooms, kind, &json!(at)).await;
        }
    }

    /// Waits until so many sockets are in each of the rooms.
    async fn joined(&self, rooms: &[&str], count: usize) {
        for room in rooms {
            let is_so = || async { (self.get(&format!("/v1/rooms/{room}")).await["size"] == count).then_some(()) };
            eventually(&format!("{count} are in {room}"), is_so).await;
        }
    }

    async fn get(&self, path: &str) -> Value {
        let request = http().get(format!("http://{}{path}", self.address)).bearer_auth(token::API_KEY);
        request.send().await.expect("the API answers").json().await.expect("JSON")
    }

    async fn kick(&self, user: &str) -> Value {
        let request = http().post(format!("http://{}/v1/disconnect", self.address)).bearer_auth(token::API_KEY);
        let body = json!({"userId": user}).to_string();
        request.body(body).send().await.expect("the API answers").json().await.expect("JSON")
    }

    async fn publish_one(&mut self, rooms: &[&str], kind: &str, payload: &Value) -> String {
        self.published += 1;
        let event = json!({"type": kind, "payload": payload}).to_string();
        let published = self.redis.fcall(rooms, &event, &[]).await.expect("redis is up");
        self.ledger.enter(&published, kind != UNSEEN);
        published.id
    }

    /// Waits until every app has had all that was published, and checks the order.
    async fn all_came(&self, apps: &[App]) {
        for app in apps {
            eventually(&format!("all comes to {}", app.name), || async {
                (app.events().len() >= self.ledger.len()).then_some(())
            })
            .await;
            self.ledger.check(app.name, &app.events());
        }
    }
}

async fn all_say(apps: &[App], line: &Value) {
    for app in apps {
        app.says(line).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_gets_each_event_once_and_in_order_whatever_happens() {
    let mut scene = Scene::new().await;
    let mut node = scene.node().await;

    // A token that is refused is asked for again; one that ends soon is renewed, once.
    scene.give_token("stale");
    let mut apps = scene.apps(&HashMap::new());
    for room in ROOMS {
        apps.iter_mut().for_each(|app| app.act(&json!({"do": "join", "room": room})));
    }
    all_say(&apps, &json!({"error": "cannot connect: unauthorized"})).await;
    scene.give_token(&token::user("u1"));
    all_say(&apps, &json!({"state": "connected"})).await;
    scene.joined(&ROOMS, apps.len()).await;

    scene.publish(60).await;
    scene.all_came(&apps).await;

    // The gateway restarts, and a handler throws in the middle of what was missed.
    let status = node.terminate().await;
    assert!(status.success());
    scene.publish(20).await;
    let thrown = scene.publish_one(&["order:o1", "store:s1"], "order.changed", &json!({"throws": true})).await;
    let rejected = scene.publish_one(&["order:o1"], "order.changed", &json!({"rejects": true})).await;
    scene.publish(20).await;
    let mut node = scene.node().await;
    scene.all_came(&apps).await;
    all_say(&apps, &json!({"error": format!("thrown at {thrown}")})).await;
    all_say(&apps, &json!({"error": format!("rejected at {rejected}")})).await;

    // The gateway crashes, and more is missed than a page holds, in several rooms.
    node.kill();
    scene.publish(1500).await;
    let _node = scene.node().await;
    scene.all_came(&apps).await;

    // Redis is away for two seconds, and meanwhile a room is joined.
    scene.redis.kill();
    apps.iter_mut().for_each(|app| app.act(&json!({"do": "join", "room": "order:o2"})));
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene.redis.restart().await;
    scene.joined(&["order:o2"], apps.len()).await;
    scene.publish_one(&["order:o2", "order:o1"], "order.changed", &json!(1)).await;
    scene.publish(20).await;
    scene.all_came(&apps).await;

    // A kick is told, and nobody comes back before being asked to; then nothing is missing.
    let kicked = scene.kick("u1").await;
    assert_eq!(kicked["sockets"], apps.len(), "{kicked}");
    all_say(&apps, &json!({"kicked": true})).await;
    all_say(&apps, &json!({"state": "kicked"})).await;
    scene.publish(20).await;
    apps.iter_mut().for_each(|app| app.act(&json!({"do": "connect"})));
    scene.all_came(&apps).await;

    // What is asked of a room, and what a refused room is told.
    apps.iter_mut().for_each(|app| app.act(&json!({"do": "join", "room": "orders:active"})));
    all_say(&apps, &json!({"error": "orders:active: forbidden"})).await;
    apps.iter_mut().for_each(|app| app.act(&json!({"do": "missed", "room": "orders:active", "since": 1})));
    all_say(&apps, &json!({"refused": "get_missed_events: forbidden"})).await;

    // Positions follow every event, handled or not; no history had a gap.
    for room in ROOMS {
        scene.publish_one(&[room], UNSEEN, &json!(1)).await;
    }
    scene.publish_one(&["order:o2"], "order.changed", &json!(1)).await;
    scene.all_came(&apps).await;
    let mut offsets = HashMap::new();
    for app in &mut apps {
        app.act(&json!({"do": "offsets"}));
        let told = app.first("offsets").await;
        assert_eq!(told, scene.ledger.heads(), "{}", app.name);
        offsets.insert(app.name, told);
        assert_eq!(app.all("gap"), Vec::<Value>::new(), "{}", app.name);
    }

    // A closed one is gone, and hears nothing; one that is made with its offsets goes on where it was.
    apps.iter_mut().for_each(|app| app.act(&json!({"do": "close"})));
    all_say(&apps, &json!({"did": "close"})).await;
    scene.joined(&ROOMS, 0).await;
    scene.publish(20).await;
    let before: Vec<_> = apps.iter().map(App::events).collect();
    let again = scene.apps(&offsets);
    for (app, (before, closed)) in again.iter().zip(before.into_iter().zip(apps)) {
        app.says(&json!({"state": "connected"})).await;
        eventually("what was missed comes", || async {
            (before.len() + app.events().len() >= scene.ledger.len()).then_some(())
        })
        .await;
        assert_eq!(closed.ended().events(), before, "a closed one hears nothing: {}", app.name);
        scene.ledger.check(app.name, &[before, app.events()].concat());
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_shows_a_newer_token_before_its_own_expires_and_tells_a_wrong_url() {
    let scene = Scene::new().await;
    let expires = token::now_s() + 8;
    scene.give_token(&token::with(json!({"sub": "u1", "exp": expires})));
    let (address, lead) = (scene.address.to_string(), ("HALLWAY_AUTH__EXPIRING_LEAD", "5s"));
    let node = Node::with(&[("HALLWAY_SERVER__LISTEN", &address), lead]).await;
    let apps = scene.apps(&HashMap::new());
    all_say(&apps, &json!({"state": "connected"})).await;
    scene.give_token(&token::user("u1"));
    let asked = |app: &App| app.all("asked").len();
    for app in &apps {
        eventually("it asks for another one", || async { (asked(app) == 2).then_some(()) }).await;
    }
    // A URL of something else is told, with the status; what listens at the admin address is no gateway.
    for app in scene.apps_at(node.admin(), &HashMap::new()) {
        let error = app.first("error").await;
        let error = error.as_str().expect("a sentence");
        assert!(error.starts_with("cannot connect: ") && error.contains("404"), "{}: {error}", app.name);
    }
    eventually("the first one has expired", || async { (token::now_s() > expires + 1).then_some(()) }).await;
    for app in &apps {
        assert_eq!(asked(app), 2, "{}", app.name);
        assert_eq!(app.all("error"), Vec::<Value>::new(), "{}", app.name);
        assert_eq!(app.all("state").last(), Some(&json!("connected")), "{}", app.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_and_costs_no_other_room() {
    let mut scene = Scene::new().await;
    scene.give_token(&token::user("u1"));
    let mut apps = scene.apps(&HashMap::new());
    for app in &apps {
        eventually("a gateway that is away is told", || async { app.all("error").first().cloned() }).await;
    }
    for room in ["product:p1", "order:o1", "order:o2", "order:o3", "order:o4"] {
        apps.iter_mut().for_each(|app| app.act(&json!({"do": "join", "room": room})));
    }
    all_say(&apps, &json!({"did": "join"})).await;
    let config = scene.folder.path().join("hallway.toml");
    std::fs::write(&config, "[rooms.\"product:{productId}\"]\nhistory = { max_events = 0 }\n").expect("a file");
    let (address, url) = (scene.address.to_string(), scene.redis.url());
    let settings = [
        ("HALLWAY_SERVER__LISTEN", address.as_str()),
        ("HALLWAY_REDIS__URL", &url),
        ("HALLWAY_LIMITS__ROOMS_PER_SOCKET", "4"),
    ];
    let node = async || {
        Node::changed(&settings, |command| {
            command.arg("--config").arg(&config);
        })
        .await
    };

    // One room more than a socket may have.
    let mut first = node().await;
    scene.joined(&["product:p1", "order:o1", "order:o2", "order:o3"], apps.len()).await;
    all_say(&apps, &json!({"error": "order:o4: too-many-rooms"})).await;

    // A room without a history has no offset to go on from.
    first.kill();
    let _second = node().await;
    scene.joined(&["product:p1", "order:o1", "order:o2", "order:o3"], apps.len()).await;
    all_say(&apps, &json!({"gap": "product:p1"})).await;
    for room in ["product:p1", "order:o3"] {
        let id = scene.publish_one(&[room], "order.changed", &json!(1)).await;
        all_say(&apps, &json!({"event": id})).await;
    }
    let gaps: Vec<_> = apps.iter().map(|app| app.all("gap")).collect();
    assert!(gaps.iter().all(|gaps| gaps == &[json!("product:p1")]), "{gaps:?}");
}

#[test]
fn the_dart_recipe_is_dart() {
    let python = app::installed("tests/e2e/.venv/bin/python");
    let read = Command::new(python)
        .current_dir(repository())
        .args(["tests/recipes/parse.py", "docs/clients/realtime.dart"])
        .output()
        .expect("python runs");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
}
