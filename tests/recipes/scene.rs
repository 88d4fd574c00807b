//! What happens around the apps: a Redis, a gateway at an address of its own, a token in a file, and what was published.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::app::App;
use super::ledger::Ledger;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::{eventually, free_address, http, token};

pub(super) const ROOMS: [&str; 4] = ["order:o1", "store:s1", "product:p1", "user:u1"];
/// A type that no app handles.
pub(super) const UNSEEN: &str = "order.unseen";

pub(super) struct Scene {
    pub(super) redis: Redis,
    pub(super) address: SocketAddr,
    pub(super) folder: TempDir,
    pub(super) ledger: Ledger,
    published: usize,
}

impl Scene {
    pub(super) async fn new() -> Self {
        let (redis, address, folder) = (Redis::start().await, free_address(), tempfile::tempdir().expect("a folder"));
        Self { redis, address, folder, ledger: Ledger::default(), published: 0 }
    }

    /// One whose history holds everything, whose patience with Redis is short, and whose users may be kicked.
    pub(super) async fn node(&self) -> Node {
        let (address, url) = (self.address.to_string(), self.redis.url());
        Node::with(&[
            ("HALLWAY_SERVER__LISTEN", &address),
            ("HALLWAY_REDIS__URL", &url),
            ("HALLWAY_REDIS__ANSWER_WAIT", "100ms"),
            ("HALLWAY_HISTORY__MAX_EVENTS", "5000"),
        ])
        .await
    }

    pub(super) fn tokens(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    pub(super) fn give_token(&self, token: &str) {
        std::fs::write(self.tokens(), token).expect("a file");
    }

    pub(super) fn apps(&self, offsets: &HashMap<&'static str, Value>) -> Vec<App> {
        self.apps_at(self.address, offsets)
    }

    pub(super) fn apps_at(&self, address: SocketAddr, offsets: &HashMap<&'static str, Value>) -> Vec<App> {
        let config = |name| {
            let offsets = offsets.get(name).cloned().unwrap_or_else(|| json!({}));
            json!({"url": format!("http://{address}/"), "tokens": self.tokens(), "types": ["order.changed"], "offsets": offsets})
        };
        vec![App::javascript(&config("javascript")), App::python(&config("python")), App::dart(&config("dart"))]
    }

    /// Events in one room and in several, of which the apps handle all but every seventh.
    pub(super) async fn publish(&mut self, count: usize) {
        for _ in 0..count {
            let at = self.published;
            let rooms: Vec<&str> = (0..=at % 3).map(|step| ROOMS[(at + step) % ROOMS.len()]).collect();
            let kind = if at.is_multiple_of(7) { UNSEEN } else { "order.changed" };
            self.publish_one(&rooms, kind, &json!(at)).await;
        }
    }

    /// Waits until so many sockets are in each of the rooms.
    pub(super) async fn joined(&self, rooms: &[&str], count: usize) {
        for room in rooms {
            let is_so = || async { (self.get(&format!("/v1/rooms/{room}")).await["size"] == count).then_some(()) };
            eventually(&format!("{count} are in {room}"), is_so).await;
        }
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        let request = http().get(format!("http://{}{path}", self.address)).bearer_auth(token::API_KEY);
        request.send().await.expect("the API answers").json().await.expect("JSON")
    }

    pub(super) async fn kick(&self, user: &str) -> Value {
        let request = http().post(format!("http://{}/v1/disconnect", self.address)).bearer_auth(token::API_KEY);
        let body = json!({"userId": user}).to_string();
        request.body(body).send().await.expect("the API answers").json().await.expect("JSON")
    }

    pub(super) async fn publish_one(&mut self, rooms: &[&str], kind: &str, payload: &Value) -> String {
        self.published += 1;
        let event = json!({"type": kind, "payload": payload}).to_string();
        let published = self.redis.fcall(rooms, &event, &[]).await.expect("redis is up");
        self.ledger.enter(&published, kind != UNSEEN);
        published.id
    }

    /// Waits until every app has had all that was published, and checks the order.
    pub(super) async fn all_came(&self, apps: &[App]) {
        for app in apps {
            eventually(&format!("all comes to {}", app.name), || async {
                (app.events().len() >= self.ledger.len()).then_some(())
            })
            .await;
            self.ledger.check(app.name, &app.events());
        }
    }
}
