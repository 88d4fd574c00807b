//! CONNECT: a token becomes a session, with its handlers in place before the reply leaves.

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
use super::encode::Namespace;
use super::head::{self, HeadTokens};
use super::inbox::{Connection, Inbox};
use super::pace::Pace;
use crate::auth::claims::Claims;
use crate::clock::now_ms;
use crate::connections::Tries;
use crate::logs;
use crate::metrics as names;
use crate::session::Session;
use crate::wire::Wire;

/// Keys of the CONNECT payload that may hold a token, in the order they are looked at.
const TOKEN_KEYS: [&str; 4] = ["token", "access_token", "accessToken", "authorization"];

/// Why a token of good standing is refused, as metrics know it.
const REVOKED: &str = "revoked";

/// Between two looks at whether socketioxide is done with a refused CONNECT.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The CONNECT payload as it came.
struct Auth(Option<String>);

impl FromConnectParts<LocalAdapter> for Auth {
    type Error = Infallible;

    fn from_connect_parts(_: &Arc<Socket<LocalAdapter>>, auth: &Option<Value>) -> Result<Self, Infallible> {
        Ok(Self(auth.as_ref().and_then(Value::as_str).map(|text| text.to_string())))
    }
}

/// A CONNECT that socketioxide is at work on.
struct Attempt(Weak<Socket<LocalAdapter>>);

impl FromConnectParts<LocalAdapter> for Attempt {
    type Error = Infallible;

    fn from_connect_parts(socket: &Arc<Socket<LocalAdapter>>, _: &Option<Value>) -> Result<Self, Infallible> {
        Ok(Self(Arc::downgrade(socket)))
    }
}

/// Ends a session while the reader stands at its `41`: what the client sends behind it finds the namespace left, as does
/// a CONNECT, which socketioxide would else take for a second one and drop.
struct Leave {
    door: Arc<Door>,
    session: Arc<Session>,
}

/// Tells this handler from closures; socketioxide asks for a type.
struct AtOnce;

impl DisconnectHandler<LocalAdapter, AtOnce> for Leave {
    fn call_with_defer(
        &self,
        socket: Arc<Socket<LocalAdapter>>,
        _: DisconnectReason,
        remove: fn(Arc<Socket<LocalAdapter>>),
    ) {
        self.door.end(&self.session, self.session.lane().wire().blamed().unwrap_or("left"));
        remove(socket);
    }
}

/// What a client is told of a namespace that is not served.
#[derive(Debug, thiserror::Error)]
#[error("Invalid namespace")]
struct NotServed;

impl Door {
    /// Refuses every CONNECT to `path` as one to an unknown namespace. An event to it then comes before a CONNECT, and
    /// costs the transport.
    pub(super) fn turn_away(self: Arc<Self>, io: &SocketIo, path: &'static str) {
        let refuse = move |socket: SocketRef, attempt: Attempt| async move {
            self.wait_out(&socket, attempt);
            Err::<(), _>(NotServed)
        };
        io.ns(path, (async || {}).with(refuse));
    }

    /// Serves a namespace.
    pub(super) fn serve(self: Arc<Self>, io: &SocketIo, path: &str) {
        let namespace = Arc::new(Namespace::new(path, self.memory.clone()));
        let admit = move |socket: SocketRef, auth: Auth, attempt: Attempt| async move {
            let admitted = self.admit(&socket, auth, &namespace).await;
            if admitted.is_err() {
                self.wait_out(&socket, attempt);
            }
            admitted
        };
        io.ns(path.to_owned(), (async || {}).with(admit));
    }

    /// Makes a session of whoever shows a good token. What is refused here is told by the reply to CONNECT, which leaves
    /// when this is over; until then socketioxide drops further CONNECTs, and takes an event for one before a CONNECT.
    async fn admit(
        self: &Arc<Self>,
        socket: &SocketRef,
        auth: Auth,
        namespace: &Arc<Namespace>,
    ) -> Result<(), Refusal> {
        let head = socket.req_parts();
        let wire = head::wire(&head.extensions).ok_or(Refusal::Unauthorized)?;
        if !head.extensions.get::<Tries>().is_some_and(Tries::another) {
            wire.kill(Close::TooManyCommands.code());
            return Err(Refusal::Unauthorized);
        }
        let tokens = head.extensions.get::<HeadTokens>().cloned().unwrap_or_default();
        self.know_revocations(&wire).await?;
        let claims = self.identify(&wire, token(auth, tokens)).await.map_err(refused)?;
        let seat = self.service.seat(&claims).await.inspect_err(|refusal| {
            counter!(names::CONNECTS_REFUSED, "reason" => refusal.code()).increment(1);
        })?;
        let lane = wire.lane(&namespace.connected());
        let session = Session::new(Arc::new(claims), lane, namespace.clone());
        seat.keep();
        self.service.begin(&session).map_err(|_| refused(REVOKED))?;
        self.settle(socket, &wire, &session, namespace);
        Ok(())
    }

    /// Nobody is admitted before this node knows what is revoked. Who waits for that too long is not told that the token
    /// is bad, but closed, so that the client comes back with it.
    async fn know_revocations(&self, wire: &Wire) -> Result<(), Refusal> {
        tokio::time::timeout(self.connect_timeout, self.service.know_revocations()).await.map_err(|_| {
            wire.kill(Close::NotReady.code());
            refused(Close::NotReady.code())
        })
    }

    /// Whose token it is, or why it is refused, as metrics know it.
    async fn identify(&self, wire: &Wire, token: Option<String>) -> Result<Claims, &'static str> {
        let token =
            token.ok_or("no-token").inspect_err(|why| self.hint(why, "there is none; send it as auth: {token}"))?;
        let claims = self.verifier.verify(&token, now_ms()).await.map_err(|error| {
            tracing::debug!(event = logs::TOKEN_REFUSED, peer = %wire.client(), %error, "a token was refused");
            self.hint(error.why(), &error.to_string());
            error.why()
        })?;
        if !self.service.is_revoked(&claims) {
            return Ok(claims);
        }
        self.hint(REVOKED, "it has been revoked");
        Err(REVOKED)
    }

    /// While socketioxide is still at work on a refused CONNECT, it drops the next one unanswered. Since a client may
    /// try again as soon as it hears of the refusal, nothing more is read from it until that work is over.
    fn wait_out(&self, socket: &SocketRef, attempt: Attempt) {
        let Some(wire) = head::wire(&socket.req_parts().extensions) else { return };
        wire.pause_reads();
        self.tasks.spawn(async move {
            while attempt.0.strong_count() > 0 && !wire.is_closed() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            // The socket goes a moment before socketioxide's own mark of it.
            tokio::time::sleep(LOOK_AGAIN).await;
            wire.resume_reads();
        });
    }

    fn settle(self: &Arc<Self>, socket: &SocketRef, wire: &Wire, session: &Arc<Session>, namespace: &Arc<Namespace>) {
        counter!(names::CONNECTS).increment(1);
        gauge!(names::SESSIONS).increment(1.0);
        let connection = Connection::new(self.clone(), session.clone(), namespace.clone(), pace(socket));
        socket.on_fallback(Inbox(connection));
        socket.on_disconnect(Leave { door: self.clone(), session: session.clone() });
        self.expiry.watch(session);
        // Not a weak reference: socketioxide drops a socket whose CONNECT reply it cannot send, without its handler.
        let (door, cut) = (self.clone(), session.clone());
        wire.on_close(move |reason| door.end(&cut, reason));
    }

    fn end(&self, session: &Session, reason: &'static str) {
        if self.service.finish(session) {
            self.expiry.forget(session);
            gauge!(names::SESSIONS).decrement(1.0);
            counter!(names::DISCONNECTS, "reason" => reason).increment(1);
            tracing::debug!(event = logs::SESSION_ENDED, session = session.id(), reason, "a session ended");
        }
    }
}

/// Counts a refusal.
fn refused(why: &'static str) -> Refusal {
    counter!(names::CONNECTS_REFUSED, "reason" => why).increment(1);
    Refusal::Unauthorized
}

/// What a transport has sent so far, in whatever namespace.
fn pace(socket: &SocketRef) -> Pace {
    socket.req_parts().extensions.get().cloned().unwrap_or_default()
}

/// The first place that holds a token decides, whatever it holds.
fn token(auth: Auth, head: HeadTokens) -> Option<String> {
    let payload: Map<String, Json> = auth.0.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    for key in TOKEN_KEYS {
        match payload.get(key) {
            None | Some(Json::Null) => {}
            Some(Json::String(token)) if token.is_empty() => {}
            Some(Json::String(token)) => return Some(token.clone()),
            Some(_) => return None,
        }
    }
    let held = |token: &String| !token.is_empty();
    head.query.filter(held).or(head.header.filter(held))
}
