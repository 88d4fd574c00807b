//! The listeners and what answers on each.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::logs;
use crate::metrics::Numbers;
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use tokio::net::TcpListener;

use super::entrance::{self, Entrance};
use super::origins::Origins;
use super::{Gateway, StartError, guard};
use crate::api::{admin, health};
use crate::config::{Config, Mode};
use crate::doors::socketio::{Door, SocketIoSettings};
use crate::readiness::Readiness;
use crate::wire::{Wire, WireConfig, WireListener};

/// What answers on the main listeners.
#[derive(Debug)]
pub(super) struct Front {
    pub(super) door: Arc<Door>,
    pub(super) settings: SocketIoSettings,
    pub(super) v1: Router,
    pub(super) readiness: Readiness,
    pub(super) entrance: Entrance,
    pub(super) origins: Origins,
}

impl Front {
    fn main(&self, with_api: bool) -> Router {
        let mut router = health::routes(self.readiness.clone());
        if with_api {
            router = router.merge(self.v1.clone());
        }
        let router = self.origins.share(router).layer(self.door.layer(&self.settings));
        self.origins.guard(router.layer(from_fn_with_state(self.entrance.clone(), entrance::enter)))
    }

    fn api(&self) -> Router {
        self.origins.guard(self.origins.share(self.v1.clone()))
    }
}

impl Gateway {
    pub(super) async fn listen(
        &mut self,
        config: &Config,
        mode: Mode,
        front: Front,
        metrics: Numbers,
    ) -> Result<(), StartError> {
        let guarded = |router: Router| if mode.is_dev() { router.layer(from_fn(guard::check)) } else { router };
        let main = guarded(front.main(config.api.listen.is_none()));
        for address in &config.server.listen {
            self.serve_wires(*address, main.clone(), wire_config(config)).await?;
        }
        if let Some(address) = config.api.listen {
            self.serve_plain("api.listen", address, guarded(front.api())).await?;
        }
        let admin = guarded(admin::routes(front.readiness, metrics));
        self.serve_plain("admin.listen", config.admin.listen, admin).await
    }

    async fn serve_wires(&mut self, address: SocketAddr, router: Router, wire: WireConfig) -> Result<(), StartError> {
        let listener = self.bind_one("server.listen", address).await?;
        let listener = WireListener::new(listener, wire, self.wires.clone());
        let service = router.into_make_service_with_connect_info::<Wire>();
        let closing = self.closing.clone().cancelled_owned();
        self.servers.spawn(async move {
            let served = axum::serve(listener, service).with_graceful_shutdown(closing).await;
            served.inspect_err(|error| tracing::error!(event = logs::LISTENER_ENDED, %error, "a listener ended")).ok();
        });
        Ok(())
    }

    async fn serve_plain(&mut self, key: &str, address: SocketAddr, router: Router) -> Result<(), StartError> {
        let listener = self.bind_one(key, address).await?;
        let closing = self.stop.clone().cancelled_owned();
        self.servers.spawn(async move {
            let served = axum::serve(listener, router).with_graceful_shutdown(closing).await;
            served.inspect_err(|error| tracing::error!(event = logs::LISTENER_ENDED, %error, "a listener ended")).ok();
        });
        Ok(())
    }

    async fn bind_one(&mut self, key: &str, address: SocketAddr) -> Result<TcpListener, StartError> {
        let problem = |e| format!("{address} cannot be bound: {e}; free it, or give {key} another address");
        let listener = TcpListener::bind(address).await.map_err(problem)?;
        self.addresses.push(listener.local_addr()?);
        Ok(listener)
    }
}

fn wire_config(config: &Config) -> WireConfig {
    let queue_bytes = config.limits.queue_bytes.get();
    WireConfig {
        write_deadline: config.wire.write_deadline,
        request_deadline: config
            .socketio
            .connect_timeout
            .max(config.api.body_timeout + config.redis.response_timeout * 2),
        user_timeout: config.wire.user_timeout,
        send_buffer: config.wire.send_buffer.get(),
        queue_bytes,
        queue_frames: config.limits.queue_frames,
        ephemeral_bytes: queue_bytes / 4,
        frame_bytes: config.limits.frame_bytes.get(),
    }
}
