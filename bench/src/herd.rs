//! The resume herd: a thousand clients come back to one room at once, over a link that carries its history once in a moment and
//! a thousand times never. What they get, how long it takes, what it costs Redis, and what others notice.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Args;
use redis::aio::MultiplexedConnection;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout_at};

use crate::bystanders::{Bystanders, mib};
use crate::client::Client;
use crate::crowd::Clock;
use crate::link::{Link, Shape};
use crate::process::step_aside;
use crate::publish::call;
use crate::report::say;
use crate::server::{self, Redis, Server};
use crate::verdict::{Strictness, Verdict};
use crate::{Outcome, thread};

const ROOM: &str = "order:herd";
/// Handshakes under way at a time.
const AT_ONCE: usize = 20;
/// Before a client asks again that was told `unavailable`, or comes back that was closed.
const AGAIN: Duration = Duration::from_secs(1);
/// How long others are looked at before the herd comes.
const QUIET: Duration = Duration::from_secs(5);
/// Of the time that the same answers take on a node without a narrow link: the contract's.
const SLOWER: f64 = 1.5;
/// Of the latency of others: the contract's.
const LATER: f64 = 3.0;
/// How many come back at a time where it is measured what the answers take by themselves: enough to keep the node busy, too few to
/// overrun it.
const AT_LEISURE: usize = 32;
/// Of Redis' memory, MiB: a few pages to each of a few readers.
const GROWTH_MIB: f64 = 64.0;

/// How much of it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Arguments {
    #[arg(long, default_value_t = 1000)]
    clients: usize,
    /// Events in the room's history, at most 100.
    #[arg(long, default_value_t = 100)]
    events: u64,
    /// KB of each event; both sizes of the contract, unless some are named.
    #[arg(long)]
    kb: Vec<usize>,
    /// Of the link between node and Redis, in each direction.
    #[arg(long, default_value_t = 500)]
    mbit: u64,
    /// Seconds after which those that have not got everything are given up.
    #[arg(long, default_value_t = 90)]
    patience: u64,
    #[command(flatten)]
    strictness: Strictness,
    /// The gateway; the one beside this program, unless it is named.
    #[arg(long)]
    hallway: Option<PathBuf>,
}

/// What the herd saw.
#[derive(Debug, Default)]
struct Tally {
    /// When each was let in, and when it had everything.
    joined: Vec<Duration>,
    whole: Vec<Duration>,
    unavailable: usize,
    closed: usize,
    incomplete: usize,
    /// Events twice or out of order.
    untrue: usize,
}

/// What one run gave.
#[derive(Debug)]
struct Run {
    tally: Tally,
    took: Duration,
}

pub(crate) async fn run(arguments: Arguments) -> Outcome<()> {
    step_aside()?;
    let binary = server::hallway(arguments.hallway.clone())?;
    let sizes = if arguments.kb.is_empty() { vec![8, 60] } else { arguments.kb.clone() };
    let mut verdict = Verdict::default();
    for kb in sizes {
        say(&format!(
            "\n{} clients, one room, {} events of {kb} KB, {} Mbit/s",
            arguments.clients, arguments.events, arguments.mbit
        ));
        measure(&arguments, &binary, kb, &mut verdict).await?;
    }
    verdict.end(arguments.strictness)
}

async fn measure(arguments: &Arguments, binary: &Path, kb: usize, verdict: &mut Verdict) -> Outcome<()> {
    let free = one(arguments, binary, Plan { kb, rate: None }, None).await?;
    let rate = arguments.mbit * 1_000_000 / 8;
    let narrow = one(arguments, binary, Plan { kb, rate: Some(rate) }, Some(verdict)).await?;
    let once = Duration::from_secs_f64(arguments.events as f64 * (kb * 1000) as f64 / rate as f64);
    let need = once.max(free.took).as_secs_f64();
    say(&format!(
        "the bytes once through the link {:.2} s, the same answers without it, {AT_LEISURE} at a time, {:.2} s",
        once.as_secs_f64(),
        free.took.as_secs_f64()
    ));
    let missing = arguments.clients - narrow.tally.whole.len();
    verdict.at_most("clients without everything", missing as f64, 0.0);
    verdict.at_most("time until all have everything ÷ need", narrow.took.as_secs_f64() / need, SLOWER);
    verdict.at_most(
        "events twice, out of order, or a false `complete`",
        (narrow.tally.untrue + narrow.tally.incomplete) as f64,
        0.0,
    );
    Ok(())
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    kb: usize,
    rate: Option<u64>,
}

/// One herd on a Redis and a node of its own.
async fn one(arguments: &Arguments, binary: &Path, plan: Plan, verdict: Option<&mut Verdict>) -> Outcome<Run> {
    let redis = Redis::start().await?;
    let link = Link::to(redis.address, Shape { rate: plan.rate, ..Shape::default() })?;
    let settings = [("HALLWAY_REDIS__URL", link.url()), ("HALLWAY_LIMITS__COMMANDS_PER_MINUTE", "100000".to_owned())];
    let server = Server::hallway_with(binary, &redis, &settings).await?;
    let (after, bytes) = fill(&mut redis.client().await?, arguments.events, plan.kb).await?;
    let clock = Clock::start();
    let bystanders = Bystanders::gather(&redis, &server, clock)?;
    let at_once = if plan.rate.is_some() { arguments.clients } else { AT_LEISURE };
    let patience = Duration::from_secs(arguments.patience);
    let herd = Herd { events: arguments.events, fill: plan.kb * 1000, patience, after, at_once };
    let (start, starts) = oneshot::channel();
    let (address, size) = (server.clients, arguments.clients);
    let (gathered, is_gathered) = oneshot::channel();
    let over = thread::run("herd", move || async move {
        thread::give_way()?;
        let clients = gather(address, size).await?;
        gathered.send(()).ok();
        starts.await?;
        herd.come_back(address, clients).await
    })?;
    is_gathered.await?;
    let quiet = bystanders.look(QUIET).await?;
    let (brought, from, began, cpu) = (link.brought(), clock.now(), Instant::now(), server.process.cpu()?);
    start.send(()).ok();
    let tally = over.await??;
    let took =
        tally.whole.iter().max().copied().filter(|_| tally.whole.len() == size).unwrap_or_else(|| began.elapsed());
    let cpu = server.process.cpu()?.saturating_sub(cpu);
    let brought = link.brought() - brought;
    let during = bystanders.between(from, clock.now()).await?;
    let way = if plan.rate.is_some() { "narrow" } else { "free" };
    tally.show(way, size);
    say(&format!(
        "{way:<8} {:.0} MiB through the link, {:.1} times the history; the node used {:.2} s of its core",
        mib(brought),
        brought as f64 / bytes as f64,
        cpu.as_secs_f64()
    ));
    if let Some(verdict) = verdict {
        quiet.show("quiet");
        during.show("herd");
        verdict.at_most("Redis' memory growth, MiB", during.redis_grew_mib, GROWTH_MIB);
        verdict.at_most("live p99 of other rooms ÷ quiet", during.latency.p99_ms / quiet.latency.p99_ms, LATER);
        verdict.at_most(
            "live events of other rooms that never came, came twice or out of order",
            (during.missing + during.untrue) as f64,
            0.0,
        );
        verdict.at_most("publishes by HTTP refused", during.posts_refused as f64, 0.0);
        verdict.at_most("answers of /readyz that were not 200", during.not_ready as f64, 0.0);
    }
    Ok(Run { tally, took })
}

/// Fills the history, and gives the offset before it and its bytes.
async fn fill(redis: &mut MultiplexedConnection, events: u64, kb: usize) -> Outcome<(String, u64)> {
    let mut after = String::new();
    let mut bytes = 0;
    for number in 0..=events {
        let fill = if number == 0 { 1 } else { kb * 1000 };
        let event = format!(
            r#"{{"type":"order.status_changed","payload":{{"number":{number},"fill":"{}"}}}}"#,
            "x".repeat(fill)
        );
        let reply: Vec<redis::Value> = call(&[ROOM], &event).query_async(redis).await?;
        if number == 0 {
            let place = reply.into_iter().nth(1).ok_or("a room has a place")?;
            (_, after, _) = redis::from_redis_value::<(String, String, i64)>(place)?;
        } else {
            bytes += u64::try_from(event.len())?;
        }
    }
    Ok((after, bytes))
}

async fn gather(address: std::net::SocketAddr, size: usize) -> Outcome<Vec<Client>> {
    let (mut arriving, mut clients) = (JoinSet::new(), Vec::new());
    for number in 0..size {
        arriving.spawn_local(async move { Client::connect(address, &format!("u{number}"), None).await });
        if arriving.len() == AT_ONCE
            && let Some(arrived) = arriving.join_next().await
        {
            clients.push(arrived??);
        }
    }
    while let Some(arrived) = arriving.join_next().await {
        clients.push(arrived??);
    }
    Ok(clients)
}

/// What all of them want.
#[derive(Clone, Debug)]
struct Herd {
    events: u64,
    /// Bytes of an event at the least.
    fill: usize,
    patience: Duration,
    after: String,
    /// How many of them come back at a time.
    at_once: usize,
}

/// One of them, across its transports.
#[derive(Debug)]
struct Resumer {
    number: usize,
    /// The event that comes next, and the offset of the one before.
    next: u64,
    after: String,
    joined: bool,
}

impl Herd {
    async fn come_back(self, address: std::net::SocketAddr, clients: Vec<Client>) -> Outcome<Tally> {
        let (tally, mut busy) = (Rc::new(RefCell::new(Tally::default())), JoinSet::new());
        let turns = Rc::new(Semaphore::new(self.at_once));
        let began = tokio::time::Instant::now();
        for (number, mut client) in clients.into_iter().enumerate() {
            let (herd, tally, turns) = (self.clone(), tally.clone(), turns.clone());
            busy.spawn_local(async move {
                let mut one = Resumer { number, next: 1, after: herd.after.clone(), joined: false };
                let resuming = async {
                    let _turn = turns.acquire().await;
                    while !herd.resume(&mut one, &mut client, &tally, began).await {
                        sleep(AGAIN).await;
                        if let Ok(again) = Client::connect(address, &format!("u{number}"), None).await {
                            client = again;
                        }
                    }
                };
                timeout_at(began + herd.patience, resuming).await.ok();
                client
            });
        }
        // Those who have everything stay until all have.
        let stayed = busy.join_all().await;
        drop(stayed);
        Ok(tally.take())
    }

    /// Reads until everything has come. False when the transport was closed before.
    async fn resume(
        &self,
        one: &mut Resumer,
        client: &mut Client,
        tally: &RefCell<Tally>,
        began: tokio::time::Instant,
    ) -> bool {
        if client.send(&one.join()).await.is_err() {
            tally.borrow_mut().closed += 1;
            return false;
        }
        while let Some(frame) = client.next().await {
            if frame.starts_with("43/realtime,") {
                if frame.contains(r#"{"ok":false"#) {
                    tally.borrow_mut().unavailable += 1;
                    sleep(AGAIN).await;
                    if client.send(&one.join()).await.is_err() {
                        break;
                    }
                    continue;
                }
                let mut tally = tally.borrow_mut();
                if !std::mem::replace(&mut one.joined, true) {
                    tally.joined.push(began.elapsed());
                }
                let end = frame.len().saturating_sub(100);
                tally.incomplete += usize::from(!frame[end..].contains(r#""complete":true"#));
                one.after = offset_in(&frame).unwrap_or_default();
            } else if frame.starts_with("42/realtime,") {
                one.after = last_offset_in(&frame).unwrap_or_default();
            }
            for number in numbers(&frame, self.fill) {
                tally.borrow_mut().untrue += usize::from(number != one.next);
                one.next = number + 1;
            }
            if one.next > self.events {
                tally.borrow_mut().whole.push(began.elapsed());
                return true;
            }
        }
        tally.borrow_mut().closed += 1;
        false
    }
}

impl Resumer {
    fn join(&self) -> String {
        format!(r#"42/realtime,{}["join_room",{{"room":"{ROOM}","after":"{}"}}]"#, self.number, self.after)
    }
}

impl Tally {
    fn show(&self, way: &str, size: usize) {
        let at = |times: &[Duration], share: usize| {
            let mut sorted = times.to_vec();
            sorted.sort_unstable();
            sorted
                .get((sorted.len() * share / 100).min(sorted.len().saturating_sub(1)))
                .map_or(f64::NAN, Duration::as_secs_f64)
        };
        say(&format!(
            "{way:<8} {} of {size} joined, half of them after {:.2} s, the last after {:.2} s; {} have everything, the last after {:.2} s",
            self.joined.len(),
            at(&self.joined, 50),
            at(&self.joined, 100),
            self.whole.len(),
            at(&self.whole, 100),
        ));
        say(&format!(
            "{way:<8} {} answers `unavailable`, {} transports closed, {} answers not `complete`, {} events twice or out of order",
            self.unavailable, self.closed, self.incomplete, self.untrue
        ));
    }
}

/// The numbers of the events in a frame, each of which has so many bytes at the least.
fn numbers(frame: &str, fill: usize) -> Vec<u64> {
    let (mut found, mut rest) = (Vec::new(), frame);
    while let Some(at) = rest.find(r#""number":"#) {
        let digits = &rest[at + 9..];
        found.extend(digits.split([',', '}']).next().and_then(|digits| digits.parse::<u64>().ok()));
        rest = digits.get(fill..).unwrap_or_default();
    }
    found
}

/// The offset of an answer, which stands before its events.
fn offset_in(answer: &str) -> Option<String> {
    let (_, rest) = answer.split_once(r#""offset":""#)?;
    Some(rest.split('"').next()?.to_owned())
}

/// The offset of an event, which stands behind its payload.
fn last_offset_in(event: &str) -> Option<String> {
    let (_, rest) = event.rsplit_once(r#""offset":""#)?;
    Some(rest.split('"').next()?.to_owned())
}
