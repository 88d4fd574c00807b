//! The listeners and their routes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use metrics::gauge;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;

use super::admission::{self, Admission};
use super::build::TOO_OFTEN;
use super::dev_guard::DevGuard;
use super::origins::Origins;
use super::serve::{ListenerServer, ServingLoop};
use super::{Descriptors, Gateway, StartError};
use crate::api::{admin, health};
use crate::config::Config;
use crate::connections::{ConnectionSlots, SlotLimits};
use crate::doors::socketio::{Door, SocketIoSettings, announced_attachments, hand_over};
use crate::metrics::{HTTP_CONNECTIONS, NodeMetrics, limit::Limit};
use crate::rate::Rate;
use crate::readiness::Readiness;
use crate::wire::{SocketAcceptor, WireConfig, WireFactory};

/// Allowance of frames per minute that are neither commands nor heartbeats, such as CONNECTs.
const OTHER_FRAMES: u32 = 200;

/// The parts that answer on the main listeners.
#[derive(Debug)]
pub(super) struct MainListeners {
    /// The door of each event loop.
    pub(super) doors: Vec<Arc<Door>>,
    /// Settings for the door's layer.
    pub(super) settings: SocketIoSettings,
    /// The API's routes, on the main listeners or on one of their own.
    pub(super) v1: Router,
    pub(super) readiness: Readiness,
    /// The admission checks.
    pub(super) admission: Admission,
    pub(super) origins: Origins,
    /// The dev guard; none in production.
    pub(super) guard: Option<DevGuard>,
}

impl MainListeners {
    /// The routes of one event loop.
    fn main(&self, door: &Arc<Door>, with_api: bool) -> Router {
        let mut router = health::routes(self.readiness.clone());
        // With a listener of its own the API must not be reachable for clients too.
        if with_api {
            router = router.merge(self.v1.clone());
        }
        // Layers wrap outwards: the origin is checked first, so that a foreign page takes neither a slot nor a
        // handshake.
        let router = self.origins.allow_listed(router).layer(door.socketio_layer(&self.settings));
        self.origins.refuse_unlisted(router.layer(from_fn_with_state(self.admission.clone(), admission::admit_request)))
    }

    fn api_routes(&self) -> Router {
        self.origins.refuse_unlisted(self.origins.allow_listed(self.v1.clone()))
    }
}

/// A listener for services or operators.
struct PlainListener<'a> {
    /// Its configuration key, named when it cannot be bound.
    key: &'a str,
    address: SocketAddr,
    router: Router,
    /// How long a connection may stay without a response.
    idle_timeout: Duration,
    /// Most connections to it.
    places: u32,
    /// The limit to report when they are all taken.
    limit: Limit,
}

impl Gateway {
    pub(super) fn open_listeners(
        &mut self,
        config: &Config,
        front: MainListeners,
        metrics: NodeMetrics,
    ) -> Result<(), StartError> {
        let descriptors = Descriptors::of_process(config);
        let guard = front.guard.clone();
        let guarded = |router: Router| match &guard {
            Some(guard) => guard.protect_routes(router),
            None => router,
        };
        let with_api = config.api.listen.is_none();
        let routers: Vec<Router> = front.doors.iter().map(|door| guarded(front.main(door, with_api))).collect();
        // One pool for all addresses of `server.listen`: descriptors belong to the process and not to an address.
        let places = listener_slots(SlotLimits { all: Some(descriptors.clients), per_ip: None }, Limit::Descriptors);
        for address in &config.server.listen {
            self.serve_wires(*address, &routers, places.clone(), config)?;
        }
        // Without an address of its own the API is part of the main router.
        if let Some(address) = config.api.listen {
            let api = PlainListener {
                key: "api.listen",
                address,
                router: guarded(front.api_routes()),
                // A short idle timeout must not cut off a request whose answer is still under way.
                idle_timeout: config.api.idle_timeout.max(longest_answer(config)),
                places: descriptors.api,
                limit: Limit::ApiConnections,
            };
            self.serve_plain(api, config)?;
        }
        let admin = PlainListener {
            key: "admin.listen",
            address: config.admin.listen,
            router: guarded(admin::routes(front.readiness, metrics)),
            idle_timeout: config.admin.idle_timeout,
            places: descriptors.admin,
            limit: Limit::AdminConnections,
        };
        self.serve_plain(admin, config)
    }

    fn serve_wires(
        &mut self,
        address: SocketAddr,
        routers: &[Router],
        places: (ConnectionSlots, Limit),
        config: &Config,
    ) -> Result<(), StartError> {
        let listener = self.bind_one("server.listen", address, config.server.backlog)?;
        let wire = self.wire_config(config);
        let loops = self.loops.all().iter().enumerate().zip(routers).map(|((index, event_loop), router)| ServingLoop {
            wires: WireFactory::new(wire.clone(), self.wires.clone(), event_loop.runtime().clone(), index),
            runtime: event_loop.runtime().clone(),
            router: router.clone(),
            load: Some(event_loop.load().clone()),
        });
        let server = ListenerServer {
            acceptor: SocketAcceptor::new(listener),
            loops: loops.collect(),
            head_bytes: config.limits.head_bytes.get(),
            places,
            closing: self.closing.clone(),
            tasks: self.servers.clone(),
        };
        self.servers.spawn(server.accept_connections());
        Ok(())
    }

    /// Serves a listener without upgrades; of its wires only the deadlines matter.
    fn serve_plain(&mut self, plain: PlainListener<'_>, config: &Config) -> Result<(), StartError> {
        let listener = self.bind_one(plain.key, plain.address, config.server.backlog)?;
        let wire = WireConfig { request_deadline: plain.idle_timeout, hand_over: None, ..self.wire_config(config) };
        // One address may take half: a single broken service must leave connections for the others.
        let caps = SlotLimits { all: Some(plain.places), per_ip: Some(plain.places.div_ceil(2)) };
        let runtime = Handle::current();
        let server = ListenerServer {
            acceptor: SocketAcceptor::new(listener),
            loops: vec![ServingLoop {
                wires: WireFactory::new(wire, self.wires.clone(), runtime.clone(), 0),
                runtime,
                router: plain.router,
                load: None,
            }],
            head_bytes: config.limits.head_bytes.get(),
            places: listener_slots(caps, plain.limit),
            // Open until the end of a shutdown: operators and services are served while clients are drained.
            closing: self.stop.clone(),
            tasks: self.servers.clone(),
        };
        self.servers.spawn(server.accept_connections());
        Ok(())
    }

    fn bind_one(&mut self, key: &str, address: SocketAddr, backlog: u32) -> Result<TcpListener, StartError> {
        let problem = |e| format!("{address} cannot be bound: {e}; free it, or give {key} another address");
        let listener = bind_listener(address, backlog).map_err(problem)?;
        self.addresses.push(listener.local_addr()?);
        Ok(listener)
    }

    fn wire_config(&self, config: &Config) -> WireConfig {
        let queue_bytes = config.limits.queue_bytes.get();
        WireConfig {
            write_deadline: config.wire.write_deadline,
            request_deadline: config.socketio.connect_timeout.max(longest_answer(config)),
            attachment_deadline: config.socketio.ping_timeout,
            announces: announced_attachments,
            user_timeout: config.wire.user_timeout,
            send_buffer: config.wire.send_buffer.get(),
            queue_bytes,
            queue_frames: config.limits.queue_frames,
            // The rest of the queue is for frames that must not be dropped.
            ephemeral_bytes: queue_bytes / 4,
            frame_bytes: config.limits.frame_bytes.get(),
            frames: Rate::per_minute(frames_per_minute(config)),
            hand_over: config
                .wire
                .hand_over
                .then(|| hand_over(config.socketio.ping_interval, config.socketio.ping_timeout)),
            backlogs: self.backlogs.clone(),
        }
    }
}

fn listener_slots(caps: SlotLimits, limit: Limit) -> (ConnectionSlots, Limit) {
    (ConnectionSlots::new(caps, gauge!(HTTP_CONNECTIONS, "limit" => limit.key())), limit)
}

/// Binds an address. It may have been in use a moment ago. `[::]` accepts IPv4 too, whatever the kernel's default
/// (`net.ipv6.bindv6only`) is.
fn bind_listener(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        SockRef::from(&socket).set_only_v6(false)?;
    }
    socket.bind(address)?;
    socket.listen(backlog)
}

/// The longest time until a response: a body as slow as allowed, and two waits for Redis.
fn longest_answer(config: &Config) -> Duration {
    config.api.body_timeout + config.redis.response_timeout * 2
}

/// The rate of frames above which a transport is killed: twice the commands that close it, plus heartbeats and
/// CONNECTs. So the limit on commands, which the client is told of, comes first.
fn frames_per_minute(config: &Config) -> u32 {
    let beats = Duration::from_mins(1).as_millis() / config.socketio.ping_interval.as_millis().max(1);
    let others = u32::try_from(beats).unwrap_or(u32::MAX).saturating_mul(2).saturating_add(OTHER_FRAMES);
    config.limits.commands_per_minute.saturating_mul(TOO_OFTEN * 2).saturating_add(others)
}
