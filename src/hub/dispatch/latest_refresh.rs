//! Resubscribe: rereads `latest` events after a loss of messages. No chain tells that one of them was missed, so the
//! events that each room keeps are read, some rooms at a time, beside live delivery; newer ones are delivered.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use hallway_rooms::entry::Entry;

use super::Dispatch;
use crate::hub::Hub;
use crate::hub::batch::Delivery;
use crate::hub::room::LocalRoom;

/// Rooms read at once: few enough to leave live delivery and clients their share of Redis.
const READS: usize = 64;

/// Rooms whose `latest` events are to be read.
#[derive(Default)]
pub(super) struct LatestRefresh {
    /// Rooms that wait, each once; no more than are open.
    rooms: VecDeque<Arc<LocalRoom>>,
    /// Reads in flight, at most [`READS`].
    reads: FuturesUnordered<BoxFuture<'static, Vec<Entry>>>,
}

impl LatestRefresh {
    /// Replaces the rooms to read: after a break all of them are.
    pub(super) fn replace_rooms(&mut self, rooms: Vec<Arc<LocalRoom>>) {
        self.rooms = rooms.into();
    }

    /// Adds rooms to read, unless they are waiting already.
    pub(super) fn add(&mut self, rooms: Vec<Arc<LocalRoom>>) {
        for local in rooms {
            if !self.rooms.iter().any(|known| Arc::ptr_eq(known, &local)) {
                self.rooms.push_back(local);
            }
        }
    }

    /// Starts reads up to [`READS`].
    pub(super) fn begin_reads(&mut self, hub: &Hub) {
        while self.reads.len() < READS
            && let Some(local) = self.rooms.pop_front()
        {
            let broker = hub.0.broker.clone();
            // A failed read is a sign of a break, and after a break everything is read again.
            self.reads.push(Box::pin(async move { broker.latest(local.room()).await.unwrap_or_default() }));
        }
    }

    /// Whether no read is in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.reads.is_empty()
    }

    /// Waits for the next room's events.
    pub(super) async fn next(&mut self) -> Option<Vec<Entry>> {
        self.reads.next().await
    }
}

impl Dispatch {
    /// Delivers the `latest` events of a room that the live channel has not brought.
    pub(super) async fn take_latest(&mut self, latest: Vec<Entry>) {
        for entry in latest {
            let entry = Arc::new(entry);
            let mut targets = self.hub.open_targets(&entry);
            // The other rooms of the event keep it in a history, or nowhere: the read says nothing about those.
            targets.retain(|target| entry.places[target.place].stamp().is_some() && target.is_news(&entry));
            self.deliver_alone(&Delivery { entry, targets }, false).await;
        }
    }
}
