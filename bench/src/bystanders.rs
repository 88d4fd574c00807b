//! Those who have nothing to do with the trouble: members of other rooms, a service that publishes by HTTP, the platform that
//! asks `/readyz`, and an operator who looks at Redis' memory. They run on a thread of their own while the trouble goes on
//! elsewhere, and say what they saw in any stretch of time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc as threads;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::client::Client;
use crate::crowd::Clock;
use crate::publish::call;
use crate::report::{Latency, say};
use crate::server::{API_KEY, Redis, Server};
use crate::{Outcome, thread};

/// Rooms with a member each.
const ROOMS: u32 = 10;
/// Between two events, which go to the rooms in turns: some hundreds in the second that a herd takes, since of a hundred the 99th
/// percentile is no more than the worst one.
const PERIOD: Duration = Duration::from_millis(2);
/// Between two publishes by HTTP, two looks at `/readyz` and two at Redis.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long a service waits for the answer to a publish, and the platform for that of a probe, as a kubelet does.
const PUBLISH_WAIT: Duration = Duration::from_secs(10);
const PROBE_WAIT: Duration = Duration::from_secs(1);
/// An event that has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// See the module. They end with this.
#[derive(Debug)]
pub(crate) struct Bystanders {
    seen: Arc<Mutex<Seen>>,
    clock: Clock,
    _ends_with_this: watch::Sender<()>,
}

/// All times are the clock's.
#[derive(Debug, Default)]
struct Seen {
    /// When each event was published, by its number.
    sent: Vec<u64>,
    /// When each came.
    came: HashMap<u64, u64>,
    /// Twice, or behind a later one.
    untrue: usize,
    /// When each publish by HTTP was begun; its status, 0 where none came, and what it took, once that is known.
    posted: Vec<(u64, Option<(u16, u64)>)>,
    probed: Vec<(u64, u16)>,
    memory: Vec<(u64, Memory)>,
}

/// What Redis says of its memory, bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    used: u64,
    clients: u64,
}

/// What they saw in a stretch of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    pub(crate) latency: Latency,
    pub(crate) longest_ms: f64,
    /// Events that never came.
    pub(crate) missing: usize,
    pub(crate) untrue: usize,
    pub(crate) posts: usize,
    pub(crate) posts_refused: usize,
    pub(crate) longest_post_ms: f64,
    pub(crate) probes: usize,
    pub(crate) not_ready: usize,
    /// What Redis used at the most over what it used at first, and what it kept for its clients, MiB.
    pub(crate) redis_grew_mib: f64,
    pub(crate) redis_clients_mib: f64,
}

impl Bystanders {
    /// All of them, each member in its room.
    pub(crate) fn gather(redis: &Redis, server: &Server, clock: Clock) -> Outcome<Self> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (over, mut is_over) = watch::channel(());
        let (tell, told) = threads::channel();
        let scene =
            Scene { redis: redis.address, clients: server.clients, admin: server.admin, clock, seen: seen.clone() };
        thread::run("bystanders", move || async move {
            let mut busy = JoinSet::new();
            tell.send(scene.settle(&mut busy).await)?;
            is_over.changed().await.ok();
            Ok(())
        })?;
        told.recv()??;
        Ok(Self { seen, clock, _ends_with_this: over })
    }

    /// What they see in the next while.
    pub(crate) async fn look(&self, span: Duration) -> Outcome<Stretch> {
        let from = self.clock.now();
        sleep(span).await;
        self.between(from, self.clock.now()).await
    }

    /// Whether an event has come that was published since then, and the node has said since then that it is ready.
    pub(crate) fn is_served(&self, since: u64) -> bool {
        let seen = hold(&self.seen);
        let is_ready = Seen::of(&seen.probed, since, u64::MAX).last() == Some(&200);
        is_ready && seen.numbers(since, u64::MAX).any(|(number, _)| seen.came.contains_key(&number))
    }

    /// What they saw between two times; waits for the events that are on their way.
    pub(crate) async fn between(&self, from: u64, to: u64) -> Outcome<Stretch> {
        let began = std::time::Instant::now();
        while began.elapsed() < PATIENCE && hold(&self.seen).waits(from, to) {
            sleep(Duration::from_millis(20)).await;
        }
        Ok(hold(&self.seen).stretch(from, to))
    }
}

fn hold(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seen {
    fn of<T: Copy>(all: &[(u64, T)], from: u64, to: u64) -> Vec<T> {
        all.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, what)| *what).collect()
    }

    fn numbers(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let numbered = (0_u64..).zip(self.sent.iter().copied());
        numbered.filter(move |(_, at)| (from..to).contains(at))
    }

    fn missing(&self, from: u64, to: u64) -> usize {
        self.numbers(from, to).filter(|(number, _)| !self.came.contains_key(number)).count()
    }

    fn waits(&self, from: u64, to: u64) -> bool {
        self.missing(from, to) > 0 || Self::of(&self.posted, from, to).iter().any(Option::is_none)
    }

    fn stretch(&self, from: u64, to: u64) -> Stretch {
        let took = |(number, at): (u64, u64)| Some(as_micros(self.came.get(&number)?.saturating_sub(at)));
        let micros: Vec<u32> = self.numbers(from, to).filter_map(took).collect();
        let posts: Vec<(u16, u64)> = Self::of(&self.posted, from, to).into_iter().flatten().collect();
        let probes = Self::of(&self.probed, from, to);
        let memory = Self::of(&self.memory, from, to);
        let first = memory.first().map_or(0, |memory| memory.used);
        let most = memory.iter().map(|memory| memory.used).max().unwrap_or_default();
        Stretch {
            longest_ms: f64::from(micros.iter().copied().max().unwrap_or_default()) / 1000.0,
            // Nothing published is nothing known: no bound holds then.
            latency: if micros.is_empty() { Latency::unknown() } else { Latency::of(micros) },
            missing: self.missing(from, to),
            untrue: self.untrue,
            posts: posts.len(),
            posts_refused: posts.iter().filter(|(status, _)| *status != 200).count(),
            longest_post_ms: f64::from(as_micros(posts.iter().map(|(_, took)| *took).max().unwrap_or_default()))
                / 1000.0,
            probes: probes.len(),
            not_ready: probes.iter().filter(|status| **status != 200).count(),
            redis_grew_mib: mib(most.saturating_sub(first)),
            redis_clients_mib: mib(memory.iter().map(|memory| memory.clients).max().unwrap_or_default()),
        }
    }
}

fn as_micros(micros: u64) -> u32 {
    u32::try_from(micros).unwrap_or(u32::MAX)
}

/// Bytes as MiB.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

impl Stretch {
    /// Two lines for the person who runs this.
    pub(crate) fn show(&self, when: &str) {
        say(&format!(
            "{when:<8} live events elsewhere p50 {:.2} p99 {:.2} longest {:.0} ms, {} never came, {} twice or out of order",
            self.latency.p50_ms, self.latency.p99_ms, self.longest_ms, self.missing, self.untrue
        ));
        say(&format!(
            "{when:<8} publishes by HTTP {} of {} refused, longest {:.0} ms; /readyz {} of {} not 200; Redis grew by {:.0} MiB, {:.0} MiB of it for clients",
            self.posts_refused,
            self.posts,
            self.longest_post_ms,
            self.not_ready,
            self.probes,
            self.redis_grew_mib,
            self.redis_clients_mib
        ));
    }
}

/// What they need to be there.
#[derive(Clone)]
struct Scene {
    redis: SocketAddr,
    clients: SocketAddr,
    admin: SocketAddr,
    clock: Clock,
    seen: Arc<Mutex<Seen>>,
}

impl Scene {
    /// Brings everybody in; they go on until `busy` is dropped.
    async fn settle(&self, busy: &mut JoinSet<Outcome<()>>) -> Outcome<()> {
        for number in 0..ROOMS {
            let mut member = Client::connect(self.clients, &format!("bystander{number}"), None).await?;
            member.join(&room(number)).await?;
            let scene = self.clone();
            busy.spawn_local(async move { scene.listen(member).await });
        }
        let redis = redis::Client::open(format!("redis://{}", self.redis))?;
        let (publisher, operator) =
            (redis.get_multiplexed_async_connection().await?, redis.get_multiplexed_async_connection().await?);
        let [first, second, third, fourth] = std::array::from_fn(|_| self.clone());
        busy.spawn_local(async move { first.publish(publisher).await });
        busy.spawn_local(async move { second.watch(operator).await });
        busy.spawn_local(async move { third.post().await });
        busy.spawn_local(async move { fourth.probe().await });
        Ok(())
    }

    async fn listen(&self, mut member: Client) -> Outcome<()> {
        let mut last = None;
        while let Some(frame) = member.next().await {
            let Some(number) = number_in(&frame) else { continue };
            let mut seen = hold(&self.seen);
            if last.is_some_and(|last| number <= last) {
                seen.untrue += 1;
            }
            last = Some(number);
            seen.came.entry(number).or_insert_with(|| self.clock.now());
        }
        Ok(())
    }

    async fn publish(&self, mut redis: MultiplexedConnection) -> Outcome<()> {
        let mut pace = interval(PERIOD);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 0_u32.. {
            pace.tick().await;
            hold(&self.seen).sent.push(self.clock.now());
            let event = format!(
                r#"{{"type":"order.status_changed","payload":{{"number":{number},"fill":"{}"}}}}"#,
                "x".repeat(200)
            );
            call(&[&room(number % ROOMS)], &event).query_async::<redis::Value>(&mut redis).await?;
        }
        Ok(())
    }

    async fn watch(&self, mut redis: MultiplexedConnection) -> Outcome<()> {
        loop {
            let text: String = redis::cmd("INFO").arg("memory").query_async(&mut redis).await?;
            let field =
                |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0);
            let memory = Memory { used: field("used_memory:"), clients: field("mem_clients_normal:") };
            hold(&self.seen).memory.push((self.clock.now(), memory));
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn post(&self) -> Outcome<()> {
        let (http, url) =
            (reqwest::Client::builder().timeout(PUBLISH_WAIT).build()?, format!("http://{}/v1/publish", self.clients));
        let body =
            json!({"room": "order:posted", "type": "order.status_changed", "payload": {"fill": "x".repeat(200)}});
        let (mut pace, mut under_way) = (interval(LOOK_AGAIN), JoinSet::new());
        loop {
            pace.tick().await;
            let request = http.post(&url).bearer_auth(API_KEY).body(body.to_string());
            let scene = self.clone();
            under_way.spawn_local(async move {
                let began = scene.clock.now();
                let at = {
                    let posted = &mut hold(&scene.seen).posted;
                    posted.push((began, None));
                    posted.len() - 1
                };
                let status = request.send().await.map_or(0, |response| response.status().as_u16());
                hold(&scene.seen).posted[at].1 = Some((status, scene.clock.now() - began));
            });
            while under_way.try_join_next().is_some() {}
        }
    }

    async fn probe(&self) -> Outcome<()> {
        let (http, url) =
            (reqwest::Client::builder().timeout(PROBE_WAIT).build()?, format!("http://{}/readyz", self.admin));
        loop {
            let began = self.clock.now();
            let status = http.get(&url).send().await.map_or(0, |response| response.status().as_u16());
            hold(&self.seen).probed.push((began, status));
            sleep(LOOK_AGAIN).await;
        }
    }
}

fn room(number: u32) -> String {
    format!("order:bystander{number}")
}

/// The number that the publisher wrote into the payload.
pub(crate) fn number_in(frame: &str) -> Option<u64> {
    let (_, rest) = frame.split_once(r#""number":"#)?;
    rest.split([',', '}']).next()?.parse().ok()
}
