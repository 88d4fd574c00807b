//! The connection quota, where the fleet answers late and in another order.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;
use hallway::auth::claims::Claims;
use hallway::fleet::alone::Alone;
use hallway::fleet::control::{NotedRevocation, RevocationList};
use hallway::fleet::{Fleet, KickResult, Unavailable, UserCount};
use hallway::sessions::Sessions;
use hallway_rooms::close::Refusal;
use hallway_rooms::key::Room;
use hallway_rooms::revocation::SubjectHash;
use tokio::sync::{Barrier, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::harness::service::service;

const QUOTA: usize = 100;

/// A fleet whose other nodes have `others` connections of each user.
#[derive(Debug)]
struct Slow {
    inner: Alone,
    others: usize,
    /// So many must have asked before the first is answered.
    together: Barrier,
    /// Whether the first announcement is taken behind the second.
    reorders: bool,
    /// The counts of this node in the order in which they were taken.
    taken: watch::Sender<Vec<usize>>,
}

impl Slow {
    fn new(others: usize, together: usize, reorders: bool) -> Arc<Self> {
        let (inner, taken) = (Alone::new(1), watch::Sender::default());
        Arc::new(Self { inner, others, together: Barrier::new(together), reorders, taken })
    }
}

#[async_trait]
impl Fleet for Slow {
    async fn count_users(&self, counts: &[UserCount]) -> Result<Vec<Option<usize>>, Unavailable> {
        self.together.wait().await;
        for count in counts {
            if self.reorders && count.here == 1 {
                self.taken.subscribe().wait_for(|taken| !taken.is_empty()).await.expect("the fleet lives");
            }
            self.taken.send_modify(|taken| taken.push(count.here));
        }
        Ok(vec![Some(self.others); counts.len()])
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

    fn control(&self) -> &RevocationList {
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

    async fn leave_fleet(&self) -> Result<(), Unavailable> {
        self.inner.leave_fleet().await
    }
}

fn claims(user: &str) -> Claims {
    Claims { subject: user.into(), expires_ms: u64::MAX, issued_ms: None, token_id: None, json: "{}".into() }
}

#[tokio::test]
async fn a_herd_waits_for_the_fleet_once() {
    let service = service(Slow::new(0, 1000, false), Sessions::default());
    let connects = (0..1000).map(|i| {
        let service = &service;
        async move {
            service
                .acquire_connection(&claims(&format!("user-{}", i / 2)))
                .await
                .map(hallway::service::QuotaSlot::keep_for_session)
        }
    });
    assert!(join_all(connects).await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn what_the_others_have_leaves_the_rest_of_the_quota() {
    let service = service(Slow::new(QUOTA - 2, 1, false), Sessions::default());
    let user = claims("u1");
    let mut slots = Vec::new();
    for _ in 0..2 {
        slots.push(service.acquire_connection(&user).await.expect("there is room"));
    }
    assert_eq!(service.acquire_connection(&user).await.err(), Some(Refusal::TooManyConnections));
    slots.pop();
    assert!(
        service.acquire_connection(&user).await.is_ok(),
        "a place that was given back, and not that of the refused one"
    );
}

#[tokio::test]
async fn a_count_that_was_overtaken_is_corrected() {
    let fleet = Slow::new(0, 1, true);
    let service = service(fleet.clone(), Sessions::default());
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let (syncing, until) = (service.clone(), stop.clone());
    tasks.spawn(async move { syncing.sync_quotas(until).await });
    let user = claims("u1");
    let (first, second) = tokio::join!(service.acquire_connection(&user), service.acquire_connection(&user));
    let mut taken = fleet.taken.subscribe();
    taken.wait_for(|taken| taken.len() >= 3).await.expect("the fleet lives");
    assert_eq!(*taken.borrow(), [2, 1, 2]);
    drop((first, second));
    taken.wait_for(|taken| taken.last() == Some(&0)).await.expect("the fleet lives");
    stop.cancel();
}
