//! What a second core gives: a burst that waits for a node with one event loop, and for one with two, on the same two cores.
//!
//! The clients do not read, and the burst fits the buffers of their sockets, so that they take nothing of the cores. The
//! node is stopped while the burst is published, and then let go on: Redis and the publisher take nothing either. What is
//! measured is the time from there to the last delivery, by the node's own counter.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::task::{JoinSet, LocalSet};

use crate::Outcome;
use crate::client::Client;
use crate::process::BOTH_CORES;
use crate::publish::call;
use crate::report::{median, say};
use crate::server::{self, Redis, Server};

/// Handshakes that are under way at a time.
const AT_ONCE: usize = 20;
/// Longer than any burst takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Receive buffer of a client: the burst fits in it, with the kernel's own overhead.
const BUFFER: usize = 1024 * 1024;
/// Calls in one pipeline.
const PIPELINE: usize = 100;

/// How much load, and how often.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Sockets in all rooms together.
    #[arg(long, default_value_t = 4000)]
    sockets: usize,
    /// Sockets in each of the independent rooms.
    #[arg(long, default_value_t = 100)]
    each: usize,
    /// Events to each room.
    #[arg(long, default_value_t = 200)]
    events: usize,
    /// How often each node is measured.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// The gateway; the one beside this program, unless it is named.
    #[arg(long)]
    hallway: Option<PathBuf>,
}

pub(crate) async fn run(arguments: Arguments) -> Outcome<()> {
    let binary = server::hallway(arguments.hallway.clone())?;
    let independent = arguments.sockets / arguments.each;
    for (what, rooms) in [("independent rooms", independent), ("one big room", 1)] {
        say(&format!(
            "{what}: {} sockets, {} events to each room; deliveries in a second",
            arguments.sockets, arguments.events
        ));
        let mut ratios = Vec::new();
        for pair in 0..arguments.pairs {
            // In turns, so that a machine that becomes slower favours neither.
            let order = if pair % 2 == 0 { [1, 2] } else { [2, 1] };
            let mut rates = [0.0; 2];
            for loops in order {
                rates[loops - 1] = measure_burst(&arguments, &binary, rooms, loops).await?;
            }
            ratios.push(rates[1] / rates[0]);
            say(&format!(
                "{pair:>4}  one loop {:>10.0}  two loops {:>10.0}  ratio {:.2}",
                rates[0],
                rates[1],
                rates[1] / rates[0]
            ));
        }
        say(&format!("{what}: median of the ratios {:.2}", median(ratios)));
    }
    Ok(())
}

async fn measure_burst(arguments: &Arguments, binary: &Path, rooms: usize, loops: usize) -> Outcome<f64> {
    let redis = Redis::start().await?;
    // The brake on handshakes is for strangers.
    let settings =
        [("HALLWAY_SERVER__CORES", loops.to_string()), ("HALLWAY_LIMITS__HANDSHAKES_PER_SECOND", "100000".to_owned())];
    let server = Server::hallway_on(BOTH_CORES, binary, &redis, &settings).await?;
    let name = |room: usize| format!("order:cores-{room}");
    let clients = LocalSet::new().run_until(gather(&server, arguments.sockets, |number| name(number % rooms))).await?;
    let mut connection = redis.client().await?;
    server.process.pause()?;
    let event = format!(r#"{{"type":"order.status_changed","payload":{{"fill":"{}"}}}}"#, "x".repeat(200));
    for number in 0..arguments.events {
        let all: Vec<String> = (0..rooms).map(name).collect();
        for some in all.chunks(PIPELINE) {
            let mut pipeline = redis::pipe();
            for room in some {
                pipeline.add_command(call(&[room], &event)).ignore();
            }
            pipeline.query_async::<()>(&mut connection).await.map_err(|error| format!("event {number}: {error}"))?;
        }
    }
    let expected = arguments.events * arguments.sockets;
    let began = Instant::now();
    server.process.go_on()?;
    // Blocking on purpose: the runtime of the clients must not wake up for each frame that reaches a socket.
    while server.deliveries()? < expected {
        if began.elapsed() > PATIENCE {
            return Err(format!("{} of {expected} deliveries", server.deliveries()?).into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let took = began.elapsed();
    check_completeness(clients, arguments.events).await?;
    #[expect(clippy::cast_precision_loss, reason = "some millions")]
    Ok(expected as f64 / took.as_secs_f64())
}

async fn gather(server: &Server, sockets: usize, room: impl Fn(usize) -> String) -> Outcome<Vec<Client>> {
    let (mut clients, mut arriving) = (Vec::with_capacity(sockets), JoinSet::new());
    for number in 0..sockets {
        let (address, room) = (server.clients, room(number));
        arriving.spawn_local(async move {
            let mut client = Client::connect(address, &format!("u{number}"), Some(BUFFER)).await?;
            client.join(&room).await.map(|()| client)
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

/// Each client reads what it was sent: every event, with offsets that only grow.
async fn check_completeness(clients: Vec<Client>, events: usize) -> Outcome<()> {
    for mut client in clients {
        let mut last = String::new();
        for number in 0..events {
            let frame = client.next().await.ok_or("a transport was closed")?;
            let (_, rest) = frame.split_once(r#""offset":""#).ok_or("a frame without an offset")?;
            let offset = rest.split('"').next().unwrap_or_default();
            let padded = offset.split_once('-').map(|(ms, n)| format!("{ms:0>20}-{n:0>20}")).unwrap_or_default();
            if padded <= last {
                return Err(format!("event {number} came out of order: {offset}").into());
            }
            last = padded;
        }
    }
    Ok(())
}
