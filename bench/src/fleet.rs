//! `jitter` and `avalanche`: stock JavaScript clients on three nodes, by `bench/node/fleet.mjs`.

use std::process::Command;

use clap::Args;

use crate::process::LOAD_CORE;
use crate::{Outcome, server};

/// What the script is told; `bench/node/fleet.mjs` has its options.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

pub(crate) fn run(scenario: &str, arguments: &Arguments) -> Outcome<()> {
    let (script, gateway) = (server::node_folder()?.join("fleet.mjs"), server::hallway(None)?);
    let mut node = Command::new("taskset");
    node.args(["-c", LOAD_CORE, "node"]).arg(script).arg(scenario).arg("--hallway").arg(gateway);
    // A later option takes the place of an earlier one.
    if node.args(&arguments.options).status()?.success() {
        return Ok(());
    }
    Err(format!("{scenario} has failed").into())
}
