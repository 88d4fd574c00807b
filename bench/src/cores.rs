//! Two event loops against one. The load must not share the cores, so peers do not read at all: a burst that fits the buffers of their
//! sockets is written, and the server is timed by itself, by the CPU that it uses and by when it is at rest again.
//!
//! The server has both cores here. That it has written everything is read from the kernel at the end, when the peers take what
//! waits for them: each must have every event, once, in order.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Args;
use redis::aio::MultiplexedConnection;
use tokio::time::{sleep, timeout};

use crate::Outcome;
use crate::crowd::Clock;
use crate::feed::Feed;
use crate::peers::Peer;
use crate::process::{let_onto, step_aside};
use crate::raw::Raw;
use crate::report::say;
use crate::results::{Figures, Keeping};
use crate::server::{self, Redis, Server};
use crate::swarm::time_and_number;
use crate::verdict::{Strictness, Verdict};

const TIME: &str = "wall time of a burst, ms";
const CPU: &str = "CPU of a burst, ms";
const BOTH_CORES: &str = "0,1";
/// The server has nothing to do when it used no CPU for so long.
const AT_REST: Duration = Duration::from_millis(100);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(60);

/// How much of it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Arguments {
    #[arg(long, default_value_t = 2000)]
    sockets: usize,
    /// Events that each socket gets: as many as its buffers hold.
    #[arg(long, default_value_t = 200)]
    events: usize,
    /// Rooms, where they are independent.
    #[arg(long, default_value_t = 20)]
    rooms: usize,
    #[arg(long, default_value_t = 5)]
    runs: usize,
    #[command(flatten)]
    keeping: Keeping,
    #[command(flatten)]
    strictness: Strictness,
    /// The gateway; the one beside this program, unless it is named.
    #[arg(long)]
    hallway: Option<PathBuf>,
}

/// One of the four ways.
#[derive(Clone, Copy, Debug)]
struct Way {
    name: &'static str,
    loops: usize,
    rooms: usize,
}

pub(crate) async fn run(arguments: Arguments) -> Outcome<()> {
    step_aside()?;
    let binary = server::hallway(arguments.hallway.clone())?;
    let ways = [
        Way { name: "hallway 1 loop, rooms", loops: 1, rooms: arguments.rooms },
        Way { name: "hallway 2 loops, rooms", loops: 2, rooms: arguments.rooms },
        Way { name: "hallway 1 loop, big room", loops: 1, rooms: 1 },
        Way { name: "hallway 2 loops, big room", loops: 2, rooms: 1 },
    ];
    let mut figures = Figures::new("cores");
    let knows = knows_cores(&binary)?;
    if !knows {
        say("this gateway has no server.cores, so one loop is measured alone");
    }
    for _ in 0..arguments.runs {
        for way in ways.into_iter().filter(|way| knows || way.loops == 1) {
            measure(&arguments, (way, knows), &binary, &mut figures).await?;
        }
    }
    figures.keep(&arguments.keeping, &format!("{} sockets, {} events each", arguments.sockets, arguments.events))?;
    let mut verdict = Verdict::default();
    let [one, two, one_big, two_big] = ways.map(|way| figures.median_of(way.name, TIME));
    verdict.at_most("independent rooms, two loops ÷ one", two / one, 1.0 / 1.8);
    verdict.at_most("one big room, two loops ÷ one", two_big / one_big, 1.0 / 1.6);
    verdict.end(arguments.strictness)
}

fn knows_cores(binary: &Path) -> Outcome<bool> {
    let example = Command::new(binary).arg("example-config").output()?;
    let example = String::from_utf8_lossy(&example.stdout);
    let section = example.split_once("[server]\n").and_then(|(_, rest)| rest.split("\n[").next());
    // A key without a default stands there as an example only.
    Ok(section.is_some_and(|keys| keys.contains(" cores = ")))
}

async fn measure(
    arguments: &Arguments,
    (way, knows): (Way, bool),
    binary: &Path,
    figures: &mut Figures,
) -> Outcome<()> {
    let redis = Redis::start().await?;
    let settings = [("HALLWAY_SERVER__CORES", way.loops.to_string()), ("TOKIO_WORKER_THREADS", way.loops.to_string())];
    // A gateway that does not know the key has one loop.
    let settings = settings.get(usize::from(!knows)..).unwrap_or_default();
    let server = Peer::Hallway.start(binary, &redis, settings).await?;
    let_onto(BOTH_CORES, &server.process)?;
    let rooms: Vec<String> = (0..way.rooms).map(|number| format!("order:core{number}")).collect();
    let mut sockets = Vec::new();
    for (number, room) in (0..arguments.sockets).zip(rooms.iter().cycle()) {
        let mut raw = Raw::connect(server.clients, &server::token_padded(&format!("u{number}"), 100)?).await?;
        raw.join(room).await?;
        sockets.push(raw);
    }
    let clock = Clock::start();
    let mut feed = Feed::start(&redis, Peer::Hallway, clock, 100).await?;
    let (before, _) = until_rest(&server).await?;
    let mut events = Vec::new();
    (0..arguments.events).for_each(|_| events.extend_from_slice(&rooms));
    // The server is stopped while Redis works, so that it has both cores to itself when it goes on.
    server.process.signal("STOP")?;
    let published = feed.publish_at(clock.now(), &events).await;
    server.process.signal("CONT")?;
    published?;
    let began = Instant::now();
    let (after, ended) = until_rest(&server).await?;
    figures.add(way.name, TIME, ended.duration_since(began).as_secs_f64() * 1000.0);
    figures.add(way.name, CPU, after.saturating_sub(before).as_secs_f64() * 1000.0);
    for raw in &mut sockets {
        has_all(raw, arguments.events).await?;
    }
    is_alive(&mut redis.client().await?).await
}

/// A Redis that has gone would make everything look quick.
async fn is_alive(redis: &mut MultiplexedConnection) -> Outcome<()> {
    Ok(redis::cmd("PING").query_async(redis).await?)
}

/// Waits until the server does nothing. Its CPU, and when it last did something.
async fn until_rest(server: &Server) -> Outcome<(Duration, Instant)> {
    let (began, mut used, mut since) = (Instant::now(), server.process.cpu()?, Instant::now());
    while since.elapsed() < AT_REST {
        sleep(LOOK_AGAIN).await;
        let now = server.process.cpu()?;
        if now != used {
            (used, since) = (now, Instant::now());
        }
        if began.elapsed() > PATIENCE {
            return Err("the server does not come to rest".into());
        }
    }
    Ok((used, since))
}

/// Takes what waits: all events, in order, once.
async fn has_all(raw: &mut Raw, events: usize) -> Outcome<()> {
    let (mut next, mut untrue) = (0, false);
    while next < events as u64 {
        let mut each = |text: &str| {
            let Some((_, number)) = time_and_number(text) else { return };
            untrue |= number != next;
            next = number + 1;
        };
        if !timeout(PATIENCE, raw.read_frames(&mut each)).await? {
            return Err("a socket was closed: the burst did not fit its buffers".into());
        }
    }
    if untrue { Err("an event came twice, out of order, or behind a gap".into()) } else { Ok(()) }
}
