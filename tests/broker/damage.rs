//! What Redis holds is damaged or set by hand: no answer says `complete` that is not.

use hallway::broker::PublishError;
use hallway_rooms::history::Start;
use hallway_rooms::offset::Offset;

use super::bench::{Bench, Kind, LONG};
use crate::harness::eventually;

const ROOM: &str = "user:1";
const HISTORY: &str = "hallway:{user:1}:history";
const LAST: &str = "hallway:{user:1}:last";

/// Nothing that is told of a room with five events, of which something was deleted by hand, is called complete but for those
/// who asked for no more than is there: places behind event number `sound` and later.
#[track_caller]
fn check(what: &str, verdicts: &[bool], sound: usize) {
    let right: Vec<bool> = (0..verdicts.len()).map(|i| i >= sound).collect();
    assert_eq!(verdicts, right, "{what}");
}

async fn verdicts(damage: impl AsyncFnOnce(&Bench, &[Offset])) -> Vec<bool> {
    let bench = Bench::new(Kind::Redis, LONG).await;
    let offsets = bench.publish_many(5, ROOM).await;
    damage(&bench, &offsets).await;
    let mut verdicts = Vec::new();
    for offset in offsets {
        verdicts.push(bench.complete(ROOM, Start::After(offset)).await);
    }
    verdicts
}

#[tokio::test]
async fn a_history_of_which_something_was_deleted_by_hand_is_never_called_complete() {
    let gone = verdicts(async |bench, _| bench.redis(&["DEL", HISTORY]).await).await;
    check("the history", &gone, 4);
    let gone = verdicts(async |bench, _| bench.redis(&["DEL", LAST]).await).await;
    check("the last offset", &gone, 5);
    let gone = verdicts(async |bench, _| bench.redis(&["DEL", LAST, HISTORY]).await).await;
    check("both", &gone, 5);
    for (entry, sound) in [(0, 0), (1, 1), (2, 2), (4, 4)] {
        let gone = verdicts(async |bench, at| bench.redis(&["XDEL", HISTORY, &at[entry].to_string()]).await).await;
        check(&format!("entry {entry}"), &gone, sound);
    }
}

#[tokio::test]
async fn a_place_of_an_event_that_a_room_does_not_know_is_not_complete_behind_the_next_one_either() {
    let gone = verdicts(async |bench, _| {
        bench.redis(&["DEL", LAST, HISTORY]).await;
        bench.publish("later", &[ROOM]).await;
    });
    check("another database, or all keys of the room", &gone.await, 5);
}

#[tokio::test]
async fn a_room_whose_history_is_no_stream_cannot_be_read_and_all_others_can() {
    let bench = Bench::new(Kind::Redis, LONG).await;
    bench.redis(&["SET", HISTORY, "x"]).await;
    bench.redis(&["RPUSH", "hallway:{user:2}:last", "x"]).await;
    let read = bench.broker.history(&bench.room(ROOM), Start::Since(0), 10).await;
    assert!(read.is_err(), "{read:?}");
    let head = bench.facts("user:2").await.head();
    assert!(bench.complete("user:2", Start::After(head)).await);
}

#[tokio::test]
async fn the_largest_offset_is_answered() {
    let bench = Bench::new(Kind::Redis, LONG).await;
    bench.publish("e", &[ROOM]).await;
    let end = Offset { ms: u64::MAX, n: u64::MAX };
    for after in [end, Offset { ms: u64::MAX, n: 0 }, Offset { n: 7, ..end }] {
        let history = bench.history(ROOM, Start::After(after), 10).await;
        assert_eq!((history.entries.len(), history.complete, history.has_more), (0, false, false), "{after}");
    }
}

#[tokio::test]
async fn of_several_rooms_one_that_cannot_be_stored_to_keeps_the_event_out_of_all() {
    for spoil in [
        &["SET", "hallway:{user:2}:history", "x"][..],
        &["XADD", "hallway:{user:2}:history", "9999999999999-0", "m", "x"],
    ] {
        let bench = Bench::new(Kind::Redis, LONG).await;
        bench.redis(&["SET", "hallway:{user:2}:last", "5-0"]).await;
        bench.redis(spoil).await;
        let event = r#"{"type":"a.thing","payload":1}"#;
        let refused = bench.try_publish("e", &[ROOM, "user:2"], event).await;
        let Err(PublishError::Failed(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains("{user:2}"), "the room is named: {why}");
        assert_eq!((bench.offsets(ROOM).await, bench.facts(ROOM).await.last), (vec![], None), "{spoil:?}");
        bench.redis(&["DEL", "hallway:{user:2}:history"]).await;
        let placed = bench.try_publish("e", &[ROOM, "user:2"], event).await.expect("it was mended");
        assert!(placed.iter().all(|at| at.offset.is_some() && !at.duplicate), "{placed:?}");
    }
}

#[tokio::test]
async fn marks_that_hold_rubbish_count_as_now_and_are_written_anew() {
    let bench = Bench::new(Kind::Redis, LONG).await;
    let head = bench.facts(ROOM).await.head();
    bench.publish("e", &[ROOM]).await;
    for mark in ["birth", "memory", "clock"] {
        let key = format!("hallway:{mark}");
        // At once, or a look of the node's comes between.
        bench.redis(&["HSET", "rubbish", "a", "hash"]).await;
        bench.redis(&["RENAME", "rubbish", &key]).await;
        let asked = if mark == "clock" { Start::Since(head.ms + 1) } else { Start::After(head) };
        assert!(!bench.complete(ROOM, asked).await, "{mark}");
        let type_of = ["TYPE".to_owned(), key.clone()];
        let mended = async || (bench.ask::<String>(&type_of).await == "string").then_some(());
        eventually("the mark is written anew", mended).await;
        assert!(!bench.complete(ROOM, asked).await, "{mark}");
    }
}

#[tokio::test]
async fn a_memory_that_was_raised_proves_no_silence_before() {
    let bench = Bench::new(Kind::Redis, LONG).await;
    let quiet = bench.facts("user:quiet").await.head();
    let seen = bench.publish_many(2, ROOM).await;
    assert!(bench.complete("user:quiet", Start::After(quiet)).await);
    // A node of before remembered for ten seconds, and another one raised it.
    bench.redis(&["SET", "hallway:memory", "10000 1"]).await;
    let raised = async || {
        (bench.ask::<String>(&["GET".to_owned(), "hallway:memory".to_owned()]).await != "10000 1").then_some(())
    };
    assert!(!bench.complete("user:quiet", Start::After(quiet)).await, "before it is noted");
    eventually("it is noted", raised).await;
    assert!(!bench.complete("user:quiet", Start::After(quiet)).await, "what came then may be forgotten");
    bench.publish("e", &["user:quiet"]).await;
    assert!(
        !bench.complete("user:quiet", Start::After(quiet)).await,
        "nor does the horizon of the first entry prove it"
    );
    assert!(bench.complete(ROOM, Start::After(seen[0])).await, "a link that names its place proves itself");
    assert!(bench.complete(ROOM, Start::After(seen[1])).await);
}

#[tokio::test]
async fn a_clock_that_was_set_back_makes_times_it_went_through_twice_incomplete() {
    let bench = Bench::new(Kind::Redis, LONG).await;
    let seen = bench.publish_many(2, ROOM).await;
    bench.tick(ROOM).await;
    let now = bench.facts(ROOM).await.now_ms;
    assert!(bench.complete(ROOM, Start::Since(now)).await);
    let ahead = (now + 30_000).to_string();
    bench.redis(&["SET", "hallway:clock", &format!("{ahead} 0 0")]).await;
    let now = bench.facts(ROOM).await.now_ms;
    assert!(!bench.complete(ROOM, Start::Since(now)).await, "before it is noted");
    let noted = async || {
        (!bench.ask::<String>(&["GET".to_owned(), "hallway:clock".to_owned()]).await.starts_with(&ahead)).then_some(())
    };
    eventually("it is noted", noted).await;
    assert!(!bench.complete(ROOM, Start::Since(now)).await, "what was seen then may have come before");
    assert!(bench.complete(ROOM, Start::After(seen[0])).await, "an offset says what was seen");
}
