//! A gateway as its own process, with ports, logs and signals of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::record::{is_histogram, says_listening, unknown_lines, unknown_series};
use super::redis::Redis;
use super::token::{API_KEY, SECRET};
use super::{eventually, free_address, http};

/// A node on the embedded broker and one on a Redis, which is kept for as long as they run.
pub async fn both_brokers(settings: &[(&str, &str)]) -> (Redis, [Node; 2]) {
    let redis = Redis::start().await;
    let url = redis.url();
    let on_redis = [settings, &[("HALLWAY_REDIS__URL", url.as_str())]].concat();
    let nodes = [Node::with(settings).await, Node::with(&on_redis).await];
    (redis, nodes)
}

/// A running `hallway serve`.
pub struct Node {
    main: SocketAddr,
    admin: SocketAddr,
    process: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Node {
    /// One on the embedded broker.
    pub async fn embedded() -> Self {
        Self::with(&[]).await
    }

    /// One on a Redis; ready when this returns.
    pub async fn on(redis: &str) -> Self {
        Self::with(&[("HALLWAY_REDIS__URL", redis)]).await
    }

    /// One with further settings; ready when this returns.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let node = Self::start(settings).await;
        node.ready().await;
        node
    }

    /// One that listens, but need not be ready.
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        Self::launch(settings, |_| {}).await
    }

    /// One with further settings and a change to its command line or environment; ready when this returns.
    pub async fn changed(settings: &[(&str, &str)], change: impl FnOnce(&mut Command)) -> Self {
        let node = Self::launch(settings, change).await;
        node.ready().await;
        node
    }

    /// One with further settings and a change to its command line or environment, that need not be ready.
    pub async fn launch(settings: &[(&str, &str)], change: impl FnOnce(&mut Command)) -> Self {
        let (main, admin) = (free_address(), free_address());
        let mut command = Command::new(env!("CARGO_BIN_EXE_hallway"));
        command
            .arg("serve")
            .env("HALLWAY_SERVER__LISTEN", main.to_string())
            .env("HALLWAY_ADMIN__LISTEN", admin.to_string())
            .env("HALLWAY_AUTH__HS256_SECRET", SECRET)
            .env("HALLWAY_API__KEY", API_KEY)
            .envs(settings.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        change(&mut command);
        let mut process = command.spawn().expect("the gateway starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, sink) = (process.stderr.take().expect("piped"), log.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                sink.lock().expect("no panic holds the log").push(line);
            }
        });
        let node = Self { main, admin, process, log };
        eventually("the gateway says where it listens", || async { node.listens_on(admin).then_some(()) }).await;
        node
    }

    /// Waits for `/readyz` to say 200.
    pub async fn ready(&self) {
        eventually("the gateway is ready", || async { (self.readyz().await == 200).then_some(()) }).await;
    }

    /// The status of `/readyz`; 0 when it does not answer.
    pub async fn readyz(&self) -> u16 {
        let got = http().get(format!("http://{}/readyz", self.admin)).send().await;
        got.map_or(0, |response| response.status().as_u16())
    }

    /// What `/readyz` says of each check.
    pub async fn checks(&self) -> Value {
        let got = http().get(format!("http://{}/readyz", self.admin)).send().await.expect("the admin listener answers");
        got.json::<Value>().await.expect("JSON")["checks"].take()
    }

    /// The main listener.
    pub fn main(&self) -> SocketAddr {
        self.main
    }

    /// The admin listener.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Everything it wrote to stderr so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("no panic holds the log").clone()
    }

    /// Whether it has said that it listens there.
    pub fn listens_on(&self, address: SocketAddr) -> bool {
        self.log().iter().any(|line| says_listening(line, &address.to_string()))
    }

    /// What `/metrics` says, which is of the table of metrics.
    pub async fn numbers(&self) -> String {
        let text = http().get(format!("http://{}/metrics", self.admin)).send().await.expect("metrics").text().await;
        let text = text.expect("metrics are text");
        let unknown = unknown_series(&text);
        assert!(unknown.is_empty(), "enter them in src/metrics.rs: {unknown:#?}");
        text
    }

    /// Waits until a metric has moved; of a histogram, until something was observed.
    pub async fn moves(&self, metric: &str) {
        let counted = if is_histogram(metric) { format!("{metric}_count") } else { metric.to_owned() };
        eventually(&format!("{metric} moves"), || async { (self.metric(&counted).await > 0.0).then_some(()) }).await;
    }

    /// The sum of a metric over its labels; 0 while it is not there.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.numbers().await;
        let of_name = |line: &&str| line.split(['{', ' ']).next() == Some(name);
        text.lines().filter(of_name).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// `POST` to the API with the key; status and JSON body.
    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let client = http();
        let request = client.post(format!("http://{}{path}", self.main)).bearer_auth(API_KEY).body(body);
        let response = request.send().await.expect("the API answers");
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or_default())
    }

    /// `GET` from the API with the key; status and JSON body.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let client = http();
        let request = client.get(format!("http://{}{path}", self.main)).bearer_auth(API_KEY);
        let response = request.send().await.expect("the API answers");
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or_default())
    }

    /// How many sockets of all nodes are in a room, as this one knows.
    pub async fn room_size(&self, room: &str) -> u64 {
        let (status, body) = self.get(&format!("/v1/rooms/{room}")).await;
        assert_eq!(status, 200, "{body}");
        body["size"].as_u64().expect("a number")
    }

    /// Resident memory, KiB.
    pub fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("a line");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
    }

    /// Its open descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).expect("it runs").count()
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        self.process.kill().expect("it can be killed");
        self.process.wait().expect("it ends");
    }

    /// Stops it in the middle of whatever it does; its connections stay open.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    /// Sends it a signal, as in `-TERM`.
    pub fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill runs").success());
    }

    /// Asks it to stop, as Kubernetes does, and waits.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("-TERM");
        self.ended().await
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        for _ in 0..1000 {
            if let Some(status) = self.process.try_wait().expect("a child of ours") {
                return status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("the gateway did not stop");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let last = &log[log.len().saturating_sub(40)..];
            std::io::stderr().write_all(format!("the gateway wrote last:\n{}\n", last.join("\n")).as_bytes()).ok();
        }
        if self.process.try_wait().ok().flatten().is_none() {
            self.process.kill().ok();
            self.process.wait().ok();
        }
        if !std::thread::panicking() {
            let log = self.log();
            let unknown = unknown_lines(&log);
            assert!(unknown.is_empty(), "enter them in src/logs.rs: {unknown:#?}");
        }
    }
}
