//! What a delivery costs: one room, many sockets, Hallway and a plain Socket.IO server on Node in turns.

use std::path::{Path, PathBuf};

use clap::Args;
use tokio::task::LocalSet;

use crate::Outcome;
use crate::crowd::{Clock, Crowd};
use crate::process::step_aside;
use crate::publish::{Publisher, Way};
use crate::report::{Latency, median, say};
use crate::server::{self, Redis, Server};

pub(crate) const ROOM: &str = "order:bench";
const CHANNEL: &str = "bench";
/// Seconds that are not counted, in which just-in-time compilers and allocators settle.
const WARM_UP_S: u32 = 3;

/// How much load, and how often.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Sockets in the room.
    #[arg(long, default_value_t = 1000)]
    sockets: usize,
    /// Events a second.
    #[arg(long, default_value_t = 80)]
    rate: u32,
    /// Seconds that are counted.
    #[arg(long, default_value_t = 15)]
    seconds: u32,
    /// How often each server is measured.
    #[arg(long, default_value_t = 3)]
    pairs: usize,
    /// Bytes of payload.
    #[arg(long, default_value_t = 200)]
    fill: usize,
    /// Measure Hallway alone.
    #[arg(long)]
    alone: bool,
    /// The gateway; the one beside this program, unless it is named.
    #[arg(long)]
    hallway: Option<PathBuf>,
}

/// What one run gave.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Microseconds of CPU per delivery.
    cpu_us: f64,
    latency: Latency,
}

pub(crate) async fn run(arguments: Arguments) -> Outcome<()> {
    step_aside()?;
    let binary = server::hallway(arguments.hallway.clone())?;
    say(&format!(
        "{} sockets, {} events/s, {} s; CPU per delivery in µs, latency in ms",
        arguments.sockets, arguments.rate, arguments.seconds
    ));
    say("pair  hallway cpu    p50    p99   node cpu    p50    p99   cpu ratio");
    let mut ratios = Vec::new();
    for pair in 0..arguments.pairs {
        let in_turns = pair % 2 == 0;
        let first = one(&arguments, &binary, in_turns || arguments.alone).await?;
        if arguments.alone {
            say(&format!("{pair:>4}  {}", columns(first)));
            continue;
        }
        let second = one(&arguments, &binary, !in_turns).await?;
        let (ours, theirs) = if in_turns { (first, second) } else { (second, first) };
        ratios.push(ours.cpu_us / theirs.cpu_us);
        say(&format!("{pair:>4}  {} {}  {:>9.2}", columns(ours), columns(theirs), ours.cpu_us / theirs.cpu_us));
    }
    if !ratios.is_empty() {
        say(&format!("median of the CPU ratios: {:.2}", median(ratios)));
    }
    Ok(())
}

fn columns(run: Run) -> String {
    format!("{:>11.2} {:>6.2} {:>6.2}", run.cpu_us, run.latency.p50_ms, run.latency.p99_ms)
}

async fn one(arguments: &Arguments, binary: &Path, ours: bool) -> Outcome<Run> {
    let redis = Redis::start().await?;
    let way = if ours { Way::Function } else { Way::Channel(CHANNEL) };
    let server = if ours {
        Server::hallway(binary, &redis).await?
    } else {
        Server::node(&redis, CHANNEL, ["ws", "none"]).await?
    };
    LocalSet::new().run_until(measure(arguments, &redis, &server, way)).await
}

async fn measure(arguments: &Arguments, redis: &Redis, server: &Server, way: Way) -> Outcome<Run> {
    let clock = Clock::start();
    let crowd = Crowd::gather(server.clients, ROOM, arguments.sockets, clock).await?;
    let mut publisher = Publisher { redis: redis.client().await?, way, room: ROOM, fill: arguments.fill, clock };
    let warm_up = arguments.rate * WARM_UP_S;
    publisher.publish(arguments.rate, warm_up).await?;
    crowd.has_heard(warm_up).await?;
    crowd.forget();
    let before = server.process.cpu()?;
    let events = arguments.rate * arguments.seconds;
    publisher.publish(arguments.rate, events).await?;
    crowd.has_heard(events).await?;
    let used = server.process.cpu()?.saturating_sub(before);
    let deliveries = f64::from(events) * f64::from(u32::try_from(crowd.size)?);
    Ok(Run { cpu_us: used.as_secs_f64() * 1e6 / deliveries, latency: crowd.latency() })
}
