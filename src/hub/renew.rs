//! Renewing: of `latest` events nothing in a chain says that one was missed. So after a loss of the feed what rooms keep is
//! read, some rooms at a time, beside live delivery; what is news is passed on.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use hallway_rooms::entry::Entry;

use super::Hub;
use super::feed::Task;
use super::room::LocalRoom;

/// Rooms read at once: few enough to leave live delivery and clients their share of Redis.
const READS: usize = 64;

/// Rooms whose `latest` events are to be read.
#[derive(Default)]
pub(super) struct Renewal {
    /// No more than are open.
    rooms: VecDeque<Arc<LocalRoom>>,
    reads: FuturesUnordered<BoxFuture<'static, Vec<Entry>>>,
}

impl Renewal {
    /// Has all these read, whatever was to be read before.
    pub(super) fn restart(&mut self, rooms: Vec<Arc<LocalRoom>>) {
        self.rooms = rooms.into();
    }

    /// Has these read as well.
    pub(super) fn add(&mut self, rooms: Vec<Arc<LocalRoom>>) {
        for local in rooms {
            if !self.rooms.iter().any(|known| Arc::ptr_eq(known, &local)) {
                self.rooms.push_back(local);
            }
        }
    }

    /// Begins the reads that may begin.
    pub(super) fn begin(&mut self, hub: &Hub) {
        while self.reads.len() < READS
            && let Some(local) = self.rooms.pop_front()
        {
            let broker = hub.0.broker.clone();
            // What cannot be read is read after the break that this is a sign of.
            self.reads.push(Box::pin(async move { broker.latest(local.room()).await.unwrap_or_default() }));
        }
    }

    /// Whether nothing is being read.
    pub(super) fn is_empty(&self) -> bool {
        self.reads.is_empty()
    }

    /// What the next room has.
    pub(super) async fn next(&mut self) -> Option<Vec<Entry>> {
        self.reads.next().await
    }
}

impl Task {
    /// Delivers what a room keeps of `latest` events and the live feed has not brought.
    pub(super) async fn take_latest(&mut self, latest: Vec<Entry>) {
        for entry in latest {
            let mut targets = self.hub.targets(&entry);
            targets.retain(|target| entry.places[target.place].stamp().is_some() && target.is_news(&entry));
            self.hub.deliver_next(&entry, targets, false).await;
        }
    }
}
