//! Reads of histories are shared by all who wait for them, bounded, fair, and hold up nothing else.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::proxy::Proxy;
use crate::harness::redis::Redis;
use crate::harness::{PATIENCE, eventually, token, within};

const ROOM: &str = "order:herd";

/// Publishes so many events of so many bytes, and gives their ids.
async fn fill(redis: &Redis, room: &str, events: usize, bytes: usize) -> Vec<String> {
    let event = format!(r#"{{"type":"order.status_changed","payload":{{"fill":"{}"}}}}"#, "x".repeat(bytes));
    let ids: Vec<String> = (0..events).map(|number| format!("e{number}")).collect();
    for id in &ids {
        redis.fcall(&[room], &event, &["ID", id]).await.expect("redis is up");
    }
    ids
}

/// How often Redis has read a stream.
async fn reads(redis: &Redis) -> u64 {
    let mut info = redis::cmd("INFO");
    let about: String = info.arg("commandstats").query_async(&mut redis.client().await).await.expect("redis is up");
    let line = about.lines().find_map(|line| line.strip_prefix("cmdstat_xrange:calls="));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or_default()
}

fn ids(data: &Value) -> Vec<String> {
    let events = data["events"].as_array().expect("a list");
    events.iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
}

async fn crowd(node: &Node, size: usize, name: impl Fn(usize) -> String) -> Vec<Client> {
    let mut crowd = Vec::new();
    for number in 0..size {
        crowd.push(Client::connect(node.main(), &token::user(&name(number))).await);
    }
    crowd
}

#[tokio::test]
async fn a_herd_that_comes_back_to_a_room_costs_redis_a_read_or_two() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut clients = crowd(&node, 100, |number| format!("u{number}")).await;
    let head = clients[0].join(ROOM).await["offset"].as_str().expect("an offset").to_owned();
    clients[0].call("leave_room", &format!(r#"{{"room":"{ROOM}"}}"#)).await;
    let published = fill(&redis, ROOM, 50, 1000).await;
    let before = reads(&redis).await;
    let joins = clients.iter_mut().map(|client| client.resume(ROOM, &head));
    for joined in join_all(joins).await {
        assert_eq!((joined["complete"].as_bool(), ids(&joined)), (Some(true), published.clone()));
    }
    // The probe tries XRANGE now and then, and those who came a moment later are served by a read of what is new.
    let read = reads(&redis).await - before;
    assert!(read <= 30, "{read} reads for a hundred clients");
    node.moves("hallway_history_reads_total").await;
    node.moves("hallway_history_reads_shared_total").await;
    let [asked, shared] =
        [node.metric("hallway_history_reads_total"), node.metric("hallway_history_reads_shared_total")];
    let (asked, shared) = tokio::join!(asked, shared);
    // Each read serves one whose own it is, and others.
    assert!(asked <= 30.0 && (70.0..100.0).contains(&shared), "{asked} reads, shared by {shared}");
    let came = redis.fcall(&[ROOM], r#"{"type":"order.status_changed","payload":{}}"#, &["ID", "live"]).await;
    came.expect("redis is up");
    for client in &mut clients {
        assert_eq!(client.event().await.1["event"]["id"], "live", "they are live");
    }
}

#[tokio::test]
async fn an_answer_that_came_too_late_for_its_asker_serves_the_next_try() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.address()).await;
    let settings = [("HALLWAY_REDIS__URL", proxy.url()), ("HALLWAY_REDIS__ANSWER_WAIT", "500ms".to_owned())];
    let node = Node::with(&settings.each_ref().map(|(key, value)| (*key, value.as_str()))).await;
    let published = fill(&redis, ROOM, 10, 10).await;
    let mut client = Client::connect(node.main(), &token::staff()).await;
    let ask = format!(r#"{{"room":"{ROOM}","since":0,"limit":1000}}"#);
    proxy.delay("history", Duration::from_millis(1500));
    let late = client.call("get_missed_events", &ask).await;
    assert_eq!((late["ok"].as_bool(), late["error"].as_str()), (Some(false), Some("unavailable")), "{late}");
    proxy.delay("history", Duration::ZERO);
    // Redis does not have them any more; the node was given them.
    eventually("Redis has answered", || async { (reads(&redis).await > 0).then_some(()) }).await;
    let trim = redis::cmd("XTRIM").arg("hallway:{order:herd}:history").arg("MAXLEN").arg(1).to_owned();
    trim.exec_async(&mut redis.client().await).await.expect("redis is up");
    let answered = loop {
        let reply = client.call("get_missed_events", &ask).await;
        if reply["ok"] == true {
            break reply;
        }
    };
    assert_eq!(ids(&answered["data"]), published, "{answered}");
}

#[tokio::test]
async fn a_link_for_histories_that_hangs_leaves_everything_else_well() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.address()).await;
    let node = Node::on(&proxy.url()).await;
    let mut member = Client::connect(node.main(), &token::staff()).await;
    member.join("order:live").await;
    fill(&redis, ROOM, 10, 10).await;
    let mut clients = crowd(&node, 20, |number| format!("u{number}")).await;
    for stalled in ["history", "healing"] {
        proxy.stall(stalled);
        proxy.cut(stalled);
        let asks =
            clients.iter_mut().map(|client| client.call("get_missed_events", r#"{"room":"order:herd","since":0}"#));
        let answered = join_all(asks).await;
        let expected = stalled == "healing";
        assert!(answered.iter().all(|reply| reply["ok"] == expected), "{stalled}: {answered:?}");
        assert_eq!(node.readyz().await, 200);
        let event = format!(r#"{{"room":"order:live","type":"order.status_changed","id":"{stalled}","payload":{{}}}}"#);
        assert_eq!(node.post("/v1/publish", event).await.0, 200);
        assert_eq!(member.event().await.1["event"]["id"], stalled);
        clients[0].join(&format!("order:{stalled}")).await;
        proxy.stall("");
        let mut client = clients.pop().expect("one of many");
        let asked = tokio::sync::Mutex::new(&mut client);
        within(Duration::from_secs(5), "histories are read again", || async {
            let reply = asked.lock().await.call("get_missed_events", r#"{"room":"order:herd","since":0}"#).await;
            (reply["ok"] == true).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn users_who_ask_for_all_of_a_long_history_again_and_again_delay_no_others() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    fill(&redis, ROOM, 100, 30_000).await;
    let mut askers = crowd(&node, 100, |number| format!("greedy-{}", number % 5)).await;
    let mut other = Client::connect(node.main(), &token::staff()).await;
    let head = other.join("order:quiet").await["offset"].as_str().expect("an offset").to_owned();
    let greedy = async {
        let asks = askers.iter_mut().map(|client| async move {
            for _ in 0..3 {
                let reply = client.call("get_missed_events", r#"{"room":"order:herd","since":0}"#).await;
                assert_eq!(reply["ok"], true, "none is refused: {}", reply["error"]);
            }
        });
        join_all(asks).await;
    };
    let quiet = async {
        let mut slowest = Duration::ZERO;
        for number in 0..20 {
            let began = std::time::Instant::now();
            assert_eq!(node.readyz().await, 200);
            let joined = other.resume("order:quiet", &head).await;
            assert_eq!(joined["complete"], true, "{joined}");
            let event =
                format!(r#"{{"room":"order:q","type":"order.status_changed","id":"q{number}","payload":{{}}}}"#);
            assert_eq!(node.post("/v1/publish", event).await.0, 200);
            slowest = slowest.max(began.elapsed());
        }
        slowest
    };
    let ((), slowest) = tokio::join!(greedy, quiet);
    assert!(slowest < PATIENCE / 4, "the others waited {slowest:?}");
    assert!(node.metric("hallway_over_limit_total").await > 0.0, "that users had to wait is told");
}

#[tokio::test]
async fn a_service_that_reads_histories_over_http_takes_turns_with_users() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.address()).await;
    let node = Node::with(&[("HALLWAY_REDIS__URL", &proxy.url()), ("HALLWAY_LIMITS__READS_PER_USER", "1")]).await;
    let rooms = ["order:first", "order:second", "order:user"];
    for room in rooms {
        fill(&redis, room, 20, 10_000).await;
    }
    let mut user = Client::connect(node.main(), &token::staff()).await;
    proxy.stall("history");
    redis.note_commands().await;
    let (node, redis) = (&node, &redis);
    let page = |room: &str| {
        let path = format!("/v1/rooms/{room}/events?since=0");
        async move { node.get(&path).await }
    };
    let pages = join_all(rooms[..2].iter().map(|room| page(room)));
    let meanwhile = async {
        let waits = r#"hallway_over_limit_total{limit="reads_per_user"} 1"#;
        eventually("one of them waits", || async { node.numbers().await.contains(waits).then_some(()) }).await;
        let asked = user.call("get_missed_events", r#"{"room":"order:user","since":0}"#);
        let read = async {
            eventually("the user's is read", || async { redis.has_read("order:user").await.then_some(()) }).await;
            let read = [redis.has_read(rooms[0]).await, redis.has_read(rooms[1]).await];
            assert_eq!(read.iter().filter(|read| **read).count(), 1, "one at once for one key: {read:?}");
            proxy.stall("");
        };
        tokio::join!(asked, read).0
    };
    let (pages, missed) = tokio::join!(pages, meanwhile);
    assert_eq!(ids(&missed["data"]).len(), 20);
    assert!(pages.iter().all(|(status, page)| *status == 200 && ids(page).len() == 20));
}
