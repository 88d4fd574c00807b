//! The figures in `guards/figures.toml`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Outcome;

/// What stands above them.
const HEAD: &str = "\
# What an idle session weighs and what work costs, in a debug build. `./check` measures it again and fails beyond a tolerance.
# What is meant, or is for the better, is taken over with: target/debug/hallway-guards check --write

";

/// All figures.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Figures {
    /// The compiler that they are of: another one may make other instructions.
    pub(crate) compiler: String,
    /// Bytes of heap of an idle session in one room.
    pub(crate) session_bytes: u64,
    /// Instructions of a connection: handshake, CONNECT, first join, end.
    pub(crate) connection: u64,
    /// Instructions of a further join.
    pub(crate) join: u64,
    /// Instructions of a publish by HTTP.
    pub(crate) publish: u64,
    /// Instructions of an event for each of its sockets.
    pub(crate) delivery: u64,
}

impl Figures {
    /// Reads the file.
    pub(crate) fn read() -> Outcome<Self> {
        Ok(toml::from_str(&std::fs::read_to_string(file())?)?)
    }

    /// Writes the file.
    pub(crate) fn write(&self) -> Outcome<()> {
        Ok(std::fs::write(file(), format!("{HEAD}{}", toml::to_string(self)?))?)
    }
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("figures.toml")
}
