//! The feed: the one task that takes what the broker sends, in order, and moves the rooms' positions. It waits for no read:
//! those go on beside it, and what they bring comes in as the feed's items do.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use hallway_rooms::entry::{Entry, Keep, Place};
use hallway_rooms::position::Arrival;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, Interval, MissedTickBehavior, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Hub;
use super::assure::Looks;
use super::backlog::{Backlog, Trust};
use super::cast::Target;
use super::heal::Read;
use super::renew::Renewal;
use super::room::LocalRoom;
use crate::broker::Feed;
use crate::broker::feed::FeedReceiver;
use crate::session::copies::Recent;

/// Deliveries of the backlog between two looks at what came meanwhile.
const STEPS: usize = 64;

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

/// What the task has in hand.
pub(super) struct Task {
    pub(super) hub: Hub,
    pub(super) backlog: Backlog,
    pub(super) reads: FuturesUnordered<BoxFuture<'static, Read>>,
    pub(super) looks: Looks,
    pub(super) renewal: Renewal,
    /// Whether a break was told whose end is to be.
    pub(super) is_broken: bool,
    recent: Recent,
    audit: Interval,
}

/// What an entry is to its rooms here.
struct Weighed {
    targets: Vec<Target>,
    has_gap: bool,
    is_apart: bool,
}

impl Hub {
    /// Delivers what the broker sends until `stop`, or until the broker is gone.
    pub async fn run(&self, feed: FeedReceiver, stop: CancellationToken) {
        let mut task = Task::new(self.clone());
        stop.run_until_cancelled(task.take_all(feed)).await;
    }

    /// The rooms here that have not had this entry.
    fn weigh(&self, entry: &Entry) -> Weighed {
        let mut weighed = Weighed { targets: Vec::new(), has_gap: false, is_apart: false };
        for target in self.targets(entry) {
            let Some(link) = entry.places[target.place].link() else {
                weighed.targets.extend(target.is_news(entry).then_some(target));
                continue;
            };
            match target.local.arrival(link, &entry.id) {
                Some(Arrival::Next) => weighed.targets.push(target),
                Some(Arrival::Late) => weighed.targets.push(Target { late: true, ..target }),
                Some(Arrival::Gap) => weighed.has_gap = true,
                Some(Arrival::Again) => target.local.advance(link, &entry.id),
                Some(Arrival::Seen) => weighed.is_apart = true,
                None => {}
            }
        }
        let stored = |t: &Target| entry.places[t.place].link().is_some();
        if !weighed.targets.iter().any(stored) {
            weighed.targets.retain(|target| entry.places[target.place].stamp().is_some());
        }
        weighed
    }

    /// Advances the rooms and delivers to their members.
    pub(super) async fn deliver_next(&self, entry: &Entry, targets: Vec<Target>, is_apart: bool) {
        for target in &targets {
            match entry.places[target.place].keep {
                Keep::Stored(link) => target.local.advance(link, &entry.id),
                Keep::Newest(stamp) => target.local.passed(|passed| passed.note(stamp, entry)),
                Keep::Nothing => {}
            }
        }
        self.deliver(entry, &targets, is_apart).await;
        targets.iter().for_each(|target| target.local.serve());
    }

    pub(super) fn targets(&self, entry: &Entry) -> Vec<Target> {
        let rooms = self.0.rooms.read();
        let here = |(place, at): (usize, &Place)| {
            let local = rooms.get(&at.room)?.clone();
            Some(Target { local, place, late: false })
        };
        entry.places.iter().enumerate().filter_map(here).collect()
    }

    /// Whether an entry lies in the future of the broker. A service may send such a line by a plain `PUBLISH`; taken at its
    /// word, it would make all that is stored from then on look old.
    fn is_far(&self, entry: &Entry) -> bool {
        // Before the broker's clock is known nothing can be held against it.
        let Some(now_ms) = self.0.broker.control().now_ms() else { return false };
        let far = now_ms.saturating_add(FAR_MS);
        entry.places.iter().filter_map(Place::link).any(|link| link.offset.ms > far)
    }

    /// Whether none of an entry's rooms here has it in its history.
    fn is_passing(&self, entry: &Entry) -> bool {
        self.targets(entry).iter().all(|target| entry.places[target.place].link().is_none())
    }
}

impl Task {
    fn new(hub: Hub) -> Self {
        let mut audit = tokio::time::interval(hub.0.audit);
        audit.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            hub,
            backlog: Backlog::default(),
            reads: FuturesUnordered::new(),
            looks: Looks::default(),
            renewal: Renewal::default(),
            is_broken: false,
            recent: Recent::default(),
            audit,
        }
    }

    async fn take_all(&mut self, mut feed: FeedReceiver) {
        loop {
            self.begin_reads();
            self.tell_end();
            let next_try = self.backlog.next_try();
            // In no fixed order, so that none of these has to wait while another one is busy.
            tokio::select! {
                () = self.hub.0.behind.raised.notified() => self.take_behind(),
                Some(read) = self.reads.next(), if !self.reads.is_empty() => self.take_read(read),
                Some(look) = self.looks.next(), if !self.looks.is_empty() => self.take_look(look),
                Some(latest) = self.renewal.next(), if !self.renewal.is_empty() => self.take_latest(latest).await,
                () = sleep_until(next_try.unwrap_or_else(Instant::now)), if next_try.is_some() => {}
                () = std::future::ready(()), if self.backlog.has_work() => self.work().await,
                _ = self.audit.tick() => self.look_at_all(),
                item = feed.recv() => match item {
                    Some(item) => self.take(item).await,
                    None => return,
                },
            }
        }
    }

    fn take_behind(&mut self) {
        for local in self.hub.0.behind.take() {
            self.backlog.want(local.room());
        }
    }

    async fn take(&mut self, item: Feed) {
        match item {
            Feed::Entry(entry) if self.hub.is_passing(&entry) => self.pass_on(&entry).await,
            Feed::Entry(entry) => self.take_entry(entry).await,
            Feed::Missed(rooms) => {
                let rooms: Vec<_> = rooms.iter().filter_map(|room| self.hub.find(room)).collect();
                for local in &rooms {
                    local.miss();
                    self.backlog.want(local.room());
                }
                self.renewal.add(rooms);
            }
            Feed::Restored => self.heal_all(),
        }
    }

    /// Delivers what is in no history. A second copy, which comes by the channel of another of its rooms, is told by its
    /// stamp, or else by its id.
    async fn pass_on(&mut self, entry: &Entry) {
        let mut targets = self.hub.targets(entry);
        targets.retain(|target| target.is_news(entry));
        let unstamped = |target: &Target| entry.places[target.place].keep == Keep::Nothing;
        if entry.places.len() > 1 && targets.iter().any(unstamped) && !self.recent.first(entry) {
            targets.retain(|target| !unstamped(target));
        }
        self.hub.deliver_next(entry, targets, false).await;
    }

    /// Delivers a stored entry, or has it wait for what is missing before it.
    async fn take_entry(&mut self, entry: Entry) {
        let is_far = self.hub.is_far(&entry);
        if is_far || entry.places.iter().any(|place| self.backlog.lags(&place.room)) {
            return self.wait(entry, if is_far { Trust::Claimed } else { Trust::Heard });
        }
        let weighed = self.hub.weigh(&entry);
        if weighed.has_gap {
            return self.wait(entry, Trust::Heard);
        }
        // The broker's clock was set back, or another server took its place: the chain is to be taken up where it is.
        let late = weighed.targets.iter().filter(|target| target.late);
        late.for_each(|target| self.backlog.want(target.local.room()));
        self.hub.deliver_next(&entry, weighed.targets, weighed.is_apart).await;
    }

    fn wait(&mut self, entry: Entry, trust: Trust) {
        self.backlog.arrive(&Arc::new(entry), trust, &self.hub);
    }

    /// Delivers what the backlog has ready.
    async fn work(&mut self) {
        for _ in 0..STEPS {
            let Some(delivery) = self.backlog.next(&self.hub) else { break };
            self.hub.0.counts.healed.increment(1);
            let targets = self.hub.chosen(&delivery);
            self.hub.deliver_next(&delivery.entry, targets, delivery.is_apart).await;
        }
    }
}
