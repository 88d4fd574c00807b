//! Locations: an agent reports its position to the members of its own room, of `agents:all` and of its zone.

use hallway_rooms::close::Refusal;
use hallway_rooms::key::Room;
use hallway_rooms::location::Location;
use metrics::counter;

use super::wait_budget::attempt_until;
use super::{PendingReply, Service, reply};
use crate::auth::claims::Claims;
use crate::broker::{Publication, PublishError, event_id};
use crate::logs;
use crate::metrics::{self as names, limit::Limit};
use crate::session::Session;

/// The rooms that an agent's locations go to.
struct Audience {
    /// The agent's id, which is valid as a part of a room key.
    agent: String,
    rooms: Vec<Room>,
}

impl Service {
    /// Publishes a location that a session reported. The agent's id comes from the token alone, never from the
    /// message.
    pub async fn report_location(&self, session: &Session, location: Result<Location, Refusal>, answer: PendingReply) {
        let outcome = self.try_locate(session, location, &answer).await;
        match outcome {
            Ok(()) => counter!(names::EVENTS_PUBLISHED, "source" => "location").increment(1),
            Err(refusal) => counter!(names::LOCATIONS_REFUSED, "reason" => refusal.code()).increment(1),
        }
        Self::respond_to(session, answer, &outcome.map_or_else(reply::refused, |()| reply::DONE.to_owned()));
    }

    async fn try_locate(
        &self,
        session: &Session,
        location: Result<Location, Refusal>,
        answer: &PendingReply,
    ) -> Result<(), Refusal> {
        let claims = session.claims();
        // Before the report is looked at: a client without the role gets `forbidden` whatever it sends.
        if !self.0.policy.may_locate(&claims) {
            return Err(Refusal::Forbidden);
        }
        let Audience { agent, rooms } = self.audience(session, &claims).ok_or(Refusal::Forbidden)?;
        let text = location?.event_json(&agent).into_bytes();
        // Behind the parse, so that an invalid report does not use up the rate.
        if !session.may_locate(self.0.limits.locations, answer.arrived()) {
            Limit::LocationsPerSecond.note_reached();
            return Err(Refusal::RateLimited);
        }
        let event = Publication { rooms, text, id: event_id(), requires_ack: false, delivery: None };
        let until = self.answer_by(answer);
        // With the same id in every attempt, so that it is stored once.
        loop {
            let tried = attempt_until(until, self.publish_location(event.clone())).await;
            if !self.tries_again(session, until, tried.err()).await {
                return tried?;
            }
        }
    }

    /// Publishes once. The outer result drives the retry; an inner error is final, because the broker did answer.
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

    /// The rooms of an agent; none when its id is not valid in a room key.
    fn audience(&self, session: &Session, claims: &Claims) -> Option<Audience> {
        let agent = claims.agent_id()?;
        let mut rooms = vec![self.room_of(&agent, "agent:", "")?];
        // A deployment may configure no such class; the agent's own room remains.
        rooms.extend(self.0.classes.find_room("agents:all"));
        if let Some(zone) = claims.id_claim("zoneId") {
            match self.room_of(&zone, "zone:", ":agents") {
                Some(room) => rooms.push(room),
                // A bad zone must not silence the agent: its other rooms get the location.
                None => tracing::debug!(
                    event = logs::ZONE_UNFIT,
                    session = session.id(),
                    "the zoneId of a token is not fit for a room's key"
                ),
            }
        }
        Some(Audience { agent, rooms })
    }

    /// The room of one id. A colon in the id would add parts to the key and could name a room of another class.
    fn room_of(&self, id: &str, before: &str, behind: &str) -> Option<Room> {
        if id.contains(':') {
            return None;
        }
        self.0.classes.find_room(&format!("{before}{id}{behind}")).ok()
    }
}
