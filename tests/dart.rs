//! Dart: `socket_io_client` 2.0.3 as it behaves on the wire and towards its app, at work on the seed's own examples.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::token::{self, now_s};
use crate::harness::{PATIENCE, eventually};

/// What the app is told.
#[derive(Debug, PartialEq)]
enum Told {
    Connect,
    Disconnect,
    /// `socket.on('error')`: a refused CONNECT, after which the engine stays open.
    Error(Value),
    Event(String, Value),
    Ack(u64, Value),
}

/// The Dart socket: offline it keeps what is emitted, a closed transport makes it come back, a `41` stops it for good.
struct Dart {
    address: SocketAddr,
    /// Asked anew at every connect.
    auth: Box<dyn FnMut() -> String>,
    engine: Client,
    connected: bool,
    offline: VecDeque<String>,
    acks: u64,
}

impl Dart {
    async fn io(address: SocketAddr, mut auth: impl FnMut() -> String + 'static) -> Self {
        let engine = Self::open(address, &auth()).await;
        Self { address, auth: Box::new(auth), engine, connected: false, offline: VecDeque::new(), acks: 0 }
    }

    /// Native builds upgrade to a WebSocket and call it polling. `late int` fields do not take 25000.0.
    async fn open(address: SocketAddr, token: &str) -> Client {
        let (mut engine, handshake) = Client::open_with(address, "EIO=4&transport=polling").await;
        assert!(handshake["pingInterval"].is_u64() && handshake["pingTimeout"].is_u64(), "{handshake}");
        assert!(handshake["sid"].is_string() && handshake["upgrades"].is_array(), "{handshake}");
        engine.send(&format!("40/realtime,{}", json!({ "token": token }))).await;
        engine
    }

    async fn emit(&mut self, packet: String) {
        if self.connected {
            self.engine.send(&packet).await;
        } else {
            self.offline.push_back(packet);
        }
    }

    /// `emitWithAck` without a callback, as the seed calls it, sends no id.
    async fn emit_with_ack(&mut self, event: &str, data: Value) {
        self.emit(format!("42/realtime,{}", json!([event, data]))).await;
    }

    async fn emit_with_callback(&mut self, event: &str, data: Value) -> u64 {
        let id = self.acks;
        self.acks += 1;
        self.emit(format!("42/realtime,{id}{}", json!([event, data]))).await;
        id
    }

    async fn join_room(&mut self, room: &str) {
        self.emit_with_ack("join_room", json!({ "room": room })).await;
    }

    /// The next thing the app is told. Reconnects by itself.
    async fn next(&mut self) -> Told {
        let Some(frame) = self.engine.frame().await else {
            self.connected = false;
            self.engine = Self::open(self.address, &(self.auth)()).await;
            return Told::Disconnect;
        };
        // The engine's CLOSE is ignored; the end of the WebSocket follows.
        if frame == "1" {
            return Box::pin(self.next()).await;
        }
        let told = packet(&frame);
        if told == Told::Connect {
            self.connected = true;
            for packet in std::mem::take(&mut self.offline) {
                self.engine.send(&packet).await;
            }
        }
        told
    }

    async fn event(&mut self) -> (String, Value) {
        let told = self.next().await;
        let Told::Event(name, data) = told else { panic!("no event: {told:?}") };
        (name, data)
    }

    async fn ack(&mut self, id: u64, handler: &mut impl FnMut(&str, &Value)) -> Value {
        loop {
            let told = self.next().await;
            if let Told::Event(name, data) = told {
                handler(&name, &data);
                continue;
            }
            let Told::Ack(of, data) = told else { panic!("no ack: {told:?}") };
            assert_eq!(of, id, "acks come in order");
            return data;
        }
    }

    /// The network goes away.
    async fn lose_transport(&mut self) {
        self.connected = false;
        let engine = Self::open(self.address, &(self.auth)()).await;
        std::mem::replace(&mut self.engine, engine).drop_connection();
    }
}

fn packet(frame: &str) -> Told {
    let packet = frame.strip_prefix('4').unwrap_or_else(|| panic!("no MESSAGE: {frame}"));
    let (kind, rest) = packet.split_at(1);
    let body = rest.strip_prefix("/realtime,").unwrap_or_else(|| panic!("another namespace: {frame}"));
    let id_ends = body.find(|c: char| !c.is_ascii_digit()).unwrap_or(body.len());
    let (id, json) = body.split_at(id_ends);
    let parse = || serde_json::from_str::<Value>(json).unwrap_or_else(|error| panic!("{error}: {frame}"));
    match kind {
        "0" => {
            assert!(parse()["sid"].is_string(), "a CONNECT without `sid` counts as an error: {frame}");
            Told::Connect
        }
        "2" => {
            assert!(id.is_empty(), "with an ack id the handler would get a List: {frame}");
            let [name, data] = serde_json::from_str::<[Value; 2]>(json).expect("with one argument, or it is a List");
            Told::Event(name.as_str().expect("a name").to_owned(), data)
        }
        "3" => {
            let [data] = serde_json::from_str::<[Value; 1]>(json).expect("a callback takes exactly one argument");
            assert!(data.is_object(), "{frame}");
            Told::Ack(id.parse().expect("an id"), data)
        }
        "4" => Told::Error(parse()),
        other => panic!("{other} keeps the app away, or is binary: {frame}"),
    }
}

async fn joined(node: &Node, room: &str) {
    eventually("the join is done", || async { (node.room_size(room).await == 1).then_some(()) }).await;
}

#[tokio::test]
async fn order_tracking() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut socket = Dart::io(node.main(), || token::user("u1")).await;
    socket.join_room("order:ord_123").await;
    assert_eq!(socket.next().await, Told::Connect);
    joined(&node, "order:ord_123").await;
    for status in ["confirmed", "ready"] {
        let event = json!({"type": "order.status_changed", "payload": {"orderId": "ord_123", "status": status}});
        redis.fcall(&["order:ord_123"], &event.to_string(), &[]).await.expect("published");
        let (name, data) = socket.event().await;
        assert_eq!(name, "order.status_changed");
        assert_eq!(data["event"]["payload"], json!({"orderId": "ord_123", "status": status}));
    }
    socket.emit_with_ack("leave_room", json!({"room": "order:ord_123"})).await;
    eventually("it left", || async { (node.room_size("order:ord_123").await == 0).then_some(()) }).await;
}

#[tokio::test]
async fn a_stock_alert_of_two_rooms_comes_once() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut socket = Dart::io(node.main(), || token::user("u1")).await;
    socket.join_room("store:store_10").await;
    socket.join_room("product:prod_9").await;
    assert_eq!(socket.next().await, Told::Connect);
    joined(&node, "product:prod_9").await;
    for stock in [18, 17, 0] {
        let payload = json!({"storeId": "store_10", "productId": "prod_9", "stock": stock});
        let event = json!({"type": "inventory.stock_updated", "payload": payload});
        redis.fcall(&["store:store_10", "product:prod_9"], &event.to_string(), &[]).await.expect("published");
    }
    for stock in [18, 17, 0] {
        let (name, data) = socket.event().await;
        assert_eq!((name.as_str(), &data["event"]["payload"]["stock"]), ("inventory.stock_updated", &json!(stock)));
    }
}

#[tokio::test]
async fn what_was_missed_while_the_transport_was_gone_is_fetched_and_seen_once() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let publish = async |id: &str| {
        let event = json!({"id": id, "type": "order.status_changed", "payload": {"orderId": "o1", "status": id}});
        redis.fcall(&["order:o1"], &event.to_string(), &[]).await.expect("published");
    };
    let mut socket = Dart::io(node.main(), || token::user("u1")).await;
    socket.join_room("order:o1").await;
    assert_eq!(socket.next().await, Told::Connect);
    joined(&node, "order:o1").await;
    publish("e1").await;
    let (_, last) = socket.event().await;
    assert_eq!(last["event"]["id"], "e1");

    socket.lose_transport().await;
    publish("e2").await;
    publish("e3").await;
    assert_eq!(socket.next().await, Told::Connect);
    socket.join_room("order:o1").await;
    let since = json!({"room": "order:o1", "since": last["event"]["timestamp"]});
    let asked = socket.emit_with_callback("get_missed_events", since).await;
    let mut seen: HashMap<String, u32> = HashMap::new();
    let mut handler = |_: &str, data: &Value| {
        *seen.entry(data["event"]["id"].as_str().expect("an id").to_owned()).or_default() += 1;
    };
    let response = socket.ack(asked, &mut handler).await;
    assert_eq!(response["ok"], true);
    let missed: Vec<&str> =
        response["data"]["events"].as_array().expect("a list").iter().filter_map(|e| e["id"].as_str()).collect();
    assert_eq!(missed, ["e1", "e2", "e3"], "inclusive, so that the app drops what it has by id");
    publish("e4").await;
    let (_, live) = socket.event().await;
    assert_eq!(live["event"]["id"], "e4");
    assert!(seen.is_empty(), "nothing of the past comes twice: {seen:?}");
}

#[tokio::test]
async fn a_refused_token_is_an_error_on_an_open_engine_and_the_next_try_has_a_new_one() {
    let node = Node::with(&[("HALLWAY_SOCKETIO__CONNECT_TIMEOUT", "1s")]).await;
    let mut tokens = vec![token::user("u1"), "stale".to_owned()];
    let mut socket = Dart::io(node.main(), move || tokens.pop().expect("two tries")).await;
    socket.join_room("user:u1").await;
    assert_eq!(socket.next().await, Told::Error(json!({"message": "unauthorized"})));
    assert_eq!(socket.next().await, Told::Disconnect, "the server closes, or 2.0.3 would never try again");
    assert_eq!(socket.next().await, Told::Connect);
    joined(&node, "user:u1").await;
}

#[tokio::test]
async fn an_expired_token_brings_the_app_back_with_a_new_one() {
    let node = Node::with(&[("HALLWAY_AUTH__EXPIRING_LEAD", "0s")]).await;
    let mut tokens = vec![token::user("u1"), token::with(json!({"sub": "u1", "exp": now_s() + 2}))];
    let mut socket = Dart::io(node.main(), move || tokens.pop().expect("two connects")).await;
    for _ in 0..2 {
        let told = socket.next().await;
        let told = if told == Told::Disconnect { socket.next().await } else { told };
        assert_eq!(told, Told::Connect);
        socket.join_room("order:o1").await;
        joined(&node, "order:o1").await;
        let (_, published) = node.post("/v1/publish", r#"{"room":"order:o1","type":"t","payload":1}"#).await;
        assert_eq!(socket.event().await.1["event"]["id"], published["id"]);
    }
}

#[tokio::test]
async fn a_stopping_node_closes_without_telling_the_app_to_stay_away() {
    let mut node = Node::embedded().await;
    let mut socket = Dart::io(node.main(), || token::user("u1")).await;
    assert_eq!(socket.next().await, Told::Connect);
    socket.join_room("order:o1").await;
    joined(&node, "order:o1").await;
    let (status, frames) = tokio::join!(node.terminate(), socket.engine.until_closed(PATIENCE));
    assert!(status.success(), "{status}");
    for frame in frames.iter().filter(|frame| *frame != "1") {
        assert!(matches!(packet(frame), Told::Event(..)), "at most a notice: {frame}");
    }
}

#[tokio::test]
async fn rooms_joined_the_moment_the_socket_connects_are_all_joined() {
    let node = Node::embedded().await;
    let mut unanswered = HashSet::new();
    for n in 0..300 {
        let mut socket = Dart::io(node.main(), || token::user("u1")).await;
        let asked = socket.emit_with_callback("join_room", json!({"room": format!("order:o{n}")})).await;
        assert_eq!(socket.next().await, Told::Connect);
        let answer = tokio::time::timeout(Duration::from_secs(20), socket.next()).await;
        match answer {
            Ok(Told::Ack(id, data)) => assert_eq!((id, &data["ok"]), (asked, &json!(true))),
            Ok(other) => panic!("no answer: {other:?}"),
            Err(_) => {
                unanswered.insert(n);
            }
        }
    }
    assert!(unanswered.is_empty(), "no answer to {unanswered:?}");
}
