//! Revocation of tokens, and kicks of users, on every node.
//!
//! A revocation enters the list first, and its sessions are searched after that. A session enters the index first, and its
//! token is checked against the list after that ([`Service::begin_session`], [`Service::refresh`]). Whatever the order of the two,
//! one of them sees the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hallway_rooms::close::Refusal;
use hallway_rooms::revocation::{Revocation, SubjectHash};
use metrics::{counter, histogram};
use tokio_util::sync::CancellationToken;

use super::Service;
use crate::auth::claims::Claims;
use crate::auth::subject_hash;
use crate::fleet::control::{Kick, RemoteOrders, RevocationHealth};
use crate::fleet::{KickResult, Unavailable};
use crate::logs;
use crate::metrics as names;
use crate::session::Session;

/// Between two removals of revocations that are over. Until then they occupy the list.
const EXPIRE_EVERY: Duration = Duration::from_mins(1);
/// Sessions checked before other tasks get a turn.
const AT_ONCE: usize = 128;
/// How far `issuedBefore` may lie ahead: the greatest error of a clock. A later time would lock a user out.
const AHEAD_MS: u64 = 60_000;

/// Why sessions are kicked, as metrics know it.
const REVOKED: &str = "revoked";
const DISCONNECTED: &str = "disconnect";

/// A token is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token has been revoked")]
pub struct TokenRevoked;

/// The tokens to revoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevokeTarget {
    /// All of a user's that were issued before this time (milliseconds since the Unix epoch), or before now by the broker's clock.
    User(String, Option<u64>),
    /// The one with this `jti`.
    Token(String),
}

/// The outcome of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokeOutcome {
    /// The end of the revocation: by then every such token has expired. Milliseconds since the Unix epoch.
    pub until_ms: u64,
    /// Sessions kicked on this node.
    pub kicked: usize,
}

/// Why a request was refused, or carried out on this node only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokeError {
    /// The code.
    pub refusal: Refusal,
    /// A sentence for the service that asked.
    pub message: String,
}

impl RevokeError {
    fn new(refusal: Refusal, message: impl Into<String>) -> Self {
        Self { refusal, message: message.into() }
    }
}

impl Service {
    /// Whether a token is revoked, as far as this node knows.
    #[must_use]
    pub fn is_revoked(&self, claims: &Claims) -> bool {
        self.0.fleet.control().covers(&subject_hash::of_claims(claims))
    }

    /// Waits until this node has the list of revocations.
    pub async fn know_revocations(&self) {
        self.0.fleet.control().wait_until_loaded().await;
    }

    /// The state of the list of revocations.
    #[must_use]
    pub fn revocations(&self) -> RevocationHealth {
        self.0.fleet.control().health()
    }

    /// Revokes tokens on every node, and kicks the sessions that use one.
    ///
    /// # Errors
    /// When the time is invalid, when too many revocations are in force, or when the other nodes are out of reach. In the
    /// last case this node obeys already, and announces the revocation as soon as it can.
    pub async fn revoke_tokens(&self, target: RevokeTarget) -> Result<RevokeOutcome, RevokeError> {
        let outcome = match self.shared_now().and_then(|now_ms| self.revocation(&target, now_ms)) {
            Ok(revocation) => {
                let (service, kind) = (self.clone(), target.claim_name());
                self.to_the_end(async move { service.carry_out(revocation, kind).await }).await
            }
            Err(denied) => Err(denied),
        };
        let label = outcome.as_ref().map_or_else(|denied| denied.refusal.code(), |_| "noted");
        counter!(names::REVOKES, "outcome" => label).increment(1);
        outcome
    }

    /// Runs `act` as a task of its own: a service that hangs up must not leave half of it undone.
    async fn to_the_end<T: Send + 'static>(
        &self,
        act: impl Future<Output = Result<T, RevokeError>> + Send + 'static,
    ) -> Result<T, RevokeError> {
        let ended = self.0.tasks.spawn(act).await;
        ended.unwrap_or_else(|_| Err(RevokeError::new(Refusal::Unavailable, "this node is shutting down")))
    }

    /// The time by the clock that all nodes share. Without it a node would note times that mean nothing to the others.
    fn shared_now(&self) -> Result<u64, RevokeError> {
        let message = "this node has not reached the broker yet; ask again when it is ready";
        self.0.fleet.control().now_ms().ok_or_else(|| RevokeError::new(Refusal::Unavailable, message))
    }

    fn revocation(&self, target: &RevokeTarget, now_ms: u64) -> Result<Revocation, RevokeError> {
        let life_ms = u64::try_from(self.0.limits.token_life.as_millis()).unwrap_or(u64::MAX);
        // `from_ms`: the latest moment at which a token that is covered may have been issued.
        let (mark, before_ms, from_ms) = match target {
            // The moment of issue of a single token is not known, but lies in the past.
            RevokeTarget::Token(id) => (subject_hash::of_token(id), Revocation::WHENEVER, now_ms),
            RevokeTarget::User(id, issued_before) => {
                let before_ms = issued_before.unwrap_or(now_ms);
                check_issued_before(before_ms, now_ms, life_ms)?;
                (subject_hash::of_user(id), before_ms, now_ms.max(before_ms))
            }
        };
        if self.0.fleet.control().is_full(mark) {
            let message = "as many revocations as limits.revocations are in force; raise it, or change the signing key";
            return Err(RevokeError::new(Refusal::TooManyRevocations, message));
        }
        Ok(Revocation { mark, before_ms, until_ms: from_ms.saturating_add(life_ms) })
    }

    async fn carry_out(&self, revocation: Revocation, kind: &'static str) -> Result<RevokeOutcome, RevokeError> {
        let began = Instant::now();
        let noted = self.0.fleet.control().add_revocation(&revocation);
        let kicked = self.kick_revoked(self.0.sessions.of_subject(revocation.mark)).await;
        histogram!(names::KICK_LATENCY).record(began.elapsed().as_secs_f64());
        // The name of a user is personal data, which logs must not have.
        let target = short(revocation.mark);
        // After the kicks of this node, which need no Redis.
        let sent = self.0.fleet.announce_revocation(&noted).await;
        match sent {
            Ok(()) => {
                tracing::info!(event = logs::REVOKED, kind, target, kicked, "revoked");
                Ok(RevokeOutcome { until_ms: noted.known.until_ms, kicked })
            }
            Err(Unavailable(error)) => {
                tracing::warn!(
                    event = logs::REVOKED_HERE_ONLY,
                    kind,
                    target,
                    kicked,
                    error,
                    "revoked on this node; the others are told when the broker is back"
                );
                let message = "revoked on this node only: the broker is out of reach. The other nodes are sent as soon as it \
                               is back; asking again does no harm";
                Err(RevokeError::new(Refusal::Unavailable, message))
            }
        }
    }

    /// Kicks a user's sessions on every node, and gives their number. The user may connect again.
    ///
    /// # Errors
    /// When the other nodes are out of reach.
    pub async fn disconnect_user(&self, user: &str) -> Result<KickResult, RevokeError> {
        let (service, user) = (self.clone(), subject_hash::of_user(user));
        self.to_the_end(async move { service.kick_everywhere(user).await }).await
    }

    async fn kick_everywhere(&self, user: SubjectHash) -> Result<KickResult, RevokeError> {
        // This node first, so that it kicks also where the others are out of reach. When its own request comes back to it, no
        // session is left to be counted twice.
        let here = self.kick_user(user).await;
        let there = self.0.fleet.kick_elsewhere(user).await.map_err(|Unavailable(error)| {
            tracing::warn!(
                event = logs::DISCONNECTED_HERE_ONLY,
                target = short(user),
                here,
                error,
                "kicked on this node; the others could not be asked"
            );
            let message = format!("kicked {here} sockets of this node only: the broker is out of reach; ask again");
            RevokeError::new(Refusal::Unavailable, message)
        })?;
        let kicked = KickResult { sockets: here + there.sockets, ..there };
        tracing::info!(
            event = logs::DISCONNECTED,
            target = short(user),
            kicked = kicked.sockets,
            complete = kicked.complete,
            "disconnected"
        );
        Ok(kicked)
    }

    /// Carries out the orders of other nodes, until `stop`.
    pub async fn follow_control(&self, stop: CancellationToken) {
        let mut turns = tokio::time::interval(EXPIRE_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                orders = self.0.fleet.control().take_orders() => self.carry_out_orders(orders).await,
                _ = turns.tick() => self.0.fleet.control().expire(),
            }
        }
    }

    async fn carry_out_orders(&self, orders: RemoteOrders) {
        let began = Instant::now();
        let concerned = match orders.everybody {
            // More revocations came than are remembered one by one.
            true => self.0.sessions.all_sessions(),
            false => orders.revoked.iter().flat_map(|mark| self.0.sessions.of_subject(*mark)).collect(),
        };
        let kicked = self.kick_revoked(concerned).await;
        // Orders may be kicks alone, whose latency is not measured here.
        if orders.everybody || !orders.revoked.is_empty() {
            histogram!(names::KICK_LATENCY).record(began.elapsed().as_secs_f64());
        }
        if kicked > 0 {
            tracing::info!(
                event = logs::SESSIONS_KICKED,
                kicked,
                "sessions were kicked: their tokens were revoked through another node"
            );
        }
        for Kick { user, ticket } in orders.kicks {
            let sockets = self.kick_user(user).await;
            let fleet = self.0.fleet.clone();
            // A slow Redis must not delay the next order.
            self.0.tasks.spawn(async move {
                if let Err(error) = fleet.answer_kick(&ticket, sockets).await {
                    tracing::debug!(event = logs::KICK_UNANSWERED, %error, "a node that asked for a kick could not be answered");
                }
            });
        }
    }

    async fn kick_user(&self, user: SubjectHash) -> usize {
        kick_all(self.0.sessions.of_subject(user), |session| kick_session(session, DISCONNECTED)).await
    }

    async fn kick_revoked(&self, sessions: Vec<Arc<Session>>) -> usize {
        kick_all(sessions, |session| self.is_revoked(&session.claims()) && kick_session(session, REVOKED)).await
    }

    /// Kicks a session if its newest token is revoked; says whether it is.
    pub(super) fn kick_if_revoked(&self, session: &Session) -> bool {
        let revoked = self.is_revoked(&session.claims());
        // Another task may have kicked it already, and then parts it too.
        if revoked && kick_session(session, REVOKED) {
            session.close_after_kick();
        }
        revoked
    }
}

impl RevokeTarget {
    const fn claim_name(&self) -> &'static str {
        match self {
            Self::User(..) => "sub",
            Self::Token(_) => "jti",
        }
    }
}

/// Refuses a time that is certainly a mistake, such as seconds instead of milliseconds.
fn check_issued_before(before_ms: u64, now_ms: u64, life_ms: u64) -> Result<(), RevokeError> {
    if before_ms > now_ms.saturating_add(AHEAD_MS) {
        let message = "`issuedBefore` lies ahead: give milliseconds since 1970, up to now";
        return Err(RevokeError::new(Refusal::InvalidPayload, message));
    }
    if before_ms.saturating_add(life_ms) < now_ms {
        let message =
            "tokens issued before `issuedBefore` have all expired (auth.max_token_ttl): give milliseconds since 1970";
        return Err(RevokeError::new(Refusal::InvalidPayload, message));
    }
    Ok(())
}

/// Kicks sessions and gives the number of those that were not kicked before. All get their notice before the first transport
/// is closed, because a client may have several sessions on one.
async fn kick_all(sessions: Vec<Arc<Session>>, kick: impl Fn(&Session) -> bool) -> usize {
    let mut kicked = Vec::new();
    for some in sessions.chunks(AT_ONCE) {
        kicked.extend(some.iter().filter(|session| kick(session)));
        tokio::task::yield_now().await;
    }
    for some in kicked.chunks(AT_ONCE) {
        some.iter().for_each(|session| session.close_after_kick());
        tokio::task::yield_now().await;
    }
    kicked.len()
}

fn kick_session(session: &Session, reason: &'static str) -> bool {
    let news = session.kick_client();
    if news {
        counter!(names::KICKED, "reason" => reason).increment(1);
    }
    news
}

fn short(mark: SubjectHash) -> String {
    mark.to_string().chars().take(8).collect()
}
