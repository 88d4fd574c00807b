//! The contract of brokers (`src/broker.rs`), held against each of them.

use std::time::Duration;

use hallway::broker::{ChannelEvent, PublishError};
use hallway_rooms::class::Delivery;
use hallway_rooms::history::Start;
use hallway_rooms::offset::Offset;

use crate::harness::promises;

pub(crate) mod bench;
mod damage;

use bench::{Bench, EVENT_BYTES, FEW_EVENTS, Kind, LONG, MAX_LATEST, SHORT};

promises! {
    what_is_stored_is_heard_and_read_alike
    an_event_of_several_rooms_has_a_place_in_each
    offsets_grow_and_each_entry_names_the_one_before_it
    publishers_at_once_make_one_chain_and_the_feed_has_its_order
    an_id_is_stored_once_within_its_window
    an_id_known_in_some_rooms_is_stored_in_the_others
    what_is_stored_after_subscribing_arrives
    a_room_that_was_let_go_is_silent
    a_history_is_read_from_an_offset_and_from_a_time_with_a_limit
    exactly_the_newest_events_are_kept
    an_expired_stream_is_complete_only_behind_its_last_event
    a_forgotten_last_offset_makes_old_places_incomplete_and_the_head_good
    a_clock_set_back_neither_breaks_the_chain_nor_forgets_too_early
    timestamps_are_filled_in_and_never_lie_in_the_future
    what_is_not_durable_is_heard_and_leaves_nothing
    of_latest_events_the_newest_of_each_key_is_kept_beside_the_history
    a_latest_event_that_comes_again_is_told_once
    a_full_room_gives_up_the_oldest_key
    what_is_newest_of_its_key_but_old_is_not_told
    what_is_refused_leaves_nothing
    events_published_together_keep_their_order_and_a_bad_one_stops_no_other
    the_head_is_the_last_offset_or_a_quiet_place_after_the_birth
    facts_of_many_rooms_are_those_of_each
    a_feed_that_overflows_says_so
}

async fn what_is_stored_is_heard_and_read_alike(kind: Kind) {
    let mut bench = Bench::new(kind, LONG).await;
    bench.subscribe("user:1").await;
    bench.subscribe("user:1").await;
    let text = "{\"type\":\"a.thing\",  \"payload\":{\"big\":9007199254740993,\"e\":1e-7,\"ü\":\"\\u00e9\"}}";
    let placed = bench.try_publish("e1", &["user:1"], text).await.expect("it is published");
    let heard = bench.entry().await;
    assert_eq!(heard.text, text.as_bytes());
    assert_eq!((heard.id.as_str(), heard.link_in(&placed[0].room).map(|l| l.offset)), ("e1", placed[0].offset));
    assert_eq!(bench.history("user:1", Start::Since(0), 10).await.entries, [heard]);
    bench.publish("e2", &["user:1"]).await;
    assert_eq!(bench.entry().await.id.as_str(), "e2", "subscribing twice is once");
}

async fn an_event_of_several_rooms_has_a_place_in_each(kind: Kind) {
    let mut bench = Bench::new(kind, LONG).await;
    bench.publish("before", &["user:2"]).await;
    bench.subscribe("user:1").await;
    let placed = bench.publish("e", &["user:2", "user:1", "user:3"]).await;
    let rooms: Vec<_> = placed.iter().map(|p| p.room.to_string()).collect();
    assert_eq!(rooms, ["user:2", "user:1", "user:3"]);
    let heard = bench.entry().await;
    for (place, placed) in heard.places.iter().zip(&placed) {
        assert_eq!((&place.room, place.link().map(|l| l.offset)), (&placed.room, placed.offset));
        let stored = bench.history(&placed.room.to_string(), Start::Since(0), 10).await.entries;
        assert_eq!(stored.last(), Some(&heard));
    }
    assert_eq!(heard.places.len(), 3);
}

async fn offsets_grow_and_each_entry_names_the_one_before_it(kind: Kind) {
    let bench = Bench::new(kind, LONG).await;
    let offsets = bench.publish_many(300, "user:1").await;
    assert!(offsets.is_sorted_by(|a, b| a < b));
    let history = bench.history("user:1", Start::Since(0), 1000).await;
    let links: Vec<_> = history.entries.iter().filter_map(|e| e.link_in(&bench.room("user:1"))).collect();
    assert_eq!(links.iter().map(|l| l.offset).collect::<Vec<_>>(), offsets);
    assert!(links.windows(2).all(|pair| pair[1].prev == pair[0].offset));
    assert!(links[0].prev <= history.facts.silence_horizon(), "a room without a past hangs on the horizon");
}

async fn publishers_at_once_make_one_chain_and_the_feed_has_its_order(kind: Kind) {
    let mut bench = Bench::new(kind, LONG).await;
    bench.subscribe("user:1").await;
    bench.subscribe("user:2").await;
    let publish = async |name: &str| {
        for i in 0..50 {
            let rooms: &[&str] = if i % 3 == 0 { &["user:2", "user:1"] } else { &["user:1"] };
            bench.publish(&format!("{name}-{i}"), rooms).await;
        }
    };
    tokio::join!(publish("a"), publish("b"), publish("c"), publish("d"));
    let room = bench.room("user:1");
    let stored = bench.history("user:1", Start::Since(0), 1000).await.entries;
    assert_eq!(stored.len(), 200);
    let links: Vec<_> = stored.iter().filter_map(|e| e.link_in(&room)).collect();
    assert!(links.windows(2).all(|pair| pair[1].prev == pair[0].offset));
    let mut heard = Vec::new();
    while heard.len() < 200 {
        let entry = bench.entry().await;
        if !heard.contains(&entry) {
            heard.push(entry);
        }
    }
    assert_eq!(heard, stored);
}

async fn an_id_is_stored_once_within_its_window(kind: Kind) {
    let bench = Bench::new(kind, SHORT).await;
    let first = bench.publish("e", &["user:1"]).await;
    let again = bench.publish("e", &["user:1"]).await;
    assert_eq!((again[0].offset, again[0].duplicate), (first[0].offset, true));
    assert_eq!(bench.offsets("user:1").await.len(), 1);
    bench.let_the_id_be_forgotten("user:1", "e").await;
    let later = bench.publish("e", &["user:1"]).await;
    assert!(!later[0].duplicate && later[0].offset > first[0].offset);
}

async fn an_id_known_in_some_rooms_is_stored_in_the_others(kind: Kind) {
    let mut bench = Bench::new(kind, LONG).await;
    let first = bench.publish("e", &["user:1"]).await;
    bench.subscribe("user:1").await;
    bench.subscribe("user:2").await;
    let again = bench.publish("e", &["user:1", "user:2"]).await;
    assert_eq!(again.iter().map(|p| p.duplicate).collect::<Vec<_>>(), [true, false]);
    assert_eq!(again[0].offset, first[0].offset);
    let heard = bench.entry().await;
    assert_eq!(heard.places.iter().map(|p| p.room.to_string()).collect::<Vec<_>>(), ["user:2"]);
    let third = bench.publish("e", &["user:1", "user:2"]).await;
    assert!(third.iter().all(|p| p.duplicate));
    bench.publish("next", &["user:1"]).await;
    assert_eq!(bench.entry().await.id.as_str(), "next", "what is stored nowhere anew is not heard again");
    assert_eq!((bench.offsets("user:1").await.len(), bench.offsets("user:2").await.len()), (2, 1));
}

async fn what_is_stored_after_subscribing_arrives(kind: Kind) {
    let mut bench = Bench::new(kind, LONG).await;
    for i in 0..100 {
        let room = format!("user:{i}");
        bench.subscribe(&room).await;
        bench.publish(&format!("e{i}"), &[&room]).await;
        assert_eq!(bench.entry().await.id.as_str(), format!("e{i}"));
    }
}

async fn a_room_that_was_let_go_is_silent(kind: Kind) {
    let mut bench = Bench::new(kind, LONG).await;
    bench.subscribe("user:1").await;
    assert!(bench.broker.unsubscribe(&bench.room("user:1")));
    bench.subscribe("user:2").await;
    bench.publish("unheard", &["user:1"]).await;
    bench.publish("heard", &["user:2"]).await;
    assert_eq!(bench.entry().await.id.as_str(), "heard");
}

async fn a_history_is_read_from_an_offset_and_from_a_time_with_a_limit(kind: Kind) {
    let bench = Bench::new(kind, LONG).await;
    let room = bench.room("user:1");
    let head = bench.facts("user:1").await.head();
    let offsets = bench.publish_many(20, "user:1").await;
    let read = async |from: Start, limit: usize| {
        let history = bench.history("user:1", from, limit).await;
        let found: Vec<Offset> = history.entries.iter().filter_map(|e| e.link_in(&room)).map(|l| l.offset).collect();
        (found, history.complete, history.has_more, history.reader_offset(&room))
    };
    assert_eq!(read(Start::After(head), 20).await, (offsets.clone(), true, false, offsets[19]));
    assert_eq!(read(Start::After(offsets[4]), 5).await, (offsets[5..10].to_vec(), true, true, offsets[9]));
    assert_eq!(read(Start::After(offsets[4]), 15).await, (offsets[5..].to_vec(), true, false, offsets[19]));
    assert_eq!(read(Start::After(offsets[19]), 5).await, (vec![], true, false, offsets[19]));
    let beyond = Offset { ms: offsets[19].ms, n: offsets[19].n + 1 };
    assert_eq!(read(Start::After(beyond), 5).await, (vec![], false, false, offsets[19]), "the newest are lost");
    let since = offsets[10].ms;
    let newer: Vec<Offset> = offsets.iter().copied().filter(|o| o.ms >= since).collect();
    assert_eq!(read(Start::Since(since), 1000).await, (newer, true, false, offsets[19]));
    assert!(!read(Start::Since(0), 1000).await.1, "nobody knows what was before the birth");
    assert_eq!(read(Start::Since(offsets[19].ms + 1), 1000).await, (vec![], true, false, offsets[19]));
}

async fn exactly_the_newest_events_are_kept(kind: Kind) {
    let bench = Bench::new(kind, LONG).await;
    let offsets = bench.publish_many(12, "order:1").await;
    let kept = offsets.len() - usize::try_from(FEW_EVENTS).expect("few");
    assert_eq!(bench.offsets("order:1").await, offsets[kept..]);
    for (i, offset) in offsets.iter().enumerate() {
        assert_eq!(bench.complete("order:1", Start::After(*offset)).await, i + 1 >= kept, "after event {i}");
    }
}

async fn an_expired_stream_is_complete_only_behind_its_last_event(kind: Kind) {
    let bench = Bench::new(kind, SHORT).await;
    let offsets = bench.publish_many(2, "user:1").await;
    bench.let_the_stream_expire("user:1").await;
    assert_eq!(bench.facts("user:1").await.last, Some(offsets[1]));
    assert!(bench.complete("user:1", Start::After(offsets[1])).await);
    assert!(!bench.complete("user:1", Start::After(offsets[0])).await);
    assert!(bench.complete("user:1", Start::Since(offsets[1].ms + 1)).await);
    assert!(!bench.complete("user:1", Start::Since(offsets[1].ms)).await);
    let next = bench.publish("next", &["user:1"]).await;
    let history = bench.history("user:1", Start::After(offsets[1]), 10).await;
    let link = history.entries[0].link_in(&next[0].room).expect("it is of the room");
    assert_eq!((link.prev, history.complete), (offsets[1], true));
    assert!(!bench.complete("user:1", Start::After(offsets[0])).await);
}

async fn a_forgotten_last_offset_makes_old_places_incomplete_and_the_head_good(kind: Kind) {
    let bench = Bench::new(kind, SHORT).await;
    let offsets = bench.publish_many(2, "user:1").await;
    bench.let_the_last_offset_be_forgotten("user:1").await;
    for offset in &offsets {
        assert!(!bench.complete("user:1", Start::After(*offset)).await);
        assert!(!bench.complete("user:1", Start::Since(offset.ms)).await);
    }
    let head = bench.facts("user:1").await.head();
    assert!(head > offsets[1]);
    assert!(bench.complete("user:1", Start::After(head)).await);
    bench.publish("next", &["user:1"]).await;
    let history = bench.history("user:1", Start::After(head), 10).await;
    assert_eq!((history.entries.len(), history.complete), (1, true));
}

async fn a_clock_set_back_neither_breaks_the_chain_nor_forgets_too_early(kind: Kind) {
    let bench = Bench::new(kind, SHORT).await;
    let by = Duration::from_secs(30);
    let ahead = bench.set_the_clock_back("user:1", by).await;
    bench.publish("e1", &["user:1"]).await;
    bench.publish("e2", &["user:1"]).await;
    let history = bench.history("user:1", Start::After(ahead), 10).await;
    let links: Vec<_> = history.entries.iter().filter_map(|e| e.link_in(&bench.room("user:1"))).collect();
    let at = |n: u64| Offset { ms: ahead.ms, n: ahead.n + n };
    assert_eq!(links.iter().map(|l| (l.prev, l.offset)).collect::<Vec<_>>(), [(at(0), at(1)), (at(1), at(2))]);
    assert!(history.complete);
    match bench.last_is_kept_for("user:1").await {
        Some(kept) => assert!(kept > by, "forgotten before the clock has passed its offsets: {kept:?}"),
        None => {
            bench.idle(bench.times.ttl);
            for step in 0..400 {
                assert!(!bench.complete("user:1", Start::After(at(1))).await, "an expired event was missed: {step}");
                bench.idle(Duration::from_millis(100));
            }
        }
    }
}

async fn timestamps_are_filled_in_and_never_lie_in_the_future(kind: Kind) {
    let bench = Bench::new(kind, LONG).await;
    let stamped = |ms: u64| format!(r#"{{"type":"a.thing","payload":1,"timestamp":{ms}}}"#);
    let before = bench.facts("user:1").await.now_ms;
    bench.publish("none", &["user:1"]).await;
    bench.try_publish("past", &["user:1"], &stamped(5)).await.expect("it is published");
    bench.try_publish("future", &["user:1"], &stamped(before + 3_600_000)).await.expect("it is published");
    let history = bench.history("user:1", Start::Since(0), 10).await;
    let stamps: Vec<u64> = history.entries.iter().map(|e| e.timestamp).collect();
    let now = before..=history.facts.now_ms;
    assert!(now.contains(&stamps[0]) && stamps[1] == 5 && now.contains(&stamps[2]), "{stamps:?}");
}

async fn what_is_not_durable_is_heard_and_leaves_nothing(kind: Kind) {
    let mut bench = Bench::new(kind, LONG).await;
    let located = r#"{"type":"agent.location_updated","payload":{"agentId":"a"}}"#;
    for room in ["user:1", "zone:1"] {
        bench.subscribe(room).await;
    }
    let asked = bench.publish_ephemeral("asked-for", &["user:1"]).await;
    let by_type = bench.try_publish("by-type", &["user:1"], located).await.expect("it is published");
    let by_class = bench.publish("by-class", &["zone:1"]).await;
    for (placed, id) in [(asked, "asked-for"), (by_type, "by-type"), (by_class, "by-class")] {
        assert_eq!((placed[0].offset, placed[0].duplicate), (None, false), "{id}");
        let heard = bench.entry().await;
        assert_eq!((heard.id.as_str(), heard.places[0].link()), (id, None));
        let room = placed[0].room.to_string();
        assert_eq!((bench.offsets(&room).await, bench.facts(&room).await.last), (vec![], None), "{id}");
    }
}

async fn of_latest_events_the_newest_of_each_key_is_kept_beside_the_history(kind: Kind) {
    let mut bench = Bench::new(kind, LONG).await;
    bench.subscribe("user:1").await;
    bench.publish("durable", &["user:1"]).await;
    let stored = bench.entry().await;
    let mut heard = Vec::new();
    for (id, agent) in [("a1", "a"), ("b1", "b"), ("a2", "a"), ("a3", "a")] {
        let placed = bench.locate(id, &["order:1", "user:1"], agent).await;
        assert_eq!((placed[0].offset, placed[1].offset), (None, None));
        heard.push(bench.entry().await);
    }
    let stamps: Vec<_> = heard.iter().map(|entry| entry.stamp_in(&bench.room("user:1")).expect("it is kept")).collect();
    assert!(stamps[0].at < stamps[2].at && stamps[2].at < stamps[3].at, "{stamps:?}");
    assert!(stamps[0].key == stamps[2].key && stamps[0].key != stamps[1].key, "{stamps:?}");
    for room in ["user:1", "order:1"] {
        let latest = bench.broker.latest(&bench.room(room)).await.expect("the broker is up");
        assert_eq!(latest, [heard[1].clone(), heard[3].clone()], "{room}");
    }
    assert_eq!(bench.history("user:1", Start::Since(0), 10).await.entries, [stored], "they are no links of the chain");
}

async fn a_latest_event_that_comes_again_is_told_once(kind: Kind) {
    let mut bench = Bench::new(kind, LONG).await;
    bench.subscribe("user:1").await;
    assert!(!bench.locate("a1", &["user:1"], "a").await[0].duplicate);
    assert!(bench.locate("a1", &["user:1"], "a").await[0].duplicate);
    bench.locate("a2", &["user:1"], "a").await;
    assert_eq!([bench.entry().await, bench.entry().await].map(|entry| entry.id.to_string()), ["a1", "a2"]);
}

async fn a_full_room_gives_up_the_oldest_key(kind: Kind) {
    let bench = Bench::new(kind, LONG).await;
    for n in 0..3 * MAX_LATEST {
        bench.tick("user:1").await;
        bench.locate(&format!("e{n}"), &["user:1"], &format!("agent-{n}")).await;
        let latest = bench.latest("user:1").await;
        assert!(latest.len() <= MAX_LATEST && latest.len() >= MAX_LATEST.min(n + 1) * 9 / 10, "{latest:?}");
        let newest: Vec<String> = (n + 1 - latest.len()..=n).map(|n| format!("e{n}")).collect();
        assert_eq!(latest, newest);
    }
}

async fn what_is_newest_of_its_key_but_old_is_not_told(kind: Kind) {
    let bench = Bench::new(kind, SHORT).await;
    bench.locate("old", &["user:1"], "a").await;
    bench.let_the_newest_grow_old("user:1", "b").await;
    let latest = bench.latest("user:1").await;
    assert!(latest.is_empty() || latest == ["again"], "{latest:?}");
}

async fn what_is_refused_leaves_nothing(kind: Kind) {
    let bench = Bench::new(kind, LONG).await;
    let large = format!(r#"{{"type":"a.thing","payload":"{}"}}"#, "x".repeat(EVENT_BYTES));
    let refused = bench.try_publish("e", &["user:1"], &large).await;
    assert!(matches!(refused, Err(PublishError::TooLarge(_))), "{refused:?}");
    for text in ["", "5", "{}", r#"{"type":"a.thing"}"#, r#"{"type":"error","payload":1}"#] {
        let refused = bench.try_publish("e", &["user:1"], text).await;
        assert!(matches!(refused, Err(PublishError::Invalid(_))), "{text}: {refused:?}");
    }
    assert_eq!((bench.offsets("user:1").await, bench.facts("user:1").await.last), (vec![], None));
    assert!(!bench.publish("e", &["user:1"]).await[0].duplicate, "the id was not taken");
}

async fn events_published_together_keep_their_order_and_a_bad_one_stops_no_other(kind: Kind) {
    let mut bench = Bench::new(kind, LONG).await;
    bench.subscribe("user:1").await;
    let good = r#"{"type":"a.thing","payload":1}"#;
    let large = format!(r#"{{"type":"a.thing","payload":"{}"}}"#, "x".repeat(EVENT_BYTES));
    let mut events: Vec<_> = (0..300)
        .map(|i| {
            let rooms: &[&str] = if i % 3 == 0 { &["user:2", "user:1"] } else { &["user:1"] };
            let text = if i == 100 { "{}" } else { good };
            bench.publication(&format!("e{i}"), rooms, if i == 200 { &large } else { text })
        })
        .collect();
    events[150].delivery = Some(Delivery::Ephemeral);
    events.push(bench.publication("e7", &["user:1"], good));
    let outcomes = bench.broker.publish_all(events.clone()).await.expect("the broker is up");
    assert_eq!(outcomes.len(), 301);
    assert!(matches!(outcomes[100], Err(PublishError::Invalid(_))), "{:?}", outcomes[100]);
    assert!(matches!(outcomes[200], Err(PublishError::TooLarge(_))), "{:?}", outcomes[200]);
    let at = |i: usize| outcomes[i].as_ref().expect("it is published").last().expect("a room").clone();
    assert_eq!((at(150).offset, at(300).offset, at(300).duplicate), (None, at(7).offset, true));
    let stored: Vec<Offset> = (0..300).filter(|i| ![100, 150, 200].contains(i)).filter_map(|i| at(i).offset).collect();
    assert_eq!(bench.offsets("user:1").await, stored);
    for i in (0..300).filter(|i| ![100, 200].contains(i)) {
        assert_eq!(bench.entry().await.id.as_str(), format!("e{i}"));
    }
    let again = bench.broker.publish_all(events).await.expect("the broker is up");
    let is_known = |i: &usize| again[*i].as_ref().is_ok_and(|placed| placed.iter().all(|p| p.duplicate));
    assert_eq!((0..300).filter(is_known).count(), 297);
    assert!(bench.broker.publish_all(Vec::new()).await.expect("the broker is up").is_empty());
}

#[tokio::test]
async fn a_room_that_redis_cannot_store_to_stops_no_other_and_a_lost_function_is_loaded_again() {
    let bench = Bench::new(Kind::Redis, LONG).await;
    bench.spoil("user:broken").await;
    let good = r#"{"type":"a.thing","payload":1}"#;
    let events = ["user:1", "user:broken", "user:1"].iter().enumerate();
    let events: Vec<_> = events.map(|(i, room)| bench.publication(&format!("e{i}"), &[room], good)).collect();
    let outcomes = bench.broker.publish_all(events).await.expect("the broker is up");
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    assert!(matches!(outcomes[1], Err(PublishError::Failed(_))), "{outcomes:?}");
    let alone = bench.try_publish("e1", &["user:broken"], good).await;
    assert!(matches!(alone, Err(PublishError::Failed(_))), "{alone:?}");
}

async fn the_head_is_the_last_offset_or_a_quiet_place_after_the_birth(kind: Kind) {
    let bench = Bench::new(kind, LONG).await;
    let facts = bench.facts("user:1").await;
    let birth = facts.birth_ms.expect("a broker in use was born");
    assert_eq!((facts.last, facts.memory), (None, LONG.memory));
    assert!(
        Offset::last_before_ms(birth) <= facts.head() && facts.head() < Offset::first_of_ms(facts.now_ms),
        "{facts:?}"
    );
    assert!(bench.complete("user:1", Start::After(facts.head())).await);
    assert!(!bench.complete("user:1", Start::After(Offset::first_of_ms(birth - 1))).await, "older than the data");
    let placed = bench.publish("e", &["user:1"]).await;
    assert_eq!(bench.facts("user:1").await.last, placed[0].offset);
    assert_eq!(Some(bench.facts("user:1").await.head()), placed[0].offset);
}

async fn facts_of_many_rooms_are_those_of_each(kind: Kind) {
    let bench = Bench::new(kind, LONG).await;
    bench.publish("e1", &["user:1", "user:3"]).await;
    let rooms = ["user:1", "user:2", "user:3"].map(|key| bench.room(key));
    let together = bench.broker.facts(&rooms).await.expect("the broker answers");
    for (key, facts) in ["user:1", "user:2", "user:3"].iter().zip(&together) {
        let alone = bench.facts(key).await;
        assert!(facts.now_ms <= alone.now_ms && alone.now_ms < facts.now_ms + 10_000);
        assert_eq!(hallway_rooms::history::RoomFacts { now_ms: alone.now_ms, ..*facts }, alone, "{key}");
    }
    assert_eq!(together.len(), rooms.len());
}

async fn a_feed_that_overflows_says_so(kind: Kind) {
    let mut bench = Bench::with_feed(kind, LONG, 4).await;
    bench.subscribe("user:1").await;
    bench.publish_many(100, "user:1").await;
    loop {
        match bench.next().await {
            ChannelEvent::Missed(rooms) => break assert_eq!(rooms, [bench.room("user:1")]),
            ChannelEvent::Restored => panic!("nothing broke"),
            ChannelEvent::Entry(entry) => assert_ne!(entry.id.as_str(), "many-99", "it never said so"),
        }
    }
    assert_eq!(bench.offsets("user:1").await.len(), 100);
}

#[tokio::test]
async fn idle_hours_and_days_cost_nobody_a_complete_resume_within_the_memory() {
    let bench = Bench::new(Kind::Memory, LONG).await;
    let quiet = bench.facts("user:quiet").await.head();
    let seen = bench.publish_many(3, "user:1").await[2];
    for _ in 0..6 {
        bench.idle(Duration::from_hours(24));
        assert!(bench.complete("user:1", Start::After(seen)).await);
        assert!(bench.complete("user:quiet", Start::After(quiet)).await);
    }
    bench.publish("after-days", &["user:1", "user:quiet"]).await;
    for (room, after) in [("user:1", seen), ("user:quiet", quiet)] {
        let history = bench.history(room, Start::After(after), 10).await;
        assert_eq!((history.entries.len(), history.complete), (1, true), "{room}");
    }
    bench.idle(Duration::from_hours(2));
    assert!(!bench.complete("user:1", Start::After(seen)).await, "the stream with the event has expired");
    bench.idle(Duration::from_hours(8 * 24));
    assert!(!bench.complete("user:1", Start::After(seen)).await, "nobody remembers");
}
