//! The ingest stream: services `XADD` events to `<prefix>:ingest`, and one node at a time publishes them, in order.
//!
//! Which node is said by a lease in Redis (`lease`). It is a matter of thrift and not of truth: a node whose lease ran out
//! without its noticing, because it was suspended, does no harm. Three things see to that:
//!
//! - Every batch begins at the first entry that is not acknowledged: what is pending is read before what is new, under one
//!   consumer name for all nodes, and only what is published is acknowledged and deleted.
//! - An entry's event has the same id whoever publishes it: the publisher's, or one derived from the entry's. Within
//!   `history.id_window`, far longer than a lease, a second publication stores nothing.
//! - The service publishes a batch from its beginning and goes on only when that is stored.
//!
//! So at any moment the events stored are a beginning of the stream, whichever of two nodes stored them, and neither can put
//! an event behind a later one. For the same reason any failure, or a stop in the middle of a batch, is answered in one
//! way: read again what is pending.
//!
//! A bad entry is acknowledged when it has been put aside. Where it cannot be, it stays pending and is passed over (`stuck`):
//! it has no event, so that changes no order.
//!
//! Waiting takes nothing from the stream (`XREAD`): a blocked `XREADGROUP` of a node that is gone would take entries
//! that its successor then does not see in their turn.

use std::sync::Arc;
use std::time::Duration;

use redis::{Client, RedisError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::link::{Keeper, Link, LinkSettings};
use crate::service::Service;

mod entry;
#[cfg(fuzzing)]
pub mod fuzzing;
mod lease;
mod portion;
mod reader;
mod rejects;
mod status;
mod stream;
mod stuck;
mod trouble;

pub use status::{Ingest, IngestHealth};

use lease::Lease;
use reader::Reader;
use stream::Stream;

/// The longest that a command waits in Redis for an entry. Not longer, so that a link that has fallen silent is noticed.
const BLOCK: Duration = Duration::from_secs(1);

/// What reading the ingest stream needs to know.
#[derive(Clone, Debug)]
pub struct IngestSettings {
    /// Where Redis is, with its credentials: never logged.
    pub client: Client,
    /// The first word of every key.
    pub prefix: String,
    /// For making a connection.
    pub connect_timeout: Duration,
    /// For a reply.
    pub response_timeout: Duration,
    /// `ingest.lease`.
    pub lease: Duration,
    /// `ingest.batch`.
    pub batch: usize,
    /// `ingest.rejected`.
    pub rejected: usize,
    /// `limits.event_bytes`.
    pub event_bytes: usize,
}

impl Ingest {
    /// Reads the stream whenever this node's turn comes, until `stop`; then leaves it to another node. Returns at once.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn start(
        settings: &IngestSettings,
        service: Service,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, RedisError> {
        let status = Self::default();
        // A holder that cannot renew in time must know it while the lease is still its own.
        let (lease, lease_keeper) = link("lease", settings, settings.lease / 3, Duration::ZERO)?;
        let (commands, commands_keeper) = link("ingest", settings, settings.response_timeout, Duration::ZERO)?;
        let (waiting, waiting_keeper) = link("ingest-wait", settings, settings.response_timeout + BLOCK, BLOCK)?;
        let lease = Lease::new(lease, settings, status.clone());
        let stream = Stream::new(commands, waiting, settings);
        let lease = Arc::new(lease);
        let mut reader = Reader::new(stream.clone(), lease.clone(), service, settings.batch, status.clone());
        let shown = status.clone();
        for keeper in [lease_keeper, commands_keeper, waiting_keeper] {
            tasks.spawn(stop.clone().run_until_cancelled_owned(keeper.run()));
        }
        tasks.spawn(async move {
            let work = async { tokio::join!(lease.keep(), reader.run(), shown.watch(stream)) };
            stop.run_until_cancelled(work).await;
            lease.release().await;
        });
        Ok(status)
    }
}

fn link(
    name: &'static str,
    settings: &IngestSettings,
    response_timeout: Duration,
    block: Duration,
) -> Result<(Link, Keeper), RedisError> {
    let connect_timeout = settings.connect_timeout;
    Link::new(&settings.client, LinkSettings { name, connect_timeout, response_timeout, block })
}
