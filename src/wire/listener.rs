//! The listener that hands hyper wires instead of plain sockets. A socket may be accepted on one runtime and live in
//! another: an event loop makes wires of the sockets that it is given ([`WireFactory`]).

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

/// Makes wires of accepted sockets, in one event loop.
#[derive(Clone, Debug)]
pub struct WireFactory {
    /// What all its wires share.
    ground: Arc<ListenerContext>,
    /// The reader of its wires that are handed over. It ends behind the last of them when no factory is left.
    reader: Option<Arc<StartedReader>>,
}

impl WireFactory {
    /// Makes a factory for wires that live in `runtime`, the event loop of this index. Their flushers run on `tasks`, so that
    /// a shutdown can wait for the last bytes.
    #[must_use]
    pub fn new(config: WireConfig, tasks: TaskTracker, runtime: Handle, event_loop: usize) -> Self {
        // The metric is there before the first client.
        gauge!(HANDED_OVER).increment(0.0);
        let reader = config.hand_over.map(|settings| Arc::new(start_reader(&settings, &tasks, &runtime)));
        let ready = reader.as_ref().map(|reader| reader.ready.clone());
        Self { ground: Arc::new(ListenerContext { config, tasks, ready, runtime, event_loop }), reader }
    }

    /// Makes a wire. To be called on the runtime that the wire is to live in.
    ///
    /// # Errors
    /// When the runtime cannot watch the socket.
    pub fn make_wire(&self, socket: std::net::TcpStream, peer: SocketAddr) -> io::Result<WireIo> {
        Ok(self.make_of(TcpStream::from_std(socket)?, peer))
    }

    fn make_of(&self, stream: TcpStream, peer: SocketAddr) -> WireIo {
        if let Err(error) = tune_socket(&stream, &self.ground.config) {
            // The connection works without the option, so this is no reason to refuse the client.
            tracing::debug!(event = logs::SOCKET_OPTION_FAILED, %peer, %error, "a socket option could not be set");
        }
        let reader = self.reader.as_ref().map(|reader| reader.arrivals.clone());
        WireIo::new(stream, peer, Arc::clone(&self.ground), reader)
    }
}

/// Accepts sockets, for whichever event loop is to have them.
#[derive(Debug)]
pub struct SocketAcceptor {
    listener: TcpListener,
    /// The OS error that was logged last and when, so that a failing `accept` does not flood the log.
    logged: Option<(Option<i32>, Instant)>,
}

/// Accepts connections as [`WireIo`], on one runtime.
#[derive(Debug)]
pub struct WireListener {
    acceptor: SocketAcceptor,
    /// Settings of all its wires.
    config: WireConfig,
    /// Where flushers are spawned, so that a shutdown can wait for the last bytes.
    tasks: TaskTracker,
    /// What all wires share; made with the first connection.
    factory: Option<WireFactory>,
}

impl WireListener {
    /// Wraps `listener`. The flushers of its wires run on `tasks`.
    #[must_use]
    pub fn new(listener: TcpListener, config: WireConfig, tasks: TaskTracker) -> Self {
        Self { acceptor: SocketAcceptor::new(listener), config, tasks, factory: None }
    }

    /// Gives what makes the wires. It is made lazily: the runtime is known only once a connection is awaited.
    fn wire_factory(&mut self) -> &WireFactory {
        let make = || WireFactory::new(self.config.clone(), self.tasks.clone(), Handle::current(), 0);
        self.factory.get_or_insert_with(make)
    }
}

impl SocketAcceptor {
    /// Accepts from `listener`.
    #[must_use]
    pub fn new(listener: TcpListener) -> Self {
        Self { listener, logged: None }
    }

    /// Waits for the next socket. It is ready to be taken to another runtime.
    pub async fn accept_socket(&mut self) -> (std::net::TcpStream, SocketAddr) {
        loop {
            let (stream, peer) = self.accept_stream().await;
            match stream.into_std() {
                Ok(socket) => return (socket, peer),
                Err(error) => {
                    tracing::debug!(event = logs::SOCKET_OPTION_FAILED, %peer, %error, "a socket could not be handed over")
                }
            }
        }
    }

    async fn accept_stream(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => return accepted,
                // The peer gave up while it stood in the accept queue; the listener is fine, so no pause.
                Err(error) if is_of_connection(&error) => {}
                Err(error) => {
                    self.log_error(&error);
                    sleep(BACK_OFF).await;
                }
            }
        }
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
        let (stream, peer) = self.acceptor.accept_stream().await;
        (self.wire_factory().make_of(stream, peer), peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.acceptor.listener.local_addr()
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
