//! What an idle phone costs: memory per joined socket, at rest, while all connect at once, and after a large event to each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tokio::task::LocalSet;
use tokio::time::sleep;

use crate::Outcome;
use crate::crowd::Clock;
use crate::feed::Feed;
use crate::peers::Peer;
use crate::process::step_aside;
use crate::report::say;
use crate::results::{Figures, Keeping};
use crate::server::{self, Redis, Server};
use crate::swarm::{Plan, Swarm};
use crate::verdict::{Strictness, Verdict};

const REST: &str = "RSS per idle socket, KiB";
const PEAK: &str = "peak RSS while they connect, MiB";
const AFTER: &str = "RSS after an event to each ÷ before";
const CPU: &str = "CPU per socket and second at rest, µs";

/// How many of them.
#[derive(Args, Clone, Debug)]
pub(crate) struct Arguments {
    #[arg(long, default_value_t = 9500)]
    sockets: usize,
    /// Handshakes under way at a time.
    #[arg(long, default_value_t = 512)]
    at_once: usize,
    /// Bytes of claims in each token.
    #[arg(long, default_value_t = 400)]
    claims: usize,
    /// KB of the event that each gets.
    #[arg(long, default_value_t = 60)]
    kb: usize,
    /// Seconds of rest before memory is read.
    #[arg(long, default_value_t = 5)]
    settle: u64,
    /// Seconds of rest in which CPU is read: longer than a period of pings.
    #[arg(long, default_value_t = 26)]
    seconds: u64,
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Only these.
    #[arg(long, value_delimiter = ',', default_value = "hallway,ws,uws,socketioxide")]
    peers: Vec<Peer>,
    #[command(flatten)]
    keeping: Keeping,
    #[command(flatten)]
    strictness: Strictness,
    /// The gateway; the one beside this program, unless it is named.
    #[arg(long)]
    hallway: Option<PathBuf>,
}

pub(crate) async fn run(arguments: Arguments) -> Outcome<()> {
    step_aside()?;
    let binary = server::hallway(arguments.hallway.clone())?;
    let mut figures = Figures::new("idle");
    for _ in 0..arguments.runs {
        for peer in &arguments.peers {
            LocalSet::new().run_until(measure(&arguments, *peer, &binary, &mut figures)).await?;
        }
    }
    figures
        .keep(&arguments.keeping, &format!("{} sockets, claims of {} bytes", arguments.sockets, arguments.claims))?;
    let ours = Peer::Hallway.name();
    let mut verdict = Verdict::default();
    if figures.has(ours) {
        verdict.at_most(REST, figures.median_of(ours, REST), 4.0);
        verdict.at_most(PEAK, figures.median_of(ours, PEAK), 60.0);
        verdict.at_most(AFTER, figures.median_of(ours, AFTER), 1.1);
        verdict.at_most(CPU, figures.median_of(ours, CPU), 0.6);
    }
    verdict.end(arguments.strictness)
}

fn room(_: usize) -> String {
    "order:idle".to_owned()
}

fn warm_room(_: usize) -> String {
    "order:warm".to_owned()
}

async fn measure(arguments: &Arguments, peer: Peer, binary: &Path, figures: &mut Figures) -> Outcome<()> {
    let redis = Redis::start().await?;
    let server = peer.start(binary, &redis, &[]).await?;
    let clock = Clock::start();
    let mut feed = Feed::start(&redis, peer, clock, arguments.kb * 1000).await?;
    // What a server makes once, at its first clients, is no part of a socket.
    let plan = Plan { sockets: 10, room: warm_room, at_once: 10, claims: arguments.claims };
    let warm = Swarm::gather(server.clients, &plan, clock).await?;
    feed.publish_at(clock.now(), &[warm_room(0)]).await?;
    warm.has_heard(10).await?;
    let before = server.process.memory_mib()?;
    let plan = Plan { sockets: arguments.sockets, room, at_once: arguments.at_once, ..plan };
    let began = clock.now();
    let swarm = Swarm::gather(server.clients, &plan, clock).await?;
    say(&format!("{:<14} {} sockets came in {} ms", peer.name(), arguments.sockets, (clock.now() - began) / 1000));
    figures.add(peer.name(), PEAK, server.process.peak_mib()?);
    sleep(Duration::from_secs(arguments.settle)).await;
    let at_rest = server.process.memory_mib()?;
    figures.add(peer.name(), REST, (at_rest - before) * 1024.0 / arguments.sockets as f64);
    figures.add(peer.name(), CPU, rest(arguments, &server).await?);
    feed.publish_at(clock.now(), &[room(0)]).await?;
    swarm.has_heard(arguments.sockets as u64).await?;
    sleep(Duration::from_secs(arguments.settle)).await;
    figures.add(peer.name(), AFTER, server.process.memory_mib()? / at_rest);
    swarm.has_heard(arguments.sockets as u64).await
}

async fn rest(arguments: &Arguments, server: &Server) -> Outcome<f64> {
    let before = server.process.cpu()?;
    sleep(Duration::from_secs(arguments.seconds)).await;
    let used = server.process.cpu()?.saturating_sub(before);
    Ok(used.as_secs_f64() * 1e6 / arguments.sockets as f64 / arguments.seconds as f64)
}
