//! The wire in its place: under axum and socketioxide.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::{Next, from_fn};
use axum::routing::get;
use futures_util::SinkExt;
use hallway::wire::{PushOutcome, WIRE_HEADER, Wire, WireConfig, WireListener, stamp, text_frame};
use socketioxide::SocketIo;
use socketioxide::extract::SocketRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::task::TaskTracker;

use super::{soon, text};

const EVENTS: usize = 300;

/// A gateway in small: socketioxide under axum, one lane per connect, events pushed from another thread.
async fn gateway() -> (SocketAddr, TaskTracker) {
    let (layer, io) = SocketIo::builder()
        .ping_interval(Duration::from_millis(50))
        // A heartbeat that finds no room in this buffer closes the connection.
        .max_buffer_size(2 * EVENTS)
        .build_layer();
    io.ns("/realtime", async |socket: SocketRef| {
        let ConnectInfo(wire) = socket.req_parts().extensions.get::<ConnectInfo<Wire>>().unwrap().clone();
        let lane = wire.add_lane("");
        thread::spawn(move || {
            for number in 0..EVENTS {
                assert!(matches!(
                    lane.push(text_frame(format!("42/realtime,[\"ours\",{number}]").as_bytes())),
                    PushOutcome::Sent | PushOutcome::Queued
                ));
            }
        });
        for number in 0..EVENTS {
            socket.emit("theirs", &(number, "x".repeat(number * 10))).unwrap();
        }
    });
    let app = Router::new().route("/", get(async || "plain")).layer(layer).layer(from_fn(
        async |ConnectInfo(wire): ConnectInfo<Wire>, request: Request, next: Next| {
            let mut response = next.run(request).await;
            stamp(&wire, &mut response);
            response
        },
    ));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = TaskTracker::new();
    let listener = WireListener::new(listener, WireConfig::default(), tasks.clone());
    let serving = axum::serve(listener, app.into_make_service_with_connect_info::<Wire>());
    tasks.spawn(async { serving.await.unwrap() });
    (address, tasks)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_ours_interleave_with_socketioxide_and_its_heartbeat() {
    let (address, _tasks) = gateway().await;
    let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut socket, response) = soon(tokio_tungstenite::client_async(url, stream)).await.unwrap();
    assert!(response.headers().contains_key(WIRE_HEADER));
    assert!(text(&mut socket).await.starts_with("0{"));
    socket.send(Message::text("40/realtime,")).await.unwrap();
    let (mut ours, mut theirs, mut pings) = (0, 0, 0);
    while ours < EVENTS || theirs < EVENTS || pings < 2 {
        let text = text(&mut socket).await;
        if text.starts_with("42/realtime,[\"ours\"") {
            assert_eq!(text, format!("42/realtime,[\"ours\",{ours}]"));
            ours += 1;
        } else if text.starts_with("42/realtime,[\"theirs\"") {
            assert!(text.starts_with(&format!("42/realtime,[\"theirs\",{theirs},")), "{text}");
            theirs += 1;
        } else if text == "2" {
            pings += 1;
            socket.send(Message::text("3")).await.unwrap();
        } else {
            assert!(text.starts_with("40/realtime,"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_keep_alive_connection_that_is_never_upgraded_is_served_as_by_a_bare_socket() {
    let (address, _tasks) = gateway().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    for connection in ["keep-alive", "close"] {
        let request = format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: {connection}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nplain") {
            assert_ne!(soon(stream.read_buf(&mut answer)).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
        }
        assert!(
            answer.starts_with(b"HTTP/1.1 200") && !String::from_utf8_lossy(&answer).contains(WIRE_HEADER.as_str())
        );
    }
    assert_eq!(soon(stream.read_to_end(&mut Vec::new())).await.unwrap(), 0);
}
