//! The pub/sub link: reconnected whenever it breaks or falls silent, with every channel resubscribed before the event
//! channel is told. The timing is decided by the machine of all links ([`machine`](crate::link::machine)), and the
//! canary proves that it receives.

use std::sync::Arc;

use ::redis::RedisError;
use ::redis::aio::{PubSubSink, PubSubStream};
use futures_util::StreamExt;
use hallway_rooms::entry::Entry;
use hallway_rooms::key::Room;
use metrics::{counter, gauge};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::subscriptions::SubscriptionRequest;
use super::{RedisBroker, canary, plain, probe};
use crate::broker::EventRouter;
use crate::clock::now_ms;
use crate::link::machine::LinkMachine;
use crate::link::remedy;
use crate::logs;
use crate::metrics as names;
use crate::redis::checks::Check;
use crate::redis::{Dispatcher, RedisSettings};

/// This link's name in metrics and logs.
pub(super) const NAME: &str = "pubsub";

type PubSubConnection = (PubSubSink, PubSubStream);

/// Keeps a connection for ever.
pub(super) async fn run_connection(
    broker: Arc<RedisBroker>,
    settings: RedisSettings,
    dispatcher: Dispatcher,
    events: EventRouter,
) {
    let Some(mut requests) = broker.subscriptions.take_requests() else { return };
    let mut machine = LinkMachine::new(Instant::now());
    let up = gauge!(names::LINK_UP, "link" => NAME);
    up.set(0.0);
    loop {
        wait_for_attempt(&broker, &mut machine).await;
        let problem = match connect_and_prepare(&broker, &settings, &dispatcher).await {
            Ok(connection) => {
                machine.note_connected(Instant::now());
                counter!(names::PUBSUB_CONNECTS).increment(1);
                counter!(names::LINK_CONNECTS, "link" => NAME).increment(1);
                up.set(1.0);
                tracing::info!(event = logs::LINK_UP, link = NAME, "connected to Redis");
                // Behind the subscriptions: events published in the meantime are read from the histories.
                events.report_break();
                dispatcher.run_restored();
                let problem = serve_until_broken(&broker, connection, &mut requests, (&settings, &dispatcher)).await;
                up.set(0.0);
                tracing::warn!(
                    event = logs::LINK_LOST,
                    link = NAME,
                    problem,
                    "a connection to Redis is lost; making another one"
                );
                machine.note_lost(Instant::now(), rand::random());
                // The cause may have ended the other links too, which notice it only when they are used.
                broker.links.request_checks();
                problem
            }
            Err(problem) => {
                // A refused attempt waits longer each time, so that a struggling Redis is not flooded.
                machine.note_refused(Instant::now(), rand::random());
                problem
            }
        };
        broker.checks.set_outcome(Check::PubSub, Some(problem));
    }
}

/// Waits for the next attempt, or for a fresh probe connection, which is a reason to try at once. Without a probe
/// connection an attempt is useless, because the canary needs it.
async fn wait_for_attempt(broker: &RedisBroker, machine: &mut LinkMachine) {
    let known = broker.links.probe.generation();
    let due = machine.attempt_due().unwrap_or_else(Instant::now);
    tokio::select! {
        () = sleep_until(due) => {}
        _ = broker.links.probe.connected_after(known) => machine.attempt_now(Instant::now()),
    }
    broker.links.probe.wait_until_connected().await;
}

/// Connects and subscribes to all wanted channels. Meanwhile it makes sure that Redis holds what this node relies on.
async fn connect_and_prepare(
    broker: &RedisBroker,
    settings: &RedisSettings,
    dispatcher: &Dispatcher,
) -> Result<PubSubConnection, String> {
    let prepared = async {
        let prepared = probe::prepare_redis(broker).await;
        prepared.map_err(|error| remedy::describe_problem("commands", &error))
    };
    let (connection, ()) = tokio::try_join!(connect_subscribed(broker, settings, dispatcher), prepared)?;
    Ok(connection)
}

/// Connects and subscribes. All commands are sent before the first is confirmed, so that a node with many rooms is
/// without events no longer than one with few. The first confirmation counts for the connect timeout; each further
/// one has a response timeout of its own.
async fn connect_subscribed(
    broker: &RedisBroker,
    settings: &RedisSettings,
    dispatcher: &Dispatcher,
) -> Result<PubSubConnection, String> {
    let describe = |error: RedisError| remedy::describe_problem("pub/sub", &error);
    let connecting = async {
        let (sink, stream) = settings.client.get_async_pubsub().await?.split();
        let mut confirmed = Box::pin(broker.subscriptions.subscribe_all(&sink, dispatcher.channels()));
        confirmed.next().await.transpose()?;
        Ok((sink, stream, confirmed))
    };
    // Covers the connect and the first confirmation together.
    let connected = timeout(settings.connect_timeout, connecting).await;
    let connected = connected.map_err(|_| crate::link::timeout_message(settings.connect_timeout))?;
    let (sink, stream, mut confirmed) = connected.map_err(describe)?;
    loop {
        let next = timeout(settings.response_timeout, confirmed.next()).await;
        let next = next.map_err(|_| "Redis did not confirm the subscriptions in time".to_owned())?;
        match next {
            Some(outcome) => outcome.map_err(describe)?,
            None => return Ok((sink, stream)),
        }
    }
}

/// Serves a connection until it fails, and returns the reason.
async fn serve_until_broken(
    broker: &RedisBroker,
    (mut sink, mut stream): PubSubConnection,
    requests: &mut mpsc::Receiver<SubscriptionRequest>,
    (settings, dispatcher): (&RedisSettings, &Dispatcher),
) -> String {
    let hear = async {
        while let Some(message) = stream.next().await {
            broker.canary.note_traffic();
            dispatcher.dispatch_message(message.get_channel_name(), message.get_payload_bytes());
        }
    };
    // Whichever fails first ends the connection; the rest is abandoned with it.
    tokio::select! {
        () = hear => "the pub/sub connection to Redis broke".to_owned(),
        () = broker.subscriptions.carry_out_all(&mut sink, requests) => "Redis did not confirm a subscription in time".to_owned(),
        problem = canary::watch_connection(broker, settings.canary) => problem,
    }
}

/// Registers the broker's handlers: messages of rooms go to the event channel, and its own canaries prove the
/// connection.
pub(super) fn register(broker: &Arc<RedisBroker>, events: EventRouter, dispatcher: &mut Dispatcher) {
    let rooms = broker.clone();
    dispatcher.on_rooms(move |room, payload| dispatch_message(&rooms, room, payload, &events));
    let canaries = broker.clone();
    dispatcher.on_channel(broker.canary.channel(), move |text| {
        // The channel is shared with replies to kicks, which are not numbers.
        let Ok(number) = text.parse() else { return false };
        canaries.canary.note_return(number);
        canaries.checks.set_outcome(Check::PubSub, None);
        true
    });
}

/// Handles a message of a room's channel. The function's own begin with a version; anything else is a plain event.
fn dispatch_message(broker: &RedisBroker, key: &str, payload: &[u8], events: &EventRouter) {
    // This node does not know the form of the key: a node with another configuration subscribes to it.
    let Ok(room) = broker.classes.find_room(key) else { return };
    match parse_message(broker, room, payload) {
        Ok(entry) => events.route_entry(entry),
        // A foreign publisher may send anything: counted each time, logged at intervals.
        Err(problem) => {
            counter!(names::EVENTS_REFUSED, "source" => "channel").increment(1);
            if broker.complaints.may_complain() {
                let channel = format!("{}:{{{key}}}", broker.keys.prefix());
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

fn parse_message(broker: &RedisBroker, room: Room, payload: &[u8]) -> Result<Entry, String> {
    // Checked by the function when it was published.
    if payload.first() == Some(&b'1') {
        return Entry::parse(payload, &broker.classes).map_err(|error| error.to_string());
    }
    // The function did not see it, so its bounds are checked here.
    if payload.len() > broker.event_bytes {
        return Err(format!("it has {} bytes, more than limits.event_bytes", payload.len()));
    }
    plain::plain_entry(room, payload, now_ms()).map_err(|error| error.to_string())
}
