//! Locating: an agent reports where it is, to whoever watches the agent, all agents, or its zone.

use hallway_rooms::close::Refusal;
use hallway_rooms::key::Room;
use hallway_rooms::location::Location;
use metrics::counter;

use super::patience::attempt;
use super::{Answer, Service, reply};
use crate::auth::claims::Claims;
use crate::broker::{Publication, PublishError, event_id};
use crate::logs;
use crate::metrics::{self as names, limit::Limit};
use crate::session::Session;

/// Where the locations of an agent go.
struct Audience {
    /// The agent's id, fit for a room's key.
    agent: String,
    rooms: Vec<Room>,
}

impl Service {
    /// Publishes the location that a session reported. Whose it is says the token alone.
    pub async fn locate(&self, session: &Session, location: Result<Location, Refusal>, answer: Answer) {
        let outcome = self.try_locate(session, location, &answer).await;
        match outcome {
            Ok(()) => counter!(names::EVENTS_PUBLISHED, "source" => "location").increment(1),
            Err(refusal) => counter!(names::LOCATIONS_REFUSED, "reason" => refusal.code()).increment(1),
        }
        Self::respond(session, answer, &outcome.map_or_else(reply::refused, |()| reply::DONE.to_owned()));
    }

    async fn try_locate(
        &self,
        session: &Session,
        location: Result<Location, Refusal>,
        answer: &Answer,
    ) -> Result<(), Refusal> {
        let claims = session.claims();
        if !self.0.policy.may_locate(&claims) {
            return Err(Refusal::Forbidden);
        }
        let Audience { agent, rooms } = self.audience(session, &claims).ok_or(Refusal::Forbidden)?;
        let text = location?.event(&agent).into_bytes();
        if !session.may_locate(self.0.limits.locations, answer.arrived()) {
            Limit::LocationsPerSecond.reached();
            return Err(Refusal::RateLimited);
        }
        let event = Publication { rooms, text, id: event_id(), requires_ack: false, delivery: None };
        let until = self.answer_by(answer);
        // The same id with every try, so that it is published once.
        loop {
            let tried = attempt(until, self.publish_location(event.clone())).await;
            if !self.tries_again(session, until, tried.err()).await {
                return tried?;
            }
        }
    }

    /// Whether the broker took it, which tells also that it is within reach.
    async fn publish_location(&self, event: Publication) -> Result<Result<(), Refusal>, Refusal> {
        match self.0.broker.publish(event).await {
            Ok(_) => Ok(Ok(())),
            Err(PublishError::Unavailable(error)) => {
                tracing::debug!(event = logs::LOCATION_UNPUBLISHED, %error, "a location could not be published");
                Err(Refusal::Unavailable)
            }
            Err(error @ (PublishError::Invalid(_) | PublishError::TooLarge(_) | PublishError::Failed(_))) => {
                tracing::warn!(event = logs::LOCATION_REFUSED, %error, "the broker refuses a location; see what it says, and give every node the same configuration");
                Ok(Err(Refusal::Unavailable))
            }
        }
    }

    /// None for an agent whose id is not fit for a room's key.
    fn audience(&self, session: &Session, claims: &Claims) -> Option<Audience> {
        let agent = claims.agent_id()?.into_owned();
        let mut rooms = vec![self.room_of(&agent, "agent:", "")?];
        rooms.extend(self.0.classes.room("agents:all"));
        if let Some(zone) = claims.id("zoneId") {
            match self.room_of(&zone, "zone:", ":agents") {
                Some(room) => rooms.push(room),
                None => tracing::debug!(
                    event = logs::ZONE_UNFIT,
                    session = session.id(),
                    "the zoneId of a token is not fit for a room's key"
                ),
            }
        }
        Some(Audience { agent, rooms })
    }

    /// The room of one id, which must not bring further parts of a key along.
    fn room_of(&self, id: &str, before: &str, behind: &str) -> Option<Room> {
        if id.contains(':') {
            return None;
        }
        self.0.classes.room(&format!("{before}{id}{behind}")).ok()
    }
}
