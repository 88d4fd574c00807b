//! Many events at once in one room: what a delivery costs when events wait, and how late the last one is. Also the closed loop,
//! in which the next event leaves when all have the one before, and the same room at a steady pace.

use std::path::{Path, PathBuf};

use clap::Args;
use tokio::task::LocalSet;

use crate::Outcome;
use crate::crowd::Clock;
use crate::feed::Feed;
use crate::peers::Peer;
use crate::process::step_aside;
use crate::results::{Figures, Keeping};
use crate::server::{self, Redis};
use crate::swarm::{Plan, Swarm};
use crate::verdict::{Strictness, Verdict};

const CPU: &str = "CPU per delivery, µs";
const P99: &str = "lateness p99, ms";
const LAST: &str = "until the last delivery, ms";
/// Events before what is counted, in which just-in-time compilers and allocators settle.
const WARM_UP: u64 = 200;

/// How much of it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Arguments {
    #[arg(long, default_value_t = 1000)]
    sockets: usize,
    /// Events in all; as many as each of the three loads needs, unless it is named.
    #[arg(long)]
    events: Option<u64>,
    /// Events a second, at a steady pace.
    #[arg(long, default_value_t = 80)]
    rate: u32,
    /// Events in one pipeline.
    #[arg(long, default_value_t = 100)]
    batch: u64,
    /// Bytes of payload.
    #[arg(long, default_value_t = 100)]
    fill: usize,
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Only these.
    #[arg(long, value_delimiter = ',', default_value = "hallway,ws,uws,send")]
    peers: Vec<Peer>,
    #[command(flatten)]
    keeping: Keeping,
    #[command(flatten)]
    strictness: Strictness,
    /// The gateway; the one beside this program, unless it is named.
    #[arg(long)]
    hallway: Option<PathBuf>,
}

/// When events go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// All at once.
    Burst,
    /// Each when all have the one before.
    Closed,
    /// At a steady pace.
    Paced,
}

impl Load {
    const fn default_events(self) -> u64 {
        match self {
            Self::Burst => 2000,
            Self::Closed => 500,
            Self::Paced => 640,
        }
    }
}

/// All events at once.
pub(crate) async fn run(arguments: Arguments) -> Outcome<()> {
    let figures = measure_all(&arguments, Figures::new("burst"), Load::Burst).await?;
    let mut verdict = Verdict::default();
    compare(&mut verdict, &figures, (CPU, Peer::Uws), 1.0 / 1.5);
    compare(&mut verdict, &figures, (LAST, Peer::Uws), 1.0);
    verdict.end(arguments.strictness)
}

/// One event after the other. The contract has no bound for it.
pub(crate) async fn run_closed(arguments: Arguments) -> Outcome<()> {
    measure_all(&arguments, Figures::new("closed"), Load::Closed).await?;
    Verdict::default().end(arguments.strictness)
}

/// So many events a second.
pub(crate) async fn run_paced(arguments: Arguments) -> Outcome<()> {
    let figures = measure_all(&arguments, Figures::new("paced"), Load::Paced).await?;
    let mut verdict = Verdict::default();
    compare(&mut verdict, &figures, (CPU, Peer::Send), 1.2);
    compare(&mut verdict, &figures, (CPU, Peer::Ws), 0.55);
    verdict.end(arguments.strictness)
}

/// Holds Hallway's figure over a peer's to a bound, where both were measured.
fn compare(verdict: &mut Verdict, figures: &Figures, (figure, peer): (&str, Peer), bound: f64) {
    let (ours, theirs) = (Peer::Hallway.name(), peer.name());
    if figures.has(ours) && figures.has(theirs) {
        let ratio = figures.median_of(ours, figure) / figures.median_of(theirs, figure);
        verdict.at_most(&format!("{figure}, ÷ {theirs}"), ratio, bound);
    }
}

async fn measure_all(arguments: &Arguments, mut figures: Figures, load: Load) -> Outcome<Figures> {
    step_aside()?;
    let binary = server::hallway(arguments.hallway.clone())?;
    for run in 0..arguments.runs {
        let mut peers = arguments.peers.clone();
        // Each is as often the first as the last.
        peers.rotate_left(run % arguments.peers.len().max(1));
        for peer in peers {
            LocalSet::new().run_until(measure(arguments, (peer, load), &binary, &mut figures)).await?;
        }
    }
    let events = arguments.events.unwrap_or(load.default_events());
    figures.keep(&arguments.keeping, &format!("{events} events to {} sockets in one room", arguments.sockets))?;
    Ok(figures)
}

fn room(_: usize) -> String {
    "order:big".to_owned()
}

async fn measure(
    arguments: &Arguments,
    (peer, load): (Peer, Load),
    binary: &Path,
    figures: &mut Figures,
) -> Outcome<()> {
    let redis = Redis::start().await?;
    // What is measured is the delivery of all, not the point at which a queue is full.
    let settings =
        [("HALLWAY_LIMITS__QUEUE_BYTES", "64MiB".to_owned()), ("HALLWAY_LIMITS__QUEUE_FRAMES", "65536".to_owned())];
    let server = peer.start(binary, &redis, &settings).await?;
    let clock = Clock::start();
    let mut feed = Feed::start(&redis, peer, clock, arguments.fill).await?;
    let plan = Plan { sockets: arguments.sockets, room, at_once: 64, claims: 100 };
    let swarm = Swarm::gather(server.clients, &plan, clock).await?;
    let sockets = arguments.sockets as u64;
    let events = arguments.events.unwrap_or(load.default_events());
    let warm_up = WARM_UP.min(events);
    for done in 1..=warm_up {
        feed.publish_at(clock.now(), &[room(0)]).await?;
        swarm.has_heard(done * sockets).await?;
    }
    swarm.take_latency();
    let (began, before) = (clock.now(), server.process.cpu()?);
    match load {
        Load::Closed => {
            for done in 1..=events {
                feed.publish_at(clock.now(), &[room(0)]).await?;
                swarm.has_heard((warm_up + done) * sockets).await?;
            }
        }
        Load::Paced => feed.publish_paced(arguments.rate, u32::try_from(events)?, &[room(0)]).await?,
        Load::Burst => {
            let batch = vec![room(0); usize::try_from(arguments.batch)?];
            for from in (0..events).step_by(batch.len()) {
                let size = usize::try_from(arguments.batch.min(events - from))?;
                // All of them should have gone out at the beginning.
                feed.publish_at(began, batch.get(..size).unwrap_or_default()).await?;
            }
        }
    }
    swarm.has_heard((warm_up + events) * sockets).await?;
    let took = clock.now() - began;
    let used = server.process.cpu()?.saturating_sub(before);
    figures.add(peer.name(), CPU, used.as_secs_f64() * 1e6 / (sockets * events) as f64);
    figures.add(peer.name(), P99, swarm.take_latency().p99_ms);
    figures.add(peer.name(), LAST, took as f64 / 1000.0);
    Ok(())
}
