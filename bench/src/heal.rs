//! Healing over a narrow link: some rooms miss much, and a room that misses nothing hears its events meanwhile as if nothing
//! were the matter.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::bystanders::{Bystanders, mib, number_in};
use crate::client::Client;
use crate::crowd::Clock;
use crate::link::{Link, Shape};
use crate::process::step_aside;
use crate::publish::call;
use crate::report::say;
use crate::server::{self, Redis, Server};
use crate::verdict::{Strictness, Verdict};
use crate::{Outcome, thread};

const QUIET: Duration = Duration::from_secs(5);
/// Of the time that the missing bytes need through the link.
const SLOWER: f64 = 1.5;
/// Of the latency of others: the contract's.
const LATER: f64 = 3.0;
/// For new connections, which come with backoff: what the contract gives a link.
const MENDED: Duration = Duration::from_secs(5);

/// How much is missing, and how narrow the way.
#[derive(Args, Clone, Debug)]
pub(crate) struct Arguments {
    #[arg(long, default_value_t = 8)]
    rooms: u32,
    /// Events that each of them misses, at most 100.
    #[arg(long, default_value_t = 64)]
    events: u64,
    /// KB of each event.
    #[arg(long, default_value_t = 60)]
    kb: usize,
    /// KB per second of the link, in each direction.
    #[arg(long, default_value_t = 3000)]
    rate: u64,
    /// Seconds after which it is given up.
    #[arg(long, default_value_t = 60)]
    patience: u64,
    #[command(flatten)]
    strictness: Strictness,
    /// The gateway; the one beside this program, unless it is named.
    #[arg(long)]
    hallway: Option<PathBuf>,
}

/// What came in each room, in its order.
type Ledger = Arc<Mutex<HashMap<u32, Vec<u64>>>>;

pub(crate) async fn run(arguments: Arguments) -> Outcome<()> {
    step_aside()?;
    let binary = server::hallway(arguments.hallway.clone())?;
    let redis = Redis::start().await?;
    let rate = arguments.rate * 1000;
    let link = Link::to(redis.address, Shape { rate: Some(rate), ..Shape::default() })?;
    let server = Server::hallway_with(&binary, &redis, &[("HALLWAY_REDIS__URL", link.url())]).await?;
    let (clock, ledger) = (Clock::start(), Ledger::default());
    let (over, joined) = join_all(server.clients, arguments.rooms, ledger.clone())?;
    joined.await??;
    let bystanders = Bystanders::gather(&redis, &server, clock)?;
    let quiet = bystanders.look(QUIET).await?;
    link.refuse(true);
    publish(&arguments, &redis).await?;
    let (began, brought) = (Instant::now(), link.brought());
    link.refuse(false);
    let mended = until_served(&bystanders, clock).await?;
    let from = clock.now();
    let expected: Vec<u64> = (0..arguments.events).collect();
    let healed = |ledger: &Ledger| {
        hold(ledger, |came| {
            (0..arguments.rooms).all(|room| came.get(&room).is_some_and(|got| got.len() >= expected.len()))
        })
    };
    while !healed(&ledger) && began.elapsed() < Duration::from_secs(arguments.patience) {
        sleep(Duration::from_millis(10)).await;
    }
    let took = began.elapsed();
    let during = bystanders.between(from, clock.now()).await?;
    let (bytes, brought) =
        (arguments.events * u64::from(arguments.rooms) * arguments.kb as u64 * 1000, link.brought() - brought);
    let need = Duration::from_secs_f64(bytes as f64 / rate as f64);
    let whole = hold(&ledger, |came| (0..arguments.rooms).filter(|room| came.get(room) == Some(&expected)).count());
    let untrue = hold(&ledger, |came| came.values().filter(|got| got.windows(2).any(|two| two[0] >= two[1])).count());
    drop(over);
    say(&format!(
        "{} rooms × {} × {} KB over {} KB/s: the bytes need {:.1} s once; {whole} rooms have everything after {:.1} s; {:.0} MiB came for {:.0} MiB",
        arguments.rooms,
        arguments.events,
        arguments.kb,
        arguments.rate,
        need.as_secs_f64(),
        took.as_secs_f64(),
        mib(brought),
        mib(bytes)
    ));
    quiet.show("quiet");
    during.show("healing");
    let mut verdict = Verdict::default();
    verdict.at_most("rooms that do not have everything", (arguments.rooms as usize - whole) as f64, 0.0);
    verdict.at_most("rooms with an event twice or out of order", untrue as f64, 0.0);
    verdict.at_most("time to heal ÷ need", took.as_secs_f64() / need.as_secs_f64(), SLOWER);
    verdict.at_most("seconds until others are heard again", mended.as_secs_f64(), MENDED.as_secs_f64());
    // Where all was healed before others were heard, there was no meanwhile.
    if mended < took {
        verdict.at_most(
            "live p99 of others while it heals ÷ quiet",
            during.latency.p99_ms / quiet.latency.p99_ms,
            LATER,
        );
    }
    verdict.at_most(
        "live events of others that never came, came twice or out of order",
        (during.missing + during.untrue) as f64,
        0.0,
    );
    verdict.at_most("publishes by HTTP refused while it heals", during.posts_refused as f64, 0.0);
    verdict.end(arguments.strictness)
}

fn hold<T>(ledger: &Ledger, look: impl FnOnce(&HashMap<u32, Vec<u64>>) -> T) -> T {
    look(&ledger.lock().unwrap_or_else(PoisonError::into_inner))
}

fn room(number: u32) -> String {
    format!("order:behind{number}")
}

/// Stores what the node does not hear of.
async fn publish(arguments: &Arguments, redis: &Redis) -> Outcome<()> {
    let (mut redis, fill) = (redis.client().await?, "x".repeat(arguments.kb * 1000));
    for number in 0..arguments.events {
        for behind in 0..arguments.rooms {
            let event = format!(r#"{{"type":"order.status_changed","payload":{{"number":{number},"fill":"{fill}"}}}}"#);
            call(&[&room(behind)], &event).query_async::<redis::Value>(&mut redis).await?;
        }
    }
    Ok(())
}

/// Waits until a live event of others comes at once again, and the node is ready. How long that took.
async fn until_served(bystanders: &Bystanders, clock: Clock) -> Outcome<Duration> {
    let began = Instant::now();
    while began.elapsed() < MENDED * 4 {
        let from = clock.now();
        sleep(Duration::from_millis(100)).await;
        if bystanders.is_served(from) {
            return Ok(began.elapsed());
        }
    }
    Ok(began.elapsed())
}

/// A member of each room, on a thread of their own; they read until the sender is dropped.
fn join_all(
    address: SocketAddr,
    rooms: u32,
    ledger: Ledger,
) -> Outcome<(watch::Sender<()>, oneshot::Receiver<Outcome<()>>)> {
    let (over, mut is_over) = watch::channel(());
    let (tell, told) = oneshot::channel();
    thread::run("members", move || async move {
        let mut busy = JoinSet::new();
        let joined = async {
            for number in 0..rooms {
                let mut client = Client::connect(address, &format!("u{number}"), None).await?;
                client.join(&room(number)).await?;
                let ledger = ledger.clone();
                busy.spawn_local(async move {
                    while let Some(frame) = client.next().await {
                        let Some(event) = number_in(&frame) else { continue };
                        ledger.lock().unwrap_or_else(PoisonError::into_inner).entry(number).or_default().push(event);
                    }
                });
            }
            Ok(())
        };
        tell.send(joined.await).ok();
        is_over.changed().await.ok();
        Ok(())
    })?;
    Ok((over, told))
}
