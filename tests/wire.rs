//! The wire on real sockets: who is closed, who is told, and what the peer reads.

#![expect(clippy::unwrap_used, reason = "a test may panic, and so may what it is built of")]

use std::io;
use std::thread;
use std::time::Duration;

use axum::serve::Listener;
use bytes::Bytes;
use futures_util::StreamExt;
use hallway::wire::{
    FrameSeries, LagPolicy, Lane, PEER_GONE, PendingFrames, PushOutcome, SLOW_CONSUMER, WRITE_STALLED, Wire,
    WireConfig, WireIo, WireListener, text_frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::task::TaskTracker;

mod gateway;

const HEAD: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nx-hallway-wire: n0nce\r\n\r\n";
const CHUNK: usize = 16 * 1024;

/// Far longer than anything takes; a test that gets here has failed.
async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(30), future).await.expect("this must happen soon")
}

fn patient() -> WireConfig {
    WireConfig { write_deadline: Duration::from_secs(60), send_buffer: 4096, ..WireConfig::default() }
}

fn hasty() -> WireConfig {
    WireConfig { write_deadline: Duration::from_millis(300), ..patient() }
}

struct Pair {
    io: WireIo,
    wire: Wire,
    client: TcpStream,
    tasks: TaskTracker,
}

/// A connection whose kernel buffers are small, so that a peer that does not read is felt soon.
async fn pair(config: WireConfig) -> Pair {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = TaskTracker::new();
    let mut listener = WireListener::new(listener, config, tasks.clone());
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let (accepted, client) = tokio::join!(listener.accept(), socket.connect(address));
    let wire = accepted.0.wire().clone();
    Pair { io: accepted.0, wire, client: client.unwrap(), tasks }
}

impl Pair {
    /// Upgrades the connection; the lane is open.
    async fn lane(&mut self) -> Lane {
        let lane = self.wire.add_lane("");
        self.wire.arm_nonce("n0nce");
        self.io.write_all(HEAD).await.unwrap();
        let mut head = vec![0; HEAD.len()];
        soon(self.client.read_exact(&mut head)).await.unwrap();
        assert_eq!(head, HEAD);
        lane
    }

    fn on_close(&self) -> oneshot::Receiver<&'static str> {
        let (tell, told) = oneshot::channel();
        self.wire.on_close(move |reason| tell.send(reason).unwrap());
        told
    }
}

fn chunk(number: usize) -> Bytes {
    text_frame(format!("{number:08}{}", "x".repeat(CHUNK)).as_bytes())
}

/// Pushes until the kernel takes no more; returns how many frames were accepted.
fn fill(lane: &Lane) -> usize {
    (0..).find(|&number| lane.push(chunk(number)) == PushOutcome::Queued).unwrap() + 1
}

fn spawn<F: Future<Output: Send> + Send + 'static>(future: F) -> JoinHandle<F::Output> {
    TaskTracker::new().spawn(future)
}

/// Reads for hyper until the end, then lets go.
fn serve(mut io: WireIo) -> JoinHandle<io::Result<usize>> {
    spawn(async move { io.read_to_end(&mut Vec::new()).await })
}

fn client(stream: TcpStream) -> WebSocketStream<TcpStream> {
    let upgraded = WebSocketStream::from_raw_socket(stream, Role::Client, None);
    futures_util::FutureExt::now_or_never(upgraded).unwrap()
}

async fn text(socket: &mut WebSocketStream<TcpStream>) -> String {
    let message = soon(socket.next()).await.unwrap().unwrap();
    let Message::Text(text) = message else {
        panic!("a text was expected, not {message:?}");
    };
    text.to_string()
}

#[tokio::test]
async fn frames_pushed_from_threads_without_a_runtime_arrive_whole_and_in_order() {
    const EACH: usize = 2000;
    let mut pair = pair(patient()).await;
    let lane = pair.lane().await;
    let serving = serve(pair.io);
    let threads: Vec<_> = (0..2)
        .map(|thread| {
            let lane = lane.clone();
            thread::spawn(move || {
                for number in 0..EACH {
                    let push = lane.push(text_frame(format!("{thread} {number} {}", "x".repeat(number)).as_bytes()));
                    assert!(matches!(push, PushOutcome::Sent | PushOutcome::Queued));
                }
            })
        })
        .collect();
    let mut socket = client(pair.client);
    let mut next = [0, 0];
    while next != [EACH, EACH] {
        let text = text(&mut socket).await;
        let mut words = text.split(' ');
        let (thread, number): (usize, usize) =
            (words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap());
        assert_eq!((number, words.next().unwrap().len()), (next[thread], number));
        next[thread] += 1;
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(lane.wire().pending_frames(), PendingFrames::default());
    drop(socket);
    soon(serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn frames_of_a_series_arrive_whole_and_in_order_whatever_the_kernel_takes_of_it() {
    const SERIES: usize = 200;
    let mut pair = pair(WireConfig { queue_bytes: 1 << 30, ..patient() }).await;
    let lane = pair.lane().await;
    let serving = serve(pair.io);
    let pushing = thread::spawn(move || {
        for first in (0..SERIES * 10).step_by(10) {
            let frame = |number| text_frame(format!("{number} {}", "x".repeat(number)).as_bytes());
            let series = FrameSeries::from_frames((first..first + 10).map(frame).collect());
            let push = lane.push_series(|| Some(&series));
            assert!(matches!(push, PushOutcome::Sent | PushOutcome::Queued));
        }
        lane
    });
    let mut socket = client(pair.client);
    for number in 0..SERIES * 10 {
        assert_eq!(text(&mut socket).await, format!("{number} {}", "x".repeat(number)));
    }
    let lane = pushing.join().unwrap();
    assert_eq!(lane.wire().pending_frames(), PendingFrames::default());
    assert_eq!(lane.push_series(|| None), PushOutcome::Skipped);
    drop(socket);
    soon(serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_series_that_passes_the_bound_closes_the_wire_as_a_slow_consumer() {
    let mut pair = pair(WireConfig { queue_frames: 20, ..patient() }).await;
    let lane = pair.lane().await;
    let closed = pair.on_close();
    let serving = serve(pair.io);
    let series = FrameSeries::from_frames((0..8).map(chunk).collect());
    let pushes: Vec<PushOutcome> = (0..1000).map(|_| lane.push_series(|| Some(&series))).collect();
    let overflow = pushes.iter().position(|push| *push == PushOutcome::Overflow).unwrap();
    assert!(pushes[overflow + 1..].iter().all(|push| *push == PushOutcome::Closed));
    assert_eq!(soon(closed).await.unwrap(), SLOW_CONSUMER);
    soon(serving).await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_killed_at_the_write_deadline() {
    let mut pair = pair(hasty()).await;
    let lane = pair.lane().await;
    let closed = pair.on_close();
    let serving = serve(pair.io);
    let start = Instant::now();
    fill(&lane);
    assert_eq!(soon(closed).await.unwrap(), WRITE_STALLED);
    assert!(start.elapsed() >= hasty().write_deadline);
    assert_eq!(soon(serving).await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    assert_eq!(lane.push(chunk(0)), PushOutcome::Closed);
}

#[tokio::test]
async fn the_write_deadline_counts_when_only_hyper_writes() {
    let mut pair = pair(hasty()).await;
    let closed = pair.on_close();
    let wrote = soon(pair.io.write_all(&vec![b'x'; 16 << 20])).await;
    assert_eq!(wrote.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    drop(pair.io);
    assert_eq!(soon(closed).await.unwrap(), WRITE_STALLED);
}

#[tokio::test]
async fn a_slow_peer_that_keeps_reading_is_not_killed() {
    let config = WireConfig { write_deadline: Duration::from_secs(4), ..patient() };
    let mut pair = pair(config).await;
    let lane = pair.lane().await;
    let serving = serve(pair.io);
    let count = (0..100).filter(|&number| lane.push(chunk(number)) != PushOutcome::Overflow).count();
    let mut pace = interval(Duration::from_millis(200));
    for _ in 0..10 {
        pace.tick().await;
        let mut bytes = vec![0; 4 * CHUNK];
        soon(pair.client.read_exact(&mut bytes)).await.unwrap();
    }
    assert_eq!((count, pair.wire.is_closed()), (100, false));
    pair.wire.close_at_once("enough");
    soon(serving).await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_kill_is_noticed_while_reads_are_paused() {
    let pair = pair(patient()).await;
    let closed = pair.on_close();
    pair.wire.pause_reads();
    let serving = serve(pair.io);
    tokio::task::yield_now().await;
    pair.wire.close_at_once("kicked");
    pair.wire.close_at_once("late");
    assert_eq!(soon(serving).await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    assert_eq!(soon(closed).await.unwrap(), "kicked");
}

#[tokio::test]
async fn a_kill_fails_the_read_and_the_write_of_a_stalled_connection() {
    let mut pair = pair(patient()).await;
    let lane = pair.lane().await;
    fill(&lane);
    let (mut reader, mut writer) = tokio::io::split(pair.io);
    let writing = spawn(async move { writer.write_all(&vec![0x89; 1 << 20]).await });
    let reading = spawn(async move { reader.read_to_end(&mut Vec::new()).await });
    tokio::task::yield_now().await;
    pair.wire.close_at_once("kicked");
    assert_eq!(pair.wire.pending_frames(), PendingFrames::default());
    assert_eq!(soon(writing).await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    assert_eq!(soon(reading).await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    pair.tasks.close();
    soon(pair.tasks.wait()).await;
}

#[tokio::test]
async fn a_kill_fails_a_write_of_hyper_that_waits_for_the_kernel() {
    let mut pair = pair(patient()).await;
    let (mut reader, mut writer) = tokio::io::split(pair.io);
    let writing = spawn(async move { writer.write_all(&vec![0; 16 << 20]).await });
    let mut byte = [0];
    soon(pair.client.read_exact(&mut byte)).await.unwrap();
    tokio::task::yield_now().await;
    pair.wire.close_at_once("kicked");
    soon(writing).await.unwrap().unwrap_err();
    soon(reader.read_to_end(&mut Vec::new())).await.unwrap_err();
}

#[tokio::test]
async fn paused_reads_go_on_after_a_resume() {
    let mut pair = pair(patient()).await;
    pair.wire.pause_reads();
    let reading = spawn(async move {
        let mut bytes = [0; 5];
        pair.io.read_exact(&mut bytes).await.map(|_| bytes)
    });
    pair.client.write_all(b"hello").await.unwrap();
    tokio::task::yield_now().await;
    assert!(!reading.is_finished());
    pair.wire.resume_reads();
    assert_eq!(&soon(reading).await.unwrap().unwrap(), b"hello");
}

#[tokio::test]
async fn each_hook_is_called_once_when_the_peer_leaves_and_a_late_one_at_once() {
    let pair = pair(patient()).await;
    let (first, second) = (pair.on_close(), pair.on_close());
    drop(pair.client);
    soon(serve(pair.io)).await.unwrap().unwrap();
    assert_eq!((soon(first).await, soon(second).await), (Ok(PEER_GONE), Ok(PEER_GONE)));
    pair.wire.close_at_once("late");
    let (tell, mut told) = oneshot::channel();
    pair.wire.on_close(move |reason| tell.send(reason).unwrap());
    assert_eq!(told.try_recv(), Ok(PEER_GONE));
}

#[tokio::test]
async fn a_hook_is_not_called_inside_a_kill() {
    let pair = pair(patient()).await;
    let mut closed = pair.on_close();
    pair.wire.close_at_once("kicked");
    assert_eq!(closed.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    drop(pair.io);
    assert_eq!(closed.try_recv(), Ok("kicked"));
}

#[tokio::test]
async fn the_peer_sees_the_end_when_hyper_lets_go_though_a_handle_lives() {
    let mut pair = pair(patient()).await;
    let lane = pair.lane().await;
    drop(pair.io);
    assert_eq!(soon(pair.client.read_to_end(&mut Vec::new())).await.unwrap(), 0);
    assert_eq!(lane.push(chunk(0)), PushOutcome::Closed);
    assert!(pair.wire.is_closed());
}

#[tokio::test]
async fn overflow_kills_the_slow_consumer_and_nobody_else() {
    let config = WireConfig { queue_bytes: 4 * CHUNK, ..patient() };
    let (mut slow, mut quick) = (pair(config.clone()).await, pair(config).await);
    let (slow_lane, quick_lane) = (slow.lane().await, quick.lane().await);
    let closed = slow.on_close();
    let (slow_serving, quick_serving) = (serve(slow.io), serve(quick.io));
    let mut socket = client(quick.client);
    let mut overflowed = false;
    for number in 0..2000 {
        let frame = chunk(number);
        overflowed |= slow_lane.push(frame.clone()) == PushOutcome::Overflow;
        assert!(matches!(quick_lane.push(frame), PushOutcome::Sent | PushOutcome::Queued));
        assert!(text(&mut socket).await.starts_with(&format!("{number:08}")));
        if overflowed {
            break;
        }
    }
    assert!(overflowed);
    assert_eq!(slow_lane.push(chunk(0)), PushOutcome::Closed);
    assert_eq!(soon(closed).await.unwrap(), SLOW_CONSUMER);
    soon(slow_serving).await.unwrap().unwrap_err();
    assert!(!quick.wire.is_closed());
    drop(socket);
    soon(quick_serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn ephemeral_frames_are_dropped_and_unwanted_ones_skipped_while_behind() {
    let mut pair = pair(WireConfig { ephemeral_bytes: 0, ..patient() }).await;
    let lane = pair.lane().await;
    assert_eq!(lane.push_as(LagPolicy::Ephemeral, || Some(text_frame(b"typing"))), PushOutcome::Sent);
    fill(&lane);
    let before = pair.wire.pending_frames();
    assert_eq!(lane.push_as(LagPolicy::Ephemeral, || panic!("not asked for")), PushOutcome::Dropped);
    assert_eq!(lane.push_if(|| None), PushOutcome::Skipped);
    assert_eq!(pair.wire.pending_frames(), before);
}

#[tokio::test]
async fn a_write_of_hyper_is_woken_in_its_turn() {
    let mut pair = pair(patient()).await;
    let lane = pair.lane().await;
    let before = fill(&lane);
    let (started, starts) = oneshot::channel();
    let mut io = pair.io;
    let writing = spawn(async move {
        let mut writing = Box::pin(io.write_all(b"\x81\x06theirs"));
        started.send(futures_util::poll!(&mut writing)).unwrap();
        writing.await.unwrap();
        io
    });
    assert!(soon(starts).await.unwrap().is_pending());
    assert_eq!(lane.push(text_frame(b"later")), PushOutcome::Queued);
    let mut socket = client(pair.client);
    for number in 0..before {
        assert!(text(&mut socket).await.starts_with(&format!("{number:08}")));
    }
    assert_eq!(text(&mut socket).await, "theirs");
    assert_eq!(text(&mut socket).await, "later");
    let _io = soon(writing).await.unwrap();
    pair.tasks.close();
    soon(pair.tasks.wait()).await;
}

#[tokio::test]
async fn a_backlog_goes_on_after_hyper_has_finished_its_frame() {
    const AFTER: usize = 40;
    let mut pair = pair(patient()).await;
    let lane = pair.lane().await;
    let (started, starts) = oneshot::channel();
    let mut io = pair.io;
    let writing = spawn(async move {
        let theirs = text_frame(&vec![b't'; 16 << 20]);
        let mut writing = Box::pin(io.write_all(&theirs));
        started.send(futures_util::poll!(&mut writing)).unwrap();
        writing.await.unwrap();
        io
    });
    assert!(soon(starts).await.unwrap().is_pending());
    for number in 0..AFTER {
        assert_eq!(lane.push(chunk(number)), PushOutcome::Queued);
    }
    let mut socket = client(pair.client);
    assert_eq!(text(&mut socket).await.len(), 16 << 20);
    // The peer reads nothing until hyper is done, so that the backlog meets a kernel that is full.
    let _io = soon(writing).await.unwrap();
    for number in 0..AFTER {
        assert!(text(&mut socket).await.starts_with(&format!("{number:08}")));
    }
}

#[tokio::test]
async fn a_shutdown_by_hyper_finishes_the_frame_that_has_begun() {
    let mut pair = pair(patient()).await;
    let lane = pair.lane().await;
    let begun = fill(&lane);
    lane.push(chunk(begun));
    let shutting = async { pair.io.shutdown().await.unwrap() };
    let reading = async {
        let mut bytes = Vec::new();
        soon(pair.client.read_to_end(&mut bytes)).await.unwrap();
        bytes
    };
    let ((), bytes) = tokio::join!(shutting, reading);
    assert_eq!(bytes.len() % chunk(0).len(), 0, "whole frames only");
    assert!(bytes.len() <= begun * chunk(0).len(), "and none that had not begun");
    assert_eq!(lane.push(chunk(0)), PushOutcome::Closed);
}

#[tokio::test]
async fn closing_after_the_flush_delivers_everything_even_when_the_peer_has_sent_unread_bytes() {
    let mut pair = pair(patient()).await;
    let lane = pair.lane().await;
    let closed = pair.on_close();
    let count = fill(&lane);
    pair.client.write_all(&[7; 3000]).await.unwrap();
    pair.wire.pause_reads();
    let serving = serve(pair.io);
    pair.wire.close_after_flush("bye");
    assert_eq!(lane.push(chunk(count)), PushOutcome::Closed);
    let mut bytes = Vec::new();
    soon(pair.client.read_to_end(&mut bytes)).await.unwrap();
    let expected: Vec<Bytes> = (0..count).map(chunk).collect();
    assert!(bytes == expected.concat());
    drop(pair.client);
    assert_eq!(soon(closed).await.unwrap(), "bye");
    let read = soon(serving).await.unwrap();
    assert_eq!(read.unwrap(), 0, "what came is thrown away up to the end");
    pair.tasks.close();
    soon(pair.tasks.wait()).await;
}

#[tokio::test]
async fn closing_after_the_flush_waits_for_a_lane_that_is_about_to_open() {
    let mut pair = pair(patient()).await;
    let _open = pair.lane().await;
    let lane = pair.wire.add_lane("40/n,");
    assert_eq!(lane.push(text_frame(b"held")), PushOutcome::Queued);
    pair.wire.close_after_flush("bye");
    pair.io.write_all(&text_frame(b"40/n,{}")).await.unwrap();
    let serving = serve(pair.io);
    let mut bytes = Vec::new();
    soon(pair.client.read_to_end(&mut bytes)).await.unwrap();
    let expected = [text_frame(b"40/n,{}"), text_frame(b"held")];
    assert_eq!(bytes, expected.concat());
    drop(pair.client);
    soon(serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn closing_after_the_flush_gives_up_on_a_peer_that_takes_nothing_or_never_closes() {
    let (mut stalled, mut idle) = (pair(hasty()).await, pair(hasty()).await);
    let lane = stalled.lane().await;
    let _idle_lane = idle.lane().await;
    fill(&lane);
    for pair in [stalled, idle] {
        let closed = pair.on_close();
        let serving = serve(pair.io);
        pair.wire.close_after_flush("bye");
        assert_eq!(soon(closed).await.unwrap(), "bye");
        soon(serving).await.unwrap().unwrap_err();
    }
}
