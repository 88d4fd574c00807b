//! A link that is slow is not silent: what arrives of an answer is a sign of life, though the answer is not whole yet.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hallway::link::{Link, LinkSettings};
use redis::{Client, cmd};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::harness::proxy::Proxy;
use crate::harness::redis::Redis;

/// Longer than a connection may be silent, than one that was replaced may be, and than `redis.response_timeout`.
const LONG: Duration = Duration::from_secs(6);
const RATE: u64 = 500_000;

fn settings(name: &'static str) -> LinkSettings {
    let (connect_timeout, response_timeout) = (Duration::from_secs(2), Duration::from_secs(5));
    LinkSettings { name, connect_timeout, response_timeout, block: Duration::ZERO }
}

struct Rig {
    redis: Redis,
    proxy: Proxy,
    link: Link,
    stop: CancellationToken,
}

impl Rig {
    async fn start(name: &'static str) -> Self {
        let redis = Redis::start_forgetful().await;
        let big = vec![b'x'; usize::try_from(RATE * LONG.as_secs()).expect("it fits")];
        cmd("SET").arg("big").arg(big).exec_async(&mut redis.client().await).await.expect("redis is up");
        let proxy = Proxy::to(redis.address()).await;
        let client = Client::open(proxy.url()).expect("a url");
        let (link, keeper) = Link::new(&client, settings(name)).expect("a link");
        let stop = CancellationToken::new();
        TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(keeper.run_loop()));
        link.wait_until_connected().await;
        proxy.throttle(name, RATE);
        Self { redis, proxy, link, stop }
    }

    async fn fetch(&self) -> (usize, Duration) {
        let (mut link, began) = (self.link.clone(), Instant::now());
        let big: Vec<u8> = cmd("GET").arg("big").query_async(&mut link).await.expect("it arrives");
        (big.len(), began.elapsed())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn a_large_answer_on_a_slow_network_arrives_and_nothing_is_replaced() {
    let rig = Rig::start("slow").await;
    let (bytes, took) = rig.fetch().await;
    assert_eq!(bytes as u64, RATE * LONG.as_secs());
    assert!(took >= LONG - Duration::from_millis(500), "it was slow: {took:?}");
    assert_eq!((rig.proxy.made(), rig.link.generation()), (1, 1));
}

#[tokio::test]
async fn a_connection_that_was_replaced_still_brings_what_was_asked_on_it() {
    let rig = Rig::start("replaced").await;
    let mut admin = rig.redis.client().await;
    cmd("ACL").arg(&["SETUSER", "default", "-strlen"]).exec_async(&mut admin).await.expect("redis is up");
    let refused = async {
        let refusal = cmd("STRLEN").arg("big").exec_async(&mut rig.link.clone()).await;
        refusal.expect_err("which is a reason to try another connection");
        rig.link.connected_after(1).await
    };
    let (generation, (bytes, _)) = tokio::join!(refused, rig.fetch());
    assert_eq!((generation, bytes as u64), (2, RATE * LONG.as_secs()));
}

#[tokio::test]
async fn a_link_over_a_unix_socket_is_heard_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("redis.sock");
    let mut server = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--unixsocket"])
        .arg(&socket)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed (./check installs it)");
    let client = Client::open(format!("unix://{}", socket.display())).expect("a url");
    let (link, keeper) = Link::new(&client, settings("socket")).expect("a link");
    let stop = CancellationToken::new();
    TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(keeper.run_loop()));
    link.wait_until_connected().await;
    let answer: String = cmd("ECHO").arg("heard").query_async(&mut link.clone()).await.expect("it answers");
    assert_eq!(answer, "heard");
    stop.cancel();
    server.kill().expect("it runs");
    server.wait().expect("it ends");
}
