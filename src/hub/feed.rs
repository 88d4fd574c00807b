//! The feed: the one task that takes what the broker sends, in order, and moves the rooms' positions.

use std::sync::Arc;

use futures_util::future::join_all;
use hallway_rooms::entry::{Entry, Keep, Place};
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
use crate::logs;

/// Rooms read at once.
const READS: usize = 256;

/// An offset further ahead of the broker's clock than this was not given by the broker, unless its clock was set back.
const FAR_MS: u64 = 60_000;

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
            Feed::Entry(entry) if self.is_passing(&entry) => self.pass_on(&entry, recent).await,
            Feed::Entry(entry) if self.is_far(&entry) => self.verify(&entry).await,
            Feed::Entry(entry) => self.take_entry(entry).await,
            Feed::Missed(rooms) => {
                let rooms: Vec<_> = rooms.iter().filter_map(|room| self.find(room)).collect();
                self.heal(rooms.clone()).await;
                self.renew(&rooms).await;
            }
            Feed::Restored => self.heal_all().await,
        }
    }

    /// Whether an entry lies in the future of the broker. A service may send such a line by a plain `PUBLISH`; taken at its
    /// word, it would make all that is stored from then on look old.
    fn is_far(&self, entry: &Entry) -> bool {
        // Before the broker's clock is known nothing can be held against it.
        let Some(now_ms) = self.0.broker.control().now_ms() else { return false };
        let far = now_ms.saturating_add(FAR_MS);
        entry.places.iter().filter_map(Place::link).any(|link| link.offset.ms > far)
    }

    /// Believes the histories in place of an entry: what they have is delivered from there, and the entry itself never is.
    async fn verify(&self, entry: &Entry) {
        let stored = |target: &Target| entry.places[target.place].link().is_some();
        let rooms = self.targets(entry).into_iter().filter(stored).map(|target| target.local).collect();
        self.heal(rooms).await;
        if !self.weigh(entry).0.is_empty() {
            self.0.counts.invalid.increment(1);
            tracing::debug!(
                event = logs::EVENT_UNFIT,
                id = %entry.id,
                "a message that lies in the future of the broker is in no history and reaches no client"
            );
        }
    }

    /// Whether none of an entry's rooms here has it in its history.
    fn is_passing(&self, entry: &Entry) -> bool {
        self.targets(entry).iter().all(|target| entry.places[target.place].link().is_none())
    }

    /// Delivers what is in no history. A second copy, which comes by the channel of another of its rooms, is told by its
    /// stamp, or else by its id.
    async fn pass_on(&self, entry: &Entry, recent: &mut Recent) {
        let mut targets = self.targets(entry);
        targets.retain(|target| target.is_news(entry));
        let unstamped = |target: &Target| entry.places[target.place].keep == Keep::Nothing;
        if entry.places.len() > 1 && targets.iter().any(unstamped) && !recent.first(entry) {
            targets.retain(|target| !unstamped(target));
        }
        self.deliver_next(entry, targets).await;
    }

    /// Delivers what these rooms keep of `latest` events and the live feed has not brought: after a break of it.
    pub(super) async fn renew(&self, rooms: &[Arc<LocalRoom>]) {
        for chunk in rooms.chunks(READS) {
            let reads = chunk.iter().map(|local| self.0.broker.latest(local.room()));
            for entry in join_all(reads).await.into_iter().flatten().flatten() {
                let mut targets = self.targets(&entry);
                targets.retain(|target| entry.places[target.place].stamp().is_some() && target.is_news(&entry));
                self.deliver_next(&entry, targets).await;
            }
        }
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
            let Some(link) = entry.places[target.place].link() else {
                targets.extend(target.is_news(entry).then_some(target));
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
        let stored = |t: &Target| entry.places[t.place].link().is_some();
        if !targets.iter().any(stored) {
            targets.retain(|target| entry.places[target.place].stamp().is_some());
        }
        (targets, gaps)
    }

    /// Advances the rooms and delivers to their members.
    pub(super) async fn deliver_next(&self, entry: &Entry, targets: Vec<Target>) {
        for target in &targets {
            match entry.places[target.place].keep {
                Keep::Stored(link) => target.local.advance(link, &entry.id),
                Keep::Newest(stamp) => target.local.passed(|passed| passed.note(stamp, entry)),
                Keep::Nothing => {}
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
