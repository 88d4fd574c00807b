//! What an offender at each limit costs the others, whose latency is taken before and during.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::task::LocalSet;
use tokio::time::sleep;

use crate::Outcome;
use crate::crowd::{Clock, Crowd};
use crate::fanout::ROOM;
use crate::offender::{Kind, WORKERS};
use crate::process::{LOAD_CORE, Process, step_aside};
use crate::publish::{Publisher, Way};
use crate::report::{Latency, say};
use crate::server::{self, Redis, Server};

/// Events before anything is counted, in seconds.
const WARM_UP_S: u32 = 2;
/// For an offender to come to its rate.
const ONSET: Duration = Duration::from_secs(1);

/// How much load.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Sockets in the room.
    #[arg(long, default_value_t = 200)]
    sockets: usize,
    /// Events a second.
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Seconds that are counted, without and with each offender.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Bytes of payload.
    #[arg(long, default_value_t = 200)]
    fill: usize,
    /// The offenders; all of them, unless some are named.
    #[arg(long, value_enum)]
    kind: Vec<Kind>,
    /// The gateway; the one beside this program, unless it is named.
    #[arg(long)]
    hallway: Option<PathBuf>,
}

pub(crate) async fn run(arguments: Arguments) -> Outcome<()> {
    step_aside()?;
    let binary = server::hallway(arguments.hallway.clone())?;
    say(&format!("{} sockets, {} events/s, {} s each", arguments.sockets, arguments.rate, arguments.seconds));
    let kinds = if arguments.kind.is_empty() { Kind::ALL.to_vec() } else { arguments.kind.clone() };
    for kind in kinds {
        let redis = Redis::start().await?;
        let settings = settings(kind, arguments.sockets);
        let server = Server::hallway_with(&binary, &redis, &settings).await?;
        LocalSet::new().run_until(measure(&arguments, &redis, &server, kind)).await?;
    }
    Ok(())
}

/// Limits that the crowd does not reach and the offender does.
fn settings(kind: Kind, sockets: usize) -> Vec<(&'static str, String)> {
    let room = (sockets + sockets / 4).to_string();
    match kind {
        Kind::Handshakes => vec![("HALLWAY_LIMITS__HANDSHAKES_PER_SECOND", room)],
        Kind::Connections => vec![("HALLWAY_LIMITS__CONNECTIONS_PER_IP", room)],
        Kind::Rooms => vec![
            ("HALLWAY_LIMITS__ROOMS_PER_SOCKET", "1".to_owned()),
            ("HALLWAY_LIMITS__COMMANDS_PER_MINUTE", "60000".to_owned()),
        ],
        Kind::Pending => vec![("HALLWAY_LIMITS__PENDING_PUBLISHES", WORKERS.to_string())],
        Kind::Commands | Kind::Locations | Kind::Frames | Kind::Events => Vec::new(),
    }
}

async fn measure(arguments: &Arguments, redis: &Redis, server: &Server, kind: Kind) -> Outcome<()> {
    let clock = Clock::start();
    let crowd = Crowd::gather(server.clients, ROOM, arguments.sockets, clock).await?;
    let (way, fill) = (Way::Function, arguments.fill);
    let mut publisher = Publisher { redis: redis.client().await?, way, room: ROOM, fill, clock };
    publisher.publish(arguments.rate, arguments.rate * WARM_UP_S).await?;
    crowd.has_heard(arguments.rate * WARM_UP_S).await?;
    let without = latency(arguments, &crowd, &mut publisher).await?;
    let own = std::env::current_exe()?;
    let program = own.to_str().ok_or("the path of this program is text")?;
    let offender = Process::start(LOAD_CORE, program, |command| {
        command.args(["offend", kind.name(), &server.clients.to_string()]);
    })?;
    sleep(ONSET).await;
    let (before, cpu) = (server.over_limit().await?, server.process.cpu()?);
    let with = latency(arguments, &crowd, &mut publisher).await?;
    let refused = (server.over_limit().await? - before) / f64::from(arguments.seconds);
    let busy = (server.process.cpu()? - cpu).as_secs_f64() / f64::from(arguments.seconds) * 100.0;
    drop(offender);
    let (p50, p99) = (with.p50_ms / without.p50_ms, with.p99_ms / without.p99_ms);
    say(&format!(
        "{:<12} without p50 {:.2} p99 {:.2} ms, with p50 {:.2} p99 {:.2} ms, ratios p50 {p50:.2} p99 {p99:.2}; {refused:.0} refused/s, node {busy:.0} % busy",
        kind.name(),
        without.p50_ms,
        without.p99_ms,
        with.p50_ms,
        with.p99_ms,
    ));
    Ok(())
}

async fn latency(arguments: &Arguments, crowd: &Crowd, publisher: &mut Publisher) -> Outcome<Latency> {
    crowd.forget();
    let events = arguments.rate * arguments.seconds;
    publisher.publish(arguments.rate, events).await?;
    crowd.has_heard(events).await?;
    Ok(crowd.latency())
}
