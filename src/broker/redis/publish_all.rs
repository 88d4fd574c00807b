//! Publishing many events: a batch of function calls at a time, each batch in one transaction.
//!
//! Redis decides about a transaction as a whole, so none of its own errors (full memory, a replica) strikes between
//! two events of a batch, and the next batch is sent when the one before is stored. After a failure the stored events
//! are therefore always a prefix.

use ::redis::{Pipeline, RedisError, Value, pipe};

use super::publish::{is_plain, parse_placed, places_of_unstored, publish_command, to_publish_error, unstored_message};
use super::{RedisBroker, function, unavailable};
use crate::broker::{Outcomes, Placed, Publication, PublishError, Unavailable};

/// Events of one batch. Redis serves no other client meanwhile: a few milliseconds.
const PORTION: usize = 128;
/// Bytes of one batch, unless a single event is larger.
const PORTION_BYTES: usize = 1024 * 1024;

type PublishReply = Result<Value, RedisError>;

pub(super) async fn publish_all(broker: &RedisBroker, events: &[Publication]) -> Result<Outcomes, Unavailable> {
    broker.is_no_cluster()?;
    let mut outcomes = Vec::with_capacity(events.len());
    let mut rest = events;
    while !rest.is_empty() {
        let (portion, later) = rest.split_at(batch_length(rest));
        let replies = send_batch(broker, portion).await.map_err(|error| unavailable(&error))?;
        outcomes.extend(judge_replies(portion, replies)?);
        rest = later;
    }
    Ok(outcomes)
}

/// The number of events in the next batch, at least one.
fn batch_length(events: &[Publication]) -> usize {
    let sizes = events.iter().take(PORTION).scan(0, |sum, event| {
        *sum += event.text.len();
        Some(*sum)
    });
    sizes.take_while(|sum| *sum <= PORTION_BYTES).count().max(1)
}

async fn send_batch(broker: &RedisBroker, events: &[Publication]) -> Result<Vec<PublishReply>, RedisError> {
    let transaction = build_transaction(broker, events);
    let replies: Vec<PublishReply> = transaction.query_async(&mut broker.command_link()).await?;
    // The function is absent for all calls of a transaction or for none.
    if !replies.iter().any(|reply| reply.as_ref().is_err_and(function::is_absent)) {
        return Ok(replies);
    }
    broker.function.ensure_loaded(&mut broker.command_link()).await?;
    // Repeated as a whole: no call stored anything. A plain message in it goes out twice, with the same id.
    transaction.query_async(&mut broker.command_link()).await
}

fn build_transaction(broker: &RedisBroker, events: &[Publication]) -> Pipeline {
    let mut pipe = pipe();
    pipe.atomic().ignore_errors();
    for event in events {
        // Stored events go through the function, the rest is published directly.
        if !is_plain(event) {
            pipe.add_command(publish_command(broker, event));
            continue;
        }
        let message = unstored_message(event);
        for room in &event.rooms {
            pipe.cmd("PUBLISH").arg(broker.keys.channel(room)).arg(message.as_slice());
        }
    }
    pipe
}

fn judge_replies(events: &[Publication], replies: Vec<PublishReply>) -> Result<Outcomes, Unavailable> {
    let mut replies = replies.into_iter();
    let outcomes = events.iter().map(|event| match event_outcome(event, &mut replies) {
        // An outage in one outcome makes the whole batch uncertain, so it is reported for all.
        Err(PublishError::Unavailable(outage)) => Err(outage),
        outcome => Ok(outcome),
    });
    outcomes.collect()
}

/// Takes as many replies as the event has commands.
fn event_outcome(
    event: &Publication,
    replies: &mut impl Iterator<Item = PublishReply>,
) -> Result<Vec<Placed>, PublishError> {
    let mut next = || replies.next().ok_or_else(|| Unavailable("a transaction was not answered in full".to_owned()));
    if !is_plain(event) {
        return next()?.and_then(|reply| parse_placed(event, reply)).map_err(|error| to_publish_error(&error));
    }
    for _ in &event.rooms {
        next()?.map_err(|error| to_publish_error(&error))?;
    }
    Ok(places_of_unstored(event))
}
