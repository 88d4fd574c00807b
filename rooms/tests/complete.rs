//! What `complete` and healing are judged from: every link, the end, the marks beside the data.

use std::time::Duration;

use hallway_rooms::entry::ChainLink;
use hallway_rooms::history::{RepeatedTime, RoomFacts, Start};
use hallway_rooms::offset::Offset;

const MEMORY: u64 = 100_000;

fn facts(last: Option<u64>) -> RoomFacts {
    RoomFacts {
        now_ms: 1_000_000,
        birth_ms: Some(0),
        last: last.map(Offset::first_of_ms),
        memory: Duration::from_millis(MEMORY),
        memory_since_ms: 0,
        twice: None,
    }
}

/// A chain of entries at these times; the first is the one before it.
fn chain(times: &[u64]) -> Vec<ChainLink> {
    times
        .windows(2)
        .map(|pair| ChainLink { prev: Offset::first_of_ms(pair[0]), offset: Offset::first_of_ms(pair[1]) })
        .collect()
}

fn after(ms: u64) -> Start {
    Start::After(Offset::first_of_ms(ms))
}

fn quiet(ms: u64) -> Start {
    Start::After(Offset::last_before_ms(ms))
}

#[test]
fn every_link_of_a_page_counts_and_so_does_its_end() {
    let whole = chain(&[990_000, 990_001, 990_002, 990_003]);
    let known = facts(Some(990_003));
    assert!(known.complete(after(990_000), &whole, false));
    for gone in 0..3 {
        let mut links = whole.clone();
        links.remove(gone);
        assert!(!known.complete(after(990_000), &links, false), "without entry {gone}");
        assert!(
            !known.continues_from(Offset::first_of_ms(990_000), Offset::first_of_ms(990_000), &links, false),
            "without entry {gone}"
        );
    }
    assert!(known.complete(after(990_000), &whole[..2], true), "more follow");
    assert!(!facts(None).complete(after(990_000), &whole, false), "the last offset was deleted");
    assert!(!known.complete(after(990_000), &[], true), "more follow, of which none could be read");
}

#[test]
fn a_place_of_an_event_is_named_by_the_one_behind_it() {
    let link = chain(&[980_000, 995_000]);
    let known = facts(Some(995_000));
    assert!(known.complete(after(980_000), &link, false));
    assert!(!known.complete(after(985_000), &link, false), "an event at a place that is named by none");
    assert!(known.complete(quiet(985_000), &link, false), "no event has that place");
    assert!(
        !facts(None).complete(after(999_000), &[], false),
        "an event within the memory, and nothing is known of it"
    );
    assert!(facts(None).complete(quiet(999_000), &[], false));
}

#[test]
fn what_was_remembered_for_less_time_proves_no_silence() {
    let raised = |last| RoomFacts { memory_since_ms: 990_000, ..facts(last) };
    assert!(!raised(None).complete(quiet(985_000), &[], false));
    assert!(!raised(None).complete(Start::Since(985_000), &[], false));
    assert!(raised(None).complete(quiet(990_000), &[], false));
    let forgotten = chain(&[900_000, 995_000]);
    assert!(!raised(Some(995_000)).complete(quiet(985_000), &forgotten, false));
    assert!(raised(Some(995_000)).complete(after(900_000), &forgotten, false), "it names the place itself");
    assert!(raised(Some(995_000)).complete(quiet(991_000), &forgotten, false), "behind the raise");
    assert!(raised(None).head() >= Offset::last_before_ms(990_000), "who joins now stands behind the raise");
}

#[test]
fn times_that_the_clock_went_through_twice_are_not_complete() {
    let back = RoomFacts { twice: Some(RepeatedTime { from_ms: 970_000, to_ms: 980_000 }), ..facts(Some(960_000)) };
    for (since, complete) in [(969_999, true), (970_000, false), (980_000, false), (980_001, true)] {
        assert_eq!(back.complete(Start::Since(since), &[], false), complete, "{since}");
    }
    assert!(back.complete(after(960_000), &[], false));
}

#[test]
fn the_head_of_a_room_without_a_last_offset_is_a_place_that_no_event_has() {
    assert!(facts(None).head().is_quiet());
    assert!(facts(None).head() < Offset::first_of_ms(facts(None).now_ms));
    assert!(!facts(Some(5)).head().is_quiet());
}
