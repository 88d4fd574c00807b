//! Publishers as services have them: they name each event, and try again with the same id until it is acknowledged.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};

use super::token::API_KEY;
use super::{eventually, http};

/// Events in one pipeline or batch.
const CHUNK: usize = 20;

/// An event to be published.
#[derive(Clone, Debug)]
pub struct Plan {
    pub id: String,
    pub rooms: Vec<String>,
}

/// What its publisher was told.
#[derive(Clone, Debug)]
pub struct Receipt {
    pub id: String,
    /// Room and offset, in the publisher's order.
    pub offsets: Vec<(String, String)>,
}

/// How many events have been acknowledged so far, to all publishers that share it.
pub type Progress = Arc<AtomicUsize>;

impl Plan {
    fn text(&self) -> String {
        json!({"type": "order.status_changed", "payload": {"for": self.id}}).to_string()
    }
}

/// Plans in `rooms`: two of three in one room, the rest in two or three.
pub fn plans(name: &str, count: usize, rooms: &[String]) -> Vec<Plan> {
    let plan = |i: usize| {
        let first = (i * 7 + name.len() * 3 + i / rooms.len()) % rooms.len();
        let several = if i.is_multiple_of(3) { 2 + i % 2 } else { 1 };
        let rooms = (0..several).map(|step| rooms[(first + step * 5) % rooms.len()].clone()).collect();
        Plan { id: format!("{name}-{i}"), rooms }
    };
    (0..count).map(plan).collect()
}

/// Waits until so many events have been acknowledged.
pub async fn progressed(progress: &Progress, count: usize) {
    eventually("the publishers get on", || async { (progress.load(Ordering::Relaxed) >= count).then_some(()) }).await;
}

/// Publishes with pipelined `FCALL`s.
pub async fn by_fcall(url: String, plans: Vec<Plan>, progress: Progress) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    for chunk in plans.chunks(CHUNK) {
        let url = &url;
        let told = eventually("FCALLs are acknowledged", || async move { pipeline(url, chunk).await.ok() }).await;
        progress.fetch_add(told.len(), Ordering::Relaxed);
        receipts.extend(told);
    }
    receipts
}

async fn connect(url: &str) -> redis::RedisResult<MultiplexedConnection> {
    redis::Client::open(url).expect("a valid url").get_multiplexed_async_connection().await
}

async fn pipeline(url: &str, plans: &[Plan]) -> redis::RedisResult<Vec<Receipt>> {
    let mut pipe = redis::pipe();
    for plan in plans {
        pipe.cmd("FCALL").arg("hallway_publish").arg(plan.rooms.len());
        for room in &plan.rooms {
            pipe.arg(format!("hallway:{{{room}}}"));
        }
        pipe.arg(plan.text()).arg("ID").arg(&plan.id);
    }
    let replies: Vec<Vec<redis::Value>> = pipe.query_async(&mut connect(url).await?).await?;
    let receipt = |(plan, reply): (&Plan, Vec<redis::Value>)| {
        let places = reply.into_iter().skip(1).map(|place| {
            let (room, offset, _): (String, String, i64) = redis::from_redis_value(place)?;
            Ok((room, offset))
        });
        Ok(Receipt { id: plan.id.clone(), offsets: places.collect::<redis::RedisResult<_>>()? })
    };
    plans.iter().zip(replies).map(receipt).collect()
}

/// Publishes with `POST /v1/publish/batch`, what is refused as unavailable again.
pub async fn by_http(node: SocketAddr, plans: Vec<Plan>, progress: Progress) -> Vec<Receipt> {
    by_http_to_any(vec![node], plans, progress).await
}

/// As [`by_http`], to the next node when one does not answer.
pub async fn by_http_to_any(nodes: Vec<SocketAddr>, plans: Vec<Plan>, progress: Progress) -> Vec<Receipt> {
    let client = http();
    let mut receipts = Vec::new();
    let turn = AtomicUsize::new(0);
    for chunk in plans.chunks(CHUNK) {
        let told = eventually("a batch is acknowledged", || async {
            let node = nodes[turn.load(Ordering::Relaxed) % nodes.len()];
            let told = batch(&client, node, chunk).await;
            if told.is_none() {
                turn.fetch_add(1, Ordering::Relaxed);
            }
            told
        })
        .await;
        progress.fetch_add(told.len(), Ordering::Relaxed);
        receipts.extend(told);
    }
    receipts
}

async fn batch(http: &reqwest::Client, node: SocketAddr, plans: &[Plan]) -> Option<Vec<Receipt>> {
    let event = |plan: &Plan| json!({"id": plan.id, "rooms": plan.rooms, "type": "order.status_changed", "payload": {"for": plan.id}});
    let body = json!({"events": plans.iter().map(event).collect::<Vec<_>>()}).to_string();
    let request = http.post(format!("http://{node}/v1/publish/batch")).bearer_auth(API_KEY).body(body);
    let reply: Value = request.send().await.ok()?.json().await.ok()?;
    let receipt = |(plan, result): (&Plan, &Value)| {
        if let Some(error) = result.get("error") {
            assert_eq!(error["code"], "unavailable", "{error}");
            return None;
        }
        let at = |room: &String| (room.clone(), result["offsets"][room].as_str().expect("an offset").to_owned());
        Some(Receipt { id: plan.id.clone(), offsets: plan.rooms.iter().map(at).collect() })
    };
    let results = reply["results"].as_array().expect("results");
    assert_eq!(results.len(), plans.len());
    plans.iter().zip(results).map(receipt).collect()
}

/// Publishes by the ingest stream, in both forms; no answer tells the offsets, so it returns the ids. An entry that was added
/// without the answer having come is added again.
pub async fn by_ingest(url: String, plans: Vec<Plan>, progress: Progress) -> Vec<String> {
    for chunk in plans.chunks(CHUNK) {
        let url = &url;
        eventually("XADDs are acknowledged", || async move { add(url, chunk).await.ok() }).await;
        progress.fetch_add(chunk.len(), Ordering::Relaxed);
    }
    plans.into_iter().map(|plan| plan.id).collect()
}

async fn add(url: &str, plans: &[Plan]) -> redis::RedisResult<()> {
    let mut pipe = redis::pipe();
    for (i, plan) in plans.iter().enumerate() {
        let (kind, payload) = ("order.status_changed", json!({"for": plan.id}));
        pipe.cmd("XADD").arg("hallway:ingest").arg("*");
        if i.is_multiple_of(2) {
            let rooms = plan.rooms.join(" ");
            pipe.arg("room").arg(rooms).arg("type").arg(kind).arg("id").arg(&plan.id);
            pipe.arg("payload").arg(payload.to_string()).ignore();
        } else {
            let event = json!({"rooms": plan.rooms, "type": kind, "id": plan.id, "payload": payload});
            pipe.arg("event").arg(event.to_string()).ignore();
        }
    }
    pipe.query_async(&mut connect(url).await?).await
}

/// Publishes to the first room of each plan with plain `PUBLISH`es. What Redis does not answer is not tried again.
pub async fn by_publish(url: String, plans: Vec<Plan>) {
    for chunk in plans.chunks(CHUNK) {
        let mut pipe = redis::pipe();
        for plan in chunk {
            let event = json!({"id": plan.id, "type": "order.status_changed", "payload": {"for": plan.id}});
            pipe.cmd("PUBLISH").arg(format!("hallway:{{{}}}", plan.rooms[0])).arg(event.to_string()).ignore();
        }
        let mut connection = eventually("redis answers", || async { connect(&url).await.ok() }).await;
        pipe.query_async::<()>(&mut connection).await.ok();
    }
}

/// Publishes one event to all these rooms, so that a member that has it has everything before it.
pub async fn last_word(url: &str, id: &str, rooms: &[String]) -> Receipt {
    let plan = Plan { id: id.to_owned(), rooms: rooms.to_vec() };
    by_fcall(url.to_owned(), vec![plan], Progress::default()).await.remove(0)
}
