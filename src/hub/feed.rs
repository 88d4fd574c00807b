//! The feed: the one task that takes what the broker sends, in order, and moves the rooms' positions.

use std::sync::Arc;

use hallway_rooms::entry::{Entry, Place};
use hallway_rooms::position::Arrival;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Hub;
use super::cast::{Recent, Target};
use super::room::LocalRoom;
use crate::broker::Feed;
use crate::broker::feed::FeedReceiver;

/// Rooms that were opened when something newer had already arrived.
#[derive(Debug, Default)]
pub(super) struct Behind {
    rooms: Mutex<Vec<Arc<LocalRoom>>>,
    raised: Notify,
}

impl Behind {
    pub(super) fn push(&self, local: Arc<LocalRoom>) {
        self.rooms.lock().push(local);
        self.raised.notify_one();
    }

    fn take(&self) -> Vec<Arc<LocalRoom>> {
        std::mem::take(&mut *self.rooms.lock())
    }
}

impl Hub {
    /// Delivers what the broker sends until `stop`, or until the broker is gone.
    pub async fn run(&self, feed: FeedReceiver, stop: CancellationToken) {
        stop.run_until_cancelled(self.take_all(feed)).await;
    }

    async fn take_all(&self, mut feed: FeedReceiver) {
        let mut recent = Recent::default();
        let mut assurance = tokio::time::interval(self.assurance_pause());
        assurance.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.0.behind.raised.notified() => self.heal(self.0.behind.take()).await,
                _ = assurance.tick() => self.assure().await,
                item = feed.recv() => match item {
                    Some(item) => self.take(item, &mut recent).await,
                    None => return,
                },
            }
        }
    }

    async fn take(&self, item: Feed, recent: &mut Recent) {
        match item {
            Feed::Entry(entry) if self.is_passing(&entry) => {
                if entry.places.len() == 1 || recent.first(&entry) {
                    self.deliver(&entry, &self.targets(&entry)).await;
                }
            }
            Feed::Entry(entry) => self.take_entry(entry).await,
            Feed::Missed(rooms) => self.heal(rooms.iter().filter_map(|room| self.find(room)).collect()).await,
            Feed::Restored => self.heal_all().await,
        }
    }

    /// Whether none of an entry's rooms here keeps it: then nothing but its id tells a second copy.
    fn is_passing(&self, entry: &Entry) -> bool {
        self.targets(entry).iter().all(|target| entry.places[target.place].link.is_none())
    }

    /// Delivers a stored entry, or reads what is missing before it.
    async fn take_entry(&self, entry: Entry) {
        let (targets, gaps) = self.weigh(&entry);
        if gaps.is_empty() {
            self.deliver_next(&entry, targets).await;
        } else {
            self.heal(gaps).await;
            let (left, _) = self.weigh(&entry);
            self.deliver_next(&entry, left).await;
        }
    }

    /// The rooms here that have not had this entry, and those of them that lack something before it.
    pub(super) fn weigh(&self, entry: &Entry) -> (Vec<Target>, Vec<Arc<LocalRoom>>) {
        let (mut targets, mut gaps) = (Vec::new(), Vec::new());
        for target in self.targets(entry) {
            let Some(link) = entry.places[target.place].link else {
                targets.push(target);
                continue;
            };
            match target.local.arrival(link, &entry.id) {
                Some(Arrival::Next) => targets.push(target),
                Some(Arrival::Late) => targets.push(Target { late: true, ..target }),
                Some(Arrival::Gap) => {
                    gaps.push(target.local.clone());
                    targets.push(target);
                }
                Some(Arrival::Again) => target.local.advance(link, &entry.id),
                Some(Arrival::Seen) | None => {}
            }
        }
        let stored = |t: &Target| entry.places[t.place].link.is_some();
        if !targets.iter().any(stored) {
            targets.clear();
        }
        (targets, gaps)
    }

    /// Advances the rooms and delivers to their members.
    pub(super) async fn deliver_next(&self, entry: &Entry, targets: Vec<Target>) {
        for target in &targets {
            if let Some(link) = entry.places[target.place].link {
                target.local.advance(link, &entry.id);
            }
        }
        self.deliver(entry, &targets).await;
        targets.iter().for_each(|target| target.local.serve());
    }

    fn targets(&self, entry: &Entry) -> Vec<Target> {
        let rooms = self.0.rooms.read();
        let here = |(place, at): (usize, &Place)| {
            let local = rooms.get(&at.room)?.clone();
            Some(Target { local, place, late: false })
        };
        entry.places.iter().enumerate().filter_map(here).collect()
    }
}
