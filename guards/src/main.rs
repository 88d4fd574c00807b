//! Guards: the heap of an idle session, and the instructions of its work, against `guards/figures.toml`.
//!
//! `./check` runs `hallway-guards check`. `check --write` takes what was measured as the figures; `sites` prints the heap of a
//! session by the places that allocate it. Both are measured from outside, over real sockets: `server.rs` starts a gateway in a
//! process of its own, so that the clients' heap and instructions are not counted.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod client;
mod figures;
mod heap;
mod host;
mod instructions;
mod server;
mod sites;
mod token;
mod verdict;

/// Passes on to the system's allocator, and counts in a process that asks for it (`host.rs`).
#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// A result whose error is a sentence for a person.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Debug, Parser)]
#[command(
    name = "hallway-guards",
    version,
    about = "What a session weighs and its work costs; see guards/figures.toml"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure, and compare with the figures.
    Check {
        /// Take what is measured as the figures.
        #[arg(long)]
        write: bool,
    },
    /// Print the heap of an idle session by the places that allocate it.
    Sites,
    /// The gateway whose heap is counted.
    #[command(hide = true)]
    Host {
        /// Where its heap profile goes.
        profile: PathBuf,
        /// The gateway's configuration.
        #[arg(long)]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Check { write } => on_runtime(verdict::check_all(write)),
        Command::Sites => on_runtime(sites::print_sites()),
        Command::Host { profile, config } => return host::run(&profile, &config),
    };
    outcome.map_or_else(|problem| complain(&problem.to_string()), |()| ExitCode::SUCCESS)
}

fn on_runtime(work: impl Future<Output = Outcome<()>>) -> Outcome<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// A line for a person.
#[expect(clippy::print_stdout, reason = "stdout is what this program is for")]
fn say(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "this is for a person")]
fn complain(problem: &str) -> ExitCode {
    eprintln!("hallway-guards: {problem}");
    ExitCode::FAILURE
}
