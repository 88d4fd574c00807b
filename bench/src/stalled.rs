//! What two bad peers cost the others: one that reads nothing, and one whose network has vanished.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::task::LocalSet;
use tokio::time::sleep;

use crate::Outcome;
use crate::client::Client;
use crate::crowd::{Clock, Crowd};
use crate::fanout::ROOM;
use crate::network::{self, Peer};
use crate::process::step_aside;
use crate::publish::{Publisher, Way};
use crate::report::{Latency, say};
use crate::server::{self, Redis, Server};

/// Rooms that one bad peer each is in, beside the one of all.
const STALLED: &str = "order:stalled";
const HALF_OPEN: &str = "order:half-open";
const WARM_UP_S: u32 = 2;
/// Events that fill every buffer on the way to the stalled peer, and their bytes.
const FILLING: (u32, usize) = (60, 50_000);

/// How much load.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Sockets in the room, the bad ones not counted.
    #[arg(long, default_value_t = 1000)]
    sockets: usize,
    /// Events a second.
    #[arg(long, default_value_t = 80)]
    rate: u32,
    /// Seconds that are counted; the bad peers must be gone within them.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Bytes of payload.
    #[arg(long, default_value_t = 200)]
    fill: usize,
    /// The gateway; the one beside this program, unless it is named.
    #[arg(long)]
    hallway: Option<PathBuf>,
    #[arg(long, hide = true)]
    inside: bool,
}

pub(crate) async fn run(arguments: Arguments) -> Outcome<()> {
    if !arguments.inside {
        return network::go_inside("--inside");
    }
    network::raise_loopback()?;
    step_aside()?;
    let binary = server::hallway(arguments.hallway.clone())?;
    say(&format!("{} sockets, {} events/s, {} s", arguments.sockets, arguments.rate, arguments.seconds));
    let without = one(&arguments, &binary, false).await?;
    say(&format!("without bad peers: p50 {:.2} ms, p99 {:.2} ms", without.p50_ms, without.p99_ms));
    let with = one(&arguments, &binary, true).await?;
    say(&format!("with two of them:  p50 {:.2} ms, p99 {:.2} ms", with.p50_ms, with.p99_ms));
    let (p50, p99) = (with.p50_ms / without.p50_ms, with.p99_ms / without.p99_ms);
    say(&format!("ratios:            p50 {p50:.2}, p99 {p99:.2}"));
    Ok(())
}

async fn one(arguments: &Arguments, binary: &Path, bad: bool) -> Outcome<Latency> {
    let redis = Redis::start().await?;
    let server = Server::hallway(binary, &redis).await?;
    LocalSet::new().run_until(measure(arguments, &redis, &server, bad)).await
}

async fn measure(arguments: &Arguments, redis: &Redis, server: &Server, bad: bool) -> Outcome<Latency> {
    let clock = Clock::start();
    let crowd = Crowd::gather(server.clients, ROOM, arguments.sockets, clock).await?;
    let (way, fill) = (Way::Function, arguments.fill);
    let mut publisher = Publisher { redis: redis.client().await?, way, room: ROOM, fill, clock };
    publisher.publish(arguments.rate, arguments.rate * WARM_UP_S).await?;
    crowd.has_heard(arguments.rate * WARM_UP_S).await?;
    crowd.forget();
    let events = arguments.rate * arguments.seconds;
    if bad {
        let (published, told) =
            tokio::join!(publisher.publish(arguments.rate, events), bad_peers(redis, server, clock));
        published.and(told)?;
    } else {
        publisher.publish(arguments.rate, events).await?;
    }
    crowd.has_heard(events).await?;
    Ok(crowd.latency())
}

/// Brings both in, lets them go bad, and says when each was gone.
async fn bad_peers(redis: &Redis, server: &Server, clock: Clock) -> Outcome<()> {
    let mut stalled = Client::connect(server.clients, "stalled", Some(4096)).await?;
    stalled.join(STALLED).await?;
    stalled.join(ROOM).await?;
    let mut half_open = Peer::start(server, &[HALF_OPEN, ROOM]).await?;
    let mut filling =
        Publisher { redis: redis.client().await?, way: Way::Function, room: STALLED, fill: FILLING.1, clock };
    half_open.vanish()?;
    let vanished = Instant::now();
    filling.publish(1000, FILLING.0).await?;
    let full = Instant::now();
    let (first, second) = tokio::join!(
        gone(server, "the stalled peer", STALLED, full),
        gone(server, "the half-open peer", HALF_OPEN, vanished)
    );
    first.and(second)
}

async fn gone(server: &Server, who: &str, room: &str, since: Instant) -> Outcome<()> {
    while server.room_size(room).await? > 0 {
        sleep(Duration::from_millis(50)).await;
    }
    say(&format!("{who} was gone after {:.1} s", since.elapsed().as_secs_f64()));
    Ok(())
}
