//! Many small rooms at a steady pace, and what a big room with large events beside them costs them.

use std::path::{Path, PathBuf};

use clap::Args;
use tokio::task::LocalSet;

use crate::crowd::Clock;
use crate::feed::Feed;
use crate::peers::Peer;
use crate::process::step_aside;
use crate::results::{Figures, Keeping};
use crate::server::{self, Redis};
use crate::swarm::{Plan, Swarm};
use crate::verdict::{Strictness, Verdict};
use crate::{Outcome, thread};

const MEMBERS: usize = 10;
const CPU: &str = "CPU per delivery, µs";
const P50: &str = "p50, ms";
const P99: &str = "p99, ms";
const BESIDE: &str = "p99 beside a big room ÷ quiet";
const WARM_UP_S: u32 = 1;

/// How much of it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// Rooms of ten.
    #[arg(long, default_value_t = 500)]
    rooms: usize,
    /// Events a second, over all of them.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    #[arg(long, default_value_t = 8)]
    seconds: u32,
    /// Sockets of the big room; none for no such room.
    #[arg(long, default_value_t = 5000)]
    sockets: usize,
    /// KB of its events, of which one goes out each second.
    #[arg(long, default_value_t = 60)]
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
    let mut figures = Figures::new("rooms");
    for run in 0..arguments.runs {
        let mut peers = arguments.peers.clone();
        peers.rotate_left(run % arguments.peers.len().max(1));
        for peer in peers {
            LocalSet::new().run_until(measure(&arguments, peer, &binary, &mut figures)).await?;
        }
    }
    let load = format!(
        "{} rooms of {MEMBERS}, {} events/s; big room of {}",
        arguments.rooms, arguments.rate, arguments.sockets
    );
    figures.keep(&arguments.keeping, &load)?;
    let mut verdict = Verdict::default();
    if arguments.sockets > 0 && figures.has(Peer::Hallway.name()) {
        verdict.at_most(BESIDE, figures.median_of(Peer::Hallway.name(), BESIDE), 2.0);
    }
    verdict.end(arguments.strictness)
}

fn small_room(socket: usize) -> String {
    format!("order:small{}", socket / MEMBERS)
}

fn big_room(_: usize) -> String {
    "order:big".to_owned()
}

async fn measure(arguments: &Arguments, peer: Peer, binary: &Path, figures: &mut Figures) -> Outcome<()> {
    let redis = Redis::start().await?;
    let server = peer.start(binary, &redis, &[]).await?;
    let clock = Clock::start();
    let plan = Plan { sockets: arguments.rooms * MEMBERS, room: small_room, at_once: 64, claims: 100 };
    let swarm = Swarm::gather(server.clients, &plan, clock).await?;
    let rooms: Vec<String> = (0..arguments.rooms).map(|room| small_room(room * MEMBERS)).collect();
    let mut feed = Feed::start(&redis, peer, clock, 100).await?;
    // Each look begins at the first room again, so numbers go on where they were.
    feed.publish_paced(arguments.rate, arguments.rate * WARM_UP_S, &rooms).await?;
    let mut expected = u64::from(arguments.rate * WARM_UP_S) * MEMBERS as u64;
    swarm.has_heard(expected).await?;
    swarm.take_latency();
    let events = arguments.rate * arguments.seconds;
    let deliveries = u64::from(events) * MEMBERS as u64;
    let before = server.process.cpu()?;
    feed.publish_paced(arguments.rate, events, &rooms).await?;
    expected += deliveries;
    swarm.has_heard(expected).await?;
    let used = server.process.cpu()?.saturating_sub(before);
    let quiet = swarm.take_latency();
    figures.add(peer.name(), CPU, used.as_secs_f64() * 1e6 / deliveries as f64);
    figures.add(peer.name(), P50, quiet.p50_ms);
    figures.add(peer.name(), P99, quiet.p99_ms);
    if arguments.sockets == 0 {
        return Ok(());
    }
    let mut big_feed = Feed::start(&redis, peer, clock, arguments.kb * 1000).await?;
    let (sockets, address, seconds) = (arguments.sockets, server.clients, arguments.seconds);
    let (gathered, is_gathered) = tokio::sync::oneshot::channel();
    // The big room's readers go behind those who measure: their part of the load's core is not the server's doing.
    let big = thread::run("big room", move || async move {
        thread::give_way()?;
        let plan = Plan { sockets, room: big_room, at_once: 64, claims: 100 };
        let swarm = Swarm::gather(address, &plan, clock).await?;
        gathered.send(()).ok();
        swarm.has_heard(u64::from(seconds) * sockets as u64).await
    })?;
    is_gathered.await?;
    let (large, small) = ([big_room(0)], feed.publish_paced(arguments.rate, events, &rooms));
    let (large, small) = tokio::join!(big_feed.publish_paced(1, seconds, &large), small);
    large.and(small)?;
    swarm.has_heard(expected + deliveries).await?;
    big.await??;
    figures.add(peer.name(), BESIDE, swarm.take_latency().p99_ms / quiet.p99_ms);
    Ok(())
}
