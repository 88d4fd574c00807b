//! What a socket costs that does nothing: memory of the server for each joined socket, the most it had while they came, and
//! CPU at rest. Each socket is of a user of its own, has claims of some 400 bytes, and is in a room of its own.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::sleep;

use crate::Outcome;
use crate::client::Client;
use crate::process::step_aside;
use crate::publish::call;
use crate::report::{median, say};
use crate::server::{self, Redis, Server};
use crate::verdict::{Strictness, Verdict};

/// Handshakes that are under way at a time.
const AT_ONCE: usize = 200;
/// A room that all are in, for the event that goes to every socket.
const ALL: &str = "store:idle:orders";
/// Bytes of that event.
const LARGE: usize = 60_000;
/// After which a server has given back what it gives back.
const SETTLES: Duration = Duration::from_secs(3);

/// How many sockets, and how often.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Sockets.
    #[arg(long, default_value_t = 5000)]
    sockets: usize,
    /// Seconds at rest in which CPU is counted.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// How often it is measured.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    #[command(flatten)]
    strictness: Strictness,
    /// The gateway; the one beside this program, unless it is named.
    #[arg(long)]
    hallway: Option<PathBuf>,
}

/// What one run gave.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// KiB for each socket.
    each_kib: f64,
    /// The same, after a large event to every socket.
    after_kib: f64,
    /// Most memory of the process until all were there, MiB.
    peak_mib: f64,
    /// Microseconds of CPU for each socket and second.
    cpu_us: f64,
}

pub(crate) async fn run(arguments: Arguments) -> Outcome<()> {
    step_aside()?;
    let binary = server::hallway(arguments.hallway.clone())?;
    say(&format!(
        "{} sockets; KiB for each, after an event of 60 KB to all, peak MiB, CPU µs for each and second",
        arguments.sockets
    ));
    let mut runs = Vec::new();
    for number in 0..arguments.runs {
        let redis = Redis::start().await?;
        let settings = [("HALLWAY_LIMITS__HANDSHAKES_PER_SECOND", "100000".to_owned())];
        let server = Server::hallway_with(&binary, &redis, &settings).await?;
        let one = LocalSet::new().run_until(measure(&arguments, &redis, &server)).await?;
        say(&format!(
            "{number:>4} {:>7.2} {:>7.2} {:>7.1} {:>7.2}",
            one.each_kib, one.after_kib, one.peak_mib, one.cpu_us
        ));
        runs.push(one);
    }
    let middle = |of: fn(&Run) -> f64| median(runs.iter().map(of).collect());
    let mut verdict = Verdict::default();
    verdict.at_most("KiB for an idle socket", middle(|run| run.each_kib), 4.0);
    verdict.at_most("memory after a large event ÷ before", middle(|run| run.after_kib / run.each_kib), 1.1);
    verdict.at_most("CPU at rest, µs for each socket and second", middle(|run| run.cpu_us), 0.6);
    verdict.end(arguments.strictness)
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
async fn measure(arguments: &Arguments, redis: &Redis, server: &Server) -> Outcome<Run> {
    let count = arguments.sockets as f64;
    sleep(SETTLES).await;
    let empty = server.process.memory_mib()?;
    let clients = gather(server, arguments.sockets).await?;
    let peak_mib = server.process.peak_mib()?;
    let mut readers = JoinSet::new();
    let (heard, mut counted) = tokio::sync::mpsc::channel(arguments.sockets);
    for mut client in clients {
        let heard = heard.clone();
        readers.spawn_local(async move {
            while client.next().await.is_some() {
                // The channel has a place for each socket, and each hears one event.
                heard.send(()).await.ok();
            }
        });
    }
    sleep(SETTLES).await;
    let each_kib = (server.process.memory_mib()? - empty) * 1024.0 / count;
    let before = server.process.cpu()?;
    sleep(Duration::from_secs(u64::from(arguments.seconds))).await;
    let used = server.process.cpu()?.saturating_sub(before);
    let event = format!(r#"{{"type":"order.status_changed","payload":{{"fill":"{}"}}}}"#, "x".repeat(LARGE));
    call(&[ALL], &event).query_async::<redis::Value>(&mut redis.client().await?).await?;
    for _ in 0..arguments.sockets {
        counted.recv().await.ok_or("the sockets hear the event")?;
    }
    sleep(SETTLES).await;
    if readers.len() != arguments.sockets {
        return Err("a socket was closed".into());
    }
    let after_kib = (server.process.memory_mib()? - empty) * 1024.0 / count;
    let cpu_us = used.as_secs_f64() * 1e6 / count / f64::from(arguments.seconds);
    Ok(Run { each_kib, after_kib, peak_mib, cpu_us })
}

async fn gather(server: &Server, sockets: usize) -> Outcome<Vec<Client>> {
    let (mut clients, mut arriving) = (Vec::with_capacity(sockets), JoinSet::new());
    for number in 0..sockets {
        let address = server.clients;
        arriving.spawn_local(async move {
            let token = server::padded_token(&format!("u{number}"))?;
            let mut client = Client::connect_with(address, &token).await?;
            client.join_several(&[format!("order:idle-{number}"), ALL.to_owned()]).await.map(|()| client)
        });
        if arriving.len() == AT_ONCE
            && let Some(arrived) = arriving.join_next().await
        {
            clients.push(arrived??);
        }
    }
    while let Some(arrived) = arriving.join_next().await {
        clients.push(arrived??);
    }
    Ok(clients)
}
