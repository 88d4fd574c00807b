//! The recipes of `docs/clients/` as they stand, each in an app of its own, through what happens to a client: a refused
//! token, a gateway that restarts or is killed, a Redis that is away, a kick, a handler that throws. A ledger says that each
//! event came once, in the order of its rooms.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::node::Node;
use crate::harness::{eventually, token};

mod app;
mod ledger;
mod readme;
mod scene;

use app::App;
use scene::{ROOMS, Scene, UNSEEN};

async fn all_say(apps: &[App], line: &Value) {
    for app in apps {
        app.says(line).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_gets_each_event_once_and_in_order_whatever_happens() {
    let mut scene = Scene::new().await;
    let node = scene.node().await;
    let mut apps = a_token_is_refused_once(&scene).await;
    scene.publish(60).await;
    scene.all_came(&apps).await;
    let node = the_gateway_restarts_and_a_handler_throws(&mut scene, &apps, node).await;
    let _node = the_gateway_crashes_and_more_is_missed_than_a_page_holds(&mut scene, &apps, node).await;
    redis_is_away_while_a_room_is_joined(&mut scene, &mut apps).await;
    a_kick_is_told_and_kept_to(&mut scene, &mut apps).await;
    a_forbidden_room_is_told(&mut apps).await;
    let offsets = positions_follow_every_event(&mut scene, &mut apps).await;
    a_closed_one_hears_nothing_and_the_next_goes_on(&mut scene, apps, &offsets).await;
}

async fn a_token_is_refused_once(scene: &Scene) -> Vec<App> {
    scene.give_token("stale");
    let mut apps = scene.apps(&HashMap::new());
    for room in ROOMS {
        apps.iter_mut().for_each(|app| app.act(&json!({"do": "join", "room": room})));
    }
    all_say(&apps, &json!({"error": "cannot connect: unauthorized"})).await;
    scene.give_token(&token::user("u1"));
    all_say(&apps, &json!({"state": "connected"})).await;
    scene.joined(&ROOMS, apps.len()).await;
    apps
}

/// In the middle of what was missed.
async fn the_gateway_restarts_and_a_handler_throws(scene: &mut Scene, apps: &[App], mut node: Node) -> Node {
    let status = node.terminate().await;
    assert!(status.success(), "{status}");
    scene.publish(20).await;
    let thrown = scene.publish_one(&["order:o1", "store:s1"], "order.changed", &json!({"throws": true})).await;
    let rejected = scene.publish_one(&["order:o1"], "order.changed", &json!({"rejects": true})).await;
    scene.publish(20).await;
    let node = scene.node().await;
    scene.all_came(apps).await;
    all_say(apps, &json!({"error": format!("thrown at {thrown}")})).await;
    all_say(apps, &json!({"error": format!("rejected at {rejected}")})).await;
    node
}

/// In several rooms.
async fn the_gateway_crashes_and_more_is_missed_than_a_page_holds(
    scene: &mut Scene,
    apps: &[App],
    mut node: Node,
) -> Node {
    node.kill();
    scene.publish(1500).await;
    let node = scene.node().await;
    scene.all_came(apps).await;
    node
}

/// For two seconds, which is longer than the gateway waits with its answer here.
async fn redis_is_away_while_a_room_is_joined(scene: &mut Scene, apps: &mut [App]) {
    scene.redis.kill();
    apps.iter_mut().for_each(|app| app.act(&json!({"do": "join", "room": "order:o2"})));
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene.redis.restart().await;
    scene.joined(&["order:o2"], apps.len()).await;
    scene.publish_one(&["order:o2", "order:o1"], "order.changed", &json!(1)).await;
    scene.publish(20).await;
    scene.all_came(apps).await;
}

/// No client comes back before being asked to; then nothing is missing.
async fn a_kick_is_told_and_kept_to(scene: &mut Scene, apps: &mut [App]) {
    let kicked = scene.kick("u1").await;
    assert_eq!(kicked["sockets"], apps.len(), "{kicked}");
    all_say(apps, &json!({"kicked": true})).await;
    all_say(apps, &json!({"state": "kicked"})).await;
    scene.joined(&ROOMS, 0).await;
    scene.publish(20).await;
    apps.iter_mut().for_each(|app| app.act(&json!({"do": "connect"})));
    scene.all_came(apps).await;
}

async fn a_forbidden_room_is_told(apps: &mut [App]) {
    apps.iter_mut().for_each(|app| app.act(&json!({"do": "join", "room": "orders:active"})));
    all_say(apps, &json!({"error": "orders:active: forbidden"})).await;
    apps.iter_mut().for_each(|app| app.act(&json!({"do": "missed", "room": "orders:active", "since": 1})));
    all_say(apps, &json!({"refused": "get_missed_events: forbidden"})).await;
}

/// Whether its type has a handler or not; so no history had a gap.
async fn positions_follow_every_event(scene: &mut Scene, apps: &mut [App]) -> HashMap<&'static str, Value> {
    for room in ROOMS {
        scene.publish_one(&[room], UNSEEN, &json!(1)).await;
    }
    scene.publish_one(&["order:o2"], "order.changed", &json!(1)).await;
    scene.all_came(apps).await;
    let mut offsets = HashMap::new();
    for app in apps {
        app.act(&json!({"do": "offsets"}));
        let told = app.first("offsets").await;
        assert_eq!(told, scene.ledger.heads(), "{}", app.name);
        offsets.insert(app.name, told);
        assert_eq!(app.all("gap"), Vec::<Value>::new(), "{}", app.name);
    }
    offsets
}

/// The next one is made with the offsets of the closed one.
async fn a_closed_one_hears_nothing_and_the_next_goes_on(
    scene: &mut Scene,
    mut apps: Vec<App>,
    offsets: &HashMap<&'static str, Value>,
) {
    apps.iter_mut().for_each(|app| app.act(&json!({"do": "close"})));
    all_say(&apps, &json!({"did": "close"})).await;
    scene.joined(&ROOMS, 0).await;
    scene.publish(20).await;
    for (app, closed) in scene.apps(offsets).iter().zip(apps) {
        let before = closed.events();
        let all = || async { (before.len() + app.events().len() >= scene.ledger.len()).then_some(()) };
        eventually("what was missed comes", all).await;
        assert_eq!(closed.ended().events(), before, "a closed one hears nothing: {}", app.name);
        scene.ledger.check(app.name, &[before, app.events()].concat());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_shows_a_newer_token_before_its_own_expires_and_tells_a_wrong_url() {
    let scene = Scene::new().await;
    let (address, lead) = (scene.address.to_string(), ("HALLWAY_AUTH__EXPIRING_LEAD", "4s"));
    let node = Node::with(&[("HALLWAY_SERVER__LISTEN", &address), lead]).await;
    let expires = token::now_s() + 12;
    scene.give_token(&token::with(json!({"sub": "u1", "exp": expires})));
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
    let second = node().await;
    all_say(&apps, &json!({"gap": "product:p1"})).await;
    // Of the node that was killed the sizes of rooms still count.
    let joins = f64::from(u8::try_from(4 * apps.len()).expect("few"));
    eventually("they are in all rooms again", || async {
        (second.metric("hallway_joins_total").await >= joins).then_some(())
    })
    .await;
    for room in ["product:p1", "order:o3"] {
        let id = scene.publish_one(&[room], "order.changed", &json!(1)).await;
        all_say(&apps, &json!({"event": id})).await;
    }
    apps.iter_mut().for_each(|app| app.act(&json!({"do": "leave", "room": "order:o3"})));
    scene.joined(&["order:o3"], 0).await;
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

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
