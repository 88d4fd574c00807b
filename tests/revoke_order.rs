//! The order that makes a revocation airtight: a session is found by its user and its token **before** its token is looked
//! up in the list. A fleet that looks back at the caller that asks for its list tells.

use std::sync::Arc;

use async_trait::async_trait;
use axum::serve::Listener;
use bytes::Bytes;
use futures_util::FutureExt;
use hallway::auth::claims::Claims;
use hallway::auth::subject_hash;
use hallway::fleet::alone::Alone;
use hallway::fleet::control::{NotedRevocation, RevocationList};
use hallway::fleet::{Fleet, KickResult, Unavailable, UserCount};
use hallway::service::Service;
use hallway::session::{Dialect, Session};
use hallway::sessions::Sessions;
use hallway::wire::{WireConfig, WireIo, WireListener};
use hallway_rooms::close::Refusal;
use hallway_rooms::entry::RoomPlace;
use hallway_rooms::envelope::Envelope;
use hallway_rooms::key::Room;
use hallway_rooms::revocation::{Revocation, SubjectHash};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use crate::harness::eventually;
use crate::harness::service::service;

/// A fleet that notes at each read of the list whether the session of a token could be found by then.
#[derive(Debug)]
struct LookingBack {
    inner: Alone,
    sessions: Sessions,
    /// The token that another node is about to revoke.
    late: Mutex<Option<SubjectHash>>,
    seen: Mutex<Vec<bool>>,
}

#[async_trait]
impl Fleet for LookingBack {
    fn control(&self) -> &RevocationList {
        if let Some(mark) = *self.late.lock() {
            self.seen.lock().push(!self.sessions.of_subject(mark).is_empty());
        }
        self.inner.control()
    }

    async fn announce_revocation(&self, noted: &NotedRevocation) -> Result<(), Unavailable> {
        self.inner.announce_revocation(noted).await
    }

    async fn kick_elsewhere(&self, user: SubjectHash) -> Result<KickResult, Unavailable> {
        self.inner.kick_elsewhere(user).await
    }

    async fn answer_kick(&self, ticket: &str, sockets: usize) -> Result<(), Unavailable> {
        self.inner.answer_kick(ticket, sockets).await
    }

    async fn count_users(&self, counts: &[UserCount]) -> Result<Vec<Option<usize>>, Unavailable> {
        self.inner.count_users(counts).await
    }

    async fn announce_sizes(&self, sizes: &[(Room, usize)]) -> Result<(), Unavailable> {
        self.inner.announce_sizes(sizes).await
    }

    fn forget_count(&self) -> u64 {
        self.inner.forget_count()
    }

    async fn members_elsewhere(&self, room: &Room) -> Result<usize, Unavailable> {
        self.inner.members_elsewhere(room).await
    }

    async fn leave_fleet(&self) -> Result<(), Unavailable> {
        self.inner.leave_fleet().await
    }
}

/// Frames without a wire format: no client reads them.
#[derive(Debug)]
struct Mute;

impl Dialect for Mute {
    fn event_frame(&self, _: &Envelope, _: &[&RoomPlace]) -> Bytes {
        Bytes::from_static(b"\x81\x00")
    }

    fn kick_frame(&self) -> Bytes {
        Bytes::from_static(b"\x81\x00")
    }
}

fn claims(jti: &str) -> Arc<Claims> {
    let json = serde_json::json!({"sub": "u1", "jti": jti}).to_string().into();
    let (subject, token_id) = ("u1".into(), Some(jti.into()));
    Arc::new(Claims { subject, expires_ms: u64::MAX, issued_ms: None, token_id, json })
}

/// A service whose fleet looks back, and a session on a real connection.
async fn bench() -> (Service, Arc<LookingBack>, Arc<Session>, (WireIo, TcpStream)) {
    let (sessions, inner) = (Sessions::default(), Alone::new(10));
    let fleet =
        Arc::new(LookingBack { inner, sessions: sessions.clone(), late: Mutex::default(), seen: Mutex::default() });
    let service = service(fleet.clone(), sessions);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let mut listener = WireListener::new(listener, WireConfig::default(), TaskTracker::new());
    let (accepted, peer) = tokio::join!(listener.accept(), TcpStream::connect(address));
    let session = Session::new(claims("first"), accepted.0.wire().add_lane(""), Arc::new(Mute));
    (service, fleet, session, (accepted.0, peer.expect("it connects")))
}

#[tokio::test]
async fn a_session_is_found_before_its_token_is_looked_up() {
    let (service, fleet, session, _connection) = bench().await;
    *fleet.late.lock() = Some(subject_hash::of_token("first"));
    service.begin_session(&session).expect("nothing is revoked");
    assert_eq!(fleet.seen.lock().last(), Some(&true), "what is revoked behind the last look finds the session");
}

#[tokio::test]
async fn a_refreshed_session_is_found_by_its_new_token_before_that_is_looked_up() {
    let (service, fleet, session, _connection) = bench().await;
    service.begin_session(&session).expect("nothing is revoked");
    *fleet.late.lock() = Some(subject_hash::of_token("second"));
    service.refresh(&session, claims("second")).await.expect("nothing is revoked");
    assert_eq!(fleet.seen.lock().last(), Some(&true), "what is revoked behind the last look finds the session");
    *fleet.late.lock() = None;
    assert!(
        fleet.sessions.of_subject(subject_hash::of_token("first")).is_empty(),
        "its old token is not its own any more"
    );
    assert!(!session.is_kicked());
}

#[tokio::test]
async fn a_session_whose_token_is_revoked_never_begins_and_a_refresh_with_one_changes_nothing() {
    let (service, fleet, session, _connection) = bench().await;
    let revoke = |jti| {
        let revocation =
            Revocation { mark: subject_hash::of_token(jti), before_ms: Revocation::WHENEVER, until_ms: u64::MAX };
        fleet.control().add_revocation(&revocation);
    };
    service.begin_session(&session).expect("nothing is revoked");
    revoke("second");
    assert_eq!(service.refresh(&session, claims("second")).await, Err(Refusal::Unauthorized));
    assert_eq!(session.claims(), claims("first"));
    assert!(!session.is_kicked());
    revoke("first");
    let again = Session::new(claims("first"), session.lane().clone(), Arc::new(Mute));
    assert!(service.begin_session(&again).is_err() && again.is_finished());
    assert_eq!(fleet.sessions.of_subject(subject_hash::of_user("u1")).len(), 1, "only the one that began before");
}

#[tokio::test]
async fn a_service_that_hangs_up_in_the_middle_of_a_disconnect_leaves_nothing_half_done() {
    let (service, _fleet, session, (connection, _peer)) = bench().await;
    service.begin_session(&session).expect("nothing is revoked");
    assert!(service.disconnect_user("u1").now_or_never().is_none(), "it takes more than a moment");
    let closed = || async { connection.wire().close_reason().filter(|_| session.is_kicked()) };
    assert_eq!(eventually("the transport is closed", closed).await, "kicked");
}
