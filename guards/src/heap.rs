//! Bytes of heap per idle joined session: the heap with many sessions less that with few, which leaves out all that there is
//! once.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::client::Client;
use crate::host::HELD;
use crate::server::Server;
use crate::{Outcome, host};

/// Sessions of the two counts. At both a table that doubles is three quarters or five eighths full, as one is in the mean.
pub(crate) const FEW: usize = 128;
/// See [`FEW`].
pub(crate) const MANY: usize = 640;

/// How long the heap must stay as it is to count as that of idle sessions.
const QUIET: Duration = Duration::from_millis(500);
/// And within which time it has to come to that.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway whose heap is counted, with its sessions.
#[derive(Debug)]
pub(crate) struct Host {
    server: Server,
    clients: Vec<Client>,
}

impl Host {
    /// Starts one that writes its heap profile to `profile`.
    pub(crate) async fn start(profile: &Path) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("host").arg(profile);
        Ok(Self { server: Server::start(command, &profile.with_extension("log")).await?, clients: Vec::new() })
    }

    /// Adds sessions until there are `count`. Gives the bytes that are held once they are idle.
    pub(crate) async fn grow_to(&mut self, count: usize) -> Outcome<i64> {
        let more = self.server.connect_users(self.clients.len(), count).await?;
        self.clients.extend(more);
        self.held_when_quiet().await
    }

    /// Writes the profile, and ends with all sessions there.
    pub(crate) async fn write_profile(mut self) -> Outcome<()> {
        self.server.tell(host::PROFILE)?;
        self.server.wait_for_end().await
    }

    async fn held_when_quiet(&mut self) -> Outcome<i64> {
        let (began, mut since, mut held) = (Instant::now(), Instant::now(), 0);
        while since.elapsed() < QUIET {
            sleep(QUIET / 10).await;
            let now = self.server.ask(HELD)?;
            if now != held {
                (since, held) = (Instant::now(), now);
            }
            if began.elapsed() > PATIENCE {
                return Err("the heap of idle sessions does not come to rest".into());
            }
        }
        Ok(held)
    }
}

/// The bytes of one session, rounded.
pub(crate) async fn bytes_per_session() -> Outcome<u64> {
    let folder = tempfile::tempdir()?;
    let mut host = Host::start(&folder.path().join("heap.json")).await?;
    let few = host.grow_to(FEW).await?;
    let many = host.grow_to(MANY).await?;
    u64::try_from((many - few) / i64::try_from(MANY - FEW)?).map_err(|_| "the heap shrank as sessions came".into())
}
