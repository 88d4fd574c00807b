//! Churn: clients that join, leave, rejoin and come back at random while publishers are at full speed, on a node whose
//! feed is far too small and on one that keeps up. Whatever they do, each of them gets its rooms whole, in order, each event once (S11, S15,
//! S31, S32, S43).

mod blast;
mod ledger;
mod trouble;
mod wanderer;

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::harness::eventually;
use crate::harness::node::Node;
use crate::harness::publisher::{self, Plan, Progress, Receipt, plans, progressed};
use crate::harness::redis::Redis;
use ledger::{Leeway, Truth};
use wanderer::{Log, Wanderer};

/// How a run goes.
struct Course {
    seed: u64,
    rooms: Vec<String>,
    clients: u64,
    events_each: usize,
    kills: usize,
    /// Events of the first two rooms together, stored before anybody comes.
    past: usize,
    /// Whether histories are so short that members may have to be closed.
    lossy: bool,
    settings: Vec<(&'static str, &'static str)>,
}

/// Numbers that a seed gives.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Below `sides` (`SplitMix64`).
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).expect("small")
    }
}

impl Course {
    /// The seed is fixed, or `CHURN_SEED`.
    fn new(seed: u64) -> Self {
        let seed = std::env::var("CHURN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(seed);
        Self {
            seed,
            rooms: (0..12).map(|n| format!("order:{n}")).collect(),
            clients: 30,
            events_each: 1000,
            kills: 3,
            past: 0,
            lossy: false,
            settings: vec![("HALLWAY_REDIS__LINGER", "0s")],
        }
    }

    fn keeping(mut self, events: &'static str) -> Self {
        self.settings.push(("HALLWAY_HISTORY__MAX_EVENTS", events));
        self
    }

    async fn run(self) {
        let redis = Redis::start().await;
        let url = redis.url();
        let settings: Vec<(&str, &str)> =
            self.settings.iter().copied().chain([("HALLWAY_REDIS__URL", url.as_str())]).collect();
        let cramped = [&settings[..], &[("HALLWAY_LIMITS__FEED_ITEMS", "16")]].concat();
        let nodes = [Node::with(&cramped).await, Node::with(&settings).await];
        let mut receipts = self.lay_down(&redis).await;
        let over = CancellationToken::new();
        let wanderers = self.wanderers(&nodes, &over);
        receipts.extend(self.publish(&redis).await);
        over.cancel();
        let logs = self.part(&redis, wanderers, &mut receipts).await;
        let truth = Truth::new(&receipts);
        let leeway = if self.lossy { Leeway::everywhere() } else { Leeway::none() };
        for log in &logs {
            truth.check(log, &leeway, &format!("seed {}", self.seed));
        }
    }

    async fn lay_down(&self, redis: &Redis) -> Vec<Receipt> {
        let plan = |n| Plan { id: format!("past-{n}"), rooms: self.rooms[..2].to_vec() };
        publisher::by_fcall(redis.url(), (0..self.past).map(plan).collect(), Progress::default()).await
    }

    fn wanderers(&self, nodes: &[Node], over: &CancellationToken) -> JoinSet<Wanderer> {
        let mut wanderers = JoinSet::new();
        for n in 0..self.clients {
            let dice = Dice::new(self.seed.wrapping_mul(1000) + n);
            let addresses: Vec<_> = nodes.iter().map(Node::main).collect();
            let (rooms, over) = (self.rooms.clone(), over.clone());
            wanderers.spawn(async move {
                let mut wanderer = Wanderer::arrive(format!("client {n}"), dice, addresses).await;
                wanderer.wander(&rooms, &over).await;
                wanderer
            });
        }
        wanderers
    }

    async fn publish(&self, redis: &Redis) -> Vec<Receipt> {
        let progress = Progress::default();
        let mut publishers = JoinSet::new();
        for name in ["a", "bb", "ccc"] {
            let plans = plans(name, self.events_each, &self.rooms);
            publishers.spawn(publisher::by_fcall(redis.url(), plans, progress.clone()));
        }
        for kill in 1..=self.kills {
            progressed(&progress, kill * 3 * self.events_each / (self.kills + 1)).await;
            eventually("Redis kills connections", || kill_pubsub(redis)).await;
        }
        publishers.join_all().await.into_iter().flatten().collect()
    }

    /// A last word in every room, and everybody waits for those of its rooms.
    async fn part(&self, redis: &Redis, wanderers: JoinSet<Wanderer>, receipts: &mut Vec<Receipt>) -> Vec<Log> {
        let wanderers = wanderers.join_all().await;
        for room in &self.rooms {
            receipts.push(publisher::last_word(&redis.url(), &last_word(room), std::slice::from_ref(room)).await);
        }
        let mut parting = JoinSet::new();
        for wanderer in wanderers {
            let seed = self.seed;
            parting.spawn(async move {
                let name = wanderer.name().to_owned();
                let heard = tokio::time::timeout(Duration::from_secs(20), wanderer.part()).await;
                heard.unwrap_or_else(|_| Log { stuck: true, ..Log::new(format!("{name}, seed {seed}")) })
            });
        }
        parting.join_all().await
    }
}

/// How many it killed; none when Redis is too busy to say.
async fn kill_pubsub(redis: &Redis) -> Option<i64> {
    let mut kill = redis::cmd("CLIENT");
    kill.arg("KILL").arg("TYPE").arg("pubsub");
    kill.query_async(&mut redis.try_client().await?).await.ok()
}

fn last_word(room: &str) -> String {
    format!("last-{}", room.replace(':', "-"))
}

#[tokio::test]
async fn whatever_clients_do_they_get_their_rooms_whole_in_order_and_once() {
    Course { past: 2500, ..Course::new(1) }.keeping("100000").run().await;
}

#[tokio::test]
async fn what_a_short_history_no_longer_holds_costs_the_transport_and_is_never_skipped() {
    Course { lossy: true, ..Course::new(2) }.keeping("30").run().await;
}
