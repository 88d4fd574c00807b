//! Publishing many events: some calls of the function at a time, each such portion in one transaction.
//!
//! Redis judges a transaction at once, so no error of its own (a full memory, a replica) strikes between two events of a
//! portion, and the next portion is sent when the one before it is stored. What is stored when something fails is
//! therefore always the beginning.

use ::redis::{Pipeline, RedisError, Value, pipe};

use super::publish::{call, is_plain, message, placed, refused, unplaced};
use super::{RedisBroker, function, unavailable};
use crate::broker::{Outcomes, Placed, Publication, PublishError, Unavailable};

/// Events of one portion. Redis serves nobody else meanwhile: some milliseconds.
const PORTION: usize = 128;
/// Bytes of one portion, unless one event has more.
const PORTION_BYTES: usize = 1024 * 1024;

type Reply = Result<Value, RedisError>;

pub(super) async fn publish_all(broker: &RedisBroker, events: &[Publication]) -> Result<Outcomes, Unavailable> {
    broker.is_no_cluster()?;
    let mut outcomes = Vec::with_capacity(events.len());
    let mut rest = events;
    while !rest.is_empty() {
        let (portion, later) = rest.split_at(portion(rest));
        let replies = act(broker, portion).await.map_err(|error| unavailable(&error))?;
        outcomes.extend(judge(portion, replies)?);
        rest = later;
    }
    Ok(outcomes)
}

/// How many of these events go together: one at least.
fn portion(events: &[Publication]) -> usize {
    let sizes = events.iter().take(PORTION).scan(0, |sum, event| {
        *sum += event.text.len();
        Some(*sum)
    });
    sizes.take_while(|sum| *sum <= PORTION_BYTES).count().max(1)
}

async fn act(broker: &RedisBroker, events: &[Publication]) -> Result<Vec<Reply>, RedisError> {
    let transaction = transaction(broker, events);
    let replies: Vec<Reply> = transaction.query_async(&mut broker.connection()).await?;
    if !replies.iter().any(|reply| reply.as_ref().is_err_and(function::is_absent)) {
        return Ok(replies);
    }
    broker.function.ensure(&mut broker.connection()).await?;
    transaction.query_async(&mut broker.connection()).await
}

fn transaction(broker: &RedisBroker, events: &[Publication]) -> Pipeline {
    let mut pipe = pipe();
    pipe.atomic().ignore_errors();
    for event in events {
        if !is_plain(event) {
            pipe.add_command(call(broker, event));
            continue;
        }
        let message = message(event);
        for room in &event.rooms {
            pipe.cmd("PUBLISH").arg(broker.keys.channel(room)).arg(message.as_slice());
        }
    }
    pipe
}

fn judge(events: &[Publication], replies: Vec<Reply>) -> Result<Outcomes, Unavailable> {
    let mut replies = replies.into_iter();
    let outcomes = events.iter().map(|event| match outcome(event, &mut replies) {
        Err(PublishError::Unavailable(outage)) => Err(outage),
        outcome => Ok(outcome),
    });
    outcomes.collect()
}

/// Takes as many replies as the event has commands.
fn outcome(event: &Publication, replies: &mut impl Iterator<Item = Reply>) -> Result<Vec<Placed>, PublishError> {
    let mut next = || replies.next().ok_or_else(|| Unavailable("a transaction was not answered in full".to_owned()));
    if !is_plain(event) {
        return next()?.and_then(|reply| placed(event, reply)).map_err(|error| refused(&error));
    }
    for _ in &event.rooms {
        next()?.map_err(|error| refused(&error))?;
    }
    Ok(unplaced(event))
}
