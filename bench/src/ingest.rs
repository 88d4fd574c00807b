//! How fast a node empties an ingest stream that waits for it, beside the bare function with the same events.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use redis::aio::MultiplexedConnection;
use tokio::time::sleep;

use crate::Outcome;
use crate::process::step_aside;
use crate::publish::call;
use crate::report::{rate, say};
use crate::server::{self, Redis, Server};

const STREAM: &str = "hallway:ingest";
const REJECTED: &str = "hallway:ingest:rejected";
/// Rooms that the events go to in turns.
const ROOMS: u32 = 100;
/// Commands in one pipeline.
const PIPELINE: u32 = 200;
/// A node that does nothing for so long does not read the stream.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at the stream.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// How much waits.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Entries in the stream.
    #[arg(long, default_value_t = 20_000)]
    entries: u32,
    /// Bytes of payload.
    #[arg(long, default_value_t = 200)]
    fill: usize,
    /// The gateway; the one beside this program, unless it is named.
    #[arg(long)]
    hallway: Option<PathBuf>,
}

pub(crate) async fn run(arguments: Arguments) -> Outcome<()> {
    step_aside()?;
    let binary = server::hallway(arguments.hallway.clone())?;
    let redis = Redis::start().await?;
    drop(Server::hallway(&binary, &redis).await?);
    let mut client = redis.client().await?;
    let payload = format!(r#"{{"orderId":"ord_123","fill":"{}"}}"#, "x".repeat(arguments.fill));
    let bare = call_function(&mut client, arguments.entries, &payload).await?;
    say(&format!("the bare function:  {bare:.0} events/s, pipelined by {PIPELINE}"));
    fill(&mut client, arguments.entries, &payload).await?;
    let (emptied, peak) = empty(&binary, &redis, &mut client, arguments.entries).await?;
    say(&format!("the ingest stream:  {emptied:.0} events/s, the node's peak {peak:.0} MiB"));
    say(&format!("ratio:              {:.2}", emptied / bare));
    let rejected: u32 = redis::cmd("XLEN").arg(REJECTED).query_async(&mut client).await?;
    if rejected > 0 {
        return Err(format!("{rejected} entries were rejected: see {REJECTED}").into());
    }
    Ok(())
}

fn room(number: u32) -> String {
    format!("order:{}", number % ROOMS)
}

async fn send(client: &mut MultiplexedConnection, count: u32, command: impl Fn(u32) -> redis::Cmd) -> Outcome<()> {
    let numbers: Vec<u32> = (0..count).collect();
    for batch in numbers.chunks(usize::try_from(PIPELINE)?) {
        let mut pipe = redis::pipe();
        for number in batch {
            pipe.add_command(command(*number)).ignore();
        }
        pipe.query_async::<()>(client).await?;
    }
    Ok(())
}

async fn call_function(client: &mut MultiplexedConnection, count: u32, payload: &str) -> Outcome<f64> {
    let event = format!(r#"{{"type":"order.status_changed","payload":{payload}}}"#);
    let began = Instant::now();
    let one = |number: u32| {
        let mut command = call(&[&room(number)], &event);
        command.arg("ID").arg(format!("called-{number}"));
        command
    };
    send(client, count, one).await?;
    Ok(rate(count, began.elapsed()))
}

async fn fill(client: &mut MultiplexedConnection, count: u32, payload: &str) -> Outcome<()> {
    let one = |number: u32| {
        let mut command = redis::cmd("XADD");
        command.arg(STREAM).arg("*").arg("room").arg(room(number)).arg("type").arg("order.status_changed");
        command.arg("payload").arg(payload).arg("id").arg(format!("waiting-{number}"));
        command
    };
    send(client, count, one).await
}

/// The rate between the first look at which an entry was gone and the last entry, and the node's peak.
async fn empty(binary: &Path, redis: &Redis, client: &mut MultiplexedConnection, count: u32) -> Outcome<(f64, f64)> {
    let server = Server::launch_hallway(binary, redis)?;
    let (mut first, mut left, mut moved) = (None, count, Instant::now());
    while left > 0 {
        let now: u32 = redis::cmd("XLEN").arg(STREAM).query_async(client).await?;
        if now < left {
            moved = Instant::now();
            first.get_or_insert((moved, now));
        }
        left = now;
        if moved.elapsed() > PATIENCE {
            return Err(format!("{left} entries are left and nothing happens").into());
        }
        sleep(LOOK_AGAIN).await;
    }
    let (since, left_then) = first.ok_or("nothing was in the stream")?;
    let took = moved.duration_since(since);
    if took.is_zero() {
        return Err("it was too fast for this clock: wait for more entries".into());
    }
    Ok((rate(left_then, took), server.process.peak_mib()?))
}
