//! The listener that hands hyper wires instead of plain sockets.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use metrics::gauge;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use super::compact::{StartedReader, start_reader};
use super::shared::ListenerContext;
use super::{Wire, WireConfig, WireIo};
use crate::logs;
use crate::metrics::HANDED_OVER;

/// Pause after an error of the listener itself, usually that no descriptor is left. A retry at once would spin.
const BACK_OFF: Duration = Duration::from_secs(1);
/// How often a lasting error is logged again.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Accepts connections as [`WireIo`].
#[derive(Debug)]
pub struct WireListener {
    listener: TcpListener,
    /// Settings of all its wires.
    config: WireConfig,
    /// Where flushers are spawned, so that a shutdown can wait for the last bytes.
    tasks: TaskTracker,
    /// What all wires share; made with the first connection.
    ground: Option<Arc<ListenerContext>>,
    /// The reader of wires that are handed over. It ends behind the last of them when this is dropped.
    reader: Option<StartedReader>,
    /// The OS error that was logged last and when, so that a failing `accept` does not flood the log.
    logged: Option<(Option<i32>, Instant)>,
}

impl WireListener {
    /// Wraps `listener`. The flushers of its wires run on `tasks`.
    #[must_use]
    pub fn new(listener: TcpListener, config: WireConfig, tasks: TaskTracker) -> Self {
        // The metric is there before the first client.
        gauge!(HANDED_OVER).increment(0.0);
        Self { listener, config, tasks, ground: None, reader: None, logged: None }
    }

    /// Gives what all wires share. It is made lazily: the runtime is known only once a connection is awaited.
    fn listener_context(&mut self) -> Arc<ListenerContext> {
        if let Some(ground) = &self.ground {
            return ground.clone();
        }
        let runtime = Handle::current();
        self.reader = self.config.hand_over.map(|settings| start_reader(&settings, &self.tasks, &runtime));
        let ground = Arc::new(ListenerContext {
            config: self.config.clone(),
            tasks: self.tasks.clone(),
            ready: self.reader.as_ref().map(|reader| reader.ready.clone()),
            runtime,
        });
        self.ground.insert(ground).clone()
    }

    fn log_error(&mut self, error: &io::Error) {
        let now = Instant::now();
        let code = error.raw_os_error();
        // Another error code is another problem, and is logged at once.
        let known = self.logged.is_some_and(|(last, at)| last == code && now - at < LOG_EVERY);
        if !known {
            tracing::error!(event = logs::ACCEPT_FAILED, %error, "connections cannot be accepted");
            self.logged = Some((code, now));
        }
    }
}

impl Listener for WireListener {
    type Io = WireIo;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (WireIo, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let ground = self.listener_context();
                    if let Err(error) = tune_socket(&stream, &ground.config) {
                        // The connection works without the option, so this is no reason to refuse the client.
                        tracing::debug!(event = logs::SOCKET_OPTION_FAILED, %peer, %error, "a socket option could not be set");
                    }
                    let reader = self.reader.as_ref().map(|reader| reader.arrivals.clone());
                    return (WireIo::new(stream, peer, ground, reader), peer);
                }
                // The peer gave up while it stood in the accept queue; the listener is fine, so no pause.
                Err(error) if is_of_connection(&error) => {}
                Err(error) => {
                    self.log_error(&error);
                    sleep(BACK_OFF).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

fn tune_socket(stream: &TcpStream, config: &WireConfig) -> io::Result<()> {
    // Every frame is written whole: Nagle's algorithm would only delay small events until an ACK.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    if config.send_buffer > 0 {
        socket.set_send_buffer_size(config.send_buffer)?;
    }
    #[cfg(target_os = "linux")]
    if !config.user_timeout.is_zero() {
        socket.set_tcp_user_timeout(Some(config.user_timeout))?;
    }
    Ok(())
}

/// Whether the error belongs to one connection that ended before it was accepted; the next one may be fine.
fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

impl Connected<IncomingStream<'_, WireListener>> for Wire {
    fn connect_info(stream: IncomingStream<'_, WireListener>) -> Self {
        stream.io().wire().clone()
    }
}
