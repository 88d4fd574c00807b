//! The contract of fleets (`src/fleet.rs`), held against each of them.

use std::sync::Arc;

use futures_util::future::join_all;
use hallway::fleet::{Fleet, KickResult, UserCount};
use hallway_rooms::revocation::{Revocation, SubjectHash, TokenIdentity};

use crate::broker::bench::{Bench, Kind, LONG};
use crate::harness::{eventually, promises};

promises! {
    what_a_node_tells_of_its_rooms_is_not_counted_as_another_s
    what_is_noted_is_in_every_copy_and_in_one_that_begins_later
    a_node_that_is_alone_kicks_nobody_elsewhere
    connections_of_a_user_are_counted_on_the_other_nodes
    nodes_that_announce_at_once_see_each_other
}

/// Of a token of user 7 that was issued then.
fn issued(issued_ms: u64) -> TokenIdentity {
    TokenIdentity { user: SubjectHash(7), token: None, issued_ms: Some(issued_ms) }
}

async fn what_is_noted_is_in_every_copy_and_in_one_that_begins_later(kind: Kind) {
    let bench = Bench::new(kind, LONG).await;
    let other = bench.another("other").await;
    for fleet in [&bench.fleet, &other] {
        fleet.control().wait_until_loaded().await;
        assert!(fleet.control().health().ready && !fleet.control().covers(&issued(0)));
    }
    for (fleet, before_ms) in [(&bench.fleet, 100), (&other, 200), (&bench.fleet, 150)] {
        let revocation = Revocation { mark: SubjectHash(7), before_ms, until_ms: (1 << 53) - 1 };
        let noted = fleet.control().add_revocation(&revocation);
        assert!(fleet.control().covers(&issued(before_ms - 1)), "at once");
        fleet.announce_revocation(&noted).await.expect("the others are told");
    }
    let later = bench.another("later").await;
    for fleet in [&bench.fleet, &other, &later] {
        fleet.control().wait_until_loaded().await;
        eventually("the copy has it", || async { fleet.control().covers(&issued(199)).then_some(()) }).await;
        assert!(!fleet.control().covers(&issued(200)));
        assert_eq!(fleet.control().health().known, 1, "one user is one entry");
    }
}

async fn a_node_that_is_alone_kicks_nobody_elsewhere(kind: Kind) {
    let bench = Bench::new(kind, LONG).await;
    let answer = async {
        let fleet = bench.fleet.clone();
        for kick in fleet.control().take_orders().await.kicks {
            fleet.answer_kick(&kick.ticket, 0).await.expect("it is answered");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = answer => {}
        kicked = bench.fleet.kick_elsewhere(SubjectHash(7)) => {
            assert_eq!(kicked.expect("it is asked"), KickResult { sockets: 0, complete: true });
        }
    }
}

async fn connections_of_a_user_are_counted_on_the_other_nodes(kind: Kind) {
    let bench = Bench::new(kind, LONG).await;
    let other = bench.another("other").await;
    let count = async |fleet: &Arc<dyn Fleet>, user: &str, here| {
        let counted = fleet.count_users(&[UserCount { user: user.into(), here }]).await.expect("it is counted");
        assert_eq!(counted.len(), 1);
        counted[0].expect("the user can be counted")
    };
    // The memory's fleet is one node for every caller.
    let seen = |here| if matches!(kind, Kind::Memory) { 0 } else { here };
    for user in ["a", "{b}\n"] {
        assert_eq!(count(&bench.fleet, user, 3).await, 0, "its own are not another's");
        assert_eq!(count(&other, user, 2).await, seen(3));
        assert_eq!(count(&bench.fleet, user, 4).await, seen(2));
        assert_eq!(count(&other, user, 0).await, seen(4), "in place of what was announced before");
        assert_eq!(count(&bench.fleet, user, 0).await, 0);
    }
    assert_eq!(bench.fleet.count_users(&[]).await.expect("nothing is counted"), []);
    count(&other, "a", 5).await;
    other.leave_fleet().await.expect("it is taken out");
    if let Kind::Redis = kind {
        assert_eq!(count(&bench.fleet, "a", 1).await, 0, "a node that resigned has none");
    }
}

/// Of nodes that announce at once, each sees those that came before: no two of them are the first.
async fn nodes_that_announce_at_once_see_each_other(kind: Kind) {
    let bench = Bench::new(kind, LONG).await;
    if let Kind::Memory = kind {
        return;
    }
    let fleets = [bench.fleet.clone(), bench.another("b").await, bench.another("c").await];
    for round in 0..50 {
        let user: Arc<str> = format!("user-{round}").into();
        let announce = fleets.iter().map(|fleet| {
            let counts = [UserCount { user: user.clone(), here: 1 }];
            async move { fleet.count_users(&counts).await.expect("it is counted")[0] }
        });
        let mut seen = join_all(announce).await;
        seen.sort_unstable();
        assert_eq!(seen, [Some(0), Some(1), Some(2)]);
    }
}

async fn what_a_node_tells_of_its_rooms_is_not_counted_as_another_s(kind: Kind) {
    let bench = Bench::new(kind, LONG).await;
    let room = bench.room("order:1");
    for size in [3, 0, 2] {
        bench.fleet.announce_sizes(&[(room.clone(), size)]).await.expect("it is told");
        assert_eq!(bench.fleet.members_elsewhere(&room).await.expect("it is known"), 0);
    }
    bench.fleet.leave_fleet().await.expect("it is taken out");
    assert_eq!(bench.fleet.members_elsewhere(&room).await.expect("it is known"), 0);
}
