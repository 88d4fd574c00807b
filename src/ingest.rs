//! The ingest stream: services `XADD` events to `<prefix>:ingest`, and one node at a time publishes them, in order.
//!
//! A lease in Redis (`lease`) selects the node. It saves work and is not needed for correctness: a node that was
//! suspended, and whose lease ran out without its noticing, does no harm. Three rules see to that:
//!
//! - Every batch begins at the first entry that is not acknowledged. Pending entries are read before further ones,
//!   under one consumer name for all nodes, and only published entries are acknowledged and deleted.
//! - An entry's event has the same id whichever node publishes it: the publisher's, or one derived from the entry's.
//!   Within `history.id_window`, far longer than a lease, a second publication stores nothing.
//! - The service publishes a batch from its beginning, and goes on only when the part before is stored.
//!
//! So at any moment the stored events are a prefix of the stream, whichever of two nodes stored them, and neither
//! node can put an event behind a later one. For the same reason every failure, and a stop in the middle of a batch,
//! has the same remedy: read the pending entries again.
//!
//! A bad entry is acknowledged when it has been put aside in the `rejected` stream. When that fails it stays pending
//! and is passed over (`stuck`): it has no event, so the order does not change.
//!
//! Waiting takes nothing from the stream (`XREAD`). A blocked `XREADGROUP` of a node that is gone would take entries,
//! and its successor would then read later ones first.

use std::sync::Arc;
use std::time::Duration;

use redis::{Client, RedisError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::essential::run_essential;
use crate::link::{ConnectionLoop, Link, LinkSettings};
use crate::service::Service;

mod entry;
mod failure;
#[cfg(fuzzing)]
pub mod fuzzing;
mod lease;
mod page;
mod reader;
mod rejects;
mod status;
mod stream;
mod stuck;

pub use status::{IngestHealth, IngestStatus};

use lease::Lease;
use reader::IngestReader;
use stream::IngestStream;

/// The longest wait for an entry in one command. A longer block would hide a silent connection.
const BLOCK: Duration = Duration::from_secs(1);

/// The settings of the ingest reader.
#[derive(Clone, Debug)]
pub struct IngestSettings {
    /// The Redis client, with its credentials: never logged.
    pub client: Client,
    /// The prefix of every key.
    pub prefix: String,
    /// Timeout of a connection attempt.
    pub connect_timeout: Duration,
    /// Timeout of a reply.
    pub response_timeout: Duration,
    /// `ingest.lease`: the term of the lease.
    pub lease: Duration,
    /// `ingest.batch`: the most entries read at once.
    pub batch: usize,
    /// `ingest.rejected`: the most rejected entries kept.
    pub rejected: usize,
    /// `limits.event_bytes`: bounds what is kept of a rejected entry.
    pub event_bytes: usize,
}

impl IngestStatus {
    /// Starts the tasks that read the stream whenever this node holds the lease, until `stop`; the lease is released
    /// then. Returns at once.
    ///
    /// # Errors
    /// When the URL is invalid.
    pub fn start(
        settings: &IngestSettings,
        service: Service,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, RedisError> {
        let status = Self::default();
        // A holder that cannot renew in time must learn it while the lease is still its own.
        let (lease, lease_keeper) = open_link("lease", settings, settings.lease / 3, Duration::ZERO)?;
        let (commands, commands_keeper) = open_link("ingest", settings, settings.response_timeout, Duration::ZERO)?;
        // A connection of its own: a blocking command would delay acknowledgements behind it.
        let (waiting, waiting_keeper) = open_link("ingest-wait", settings, settings.response_timeout + BLOCK, BLOCK)?;
        let lease = Lease::new(lease, settings, status.clone());
        let stream = IngestStream::new(commands, waiting, settings);
        let lease = Arc::new(lease);
        let mut reader = IngestReader::new(stream.clone(), lease.clone(), service, settings.batch, status.clone());
        let shown = status.clone();
        for keeper in [lease_keeper, commands_keeper, waiting_keeper] {
            tasks.spawn(run_essential("ingest link", stop.clone().run_until_cancelled_owned(keeper.run_loop())));
        }
        tasks.spawn(run_essential("ingest", async move {
            let work = async { tokio::join!(lease.keep_renewed(), reader.run_forever(), shown.watch_lengths(stream)) };
            stop.run_until_cancelled(work).await;
            // Released behind the work, so that no other node reads while this one may still publish.
            lease.release_lease().await;
        }));
        Ok(status)
    }
}

fn open_link(
    name: &'static str,
    settings: &IngestSettings,
    response_timeout: Duration,
    block: Duration,
) -> Result<(Link, ConnectionLoop), RedisError> {
    let connect_timeout = settings.connect_timeout;
    Link::new(&settings.client, LinkSettings { name, connect_timeout, response_timeout, block })
}
