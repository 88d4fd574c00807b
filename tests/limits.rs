//! Limits: a client that goes past one gets a clear error and a metric moves, and no other notices (S6, S14, S20, S25, S42).

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::{eventually, http, token, within};

/// What a dead node's sockets may still count.
const BURIED: Duration = Duration::from_secs(30);
const TOO_MANY: &str = r#"44/realtime,{"message":"too-many-connections"}"#;

/// The answer to a request for a transport: status, head and body, and the connection, which holds the transport.
struct Answer {
    status: u16,
    text: String,
    _connection: TcpStream,
}

/// Asks for a transport with these further header lines.
async fn ask(address: SocketAddr, lines: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("it takes bytes");
    let mut text = Vec::new();
    let mut part = [0; 1024];
    loop {
        let read = stream.read(&mut part).await.expect("an answer");
        text.extend_from_slice(&part[..read]);
        let so_far = String::from_utf8_lossy(&text).into_owned();
        let upgraded = so_far.starts_with("HTTP/1.1 101") && so_far.contains("\r\n\r\n");
        if read == 0 || upgraded {
            let status = so_far.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
            return Answer { status, text: so_far, _connection: stream };
        }
    }
}

/// Thirty ask for a transport at once.
async fn thirty_ask(node: &Node) -> Vec<Answer> {
    let mut answers = JoinSet::new();
    for _ in 0..30 {
        let address = node.main();
        answers.spawn(async move { ask(address, "").await });
    }
    answers.join_all().await
}

impl Answer {
    fn code(&self) -> String {
        let body = self.text.split("\r\n\r\n").nth(1).expect("a body");
        let body: Value = serde_json::from_str(body).expect("JSON");
        body["error"]["code"].as_str().expect("a code").to_owned()
    }

    fn retry_after(&self) -> u64 {
        let line = self.text.lines().find_map(|line| line.strip_prefix("retry-after: "));
        line.and_then(|seconds| seconds.trim().parse().ok()).expect("Retry-After")
    }
}

/// How often a limit has held a client back.
async fn reached(node: &Node, limit: &str) -> u64 {
    let text = http().get(format!("http://{}/metrics", node.admin())).send().await.expect("metrics").text().await;
    let lead = format!("hallway_over_limit_total{{limit=\"{limit}\"}} ");
    let text = text.expect("metrics are text");
    text.lines().find_map(|line| line.strip_prefix(&lead)).map_or(0, |count| count.parse().expect("a number"))
}

/// Asserts that a member hears what is published.
async fn hears(node: &Node, member: &mut Client) {
    let event = json!({"room": "order:r", "type": "order.status_changed", "payload": 1});
    let (status, reply) = node.post("/v1/publish", event.to_string()).await;
    assert_eq!(status, 200, "{reply}");
    assert_eq!(member.event().await.1["event"]["id"], reply["id"]);
}

async fn member(node: &Node, user: &str) -> Client {
    let mut member = Client::connect(node.main(), &token::user(user)).await;
    member.join("order:r").await;
    member
}

fn offer(user: &str) -> String {
    format!(r#"{{"token":"{}"}}"#, token::user(user))
}

/// Opens a transport and says what became of its CONNECT.
async fn try_connect(address: SocketAddr, user: &str) -> (Client, String) {
    let (mut client, _) = Client::open(address).await;
    let reply = client.offer(&offer(user)).await;
    (client, reply)
}

#[tokio::test]
async fn handshakes_past_the_rate_are_asked_to_come_back_and_those_who_are_there_go_on() {
    let node = Node::with(&[("HALLWAY_LIMITS__HANDSHAKES_PER_SECOND", "3")]).await;
    let mut present = member(&node, "u1").await;
    let answers = thirty_ask(&node).await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 101).collect();
    assert!((10..=28).contains(&refused.len()), "{} refused", refused.len());
    for answer in &refused {
        assert_eq!((answer.status, answer.code().as_str()), (503, "too-many-handshakes"));
        assert!((1..=5).contains(&answer.retry_after()));
    }
    assert_eq!(reached(&node, "handshakes_per_second").await, refused.len() as u64);
    node.moves("hallway_over_limit_total").await;
    hears(&node, &mut present).await;
    eventually("there is room for one more", || async { (ask(node.main(), "").await.status == 101).then_some(()) })
        .await;
}

#[tokio::test]
async fn connections_of_a_node_are_counted_from_the_handshake_to_their_end() {
    let node = Node::with(&[("HALLWAY_LIMITS__CONNECTIONS", "5")]).await;
    let mut present = member(&node, "u1").await;
    let answers = thirty_ask(&node).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 101).count(), 4);
    for answer in answers.iter().filter(|answer| answer.status != 101) {
        assert_eq!((answer.status, answer.code().as_str()), (503, "too-many-connections"));
    }
    assert_eq!(reached(&node, "connections").await, 26);
    hears(&node, &mut present).await;
    drop(answers);
    node.moves("hallway_connections_limit").await;
    eventually("their places are free", || async {
        ((node.metric("hallway_connections").await - 1.0).abs() < 0.5).then_some(())
    })
    .await;
    let mut again = Vec::new();
    for _ in 0..4 {
        again.push(ask(node.main(), "").await);
    }
    assert!(again.iter().all(|answer| answer.status == 101));
    assert_eq!(ask(node.main(), "").await.status, 503);
    // What never became a transport takes no place.
    drop(again.pop());
    for query in ["EIO=3&transport=websocket", "EIO=4&transport=polling"] {
        let url = format!("http://{}/socket.io/?{query}", node.main());
        for _ in 0..10 {
            assert!(http().get(&url).send().await.expect("an answer").status().is_client_error());
        }
    }
    eventually("the place of the last is free", || async { (ask(node.main(), "").await.status == 101).then_some(()) })
        .await;
}

#[tokio::test]
async fn connections_of_one_address_are_bounded_and_proxies_are_believed_only_where_they_are_trusted() {
    let settings =
        [("HALLWAY_LIMITS__CONNECTIONS_PER_IP", "2"), ("HALLWAY_SERVER__TRUSTED_PROXIES", "10.0.0.0/8,127.0.0.1")];
    let node = Node::with(&settings).await;
    let from = async |line: &str| ask(node.main(), &format!("X-Forwarded-For: {line}\r\n")).await;
    let mut kept = Vec::new();
    for line in ["203.0.113.7", "6.6.6.6, 203.0.113.7, 10.1.2.3", "2001:db8::1", "[2001:db8::2]:4711"] {
        let answer = from(line).await;
        assert_eq!(answer.status, 101, "{line}: {}", answer.text);
        kept.push(answer);
    }
    for line in ["203.0.113.7", "1.2.3.4, 203.0.113.7", "::ffff:203.0.113.7", "2001:db8:0:0:1::9"] {
        let answer = from(line).await;
        assert_eq!((answer.status, answer.code().as_str()), (429, "too-many-connections"), "{line}");
        assert!((1..=5).contains(&answer.retry_after()));
    }
    assert_eq!(from("198.51.100.1").await.status, 101);
    assert_eq!(reached(&node, "connections_per_ip").await, 4);
    // What cannot be read is the proxy's own.
    kept.push(from("garbage").await);
    kept.push(from("6.6.6.6, unknown").await);
    assert_eq!(from("other garbage").await.status, 429);
    assert_eq!(ask(node.main(), "").await.status, 429);
    drop(kept.drain(..1));
    eventually("the place is free", || async { (from("203.0.113.7").await.status == 101).then_some(()) }).await;

    let trusts_nobody = Node::with(&settings[..1]).await;
    let spoofed = async |line: &str| ask(trusts_nobody.main(), &format!("X-Forwarded-For: {line}\r\n")).await;
    let _kept = [spoofed("1.1.1.1").await, spoofed("2.2.2.2").await];
    assert_eq!(spoofed("3.3.3.3").await.status, 429);
}

#[tokio::test]
async fn the_log_names_the_client_behind_a_trusted_proxy() {
    let settings = [("HALLWAY_SERVER__TRUSTED_PROXIES", "127.0.0.1"), ("HALLWAY_LOG__LEVEL", "info,hallway=debug")];
    let node = Node::with(&settings).await;
    let query = "EIO=4&transport=websocket";
    let (mut client, _) = Client::open_with_header(node.main(), query, "x-forwarded-for", "203.0.113.7").await;
    client.offer(r#"{"token":"x"}"#).await;
    eventually("the log names it", || async {
        node.log().iter().any(|line| line.contains("a token was refused") && line.contains("203.0.113.7")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_user_with_too_many_connections_is_refused_and_others_are_not() {
    let node = Node::with(&[("HALLWAY_LIMITS__CONNECTIONS_PER_USER", "2")]).await;
    let mut present = member(&node, "other").await;
    let (first, reply) = try_connect(node.main(), "u1").await;
    assert!(reply.starts_with("40/realtime,"), "{reply}");
    let (mut second, _) = try_connect(node.main(), "u1").await;
    let (mut third, reply) = try_connect(node.main(), "u1").await;
    assert_eq!(reply, TOO_MANY);
    assert_eq!(reached(&node, "connections_per_user").await, 1);
    hears(&node, &mut present).await;
    // Leaving the namespace gives the place back, and so does the end of a transport; the refused one may try again.
    second.send("41/realtime,").await;
    within(BURIED, "the place is free", || async { (node.metric("hallway_sessions").await < 2.5).then_some(()) }).await;
    assert!(third.offer(&offer("u1")).await.starts_with("40/realtime,"));
    assert_eq!(second.offer(&offer("u1")).await, TOO_MANY);
    drop(first);
    within(BURIED, "the place is free", || async { (node.metric("hallway_sessions").await < 2.5).then_some(()) }).await;
    assert!(second.offer(&offer("u1")).await.starts_with("40/realtime,"));
}

/// The connections that all nodes announce together.
async fn announced(redis: &Redis) -> usize {
    let mut connection = redis.client().await;
    let keys: Vec<String> =
        redis::cmd("KEYS").arg("hallway:user:*").query_async(&mut connection).await.expect("redis answers");
    let mut sum = 0;
    for key in keys {
        let counts: Vec<usize> =
            redis::cmd("HVALS").arg(key).query_async(&mut connection).await.expect("redis answers");
        sum += counts.iter().sum::<usize>();
    }
    sum
}

/// One after the other the quota is exact. When many come at once, a few too many or too few may be admitted in that moment;
/// those are never more than the quota on each node, and no further one is admitted beside them.
#[tokio::test]
async fn a_user_has_so_many_connections_on_all_nodes_together_however_they_come() {
    const QUOTA: usize = 5;
    let redis = Redis::start().await;
    let url = redis.url();
    let settings = [("HALLWAY_REDIS__URL", url.as_str()), ("HALLWAY_LIMITS__CONNECTIONS_PER_USER", "5")];
    let mut nodes = [Node::with(&settings).await, Node::with(&settings).await, Node::with(&settings).await];
    let strange = "u{1}:* ';--ü";
    for user in ["u1", strange] {
        let mut arriving = JoinSet::new();
        for i in 0..40 {
            let (address, payload) = (nodes[i % 3].main(), json!({"token": token::user(user)}).to_string());
            arriving.spawn(async move {
                let (mut client, _) = Client::open(address).await;
                let reply = client.offer(&payload).await;
                (client, reply)
            });
        }
        let (mut live, refused): (Vec<_>, Vec<_>) =
            arriving.join_all().await.into_iter().partition(|(_, reply)| reply.starts_with("40/realtime,"));
        let at_once = live.len();
        assert!((1..=nodes.len() * QUOTA).contains(&at_once), "{at_once}");
        assert!(refused.iter().all(|(_, reply)| reply == TOO_MANY));
        eventually("what was refused is no longer announced", || async {
            let counts = announced(&redis).await;
            (counts == at_once).then_some(())
        })
        .await;
        for i in 0.. {
            let (client, reply) = try_connect(nodes[i % 3].main(), user).await;
            if reply == TOO_MANY {
                break;
            }
            live.push((client, reply));
        }
        assert_eq!(live.len(), at_once.max(QUOTA));
        for node in &nodes {
            assert_eq!(try_connect(node.main(), user).await.1, TOO_MANY);
        }
        drop((live, refused));
        for node in &nodes {
            let again =
                || async { Some(try_connect(node.main(), user).await).filter(|(_, reply)| reply.starts_with("40")) };
            drop(within(Duration::from_secs(5), "the user is welcome again", again).await);
        }
        eventually("all of it is forgotten", || async {
            let keys: Vec<String> =
                redis::cmd("KEYS").arg("hallway:user:*").query_async(&mut redis.client().await).await.ok()?;
            keys.is_empty().then_some(())
        })
        .await;
    }
    // As many as the quota are welcome, all at once and wherever they come.
    let mut arriving = JoinSet::new();
    for i in 0..QUOTA {
        let address = nodes[i % 3].main();
        arriving.spawn(async move { try_connect(address, "u3").await });
    }
    assert!(arriving.join_all().await.iter().all(|(_, reply)| reply.starts_with("40/realtime,")));
    let mut kept = Vec::new();
    for _ in 0..QUOTA {
        kept.push(try_connect(nodes[0].main(), "u2").await);
    }
    assert_eq!(try_connect(nodes[1].main(), "u2").await.1, TOO_MANY);
    nodes[0].kill();
    let again =
        || async { Some(try_connect(nodes[1].main(), "u2").await).filter(|(_, reply)| reply.starts_with("40")) };
    drop(within(BURIED, "a dead node's are free", again).await);
}

#[tokio::test]
async fn without_redis_each_node_counts_its_own_and_with_it_again_all_do() {
    let mut redis = Redis::start_forgetful().await;
    let url = redis.url();
    let settings = [
        ("HALLWAY_REDIS__URL", url.as_str()),
        ("HALLWAY_LIMITS__CONNECTIONS_PER_USER", "2"),
        ("HALLWAY_REDIS__RESPONSE_TIMEOUT", "500ms"),
    ];
    let nodes = [Node::with(&settings).await, Node::with(&settings).await];
    let mut kept = vec![try_connect(nodes[0].main(), "u1").await];
    redis.pause();
    for node in &nodes {
        while kept.len() < 4 {
            let (client, reply) = try_connect(node.main(), "u1").await;
            if reply == TOO_MANY {
                break;
            }
            assert!(reply.starts_with("40/realtime,"), "{reply}");
            kept.push((client, reply));
        }
    }
    assert_eq!(kept.len(), 4);
    assert_eq!(try_connect(nodes[0].main(), "u1").await.1, TOO_MANY);
    redis.go_on();
    redis.kill();
    redis.restart().await;
    for node in &nodes {
        node.ready().await;
    }
    drop(kept.split_off(2));
    // Two are left on the first node, and the forgetful Redis has been told of them anew.
    eventually("the second node knows of those on the first", || async {
        let (client, reply) = try_connect(nodes[1].main(), "u1").await;
        drop(client);
        (reply == TOO_MANY).then_some(())
    })
    .await;
}

#[tokio::test]
async fn commands_past_the_rate_are_refused_and_ten_times_as_many_close_the_transport() {
    let node = Node::with(&[("HALLWAY_LIMITS__COMMANDS_PER_MINUTE", "20")]).await;
    let mut present = member(&node, "u2").await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    let refused = json!({"ok": false, "error": "rate-limited"});
    for i in 0..20 {
        let command = if i % 2 == 0 { "leave_room" } else { "no_such_command" };
        assert_ne!(client.call(command, r#"{"room":"order:r"}"#).await, refused, "{i}");
    }
    for command in ["join_room", "event_ack", "update_location", "no_such_command"] {
        assert_eq!(client.call(command, r#"{"room":"order:r","eventId":"e"}"#).await, refused);
    }
    client.tell("join_room", r#"{"room":"order:r"}"#).await;
    assert_eq!(client.call("leave_room", r#"{"room":"order:r"}"#).await, refused);
    assert_eq!(reached(&node, "commands_per_minute").await, 6);
    node.moves("hallway_commands_refused_total").await;
    assert_eq!(node.room_size("order:r").await, 1);
    // Another namespace of the same transport has no rate of its own.
    client.set_namespace("//realtime");
    client.sign_in(&token::user("u1")).await;
    assert_eq!(client.call("leave_room", r#"{"room":"order:r"}"#).await, refused);
    for _ in 27..200 {
        client.tell("leave_room", r#"{"room":"order:r"}"#).await;
    }
    let frames = client.until_closed(Duration::from_secs(10)).await;
    assert!(frames.iter().all(|frame| !frame.starts_with("41")), "{frames:?}");
    eventually("the reason shows", || async { (closed_for(&node, "too-many-commands").await >= 1).then_some(()) })
        .await;
    hears(&node, &mut present).await;
    assert_eq!(present.call("leave_room", r#"{"room":"order:r"}"#).await["ok"], true);
}

/// Sessions that ended for a reason.
async fn closed_for(node: &Node, why: &str) -> u64 {
    let text = http().get(format!("http://{}/metrics", node.admin())).send().await.expect("metrics").text().await;
    let lead = format!("hallway_disconnects_total{{reason=\"{why}\"}} ");
    let text = text.expect("metrics are text");
    text.lines().find_map(|line| line.strip_prefix(&lead)).map_or(0, |count| count.parse().expect("a number"))
}

#[tokio::test]
async fn a_reconnect_that_joins_every_room_and_an_agent_in_a_hurry_pass() {
    let node = Node::embedded().await;
    let claims = json!({"sub": "u1", "role": "agent"});
    let mut client = Client::connect(node.main(), &token::with(claims)).await;
    for i in 0..128 {
        client.send(&format!(r#"42/realtime,{i}["join_room",{{"room":"order:{i}"}}]"#)).await;
    }
    for i in 0..128 {
        let reply = client.frame().await.expect("a reply");
        assert!(reply.starts_with(&format!(r#"43/realtime,{i}[{{"ok":true"#)), "{reply}");
    }
    let too_many = json!({"ok": false, "error": "too-many-rooms"});
    assert_eq!(client.call("join_room", r#"{"room":"order:one-more"}"#).await, too_many);
    let mut refused = 0;
    for _ in 0..10 {
        refused += u64::from(client.call("update_location", r#"{"lat":1,"lng":2}"#).await["ok"] == false);
    }
    assert!((1..=5).contains(&refused), "{refused}");
    assert_eq!(reached(&node, "locations_per_second").await, refused);
    assert_eq!(reached(&node, "rooms_per_socket").await, 1);
    assert_eq!(reached(&node, "commands_per_minute").await, 0);
}

#[tokio::test]
async fn a_message_that_is_too_long_closes_its_transport_with_the_status_for_that() {
    let node = Node::with(&[("HALLWAY_LIMITS__FRAME_BYTES", "2KiB")]).await;
    let mut present = member(&node, "u2").await;
    let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", node.main());
    for signed_in in [true, false] {
        let (socket, _) = connect_async(&url).await.expect("the upgrade is accepted");
        let mut client = Client::over(socket);
        client.frame().await.expect("the handshake comes first");
        if signed_in {
            client.sign_in(&token::user("u1")).await;
            let room = "x".repeat(1900);
            let reply = client.call("join_room", &format!(r#"{{"room":"{room}"}}"#)).await;
            assert_eq!(reply["error"], "invalid-room", "what is not too long is read");
        }
        client.send(&"x".repeat(2049)).await;
        let mut message = client.next_message().await;
        while matches!(&message, Some(Ok(Message::Text(text))) if text.as_str() == "2") {
            message = client.next_message().await;
        }
        let Some(Ok(Message::Close(Some(close)))) = message else { panic!("no close frame: {message:?}, {signed_in}") };
        assert_eq!(u16::from(close.code), 1009);
    }
    eventually("the reason shows", || async { (closed_for(&node, "frame-too-large").await == 1).then_some(()) }).await;
    assert_eq!(reached(&node, "frame_bytes").await, 2);
    hears(&node, &mut present).await;
}

#[tokio::test]
async fn an_event_that_is_too_long_is_refused_and_counted() {
    let node = Node::with(&[("HALLWAY_LIMITS__EVENT_BYTES", "1KiB")]).await;
    for size in [1025, 100_000] {
        let event = json!({"room": "order:r", "type": "t", "payload": "x".repeat(size)});
        let (status, reply) = node.post("/v1/publish", event.to_string()).await;
        assert_eq!((status, &reply["error"]["code"]), (413, &json!("event-too-large")));
    }
    assert_eq!(reached(&node, "event_bytes").await, 2);
    let logged = |line: &String| line.contains("limits.event_bytes") && line.contains("WARN");
    assert_eq!(node.log().iter().filter(|line| logged(line)).count(), 1, "{:?}", node.log());
}
