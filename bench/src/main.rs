//! A load generator for Hallway: what a delivery costs, what bad peers cost the others, how fast the ingest stream is.
//!
//! It prints what it measured, as ratios to something measured in the same run. A scenario that loses, doubles or reorders an
//! event fails; bounds fail with `--must` alone.

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod askers;
mod bare;
mod burst;
mod bystanders;
mod client;
mod cores;
mod crowd;
mod deaf;
mod fanout;
mod feed;
mod fleet;
mod heal;
mod herd;
mod idle;
mod ingest;
mod latest;
mod limits;
mod link;
mod network;
mod offender;
mod peers;
mod plain;
mod plot;
mod process;
mod publish;
mod raw;
mod report;
mod results;
mod revoke;
mod rooms;
mod server;
mod slow;
mod stalled;
mod storm;
mod swarm;
mod thread;
mod verdict;

/// A result whose error is a sentence for the person who runs this.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Debug, Parser)]
#[command(name = "hallway-bench", version, about = "Measures Hallway; see bench/README.md")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// CPU and latency per delivery, beside a plain Socket.IO server on Node.
    Fanout(fanout::Arguments),
    /// What an idle socket costs: memory and CPU.
    Idle(idle::Arguments),
    /// Many events at once in one room.
    Burst(burst::Arguments),
    /// One event after the other in one room, as fast as all have it.
    Closed(burst::Arguments),
    /// One room at a steady pace.
    Paced(burst::Arguments),
    /// Many small rooms, alone and beside a big one.
    Rooms(rooms::Arguments),
    /// Thousands who come at once, and who come back at once to five rooms each.
    Storm(storm::Arguments),
    /// Two event loops against one.
    Cores(cores::Arguments),
    /// Stock clients whose connections are cut again and again, on three nodes.
    Jitter(fleet::Arguments),
    /// All nodes are ended and started again under stock clients.
    Avalanche(fleet::Arguments),
    /// Sockets that read nothing, and what they cost the others.
    Slow(slow::Arguments),
    /// `latest` events of many agents.
    Latest(latest::Arguments),
    /// Makes `RESULTS.md` and its plots of the JSON that scenarios kept.
    Report(plot::Arguments),
    /// The peer on socketioxide.
    #[command(hide = true)]
    ServeSocketioxide(plain::Arguments),
    /// The bare `send`.
    #[command(hide = true)]
    ServeSend(plain::Arguments),
    /// What a stalled and a half-open peer cost the others, and when they are gone.
    Stalled(stalled::Arguments),
    /// What an offender at each limit costs the others.
    Limits(limits::Arguments),
    /// An offender of `limits`.
    #[command(hide = true)]
    Offend(offender::Arguments),
    /// How fast the ingest stream is emptied, beside the bare function.
    Ingest(ingest::Arguments),
    /// A thousand clients that come back to one room at once, over a narrow link to Redis.
    Herd(herd::Arguments),
    /// Sockets that ask for long histories again and again, and never read.
    Askers(askers::Arguments),
    /// How long a node with ten thousand rooms is deaf when its pub/sub connection breaks.
    Deaf(deaf::Arguments),
    /// Rooms that miss much, over a narrow link to Redis.
    Heal(heal::Arguments),
    /// How soon a revocation ends a user's sockets on several nodes.
    Revoke(revoke::Arguments),
    /// The half-open peer of `stalled`, in a network of its own.
    #[command(hide = true)]
    Peer(network::PeerArguments),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Fanout(arguments) => fanout::run(arguments).await,
        Command::Idle(arguments) => idle::run(arguments).await,
        Command::Burst(arguments) => burst::run(arguments).await,
        Command::Closed(arguments) => burst::run_closed(arguments).await,
        Command::Paced(arguments) => burst::run_paced(arguments).await,
        Command::Rooms(arguments) => rooms::run(arguments).await,
        Command::Storm(arguments) => storm::run(arguments).await,
        Command::Cores(arguments) => cores::run(arguments).await,
        Command::Jitter(arguments) => fleet::run("jitter", &arguments),
        Command::Avalanche(arguments) => fleet::run("avalanche", &arguments),
        Command::Slow(arguments) => slow::run(arguments).await,
        Command::Latest(arguments) => latest::run(arguments).await,
        Command::Report(arguments) => plot::run(&arguments),
        Command::ServeSocketioxide(arguments) => plain::serve(arguments).await,
        Command::ServeSend(arguments) => bare::serve(arguments).await,
        Command::Stalled(arguments) => stalled::run(arguments).await,
        Command::Limits(arguments) => limits::run(arguments).await,
        Command::Offend(arguments) => offender::run(arguments).await,
        Command::Ingest(arguments) => ingest::run(arguments).await,
        Command::Herd(arguments) => herd::run(arguments).await,
        Command::Askers(arguments) => askers::run(arguments).await,
        Command::Deaf(arguments) => deaf::run(arguments).await,
        Command::Heal(arguments) => heal::run(arguments).await,
        Command::Revoke(arguments) => revoke::run(arguments).await,
        Command::Peer(arguments) => network::peer(arguments).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            report::complain(&problem.to_string());
            ExitCode::FAILURE
        }
    }
}
