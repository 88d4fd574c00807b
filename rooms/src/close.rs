//! The table of close reasons and of the error codes that commands answer with.

/// The reason why the gateway closed a transport. The client reconnects after all of them but [`Close::Kicked`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Close {
    /// The peer closed or vanished.
    PeerGone,
    /// More was queued for it than `limits.queue_bytes` or `limits.queue_frames`.
    SlowConsumer,
    /// All sockets of the node together had more queued than `limits.memory`, and this one was the slowest.
    MemoryFull,
    /// It accepted no byte for `wire.write_deadline`.
    Stalled,
    /// Its token's `exp` passed.
    TokenExpired,
    /// A frame was not a valid packet, or announced attachments did not come.
    MalformedFrame,
    /// A room's history does not reach back to the member's offset any more.
    HistoryLost,
    /// A room of the session cannot be read although the broker is healthy.
    RoomUnreadable,
    /// A join without an ack id could not be carried out within `redis.join_wait`.
    JoinUnavailable,
    /// Its commands came faster than they could be processed, or at ten times `limits.commands_per_minute`; or its
    /// frames came at twenty times that rate.
    TooManyCommands,
    /// It connected before the node had the revocation list, and could not wait any longer.
    NotReady,
    /// It sent a message longer than `limits.frame_bytes`.
    FrameTooLarge,
    /// The node is shutting down.
    Draining,
    /// Revoked or kicked. The client gets packet `41`, which stops it from reconnecting.
    Kicked,
}

impl Close {
    /// All reasons, in the order of the table.
    pub const ALL: [Self; 14] = [
        Self::PeerGone,
        Self::SlowConsumer,
        Self::MemoryFull,
        Self::Stalled,
        Self::TokenExpired,
        Self::MalformedFrame,
        Self::HistoryLost,
        Self::RoomUnreadable,
        Self::JoinUnavailable,
        Self::TooManyCommands,
        Self::NotReady,
        Self::FrameTooLarge,
        Self::Draining,
        Self::Kicked,
    ];

    /// The reason's name in logs and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        // By hand and not derived: dashboards and clients depend on these texts, however the variants are renamed.
        match self {
            Self::PeerGone => "peer-gone",
            Self::SlowConsumer => "slow-consumer",
            Self::MemoryFull => "memory-full",
            Self::Stalled => "write-stalled",
            Self::TokenExpired => "token-expired",
            Self::MalformedFrame => "malformed-frame",
            Self::HistoryLost => "history-lost",
            Self::RoomUnreadable => "room-unreadable",
            Self::JoinUnavailable => "join-unavailable",
            Self::TooManyCommands => "too-many-commands",
            Self::NotReady => "not-ready",
            Self::FrameTooLarge => "frame-too-large",
            Self::Draining => "draining",
            Self::Kicked => "kicked",
        }
    }

    /// Whether a client should reconnect by itself.
    #[must_use]
    pub const fn may_reconnect(self) -> bool {
        !matches!(self, Self::Kicked)
    }
}

/// The refusal of a command, or of an HTTP request with its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.code())]
pub enum Refusal {
    /// The arguments do not have the command's shape.
    InvalidPayload,
    /// The room is empty, over-long or of no known form.
    InvalidRoom,
    /// The event breaks a rule of the envelope.
    InvalidEvent,
    /// The event is larger than `limits.event_bytes`.
    EventTooLarge,
    /// The policy denies it.
    Forbidden,
    /// No valid token or API key.
    Unauthorized,
    /// More rooms than `limits.rooms_per_socket`.
    TooManyRooms,
    /// The user has used up `limits.connections_per_user`.
    TooManyConnections,
    /// Rooms of this class keep no history.
    HistoryDisabled,
    /// More requests than the rate limit for them allows.
    RateLimited,
    /// No such command.
    UnknownCommand,
    /// As many revocations as `limits.revocations` are in force.
    TooManyRevocations,
    /// No such route.
    NotFound,
    /// The route does not take this method.
    MethodNotAllowed,
    /// The request's body did not arrive within `api.body_timeout`.
    RequestTimeout,
    /// The broker cannot be reached, or `limits.pending_publishes` requests are in flight.
    Unavailable,
    /// The broker cannot store the event in one of its rooms. A retry fails until an operator has fixed that.
    NotStored,
}

impl Refusal {
    /// All refusals, in the order of the table.
    pub const ALL: [Self; 17] = [
        Self::InvalidPayload,
        Self::InvalidRoom,
        Self::InvalidEvent,
        Self::EventTooLarge,
        Self::Forbidden,
        Self::Unauthorized,
        Self::TooManyRooms,
        Self::TooManyConnections,
        Self::HistoryDisabled,
        Self::RateLimited,
        Self::UnknownCommand,
        Self::TooManyRevocations,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::Unavailable,
        Self::NotStored,
    ];

    /// The code that clients see.
    #[must_use]
    pub const fn code(self) -> &'static str {
        // By hand and not derived: clients compare these texts.
        match self {
            Self::InvalidPayload => "invalid-payload",
            Self::InvalidRoom => "invalid-room",
            Self::InvalidEvent => "invalid-event",
            Self::EventTooLarge => "event-too-large",
            Self::Forbidden => "forbidden",
            Self::Unauthorized => "unauthorized",
            Self::TooManyRooms => "too-many-rooms",
            Self::TooManyConnections => "too-many-connections",
            Self::HistoryDisabled => "history-disabled",
            Self::RateLimited => "rate-limited",
            Self::UnknownCommand => "unknown-command",
            Self::TooManyRevocations => "too-many-revocations",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::RequestTimeout => "request-timeout",
            Self::Unavailable => "unavailable",
            Self::NotStored => "not-stored",
        }
    }

    /// The HTTP status of the refusal.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidPayload | Self::InvalidRoom | Self::InvalidEvent | Self::TooManyRooms => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::UnknownCommand | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::HistoryDisabled => 409,
            Self::EventTooLarge => 413,
            Self::RateLimited | Self::TooManyConnections => 429,
            Self::NotStored => 500,
            Self::TooManyRevocations => 507,
            Self::Unavailable => 503,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_place_among_all() {
        let mut closes = Close::ALL.into_iter().enumerate();
        assert!(closes.all(|(place, close)| close as usize == place));
        let mut refusals = Refusal::ALL.into_iter().enumerate();
        assert!(refusals.all(|(place, refusal)| refusal as usize == place));
    }

    #[test]
    fn codes_are_kebab_case_and_distinct() {
        for mut codes in [Vec::from(Close::ALL.map(Close::code)), Vec::from(Refusal::ALL.map(Refusal::code))] {
            let all = codes.len();
            assert!(codes.iter().all(|c| c.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')));
            codes.sort_unstable();
            codes.dedup();
            assert_eq!(codes.len(), all);
        }
    }
}
