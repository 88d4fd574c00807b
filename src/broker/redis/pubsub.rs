//! The pub/sub connection: made anew whenever it breaks, with every channel subscribed again before anybody is told
//! that the feed is back. Requests wait in a bounded queue and travel many to a command.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::aio::{PubSubSink, PubSubStream};
use ::redis::{Client, Msg, RedisError};
use futures_util::StreamExt;
use hallway_rooms::entry::Entry;
use hallway_rooms::key::Room;
use metrics::{counter, histogram};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

use super::link::Check;
use super::{RedisBroker, RedisSettings, kick, plain, remedy, revoked, tell};
use crate::broker::feed::FeedSender;
use crate::broker::{Feed, Unavailable};
use crate::clock::now_ms;
use crate::logs;
use crate::metrics as names;

/// Requests that may wait for the connection.
const REQUESTS: usize = 4096;
/// Channels in one command.
const BATCH: usize = 512;
/// Between two tries to connect.
const RETRY: Duration = Duration::from_millis(200);
/// Between two log lines about what is no event: whoever sends one may send thousands a second. The metric has them all.
const COMPLAIN_EVERY: Duration = Duration::from_secs(1);

/// Which channels are wanted, and the way to ask for more.
pub(super) struct Subscriptions {
    wanted: Mutex<HashSet<String>>,
    requests: mpsc::Sender<Request>,
    taken: Mutex<Option<mpsc::Receiver<Request>>>,
    patience: Duration,
    canary: Mutex<Canary>,
    redial: Notify,
    complained: Mutex<Option<Instant>>,
}

enum Request {
    Add(String, oneshot::Sender<()>),
    Remove(String),
}

/// The last canary that came back.
#[derive(Debug, Default)]
struct Canary {
    sent: Option<(u64, Instant)>,
    back: u64,
}

impl Subscriptions {
    pub(super) fn new(patience: Duration) -> Self {
        let (requests, taken) = mpsc::channel(REQUESTS);
        Self {
            wanted: Mutex::default(),
            requests,
            taken: Mutex::new(Some(taken)),
            patience,
            canary: Mutex::default(),
            redial: Notify::new(),
            complained: Mutex::default(),
        }
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

    /// Notes that canary `number` is on its way; says how many have not come back.
    pub(super) fn send_canary(&self, number: u64) -> u64 {
        let mut canary = self.canary.lock();
        canary.sent = Some((number, Instant::now()));
        number.saturating_sub(canary.back)
    }

    /// Gives the connection up and makes another, which owes only the canaries after `number`.
    pub(super) fn redial(&self, number: u64) {
        self.canary.lock().back = number;
        self.redial.notify_one();
    }

    /// Whether the last complaint was long enough ago for another.
    pub(super) fn may_complain(&self) -> bool {
        let mut complained = self.complained.lock();
        let may = complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY);
        if may {
            *complained = Some(Instant::now());
        }
        may
    }

    fn canary_came(&self, number: u64) {
        let mut canary = self.canary.lock();
        canary.back = canary.back.max(number);
        if let Some((sent, at)) = canary.sent
            && sent == number
        {
            histogram!(names::CANARY).record(at.elapsed().as_secs_f64());
        }
    }
}

/// Keeps a connection for ever.
pub(super) async fn run(broker: Arc<RedisBroker>, client: Client, settings: RedisSettings, feed: FeedSender) {
    let Some(mut requests) = broker.subscriptions.taken.lock().take() else { return };
    loop {
        let problem = match dial(&broker, &client, &settings).await {
            Ok((sink, stream)) => {
                counter!(names::PUBSUB_CONNECTS).increment(1);
                feed.restored();
                broker.revoked.mistrust();
                // It is believed in once a canary has come through it. Should this one be lost, the probe sends more.
                tell(&broker, &broker.canary, b"0").await.ok();
                serve(&broker, sink, stream, &mut requests, &feed).await;
                "the pub/sub connection to Redis broke".to_owned()
            }
            Err(problem) => problem,
        };
        broker.link.set(Check::PubSub, Some(problem));
        tokio::time::sleep(RETRY).await;
    }
}

/// Sees to what must be in Redis, connects, and subscribes to everything that is wanted.
async fn dial(
    broker: &RedisBroker,
    client: &Client,
    settings: &RedisSettings,
) -> Result<(PubSubSink, PubSubStream), String> {
    let prepared = super::probe::prepare(broker).await;
    prepared.map_err(|error| remedy::problem("commands", &error))?;
    let describe = |error: RedisError| remedy::problem("pub/sub", &error);
    let connecting = timeout(settings.connect_timeout, client.get_async_pubsub()).await;
    let pubsub = connecting
        .map_err(|_| "Redis did not answer in redis.connect_timeout; see redis.url and whether it runs".to_owned())?;
    let (mut sink, stream) = pubsub.map_err(describe)?.split();
    let mut channels: Vec<String> = broker.subscriptions.wanted.lock().iter().cloned().collect();
    channels.extend([broker.canary.clone(), broker.keys.control()]);
    for batch in channels.chunks(BATCH) {
        let confirmed = timeout(settings.response_timeout, sink.subscribe(batch)).await;
        confirmed.map_err(|_| "Redis did not confirm the subscriptions in time".to_owned())?.map_err(describe)?;
    }
    Ok((sink, stream))
}

async fn serve(
    broker: &RedisBroker,
    mut sink: PubSubSink,
    mut stream: PubSubStream,
    requests: &mut mpsc::Receiver<Request>,
    feed: &FeedSender,
) {
    let hear = async {
        while let Some(message) = stream.next().await {
            take(broker, &message, feed);
        }
    };
    let ask = async {
        let mut batch = Vec::with_capacity(BATCH);
        while requests.recv_many(&mut batch, BATCH).await > 0 {
            if timeout(broker.subscriptions.patience, carry_out(broker, &mut sink, &mut batch)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = hear => {}
        () = ask => {}
        () = broker.subscriptions.redial.notified() => {}
    }
}

/// Carries requests out in their order: a run of the same kind is one command.
async fn carry_out(broker: &RedisBroker, sink: &mut PubSubSink, batch: &mut Vec<Request>) {
    let mut requests = batch.drain(..).peekable();
    while let Some(first) = requests.next() {
        let (mut channels, mut waiting) = (Vec::new(), Vec::new());
        let adds = matches!(first, Request::Add(..));
        sort(first, &mut channels, &mut waiting);
        while let Some(next) = requests.next_if(|next| matches!(next, Request::Add(..)) == adds) {
            sort(next, &mut channels, &mut waiting);
        }
        note(broker, &channels, adds);
        let done = if adds { sink.subscribe(&channels).await } else { sink.unsubscribe(&channels).await };
        if done.is_ok() {
            for waiter in waiting {
                waiter.send(()).ok();
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

fn note(broker: &RedisBroker, channels: &[String], wanted: bool) {
    let mut set = broker.subscriptions.wanted.lock();
    for channel in channels {
        if wanted {
            set.insert(channel.clone());
        } else {
            set.remove(channel);
        }
    }
}

/// A message of ours begins with a version; anything else on a room's channel is a plain event.
fn take(broker: &RedisBroker, message: &Msg, feed: &FeedSender) {
    let (channel, payload) = (message.get_channel_name(), message.get_payload_bytes());
    let Some(room) = broker.keys.room_of(channel) else { return take_ours(broker, channel, payload) };
    let Ok(room) = broker.classes.room(room) else { return };
    match read(broker, room, payload) {
        Ok(entry) => feed.offer(Feed::Entry(entry)),
        Err(problem) => {
            counter!(names::EVENTS_REFUSED, "way" => "channel").increment(1);
            if broker.subscriptions.may_complain() {
                tracing::warn!(
                    event = logs::MESSAGE_STRANGE,
                    problem,
                    channel,
                    "a message on a room's channel is no event and reaches nobody"
                );
            }
        }
    }
}

/// What came on the channel of all nodes, or on this node's own.
fn take_ours(broker: &RedisBroker, channel: &str, payload: &[u8]) {
    let text = std::str::from_utf8(payload).unwrap_or_default();
    if channel != broker.canary {
        if !revoked::hear(broker, text) && !kick::hear(broker, text) && broker.subscriptions.may_complain() {
            tracing::warn!(
                event = logs::ORDER_STRANGE,
                channel,
                "what came on this channel is of no node of this version, or too much of it"
            );
        }
        return;
    }
    if !broker.answers.take(text) {
        broker.subscriptions.canary_came(text.parse().unwrap_or_default());
        broker.link.set(Check::PubSub, None);
    }
}

fn read(broker: &RedisBroker, room: Room, payload: &[u8]) -> Result<Entry, String> {
    if payload.first() == Some(&b'1') {
        return Entry::parse(payload, &broker.classes).map_err(|error| error.to_string());
    }
    if payload.len() > broker.event_bytes {
        return Err(format!("it has {} bytes, more than limits.event_bytes", payload.len()));
    }
    plain::entry(room, payload, now_ms()).map_err(|error| error.to_string())
}
