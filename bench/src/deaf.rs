//! Ten thousand rooms on a node whose Redis is 20 ms away: how long it is deaf when its pub/sub connection breaks. A ledger says
//! whether everything came, once, in order.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::bystanders::number_in;
use crate::client::Client;
use crate::crowd::Clock;
use crate::link::{Link, Shape};
use crate::process::step_aside;
use crate::publish::call;
use crate::report::{Latency, say};
use crate::server::{self, Redis, Server};
use crate::verdict::{Strictness, Verdict};
use crate::{Outcome, thread};

/// Rooms that are joined in one act.
const JOINED_AT_ONCE: u32 = 250;
/// Between events at this rate.
const QUIET: Duration = Duration::from_secs(5);
/// What is looked at from a cut on.
const AFTER: Duration = Duration::from_secs(15);
/// What comes later than this behind the last event does not come.
const PATIENCE: Duration = Duration::from_secs(30);
/// The contract's.
const DEAF_S: f64 = 0.5;

/// How many rooms, and how far away.
#[derive(Args, Clone, Debug)]
pub(crate) struct Arguments {
    #[arg(long, default_value_t = 10_000)]
    rooms: u32,
    /// Sockets that share the rooms among them.
    #[arg(long, default_value_t = 10)]
    sockets: u32,
    /// Milliseconds to Redis and back.
    #[arg(long, default_value_t = 20)]
    distance: u32,
    /// Events a second, each in a random room.
    #[arg(long, default_value_t = 400)]
    rate: u32,
    /// How often the connection is cut.
    #[arg(long, default_value_t = 2)]
    cuts: u32,
    #[command(flatten)]
    strictness: Strictness,
    /// The gateway; the one beside this program, unless it is named.
    #[arg(long)]
    hallway: Option<PathBuf>,
}

/// What was published and what came, by number; times are the clock's.
#[derive(Debug, Default)]
struct Ledger {
    /// Room and time of each event that Redis stored.
    sent: Vec<(u32, u64)>,
    /// When each came first.
    came: HashMap<u64, u64>,
    /// Twice, or behind a later one of its room, or in a room that it is not of.
    untrue: usize,
    closed: usize,
}

type Shared = Arc<Mutex<Ledger>>;

pub(crate) async fn run(arguments: Arguments) -> Outcome<()> {
    step_aside()?;
    let binary = server::hallway(arguments.hallway.clone())?;
    let redis = Redis::start().await?;
    let delay = Duration::from_millis(u64::from(arguments.distance)) / 2;
    let link = Link::to(redis.address, Shape { delay, ..Shape::default() })?;
    let settings = [
        ("HALLWAY_REDIS__URL", link.url()),
        ("HALLWAY_LIMITS__ROOMS_PER_SOCKET", arguments.rooms.to_string()),
        ("HALLWAY_LIMITS__COMMANDS_PER_MINUTE", "100000".to_owned()),
    ];
    let server = Server::hallway_with(&binary, &redis, &settings).await?;
    let (clock, ledger) = (Clock::start(), Shared::default());
    let (over, members) = join_all(&arguments, server.clients, clock, ledger.clone())?;
    members.await??;
    say(&format!("{} rooms, Redis {} ms away, {} events/s", arguments.rooms, arguments.distance, arguments.rate));
    let (stop, publishing) = publish(&arguments, &redis, clock, ledger.clone())?;
    let mut verdict = Verdict::default();
    let from = clock.now();
    sleep(QUIET).await;
    let quiet = hold(&ledger, |ledger| ledger.latency(from, clock.now()));
    say(&format!("quiet: p50 {:.1} p99 {:.1} ms", quiet.p50_ms, quiet.p99_ms));
    let mut cuts = Vec::new();
    for _ in 0..arguments.cuts {
        let at = clock.now();
        redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").exec_async(&mut redis.client().await?).await?;
        cuts.push(at);
        sleep(AFTER).await;
    }
    stop.send(()).ok();
    publishing.await??;
    let began = std::time::Instant::now();
    while began.elapsed() < PATIENCE && hold(&ledger, |ledger| ledger.missing()) > 0 {
        sleep(Duration::from_millis(20)).await;
    }
    for at in cuts {
        let (deaf_s, late) = hold(&ledger, |ledger| ledger.deaf(at, at + as_micros(AFTER), quiet.p50_ms));
        say(&format!("a cut: {late} events came more than 50 ms later than usual"));
        verdict.at_most("seconds deaf", deaf_s, DEAF_S);
    }
    let (missing, untrue, closed) = hold(&ledger, |ledger| (ledger.missing(), ledger.untrue, ledger.closed));
    let sent = hold(&ledger, |ledger| ledger.sent.len());
    drop(over);
    verdict.at_most(
        &format!("events of {sent} that never came, came twice or out of order"),
        (missing + untrue) as f64,
        0.0,
    );
    verdict.at_most("transports closed", closed as f64, 0.0);
    verdict.end(arguments.strictness)
}

fn hold<T>(ledger: &Shared, look: impl FnOnce(&mut Ledger) -> T) -> T {
    look(&mut ledger.lock().unwrap_or_else(PoisonError::into_inner))
}

fn as_micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

impl Ledger {
    fn numbered(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let all = (0_u64..).zip(&self.sent).map(|(number, (_, at))| (number, *at));
        all.filter(move |(_, at)| (from..to).contains(at))
    }

    fn took(&self, from: u64, to: u64) -> Vec<u32> {
        let took = |(number, at)| Some(u32::try_from(self.came.get(&number)?.saturating_sub(at)).unwrap_or(u32::MAX));
        self.numbered(from, to).filter_map(took).collect()
    }

    fn latency(&self, from: u64, to: u64) -> Latency {
        Latency::of(self.took(from, to))
    }

    fn missing(&self) -> usize {
        self.numbered(0, u64::MAX).filter(|(number, _)| !self.came.contains_key(number)).count()
    }

    /// Longest time above the usual in seconds, and how many took noticeably longer; one that never came took for ever.
    fn deaf(&self, from: u64, to: u64, usual_ms: f64) -> (f64, usize) {
        let lost = self.numbered(from, to).any(|(number, _)| !self.came.contains_key(&number));
        let beyond: Vec<f64> = self.took(from, to).into_iter().map(|us| f64::from(us) / 1e6 - usual_ms / 1e3).collect();
        let longest = if lost { f64::INFINITY } else { beyond.iter().copied().fold(0.0, f64::max) };
        (longest, beyond.iter().filter(|beyond| **beyond > 0.05).count())
    }
}

fn room(number: u32) -> String {
    format!("order:r{number}")
}

/// Members of all rooms, on a thread of their own; they read until the sender is dropped.
fn join_all(
    arguments: &Arguments,
    address: SocketAddr,
    clock: Clock,
    ledger: Shared,
) -> Outcome<(watch::Sender<()>, oneshot::Receiver<Outcome<()>>)> {
    let (over, mut is_over) = watch::channel(());
    let (tell, told) = oneshot::channel();
    let (rooms, sockets) = (arguments.rooms, arguments.sockets);
    let ended = thread::run("members", move || async move {
        let mut busy = JoinSet::new();
        let joined = async {
            for socket in 0..sockets {
                let mut client = Client::connect(address, &format!("u{socket}"), None).await?;
                let own: Vec<u32> = (0..rooms).filter(|room| room % sockets == socket).collect();
                for some in own.chunks(JOINED_AT_ONCE as usize) {
                    client.join_several(&some.iter().map(|number| room(*number)).collect::<Vec<_>>()).await?;
                }
                let ledger = ledger.clone();
                busy.spawn_local(async move { listen(client, clock, ledger).await });
            }
            Ok(())
        };
        tell.send(joined.await).ok();
        is_over.changed().await.ok();
        Ok(())
    })?;
    drop(ended);
    Ok((over, told))
}

async fn listen(mut client: Client, clock: Clock, ledger: Shared) {
    let mut last: HashMap<String, u64> = HashMap::new();
    while let Some(frame) = client.next().await {
        let Some(number) = number_in(&frame) else { continue };
        let (now, own) = (clock.now(), room_in(&frame).unwrap_or_default().to_owned());
        let late = last.insert(own.clone(), number).is_some_and(|last| number <= last);
        hold(&ledger, |ledger| {
            // What Redis has stored may be here before its answer is at the publisher.
            let strange =
                usize::try_from(number).ok().and_then(|at| ledger.sent.get(at)).is_some_and(|(of, _)| room(*of) != own);
            ledger.untrue += usize::from(late || strange);
            ledger.came.entry(number).or_insert(now);
        });
    }
    hold(&ledger, |ledger| ledger.closed += 1);
}

fn room_in(frame: &str) -> Option<&str> {
    let (_, rest) = frame.split_once(r#""room":""#)?;
    rest.split('"').next()
}

/// Publishes steadily, one event after the other, until it is told to stop.
fn publish(
    arguments: &Arguments,
    redis: &Redis,
    clock: Clock,
    ledger: Shared,
) -> Outcome<(oneshot::Sender<()>, oneshot::Receiver<Outcome<()>>)> {
    let (stop, mut stopped) = oneshot::channel();
    let (url, rooms, period) = (redis.url(), u64::from(arguments.rooms), Duration::from_secs(1) / arguments.rate);
    let ended = thread::run("publisher", move || async move {
        let mut redis = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
        let (mut pace, mut dice) = (interval(period), 1_u64);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 0_u32.. {
            pace.tick().await;
            if stopped.try_recv().is_ok() {
                break;
            }
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = u32::try_from((dice >> 33) % rooms)?;
            let event = json!({"type": "order.status_changed", "payload": {"number": number}}).to_string();
            hold(&ledger, |ledger| ledger.sent.push((at, clock.now())));
            call(&[&room(at)], &event).query_async::<redis::Value>(&mut redis).await?;
        }
        Ok(())
    })?;
    Ok((stop, ended))
}
