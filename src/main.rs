//! The gateway binary: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser;
use hallway::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}
