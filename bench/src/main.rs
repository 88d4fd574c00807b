//! A load generator for Hallway: what a delivery costs, what bad peers cost the others, how fast the ingest stream is.
//!
//! Nothing here asserts anything: it prints what it measured, as ratios to something measured in the same run.

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod askers;
mod bystanders;
mod client;
mod cores;
mod crowd;
mod deaf;
mod fanout;
mod heal;
mod herd;
mod idle;
mod ingest;
mod limits;
mod link;
mod network;
mod offender;
mod process;
mod publish;
mod report;
mod revoke;
mod server;
mod stalled;
mod thread;
mod verdict;

/// A result whose error is a sentence for whoever runs this.
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
    /// What a second core gives: a burst to a node with one event loop, and to one with two.
    Cores(cores::Arguments),
    /// What a socket costs that does nothing: memory and CPU.
    Idle(idle::Arguments),
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
        Command::Stalled(arguments) => stalled::run(arguments).await,
        Command::Limits(arguments) => limits::run(arguments).await,
        Command::Offend(arguments) => offender::run(arguments).await,
        Command::Ingest(arguments) => ingest::run(arguments).await,
        Command::Herd(arguments) => herd::run(arguments).await,
        Command::Askers(arguments) => askers::run(arguments).await,
        Command::Deaf(arguments) => deaf::run(arguments).await,
        Command::Heal(arguments) => heal::run(arguments).await,
        Command::Cores(arguments) => cores::run(arguments).await,
        Command::Idle(arguments) => idle::run(arguments).await,
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
