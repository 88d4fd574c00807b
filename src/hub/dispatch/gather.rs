//! Gathering: what waits in the feed is judged entry by entry, and what is to be delivered goes out together.
//!
//! A lone event waits for nothing: the channel is empty behind it, and it goes out at once. When the node is behind, many
//! wait, and then each member is looked at once for all of them.

use std::sync::Arc;
use std::time::Duration;

use hallway_rooms::entry::Entry;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::Dispatch;
use crate::broker::ChannelEvent;
use crate::broker::event_channel::EventReceiver;
use crate::hub::batch::Delivery;
use crate::hub::fan_out::FanOut;
use crate::hub::outgoing::RoomTarget;

/// Items that are taken together. Of one room a tenth of them would do, since the call to the kernel is shared by so many
/// already; but those of many rooms come mixed, and each room is to have several.
const ITEMS: usize = 512;
/// Bytes of the events that go out together: a ping of the library waits for no more of ours, and so much is composed
/// before the first member gets something.
const BYTES: usize = 128 * 1024;
/// How long the first of them waits for others to be judged.
const WAIT: Duration = Duration::from_millis(1);

/// Entries whose rooms stand at them already, and which no member has had.
#[derive(Default)]
pub(super) struct Gathered {
    deliveries: Vec<Delivery>,
    bytes: usize,
}

impl Gathered {
    fn has_space_for(&self, delivery: &Delivery) -> bool {
        self.deliveries.len() < ITEMS && self.bytes + delivery.text_bytes() <= BYTES
    }
}

impl Dispatch {
    /// Takes an item of the feed and those that wait behind it, within bounds.
    pub(super) async fn take_waiting(&mut self, first: ChannelEvent, event_receiver: &mut EventReceiver) {
        // The list is used again and again.
        let mut gathered = std::mem::take(&mut self.gathered);
        self.handle_event(first, &mut gathered).await;
        let mut until = None;
        for _ in 1..ITEMS {
            // Other sources of the dispatch have their turn between two calls; what is under way ends first if it is much.
            let Some(item) = event_receiver.try_recv() else { break };
            self.handle_event(item, &mut gathered).await;
            // The clock is read only where several wait.
            let is_over = Instant::now() >= *until.get_or_insert_with(|| Instant::now() + WAIT);
            if is_over || !self.rounds.has_place() {
                break;
            }
        }
        self.deliver_gathered(&mut gathered).await;
        self.gathered = gathered;
    }

    /// Moves an entry's rooms to it, and delivers it with what else was gathered, or by itself where it cannot be part of
    /// a batch.
    pub(super) async fn gather_entry(
        &mut self,
        entry: Arc<Entry>,
        (targets, is_apart): (Vec<RoomTarget>, bool),
        gathered: &mut Gathered,
    ) {
        let delivery = Delivery { entry, targets };
        if is_apart || !delivery.fits_batch() {
            // In the order of the feed.
            self.deliver_gathered(gathered).await;
            return self.deliver_alone(&delivery, is_apart).await;
        }
        // No room of it is open here.
        if delivery.targets.is_empty() {
            return;
        }
        if !gathered.has_space_for(&delivery) {
            self.deliver_gathered(gathered).await;
        }
        // Positions first: a session that joins during the delivery stands behind this entry, and has it from its read.
        delivery.advance_rooms();
        gathered.bytes += delivery.text_bytes();
        gathered.deliveries.push(delivery);
    }

    /// Begins to deliver what was gathered.
    pub(super) async fn deliver_gathered(&mut self, gathered: &mut Gathered) {
        if gathered.deliveries.is_empty() {
            return;
        }
        gathered.bytes = 0;
        let counts = &self.hub.0.counts;
        let Some(fan_out) = FanOut::from_deliveries(gathered.deliveries.drain(..), counts) else { return };
        if self.rounds.begin_fan_out(fan_out, counts) {
            yield_now().await;
        }
    }

    /// Delivers an entry that is part of no batch, in one go.
    pub(super) async fn deliver_alone(&mut self, delivery: &Delivery, is_apart: bool) {
        delivery.advance_rooms();
        self.hub.deliver_to_members(delivery, is_apart, &mut self.rounds).await;
        // Only behind the delivery: a session that joins relies on `served` for what the members' wires have.
        delivery.targets.iter().for_each(|target| target.local.mark_served());
    }

    /// Serves a slice of what is under way.
    pub(super) async fn serve_rounds(&mut self) {
        self.rounds.serve_next(&self.hub.0.counts);
        // Other tasks of this thread have their turn between two slices.
        yield_now().await;
    }
}
