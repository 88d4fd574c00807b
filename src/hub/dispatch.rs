//! The dispatch: the one task that takes the broker's messages, in order, and moves the rooms' positions. It waits for
//! no read: reads run beside it, and their results arrive like messages.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use hallway_rooms::entry::{Entry, Retained, RoomPlace};
use hallway_rooms::position::Arrival;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, Interval, MissedTickBehavior, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Hub;
use super::backlog::{Backlog, EntryTrust};
use super::outgoing::RoomTarget;
use super::room::LocalRoom;
use super::rounds::Rounds;
use crate::broker::ChannelEvent;
use crate::broker::event_channel::EventReceiver;
use crate::session::copies::Recent;

mod audit;
mod gather;
mod heal;
mod latest_refresh;

use audit::Audit;
use gather::Gathered;
use heal::HealRead;
use latest_refresh::LatestRefresh;

/// Deliveries from the backlog before live messages get a turn.
const STEPS: usize = 64;

/// Milliseconds ahead of the broker's clock beyond which an offset was not given by the broker, unless its clock was
/// set back.
const FAR_MS: u64 = 60_000;

/// Rooms that were opened when something newer had already arrived; they need a read.
#[derive(Debug, Default)]
pub(super) struct OpenedBehind {
    /// Filled by `Hub::open`, emptied by the dispatch; no more than the rooms opened in between.
    rooms: Mutex<Vec<Arc<LocalRoom>>>,
    /// Wakes the dispatch.
    raised: Notify,
}

impl OpenedBehind {
    pub(super) fn push(&self, local: Arc<LocalRoom>) {
        self.rooms.lock().push(local);
        self.raised.notify_one();
    }

    fn take_rooms(&self) -> Vec<Arc<LocalRoom>> {
        std::mem::take(&mut *self.rooms.lock())
    }
}

/// The state of the dispatch.
pub(super) struct Dispatch {
    hub: Hub,
    /// Entries that wait for a read of something before them.
    backlog: Backlog,
    /// What is to be delivered together; empty between two calls.
    gathered: Gathered,
    /// Deliveries that have begun and not ended.
    rounds: Rounds,
    /// Reads of histories in flight.
    reads: FuturesUnordered<BoxFuture<'static, HealRead>>,
    /// The running audit.
    comparisons: Audit,
    /// Reads of `latest` events after a loss.
    renewal: LatestRefresh,
    /// Whether a break was logged whose end is still to be logged.
    is_broken: bool,
    /// Recognises second copies of events that are kept nowhere.
    recent: Recent,
    /// When the next audit is due.
    audit: Interval,
}

/// What an entry means to its rooms on this node.
struct JudgedEntry {
    /// Rooms that have to deliver it.
    targets: Vec<RoomTarget>,
    /// Whether one of them misses something before it.
    has_gap: bool,
    /// Whether one of its rooms has delivered it before: then each member has to be asked whether it has it.
    is_apart: bool,
}

impl Hub {
    /// Delivers the broker's messages until `stop`, or until the broker has ended.
    pub async fn run_dispatch(&self, event_receiver: EventReceiver, stop: CancellationToken) {
        let mut task = Dispatch::new(self.clone());
        stop.run_until_cancelled(task.take_all(event_receiver)).await;
    }

    /// Sorts out which rooms on this node have not delivered this entry.
    fn judge_entry(&self, entry: &Entry) -> JudgedEntry {
        let mut judged = JudgedEntry { targets: Vec::new(), has_gap: false, is_apart: false };
        for target in self.open_targets(entry) {
            // A room that keeps the event in no history has no chain: only the stamp of a `latest` event tells copies
            // apart.
            let Some(link) = entry.places[target.place].link() else {
                judged.targets.extend(target.is_news(entry).then_some(target));
                continue;
            };
            match target.local.judge_arrival(link, &entry.id) {
                Some(Arrival::Next) => judged.targets.push(target),
                Some(Arrival::Late) => judged.targets.push(RoomTarget { late: true, ..target }),
                Some(Arrival::Gap) => judged.has_gap = true,
                // The broker gave the same event another offset: members have it, but the chain goes on from there.
                Some(Arrival::Again) => target.local.advance_to(link, &entry.id),
                Some(Arrival::Seen) => judged.is_apart = true,
                // The room is being opened: `arrival` has recorded the offset, and `start` compares it with the facts.
                None => {}
            }
        }
        // If no history is missing the entry, this is a second copy. Rooms that keep nothing delivered the first one;
        // `latest` events were judged by their stamps above.
        let stored = |t: &RoomTarget| entry.places[t.place].link().is_some();
        if !judged.targets.iter().any(stored) {
            judged.targets.retain(|target| entry.places[target.place].stamp().is_some());
        }
        judged
    }

    pub(super) fn open_targets(&self, entry: &Entry) -> Vec<RoomTarget> {
        let rooms = self.0.rooms.read();
        let here = |(place, at): (usize, &RoomPlace)| {
            let local = rooms.get(&at.room)?.clone();
            Some(RoomTarget { local, place, late: false })
        };
        entry.places.iter().enumerate().filter_map(here).collect()
    }

    /// Whether an entry lies in the broker's future. A service can send such a line by a plain `PUBLISH`; if it were
    /// believed, all events stored from then on would look old.
    fn is_far(&self, entry: &Entry) -> bool {
        // Without knowledge of the broker's clock no entry can be called far.
        let Some(now_ms) = self.0.fleet.control().now_ms() else { return false };
        let far = now_ms.saturating_add(FAR_MS);
        entry.places.iter().filter_map(RoomPlace::link).any(|link| link.offset.ms > far)
    }

    /// Whether no room of the entry on this node keeps it in its history.
    fn is_passing(&self, entry: &Entry) -> bool {
        self.open_targets(entry).iter().all(|target| entry.places[target.place].link().is_none())
    }
}

impl Dispatch {
    fn new(hub: Hub) -> Self {
        let mut audit = tokio::time::interval(hub.0.audit);
        // An audit that was late must not be followed by others at once.
        audit.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            hub,
            backlog: Backlog::default(),
            gathered: Gathered::default(),
            rounds: Rounds::default(),
            reads: FuturesUnordered::new(),
            comparisons: Audit::default(),
            renewal: LatestRefresh::default(),
            is_broken: false,
            recent: Recent::default(),
            audit,
        }
    }

    async fn take_all(&mut self, mut event_receiver: EventReceiver) {
        loop {
            self.begin_reads();
            self.log_heal_end();
            let next_try = self.backlog.next_try();
            // Polled in random order (`select!`'s default), so that no source waits while another one is busy.
            tokio::select! {
                () = self.hub.0.behind.raised.notified() => self.take_behind(),
                Some(read) = self.reads.next(), if !self.reads.is_empty() => self.take_read(read),
                Some(comparison) = self.comparisons.next(), if !self.comparisons.is_empty() => self.take_comparison(comparison),
                // As the backlog below: a slice, and then the others.
                () = std::future::ready(()), if !self.rounds.is_empty() => self.serve_rounds().await,
                Some(latest) = self.renewal.next(), if !self.renewal.is_empty() => self.take_latest(latest).await,
                () = sleep_until(next_try.unwrap_or_else(Instant::now)), if next_try.is_some() => {}
                // Always ready while there is work; other sources get their turn between two calls.
                () = std::future::ready(()), if self.backlog.has_work() && self.rounds.has_place() => self.deliver_ready().await,
                _ = self.audit.tick() => self.audit_all(),
                // What is under way ends first if it is much.
                item = event_receiver.recv(), if self.rounds.has_place() => match item {
                    Some(first) => self.take_waiting(first, &mut event_receiver).await,
                    None => return self.rounds.complete_all(&self.hub.0.counts),
                },
            }
        }
    }

    fn take_behind(&mut self) {
        for local in self.hub.0.behind.take_rooms() {
            self.backlog.request_read(local.room());
        }
    }

    async fn handle_event(&mut self, item: ChannelEvent, gathered: &mut Gathered) {
        match item {
            ChannelEvent::Entry(entry) if self.hub.is_passing(&entry) => self.pass_on(entry, gathered).await,
            ChannelEvent::Entry(entry) => self.take_entry(entry, gathered).await,
            ChannelEvent::Missed(rooms) => {
                // The event channel was full and dropped messages of these rooms: their histories have them.
                let rooms: Vec<_> = rooms.iter().filter_map(|room| self.hub.find(room)).collect();
                for local in &rooms {
                    local.note_missed();
                    self.backlog.request_read(local.room());
                }
                // `latest` events are in no history and are read by themselves.
                self.renewal.add(rooms);
            }
            ChannelEvent::Restored => self.heal_all(),
        }
    }

    /// Delivers an entry that is in no history here. A second copy, which comes by the channel of another of its rooms,
    /// is recognised by its stamp, or else by its id.
    async fn pass_on(&mut self, entry: Arc<Entry>, gathered: &mut Gathered) {
        let mut targets = self.hub.open_targets(&entry);
        targets.retain(|target| target.is_news(&entry));
        // An event of one room comes once; only events of several rooms need the memory of ids.
        let unstamped = |target: &RoomTarget| entry.places[target.place].keep == Retained::Nothing;
        if entry.places.len() > 1 && targets.iter().any(unstamped) && !self.recent.note_first_copy(&entry) {
            targets.retain(|target| !unstamped(target));
        }
        self.gather_entry(entry, (targets, false), gathered).await;
    }

    /// Delivers a stored entry, or puts it into the backlog until what is missing before it was read.
    async fn take_entry(&mut self, entry: Arc<Entry>, gathered: &mut Gathered) {
        let is_far = self.hub.is_far(&entry);
        // A room that is behind takes nothing directly, or it would deliver out of order.
        if is_far || entry.places.iter().any(|place| self.backlog.is_behind(&place.room)) {
            return self.queue_entry(&entry, if is_far { EntryTrust::Claimed } else { EntryTrust::Heard });
        }
        let judged = self.hub.judge_entry(&entry);
        // With all of its rooms: whether one without a gap has to wait depends on sessions in both, which the backlog
        // knows about.
        if judged.has_gap {
            return self.queue_entry(&entry, EntryTrust::Heard);
        }
        // A late entry means that the broker's clock was set back, or that another server took its place: a read finds
        // the end of the chain.
        let late = judged.targets.iter().filter(|target| target.late);
        late.for_each(|target| self.backlog.request_read(target.local.room()));
        self.gather_entry(entry, (judged.targets, judged.is_apart), gathered).await;
    }

    fn queue_entry(&mut self, entry: &Arc<Entry>, trust: EntryTrust) {
        self.backlog.add_arrival(entry, trust, &self.hub);
    }

    /// Delivers entries from the backlog that are ready, at most [`STEPS`].
    async fn deliver_ready(&mut self) {
        let mut gathered = std::mem::take(&mut self.gathered);
        for _ in 0..STEPS {
            let Some(delivery) = self.backlog.next(&self.hub) else { break };
            self.hub.0.counts.healed.increment(1);
            let targets = self.hub.delivery_targets(&delivery);
            self.gather_entry(delivery.entry, (targets, delivery.is_apart), &mut gathered).await;
        }
        self.deliver_gathered(&mut gathered).await;
        self.gathered = gathered;
    }
}
