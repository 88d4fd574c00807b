//! Slow readers: some sockets of a room read nothing while events flow. What the others notice, and what the server keeps for them.

use std::path::{Path, PathBuf};

use clap::Args;
use tokio::task::LocalSet;

use crate::Outcome;
use crate::crowd::Clock;
use crate::feed::Feed;
use crate::peers::Peer;
use crate::process::step_aside;
use crate::raw::Raw;
use crate::results::{Figures, Keeping};
use crate::server::{self, Redis};
use crate::swarm::{Plan, Swarm};
use crate::verdict::{Strictness, Verdict};

const QUIET: &str = "p99 without slow readers, ms";
const LATER: &str = "p99 of others ÷ without slow readers";
const GREW: &str = "memory for the slow, MiB";

/// How many of them.
#[derive(Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// Sockets that read.
    #[arg(long, default_value_t = 500)]
    sockets: usize,
    /// Sockets that do not.
    #[arg(long, default_value_t = 50)]
    slow: usize,
    /// Events a second.
    #[arg(long, default_value_t = 40)]
    rate: u32,
    #[arg(long, default_value_t = 8)]
    seconds: u32,
    /// KB of each event: large enough to fill the kernel's buffers early.
    #[arg(long, default_value_t = 8)]
    kb: usize,
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Only these.
    #[arg(long, value_delimiter = ',', default_value = "hallway,ws,uws")]
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
    let mut figures = Figures::new("slow");
    for run in 0..arguments.runs {
        let mut peers = arguments.peers.clone();
        peers.rotate_left(run % arguments.peers.len().max(1));
        for peer in peers {
            LocalSet::new().run_until(measure(&arguments, peer, &binary, &mut figures)).await?;
        }
    }
    let load = format!("{} sockets, {} that do not read, {} KB", arguments.sockets, arguments.slow, arguments.kb);
    figures.keep(&arguments.keeping, &load)?;
    let (ours, mut verdict) = (Peer::Hallway.name(), Verdict::default());
    if figures.has(ours) {
        verdict.at_most(LATER, figures.median_of(ours, LATER), 3.0);
    }
    verdict.end(arguments.strictness)
}

fn room(_: usize) -> String {
    "order:slow".to_owned()
}

async fn measure(arguments: &Arguments, peer: Peer, binary: &Path, figures: &mut Figures) -> Outcome<()> {
    let redis = Redis::start().await?;
    let server = peer.start(binary, &redis, &[]).await?;
    let clock = Clock::start();
    let plan = Plan { sockets: arguments.sockets, room, at_once: 64, claims: 100 };
    let swarm = Swarm::gather(server.clients, &plan, clock).await?;
    let mut feed = Feed::start(&redis, peer, clock, arguments.kb * 1000).await?;
    let events = arguments.rate * arguments.seconds;
    let (rooms, each) = ([room(0)], u64::from(events) * arguments.sockets as u64);
    feed.publish_paced(arguments.rate, events, &rooms).await?;
    swarm.has_heard(each).await?;
    let (quiet, before) = (swarm.take_latency(), server.process.peak_mib()?);
    let mut slow = Vec::new();
    for number in 0..arguments.slow {
        let token = server::token_padded(&format!("slow{number}"), 100)?;
        let mut raw = Raw::connect_narrow(server.clients, &token).await?;
        raw.join(&room(0)).await?;
        slow.push(raw);
    }
    feed.publish_paced(arguments.rate, events, &rooms).await?;
    swarm.has_heard(2 * each).await?;
    figures.add(peer.name(), QUIET, quiet.p99_ms);
    figures.add(peer.name(), LATER, swarm.take_latency().p99_ms / quiet.p99_ms);
    figures.add(peer.name(), GREW, server.process.peak_mib()? - before);
    drop(slow);
    Ok(())
}
