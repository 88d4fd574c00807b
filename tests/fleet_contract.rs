//! The contract of fleets (`src/fleet.rs`), held against each of them.

use hallway::fleet::{Ask, Kicked};
use hallway_rooms::revocation::{Mark, Revocation, Shown};

use crate::broker::bench::{Bench, Kind, LONG};
use crate::harness::{eventually, promises};

promises! {
    what_a_node_tells_of_its_rooms_is_not_counted_as_another_s
    what_is_noted_is_in_every_copy_and_in_one_that_begins_later
    a_node_that_is_alone_kicks_nobody_elsewhere
    a_user_is_given_as_many_seats_as_the_cap_leaves
}

/// Of a token of user 7 that was issued then.
fn issued(issued_ms: u64) -> Shown {
    Shown { user: Mark(7), token: None, issued_ms: Some(issued_ms) }
}

async fn what_is_noted_is_in_every_copy_and_in_one_that_begins_later(kind: Kind) {
    let bench = Bench::new(kind, LONG).await;
    let other = bench.another("other").await;
    for fleet in [&bench.fleet, &other] {
        fleet.control().loaded().await;
        assert!(fleet.control().health().ready && !fleet.control().covers(&issued(0)));
    }
    for (fleet, before_ms) in [(&bench.fleet, 100), (&other, 200), (&bench.fleet, 150)] {
        let revocation = Revocation { mark: Mark(7), before_ms, until_ms: (1 << 53) - 1 };
        let noted = fleet.control().note(&revocation);
        assert!(fleet.control().covers(&issued(before_ms - 1)), "at once");
        fleet.revoke(&noted).await.expect("the others are told");
    }
    let later = bench.another("later").await;
    for fleet in [&bench.fleet, &other, &later] {
        fleet.control().loaded().await;
        eventually("the copy has it", || async { fleet.control().covers(&issued(199)).then_some(()) }).await;
        assert!(!fleet.control().covers(&issued(200)));
        assert_eq!(fleet.control().health().known, 1, "one user is one entry");
    }
}

async fn a_node_that_is_alone_kicks_nobody_elsewhere(kind: Kind) {
    let bench = Bench::new(kind, LONG).await;
    let answer = async {
        let fleet = bench.fleet.clone();
        for kick in fleet.control().orders().await.kicks {
            fleet.answer(&kick.ticket, 0).await.expect("it is answered");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = answer => {}
        kicked = bench.fleet.kick(Mark(7)) => {
            assert_eq!(kicked.expect("it is asked"), Kicked { sockets: 0, complete: true });
        }
    }
}

async fn a_user_is_given_as_many_seats_as_the_cap_leaves(kind: Kind) {
    let bench = Bench::new(kind, LONG).await;
    let ask = |user: &str, seats, wants| Ask { user: user.into(), seats, wants };
    let seat = async |asks: &[Ask]| bench.fleet.seat(asks, 5).await.expect("it is known");
    assert_eq!(seat(&[ask("a", 0, 3), ask("{b}\n", 0, 9), ask("c", 2, 0)]).await, [Some(3), Some(5), Some(2)]);
    assert_eq!(seat(&[ask("a", 3, 1)]).await, [Some(4)], "its own are not another's");
    assert_eq!(seat(&[ask("a", 4, 7)]).await, [Some(5)]);
    assert_eq!(seat(&[ask("a", 5, 1)]).await, [Some(5)]);
    assert_eq!(seat(&[ask("a", 7, 1), ask("c", 0, 0)]).await, [Some(7), Some(0)], "nobody is thrown out");
    assert_eq!(seat(&[]).await, []);
}

async fn what_a_node_tells_of_its_rooms_is_not_counted_as_another_s(kind: Kind) {
    let bench = Bench::new(kind, LONG).await;
    let room = bench.room("order:1");
    for size in [3, 0, 2] {
        bench.fleet.tell_sizes(&[(room.clone(), size)]).await.expect("it is told");
        assert_eq!(bench.fleet.others(&room).await.expect("it is known"), 0);
    }
    bench.fleet.resign().await.expect("it is taken out");
    assert_eq!(bench.fleet.others(&room).await.expect("it is known"), 0);
}
