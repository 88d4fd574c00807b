//! A stranger who shows no token and no key has little of a node: a short head, a bounded time on every listener, a bounded number
//! of connections to those of services and operators, and a bounded number of frames.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::token::API_KEY;
use crate::harness::{eventually, free_address, token, within};

/// How long a connection may be idle in these tests.
const IDLE: Duration = Duration::from_secs(2);
/// A connection is closed by then.
const SOON: Duration = Duration::from_secs(15);
const MANY: usize = 40;
/// More than find a place, and so few more that each is told so.
const FEW: usize = 12;

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("it listens")
}

/// A connection from another address of this machine.
async fn connect_from(host: [u8; 4], address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((Ipv4Addr::from(host), 0))).expect("all of 127/8 is this machine");
    socket.connect(address).await.expect("it listens")
}

/// What comes until the gateway closes, and when that was.
async fn until_closed(mut stream: TcpStream, sends: &[u8]) -> (String, Duration) {
    let began = Instant::now();
    stream.write_all(sends).await.ok();
    let mut came = Vec::new();
    timeout(SOON, stream.read_to_end(&mut came)).await.expect("it is closed in time").ok();
    (String::from_utf8_lossy(&came).into_owned(), began.elapsed())
}

/// The status and the body's `Content-Length` bytes of the next answer.
async fn answer(stream: &mut TcpStream) -> (u16, String) {
    let (mut came, mut part) = (Vec::new(), [0; 4096]);
    let whole = async {
        loop {
            let text = String::from_utf8_lossy(&came).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.and_then(|length| length.parse().ok()).expect("a length");
                if body.len() >= length {
                    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
                    return (status, body.to_owned());
                }
            }
            let read = stream.read(&mut part).await.expect("an answer");
            assert!(read > 0, "closed after {text:?}");
            came.extend_from_slice(&part[..read]);
        }
    };
    timeout(SOON, whole).await.expect("an answer in time")
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n\r\n")
}

/// A node with an API of its own.
async fn node(settings: &[(&str, &str)]) -> (Node, SocketAddr) {
    let api = free_address();
    let listen = api.to_string();
    let all = [&[("HALLWAY_API__LISTEN", listen.as_str())], settings].concat();
    (Node::with(&all).await, api)
}

const BRIEF: [(&str, &str); 4] = [
    ("HALLWAY_API__IDLE_TIMEOUT", "2s"),
    ("HALLWAY_ADMIN__IDLE_TIMEOUT", "2s"),
    ("HALLWAY_API__BODY_TIMEOUT", "500ms"),
    ("HALLWAY_REDIS__RESPONSE_TIMEOUT", "500ms"),
];

async fn reached(node: &Node, limit: &str) -> f64 {
    let text = crate::harness::http().get(format!("http://{}/metrics", node.admin())).send().await.expect("metrics");
    let lead = format!("hallway_over_limit_total{{limit=\"{limit}\"}} ");
    let text = text.text().await.expect("text");
    text.lines().find_map(|line| line.strip_prefix(&lead)).map_or(0.0, |count| count.parse().expect("a number"))
}

#[tokio::test]
async fn a_connection_without_an_answer_is_closed_in_time_on_every_listener() {
    let (mut node, api) = node(&BRIEF).await;
    for address in [api, node.admin()] {
        let (head, idle) = ("GET /x HTTP/1.1\r\nHost: x\r\n", "GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
        for sends in ["", head, idle] {
            let (came, took) = until_closed(connect(address).await, sends.as_bytes()).await;
            assert!(took >= IDLE / 2, "{address} {sends:?}: closed after {took:?}, before its time");
            assert_eq!(came.starts_with("HTTP/1.1 404"), sends == idle, "{came}");
        }
        // A connection that is used stays: probes, scrapes and pools keep theirs.
        let mut used = connect(address).await;
        let began = Instant::now();
        while began.elapsed() < IDLE * 2 {
            used.write_all(get("/x").as_bytes()).await.expect("it is open");
            assert_eq!(answer(&mut used).await.0, 404);
            tokio::time::sleep(IDLE / 4).await;
        }
    }
    // A stop waits for none of them.
    let mut kept = Vec::new();
    for address in [api, node.admin()] {
        let mut idle = connect(address).await;
        idle.write_all(get("/x").as_bytes()).await.expect("it is open");
        answer(&mut idle).await;
        kept.push(idle);
    }
    let began = Instant::now();
    assert!(node.terminate().await.success());
    assert!(began.elapsed() < IDLE, "it stopped after {:?}", began.elapsed());
}

#[tokio::test]
async fn a_trickling_head_or_body_is_cut_off_on_every_listener() {
    let (node, api) = node(&BRIEF).await;
    let endless_head = ("GET /x HTTP/1.1\r\n", "A: b\r\n");
    let post = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\nContent-Length: 5000\r\n\r\n")
    };
    let mut cases = vec![(api, endless_head.0.to_owned()), (node.admin(), endless_head.0.to_owned())];
    for path in ["/v1/publish", "/v1/publish/batch", "/v1/policy", "/v1/revoke", "/v1/disconnect"] {
        cases.push((api, post(path)));
    }
    for (address, begins) in cases {
        let (mut reader, mut writer) = connect(address).await.into_split();
        writer.write_all(begins.as_bytes()).await.expect("it takes bytes");
        let trickle = async {
            while writer.write_all(endless_head.1.as_bytes()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            std::future::pending::<()>().await;
        };
        let mut came = Vec::new();
        let cut = async {
            tokio::select! { () = trickle => {}, end = reader.read_to_end(&mut came) => drop(end) }
        };
        timeout(SOON, cut).await.expect("it is cut off");
        let came = String::from_utf8_lossy(&came).into_owned();
        assert_eq!(came.contains("request-timeout"), begins.starts_with("POST"), "{begins}: {came}");
    }
}

#[tokio::test]
async fn a_head_is_as_long_as_may_be_and_no_longer_on_every_listener() {
    let (node, api) = node(&[]).await;
    let head = |bytes: usize| format!("GET /x HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(bytes - 32));
    for address in [node.main(), api, node.admin()] {
        let mut stream = connect(address).await;
        stream.write_all(head(31 * 1024).as_bytes()).await.expect("it takes bytes");
        assert_eq!(answer(&mut stream).await.0, 404);
        let (came, _) = until_closed(connect(address).await, head(33 * 1024).as_bytes()).await;
        assert!(came.is_empty() || came.starts_with("HTTP/1.1 431"), "{came}");
    }
    eventually("each is counted", || async { ((reached(&node, "head_bytes").await - 3.0).abs() < 0.5).then_some(()) })
        .await;
    // What has not ended holds no more either.
    let before = node.rss_kib();
    let mut held = Vec::new();
    for _ in 0..200 {
        let mut stream = connect(node.main()).await;
        let unending = format!("GET /x HTTP/1.1\r\nHost: x\r\nX: {}", "y".repeat(400_000));
        timeout(SOON, stream.write_all(unending.as_bytes())).await.expect("it is read, or cut").ok();
        held.push(stream);
    }
    let more = node.rss_kib().saturating_sub(before);
    assert!(more < 30_000, "200 endless heads took {more} KiB");
}

#[tokio::test]
async fn nobody_takes_all_connections_to_the_listeners_of_services_and_operators() {
    let settings = [("HALLWAY_LIMITS__API_CONNECTIONS", "8"), ("HALLWAY_LIMITS__ADMIN_CONNECTIONS", "8")];
    let (node, api) = node(&settings).await;
    for (address, limit, path) in
        [(api, "api_connections", "/v1/rooms/order:r"), (node.admin(), "admin_connections", "/livez")]
    {
        let before = reached(&node, limit).await;
        let mut held = Vec::new();
        for _ in 0..FEW {
            held.push(connect_from([127, 0, 0, 2], address).await);
        }
        let mut refused = connect_from([127, 0, 0, 2], address).await;
        refused.write_all(get(path).as_bytes()).await.expect("it takes bytes");
        let (status, body) = answer(&mut refused).await;
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((status, &body["error"]["code"]), (503, &"too-many-connections".into()));
        for _ in FEW..MANY {
            held.push(connect_from([127, 0, 0, 2], address).await);
        }
        // Others have theirs meanwhile.
        let mut other = connect_from([127, 0, 0, 3], address).await;
        other.write_all(get(path).as_bytes()).await.expect("it takes bytes");
        assert_eq!(answer(&mut other).await.0, 200);
        drop((held, refused, other));
        let moved = reached(&node, limit).await - before;
        assert!(moved >= (MANY - 4) as f64, "{limit}: {moved}");
        eventually("the places are free", || async {
            let mut again = connect_from([127, 0, 0, 2], address).await;
            again.write_all(get(path).as_bytes()).await.ok()?;
            (answer(&mut again).await.0 == 200).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_flood_of_frames_of_any_kind_closes_its_transport() {
    let node = Node::with(&[("HALLWAY_LIMITS__COMMANDS_PER_MINUTE", "20")]).await;
    let mut present = Client::connect(node.main(), &token::user("present")).await;
    for frame in ["3", "2", "40/unknown,{}", "41/unknown,", "43/realtime,7[{}]"] {
        let mut hostile = Client::connect(node.main(), &token::user("hostile")).await;
        let before = reached(&node, "commands_per_minute").await;
        for _ in 0..2000 {
            if !hostile.try_send(frame).await {
                break;
            }
        }
        hostile.until_closed(SOON).await;
        within(SOON, frame, || async { (reached(&node, "commands_per_minute").await > before).then_some(()) }).await;
    }
    present.join("order:r").await;
}

#[tokio::test]
async fn who_announces_attachments_and_sends_none_is_closed_and_who_sends_them_is_not() {
    let settings = [("HALLWAY_SOCKETIO__PING_INTERVAL", "300ms"), ("HALLWAY_SOCKETIO__PING_TIMEOUT", "2s")];
    let node = Node::with(&settings).await;
    let announcement = r#"451-/realtime,7["join_room",{"_placeholder":true,"num":0}]"#;
    let mut honest = Client::connect(node.main(), &token::user("u1")).await;
    honest.send(announcement).await;
    honest.send_binary(b"x").await;
    assert!(honest.frame().await.expect("a reply").starts_with("43/realtime,7["));
    let mut silent = Client::connect(node.main(), &token::user("u2")).await;
    let (mut stranger, _) = Client::open(node.main()).await;
    silent.send(announcement).await;
    stranger.send(announcement).await;
    // Their heartbeats go on meanwhile.
    let (kept, end) = tokio::join!(honest.frame_within(IDLE * 2), async {
        silent.until_closed(SOON).await;
        stranger.until_closed(SOON).await;
    });
    assert!(kept.is_err(), "the honest one is still there: {kept:?}");
    let () = end;
    honest.join("order:r").await;
}
