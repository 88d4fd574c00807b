//! An event loop's view of the node's broker. All loops share one broker; this adds what they have to agree on: a room is
//! subscribed to as long as one loop has it open, and a history that several loops need is read once.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use hallway_rooms::entry::Entry;
use hallway_rooms::history::{RoomFacts, Start};
use hallway_rooms::key::Room;
use parking_lot::Mutex;

use super::{
    Broker, EventRouter, Health, History, HistoryRequest, Outcomes, Placed, Publication, PublishError, ReadError,
    Resumed, Unavailable,
};

/// How long the read of a room that several loops have open waits for the others to ask for the same. They miss the same
/// entries at the same moment, so each would read the same history.
const GATHER: Duration = Duration::from_millis(2);

/// What is read: a room, from where, and at most how many entries.
type ReadKey = (Room, Start, usize);
type SharedRead = Shared<BoxFuture<'static, Result<Arc<History>, ReadError>>>;

/// Reads that have not begun, which another loop may join. A read that has begun is not joined: it may have passed the
/// broker before the entry that the other loop looks for was stored.
type GatheringReads = Arc<Mutex<HashMap<ReadKey, SharedRead>>>;

/// See the module.
pub struct LoopBroker {
    node: Arc<dyn Broker>,
    router: EventRouter,
    gathering: GatheringReads,
    /// The index of the loop.
    event_loop: usize,
}

impl fmt::Debug for LoopBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoopBroker({}, {:?})", self.event_loop, self.node)
    }
}

impl LoopBroker {
    /// Makes the views of `loops` event loops, whose entries come by `router`.
    #[must_use]
    pub fn for_loops(node: &Arc<dyn Broker>, router: &EventRouter, loops: usize) -> Vec<Arc<dyn Broker>> {
        let gathering = GatheringReads::default();
        let view = |event_loop| -> Arc<dyn Broker> {
            Arc::new(Self { node: node.clone(), router: router.clone(), gathering: gathering.clone(), event_loop })
        };
        (0..loops).map(view).collect()
    }

    fn shared_read(&self, key: &ReadKey) -> SharedRead {
        let mut gathering = self.gathering.lock();
        if let Some(read) = gathering.get(key) {
            return read.clone();
        }
        let (node, table, own) = (self.node.clone(), self.gathering.clone(), key.clone());
        let read = async move {
            tokio::time::sleep(GATHER).await;
            // From here on no loop joins: the read begins after each of its loops asked.
            table.lock().remove(&own);
            let (room, from, limit) = own;
            node.history(&room, from, limit).await.map(Arc::new)
        };
        let read = read.boxed().shared();
        gathering.insert(key.clone(), read.clone());
        read
    }
}

#[async_trait]
impl Broker for LoopBroker {
    async fn publish(&self, event: Publication) -> Result<Vec<Placed>, PublishError> {
        self.node.publish(event).await
    }

    async fn publish_all(&self, events: Vec<Publication>) -> Result<Outcomes, Unavailable> {
        self.node.publish_all(events).await
    }

    async fn subscribe(&self, room: &Room) -> Result<(), Unavailable> {
        // Another loop has it: what the broker confirmed holds, or a break of the channel is reported to all loops.
        if self.router.add_loop(room, self.event_loop) {
            return Ok(());
        }
        self.node.subscribe(room).await?;
        self.router.confirm_subscription(room);
        Ok(())
    }

    fn unsubscribe(&self, room: &Room) -> bool {
        self.router.remove_loop(room, self.event_loop, self.node.as_ref())
    }

    async fn history(&self, room: &Room, from: Start, limit: usize) -> Result<History, ReadError> {
        // What only this loop has open is needed by no other.
        if !self.router.is_shared(room) {
            return self.node.history(room, from, limit).await;
        }
        let read = self.shared_read(&(room.clone(), from, limit)).await?;
        Ok(Arc::unwrap_or_clone(read))
    }

    async fn read_for_client(&self, room: &Room, portion: HistoryRequest) -> Result<Resumed, Unavailable> {
        self.node.read_for_client(room, portion).await
    }

    async fn latest(&self, room: &Room) -> Result<Vec<Entry>, Unavailable> {
        self.node.latest(room).await
    }

    async fn facts(&self, rooms: &[Room]) -> Result<Vec<RoomFacts>, Unavailable> {
        self.node.facts(rooms).await
    }

    fn health(&self) -> Health {
        self.node.health()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hallway_rooms::class::{Classes, Retention};

    use super::*;
    use crate::broker::event_channel::event_channel;
    use crate::broker::memory::{MemoryBroker, MemoryLimits};

    const HOUR: Duration = Duration::from_secs(3600);

    /// Counts the reads that reach the node's broker, and the rooms that it is asked to let go.
    #[derive(Debug)]
    struct Counting(MemoryBroker, Arc<[AtomicUsize; 2]>);

    #[async_trait]
    impl Broker for Counting {
        async fn publish(&self, event: Publication) -> Result<Vec<Placed>, PublishError> {
            self.0.publish(event).await
        }

        async fn subscribe(&self, room: &Room) -> Result<(), Unavailable> {
            self.0.subscribe(room).await
        }

        fn unsubscribe(&self, room: &Room) -> bool {
            self.1[1].fetch_add(1, Ordering::Relaxed);
            self.0.unsubscribe(room)
        }

        async fn history(&self, room: &Room, from: Start, limit: usize) -> Result<History, ReadError> {
            self.1[0].fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.0.history(room, from, limit).await
        }

        async fn latest(&self, room: &Room) -> Result<Vec<Entry>, Unavailable> {
            self.0.latest(room).await
        }

        async fn facts(&self, rooms: &[Room]) -> Result<Vec<RoomFacts>, Unavailable> {
            self.0.facts(rooms).await
        }

        fn health(&self) -> Health {
            self.0.health()
        }
    }

    fn two_loops() -> (Vec<Arc<dyn Broker>>, Arc<[AtomicUsize; 2]>, Room) {
        let classes = Arc::new(Classes::built_in(Retention { max_events: 9, ttl: HOUR }, HOUR));
        let room = classes.find_room("order:1").expect("a room");
        let router = EventRouter::new(vec![event_channel(9).0, event_channel(9).0]);
        let limits = MemoryLimits { id_window_ms: 1000, event_bytes: 1000 };
        let counts = Arc::<[AtomicUsize; 2]>::default();
        let memory = MemoryBroker::new(classes, limits, Arc::new(|| 1), router.clone());
        let node: Arc<dyn Broker> = Arc::new(Counting(memory, counts.clone()));
        (LoopBroker::for_loops(&node, &router, 2), counts, room)
    }

    #[tokio::test(start_paused = true)]
    async fn loops_that_ask_for_the_same_history_share_a_read_that_has_not_begun() {
        let (loops, counts, room) = two_loops();
        let read = |event_loop: usize| loops[event_loop].history(&room, Start::Since(0), 9);
        let reads = || counts[0].load(Ordering::Relaxed);
        loops[0].subscribe(&room).await.expect("it is subscribed");
        read(0).await.expect("a history");
        assert_eq!(reads(), 1);
        loops[1].subscribe(&room).await.expect("it is subscribed");
        let (one, other) = tokio::join!(read(0), read(1));
        assert!(one.is_ok() && other.is_ok());
        assert_eq!(reads(), 2, "one read for both");
        let late = async {
            tokio::time::sleep(GATHER * 2).await;
            read(1).await
        };
        let (one, other) = tokio::join!(read(0), late);
        assert!(one.is_ok() && other.is_ok());
        assert_eq!(reads(), 4, "one that has begun is not joined");
    }

    #[tokio::test]
    async fn the_last_loop_unsubscribes() {
        let (loops, counts, room) = two_loops();
        for event_loop in &loops {
            event_loop.subscribe(&room).await.expect("it is subscribed");
        }
        assert!(loops[0].unsubscribe(&room));
        assert_eq!(counts[1].load(Ordering::Relaxed), 0);
        assert!(loops[1].unsubscribe(&room));
        assert_eq!(counts[1].load(Ordering::Relaxed), 1);
    }
}
