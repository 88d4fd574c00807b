//! CONNECT: verifies a token and makes a session of it, with its handlers in place before the reply leaves.

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hallway_rooms::close::{Close, Refusal};
use metrics::{counter, gauge};
use serde_json::{Map, Value as Json};
use socketioxide::SocketIo;
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::SocketRef;
use socketioxide::handler::{ConnectHandler, DisconnectHandler, FromConnectParts, Value};
use socketioxide::socket::{DisconnectReason, Socket};

use super::Door;
use super::arrival::Arrival;
use super::encode::Namespace;
use super::head;
use super::inbox::{Inbox, SignedInSocket};
use super::successor::Successor;
use super::transport::{HeadTokens, Transport};
use crate::auth::claims::Claims;
use crate::clock::now_ms;
use crate::logs;
use crate::metrics as names;
use crate::session::Session;
use crate::wire::Wire;

/// Keys of the CONNECT payload that may hold a token, in order of precedence.
const TOKEN_KEYS: [&str; 4] = ["token", "access_token", "accessToken", "authorization"];

/// The label in metrics of a valid token that was revoked.
const REVOKED: &str = "revoked";

/// How often a refused CONNECT is checked for the end of socketioxide's work on it.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The raw CONNECT payload.
struct ConnectAuth(Option<String>);

impl FromConnectParts<LocalAdapter> for ConnectAuth {
    type Error = Infallible;

    fn from_connect_parts(_: &Arc<Socket<LocalAdapter>>, auth: &Option<Value>) -> Result<Self, Infallible> {
        Ok(Self(auth.as_ref().and_then(Value::as_str).map(|text| text.to_string())))
    }
}

/// A CONNECT that socketioxide is working on; the weak reference dies when the library drops the socket.
struct Attempt(Weak<Socket<LocalAdapter>>);

impl FromConnectParts<LocalAdapter> for Attempt {
    type Error = Infallible;

    fn from_connect_parts(socket: &Arc<Socket<LocalAdapter>>, _: &Option<Value>) -> Result<Self, Infallible> {
        Ok(Self(Arc::downgrade(socket)))
    }
}

/// Ends a session while the reader stands at its `41`. It has to happen right there: packets behind the `41` must find
/// the namespace left, and a CONNECT behind it would be taken for a second one by socketioxide and dropped.
struct DisconnectGuard {
    transport: Arc<Transport>,
    socket: Arc<SignedInSocket>,
}

/// Marker type: socketioxide asks for one to tell this handler from closures.
struct ConnectHandlerMark;

impl DisconnectHandler<LocalAdapter, ConnectHandlerMark> for DisconnectGuard {
    fn call_with_defer(
        &self,
        socket: Arc<Socket<LocalAdapter>>,
        reason: DisconnectReason,
        remove: fn(Arc<Socket<LocalAdapter>>),
    ) {
        let wire = self.socket.session.lane().wire();
        if !wire.is_handed_over() {
            self.socket.door.leave_namespace(&self.transport, &self.socket);
        // The end that the library reads behind the hand-over means nothing. Any other reason is its own, of the same
        // moment: the session ends, and the frames that were swallowed are sent in its place.
        } else if reason != DisconnectReason::TransportError {
            self.socket.door.leave_namespace(&self.transport, &self.socket);
            wire.close_with_farewell(Close::PeerGone.code());
        }
        remove(socket);
    }
}

/// The error that a client gets for an unknown namespace.
#[derive(Debug, thiserror::Error)]
#[error("Invalid namespace")]
struct NotServed;

impl Door {
    /// Refuses every CONNECT to `path` as one to an unknown namespace. The path is registered for this: an event to it
    /// is then an event before CONNECT, for which socketioxide closes the transport.
    pub(super) fn turn_away(self: Arc<Self>, io: &SocketIo, path: &'static str) {
        let refuse = move |socket: SocketRef, attempt: Attempt| async move {
            self.wait_out(&socket, attempt);
            Err::<(), _>(NotServed)
        };
        io.ns(path, (async || {}).with(refuse));
    }

    /// Serves a namespace.
    pub(super) fn serve_namespace(self: Arc<Self>, io: &SocketIo, namespace: Arc<Namespace>) {
        let path = namespace.path().to_owned();
        let admit = move |socket: SocketRef, auth: ConnectAuth, attempt: Attempt| async move {
            let admitted = self.admit_socket(&socket, auth, namespace).await;
            if admitted.is_err() {
                self.wait_out(&socket, attempt);
            }
            admitted
        };
        io.ns(path, (async || {}).with(admit));
    }

    /// Makes a session of a CONNECT that the library has read. A refusal is told by the reply, which leaves when this
    /// returns; until then the library drops further CONNECTs, and takes an event for one before a CONNECT.
    async fn admit_socket(
        self: &Arc<Self>,
        socket: &SocketRef,
        auth: ConnectAuth,
        namespace: Arc<Namespace>,
    ) -> Result<(), Refusal> {
        let head = socket.req_parts();
        let wire = head::wire_of(&head.extensions).ok_or(Refusal::Unauthorized)?;
        let transport = head::transport_of(&head.extensions).ok_or(Refusal::Unauthorized)?;
        transport.note_id(socket.id);
        let arrival = Arrival { wire, transport: transport.clone(), payload: auth.0, namespace };
        let connection = self.admit_client(arrival).await?;
        // The handlers are set before CONNECT is answered: the client's first command may follow at once.
        socket.on_fallback(Inbox(connection.clone()));
        socket.on_disconnect(DisconnectGuard { transport, socket: connection });
        Ok(())
    }

    /// Makes a session from a valid token.
    pub(super) async fn admit_client(self: &Arc<Self>, arrival: Arrival) -> Result<Arc<SignedInSocket>, Refusal> {
        let Arrival { wire, transport, payload, namespace } = arrival;
        // Counted before any work: each try leaves state in the library, so a client that tries for ever is closed.
        if !transport.tries.count_attempt() {
            wire.close_at_once(Close::TooManyCommands.code());
            return Err(Refusal::Unauthorized);
        }
        // Before the token is verified, whose check against the list must see all of it.
        self.know_revocations(&wire).await?;
        let token = first_token(payload, &transport.tokens);
        let claims = self.identify_client(&wire, token).await.map_err(count_refusal)?;
        // Only a verified user costs the broker a question.
        let seat = self.service.acquire_connection(&claims).await.inspect_err(|refusal| {
            counter!(names::CONNECTS_REFUSED, "reason" => refusal.code()).increment(1);
        })?;
        // Made before the reply to CONNECT can be written, since a lane opens only by messages that begin after it.
        let lane = wire.add_lane(&namespace.connect_reply_start());
        let session = Session::new(Arc::new(claims), lane, namespace.clone());
        // From here on the end of the session gives the connection back; kept later, a failing `begin` would give it
        // back twice.
        seat.keep_for_session();
        // Lists the session first and checks the revocations again behind that: a revocation in between finds one or
        // the other.
        self.service.begin_session(&session).map_err(|_| count_refusal(REVOKED))?;
        Ok(self.register_session(session, namespace, transport))
    }

    /// Waits until this node knows the revocation list. A client that would wait longer than `connect_timeout` is
    /// closed and not refused: its token may be good, and it comes back with it.
    async fn know_revocations(&self, wire: &Wire) -> Result<(), Refusal> {
        tokio::time::timeout(self.connect_timeout, self.service.know_revocations()).await.map_err(|_| {
            wire.close_at_once(Close::NotReady.code());
            count_refusal(Close::NotReady.code())
        })
    }

    /// Verifies a token. The error is the reason as a label of metrics.
    async fn identify_client(&self, wire: &Wire, token: Option<String>) -> Result<Claims, &'static str> {
        let token = token
            .ok_or("no-token")
            .inspect_err(|why| self.hint_developer(why, "there is none; send it as auth: {token}"))?;
        let claims = self.verifier.verify(&token, now_ms()).await.map_err(|error| {
            tracing::debug!(event = logs::TOKEN_REFUSED, peer = %wire.client_address(), %error, "a token was refused");
            self.hint_developer(error.metric_label(), &error.to_string());
            error.metric_label()
        })?;
        // Last: only the claims of a token with a valid signature say which entry of the list could apply.
        if !self.service.is_revoked(&claims) {
            return Ok(claims);
        }
        self.hint_developer(REVOKED, "it has been revoked");
        Err(REVOKED)
    }

    /// Pauses reading until socketioxide has finished its work on a refused CONNECT. Until then the library drops the
    /// next one unanswered, and a client may try again as soon as it receives the refusal.
    fn wait_out(&self, socket: &SocketRef, attempt: Attempt) {
        let Some(wire) = head::wire_of(&socket.req_parts().extensions) else { return };
        wire.pause_reads();
        self.tasks.spawn(async move {
            while attempt.0.strong_count() > 0 && !wire.is_closed() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            // The library drops the socket a moment before it clears its own mark of the CONNECT.
            tokio::time::sleep(LOOK_AGAIN).await;
            wire.resume_reads();
        });
    }

    fn register_session(
        self: &Arc<Self>,
        session: Arc<Session>,
        namespace: Arc<Namespace>,
        transport: Arc<Transport>,
    ) -> Arc<SignedInSocket> {
        counter!(names::CONNECTS).increment(1);
        gauge!(names::SESSIONS).increment(1.0);
        let wire = session.lane().wire().clone();
        let connection = SignedInSocket::new(self.clone(), session, namespace, transport.rates.clone());
        transport.add_socket(connection.clone());
        let successor = Successor { door: self.clone(), transport: transport.clone(), wire: wire.clone() };
        wire.appoint_heir(Arc::new(successor));
        self.expiry.watch_session(&connection.session);
        // The hook holds the session strongly: socketioxide drops a socket whose CONNECT reply it cannot send without a
        // call of its disconnect handler, and then only this hook ends the session.
        let (door, cut) = (self.clone(), connection.clone());
        wire.on_close(move |reason| door.end_session(&transport, &cut, reason));
        connection
    }

    /// Ends a session whose client has left its namespace.
    pub(super) fn leave_namespace(&self, transport: &Transport, socket: &SignedInSocket) {
        self.end_session(transport, socket, socket.session.lane().wire().close_reason().unwrap_or("left"));
    }

    fn end_session(&self, transport: &Transport, socket: &SignedInSocket, reason: &'static str) {
        let session = &socket.session;
        transport.remove_socket(socket);
        // Two ways lead here, the packet `41` and the end of the wire; only the first one counts.
        if self.service.finish_session(session) {
            self.expiry.forget(session);
            gauge!(names::SESSIONS).decrement(1.0);
            counter!(names::DISCONNECTS, "reason" => reason).increment(1);
            tracing::debug!(event = logs::SESSION_ENDED, session = session.id(), reason, "a session ended");
        }
    }
}

/// Counts a refused CONNECT. All reasons look alike to the client: a stranger learns nothing about a token.
fn count_refusal(why: &'static str) -> Refusal {
    counter!(names::CONNECTS_REFUSED, "reason" => why).increment(1);
    Refusal::Unauthorized
}

/// Chooses the token: payload, then query, then header. The first one that is present decides, even if it is malformed:
/// a fallback could sign a client in as another user than it meant.
fn first_token(payload: Option<String>, head: &HeadTokens) -> Option<String> {
    let payload: Map<String, Json> = payload.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    for key in TOKEN_KEYS {
        match payload.get(key) {
            // Null counts as absent everywhere in the protocol, and an empty string is no token either.
            None | Some(Json::Null) => {}
            Some(Json::String(token)) if token.is_empty() => {}
            Some(Json::String(token)) => return Some(token.clone()),
            Some(_) => return None,
        }
    }
    let held = |token: &String| !token.is_empty();
    head.query.clone().filter(held).or_else(|| head.header.clone().filter(held))
}
