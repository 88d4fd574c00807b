//! The channels that this node wants, and the bounded queue of requests to subscribe and unsubscribe. Many requests
//! travel in one command.

use std::collections::HashSet;
use std::time::Duration;

use ::redis::RedisError;
use ::redis::aio::PubSubSink;
use futures_util::stream::{self, Stream, StreamExt};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::link::Unavailable;

/// Bound of the queue: a full one refuses an unsubscribe, which the hub retries.
const REQUESTS: usize = 4096;
/// Channels in one command.
const BATCH: usize = 512;
/// Commands that may be unconfirmed: together some megabytes, below the output buffer that Redis tolerates for a
/// subscriber.
const UNDER_WAY: usize = 64;

/// The subscriptions of a node.
pub(super) struct Subscriptions {
    /// Resubscribed after every reconnect.
    wanted: Mutex<HashSet<String>>,
    /// Requests for the task of the connection.
    requests: mpsc::Sender<SubscriptionRequest>,
    /// The receiving end, until that task takes it.
    taken: Mutex<Option<mpsc::Receiver<SubscriptionRequest>>>,
    /// Bound of a confirmation: the response timeout.
    wait_limit: Duration,
}

pub(super) enum SubscriptionRequest {
    Add(String, oneshot::Sender<()>),
    Remove(String),
}

impl Subscriptions {
    pub(super) fn new(wait_limit: Duration) -> Self {
        let (requests, taken) = mpsc::channel(REQUESTS);
        Self { wanted: Mutex::default(), requests, taken: Mutex::new(Some(taken)), wait_limit }
    }

    /// The receiving end, for the one task that carries requests out.
    pub(super) fn take_requests(&self) -> Option<mpsc::Receiver<SubscriptionRequest>> {
        self.taken.lock().take()
    }

    /// Subscribes to `first` and to every wanted channel without waiting for one confirmation before the next
    /// command: one round trip, however many there are.
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
    pub(super) async fn subscribe_channel(&self, channel: String) -> Result<(), Unavailable> {
        let (done, confirmed) = oneshot::channel();
        let ask = async {
            self.requests.send(SubscriptionRequest::Add(channel, done)).await.ok()?;
            confirmed.await.ok()
        };
        let in_time = timeout(self.wait_limit, ask).await.ok().flatten();
        in_time.ok_or_else(|| Unavailable("Redis did not confirm a subscription in time".to_owned()))
    }

    /// Unsubscribes after all earlier requests. False when the queue is full.
    pub(super) fn unsubscribe_channel(&self, channel: String) -> bool {
        self.requests.try_send(SubscriptionRequest::Remove(channel)).is_ok()
    }

    /// Carries requests out as they come. Ends when Redis does not confirm one in time.
    pub(super) async fn carry_out_all(
        &self,
        sink: &mut PubSubSink,
        requests: &mut mpsc::Receiver<SubscriptionRequest>,
    ) {
        let mut batch = Vec::with_capacity(BATCH);
        while requests.recv_many(&mut batch, BATCH).await > 0 {
            if timeout(self.wait_limit, self.carry_out(sink, &mut batch)).await.is_err() {
                return;
            }
        }
    }

    /// Carries requests out in order: consecutive ones of a kind become one command.
    async fn carry_out(&self, sink: &mut PubSubSink, batch: &mut Vec<SubscriptionRequest>) {
        let mut requests = batch.drain(..).peekable();
        while let Some(first) = requests.next() {
            let (mut channels, mut waiting) = (Vec::new(), Vec::new());
            let adds = matches!(first, SubscriptionRequest::Add(..));
            sort_request(first, &mut channels, &mut waiting);
            while let Some(next) = requests.next_if(|next| matches!(next, SubscriptionRequest::Add(..)) == adds) {
                sort_request(next, &mut channels, &mut waiting);
            }
            // Recorded before the command: a connection made meanwhile subscribes to everything recorded.
            self.set_wanted(&channels, adds);
            let done = if adds { sink.subscribe(&channels).await } else { sink.unsubscribe(&channels).await };
            // A failed command means a broken connection. The waiting commands get no confirmation and time out.
            if done.is_ok() {
                for waiter in waiting {
                    waiter.send(()).ok();
                }
            }
        }
    }

    fn set_wanted(&self, channels: &[String], wanted: bool) {
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

fn sort_request(request: SubscriptionRequest, channels: &mut Vec<String>, waiting: &mut Vec<oneshot::Sender<()>>) {
    match request {
        SubscriptionRequest::Add(channel, waiter) => {
            channels.push(channel);
            waiting.push(waiter);
        }
        SubscriptionRequest::Remove(channel) => channels.push(channel),
    }
}
