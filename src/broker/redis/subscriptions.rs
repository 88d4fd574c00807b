//! Which channels this node wants to hear, and the bounded queue of requests for more or fewer of them. Many travel in
//! one command.

use std::collections::HashSet;
use std::time::Duration;

use ::redis::RedisError;
use ::redis::aio::PubSubSink;
use futures_util::stream::{self, Stream, StreamExt};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::link::Unavailable;

/// Requests that may wait for the connection.
const REQUESTS: usize = 4096;
/// Channels in one command.
const BATCH: usize = 512;
/// Commands whose confirmations may be under way: together some megabytes, below what Redis lets wait for a subscriber for long.
const UNDER_WAY: usize = 64;

/// See the module.
pub(super) struct Subscriptions {
    wanted: Mutex<HashSet<String>>,
    requests: mpsc::Sender<Request>,
    taken: Mutex<Option<mpsc::Receiver<Request>>>,
    patience: Duration,
}

pub(super) enum Request {
    Add(String, oneshot::Sender<()>),
    Remove(String),
}

impl Subscriptions {
    pub(super) fn new(patience: Duration) -> Self {
        let (requests, taken) = mpsc::channel(REQUESTS);
        Self { wanted: Mutex::default(), requests, taken: Mutex::new(Some(taken)), patience }
    }

    /// The requests, for the one task that carries them out.
    pub(super) fn requests(&self) -> Option<mpsc::Receiver<Request>> {
        self.taken.lock().take()
    }

    /// Subscribes to `first` and to every channel that is wanted, without a wait for one confirmation before the next
    /// command: however many they are, it is one round trip.
    pub(super) fn subscribe_all(
        &self,
        sink: &PubSubSink,
        first: Vec<String>,
    ) -> impl Stream<Item = Result<(), RedisError>> + use<> {
        let wanted = self.wanted.lock().iter().cloned().collect::<Vec<_>>();
        let batches: Vec<_> = std::iter::once(first).chain(wanted.chunks(BATCH).map(<[String]>::to_vec)).collect();
        let sink = sink.clone();
        let subscribe = move |batch: Vec<String>| {
            let mut sink = sink.clone();
            async move { sink.subscribe(&batch).await }
        };
        stream::iter(batches).map(subscribe).buffered(UNDER_WAY)
    }

    /// Subscribes and waits for Redis to confirm.
    pub(super) async fn add(&self, channel: String) -> Result<(), Unavailable> {
        let (done, confirmed) = oneshot::channel();
        let ask = async {
            self.requests.send(Request::Add(channel, done)).await.ok()?;
            confirmed.await.ok()
        };
        let in_time = timeout(self.patience, ask).await.ok().flatten();
        in_time.ok_or_else(|| Unavailable("Redis did not confirm a subscription in time".to_owned()))
    }

    /// Unsubscribes behind all earlier requests; false when the queue is full.
    pub(super) fn remove(&self, channel: String) -> bool {
        self.requests.try_send(Request::Remove(channel)).is_ok()
    }

    /// Carries requests out as they come. Ends when Redis does not confirm one in time.
    pub(super) async fn carry_out_all(&self, sink: &mut PubSubSink, requests: &mut mpsc::Receiver<Request>) {
        let mut batch = Vec::with_capacity(BATCH);
        while requests.recv_many(&mut batch, BATCH).await > 0 {
            if timeout(self.patience, self.carry_out(sink, &mut batch)).await.is_err() {
                return;
            }
        }
    }

    /// Carries requests out in their order: a run of the same kind is one command.
    async fn carry_out(&self, sink: &mut PubSubSink, batch: &mut Vec<Request>) {
        let mut requests = batch.drain(..).peekable();
        while let Some(first) = requests.next() {
            let (mut channels, mut waiting) = (Vec::new(), Vec::new());
            let adds = matches!(first, Request::Add(..));
            sort(first, &mut channels, &mut waiting);
            while let Some(next) = requests.next_if(|next| matches!(next, Request::Add(..)) == adds) {
                sort(next, &mut channels, &mut waiting);
            }
            // Before Redis is asked: a connection that is made meanwhile subscribes to what is noted here.
            self.note(&channels, adds);
            let done = if adds { sink.subscribe(&channels).await } else { sink.unsubscribe(&channels).await };
            if done.is_ok() {
                for waiter in waiting {
                    waiter.send(()).ok();
                }
            }
        }
    }

    fn note(&self, channels: &[String], wanted: bool) {
        let mut set = self.wanted.lock();
        for channel in channels {
            if wanted {
                set.insert(channel.clone());
            } else {
                set.remove(channel);
            }
        }
    }
}

fn sort(request: Request, channels: &mut Vec<String>, waiting: &mut Vec<oneshot::Sender<()>>) {
    match request {
        Request::Add(channel, waiter) => {
            channels.push(channel);
            waiting.push(waiter);
        }
        Request::Remove(channel) => channels.push(channel),
    }
}
