//! Making a connection, and asking the server for its role.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, select};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisError, RedisResult,
    Value, from_redis_value,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::flight::InFlight;
use super::stream::{self, ActivityStream};
use super::{LinkSettings, failure, remedy};

/// A connection that was made.
pub(super) struct DialedConnection {
    pub(super) connection: MultiplexedConnection,
    pub(super) greeting: ServerHello,
    /// Records what arrives on it.
    pub(super) flight: Arc<InFlight>,
    /// Runs its bytes, for its owner; none where the library does.
    pub(super) driver: Option<ConnectionDriver>,
}

/// Runs until it is dropped.
pub(super) type ConnectionDriver = BoxFuture<'static, Infallible>;

/// The server's statement about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerHello {
    /// Whether it is a node of a Redis Cluster.
    pub(super) cluster: bool,
    /// The id of its process, if this user may read it.
    pub(super) run_id: Option<String>,
}

/// The same client, whose connections Redis lists as `lib-name=hallway-<name>`.
///
/// # Errors
/// When the client's address is invalid.
pub fn named_client(client: &Client, name: &str) -> RedisResult<Client> {
    let address = client.get_connection_info().clone().into_connection_info()?;
    let settings = address.redis_settings().clone();
    let settings = settings.set_lib_name(format!("hallway-{name}"), env!("CARGO_PKG_VERSION"));
    Client::open(address.set_redis_settings(settings))
}

/// A connection to a server that serves, or the reason for failing. The name is resolved each time.
pub(super) async fn dial(client: &Client, settings: &LinkSettings) -> Result<DialedConnection, String> {
    let connecting = timeout(settings.connect_timeout, connect_once(client)).await;
    let Ok(connected) = connecting else { return Err(timeout_message(settings.connect_timeout)) };
    connected.map_err(|error| remedy::describe_problem(settings.name, &error))
}

/// The failure of an attempt that took too long.
#[must_use]
pub fn timeout_message(limit: Duration) -> String {
    format!("Redis did not answer within redis.connect_timeout ({limit:?}); {}", remedy::SEE_URL)
}

async fn connect_once(client: &Client) -> RedisResult<DialedConnection> {
    let flight = InFlight::new();
    let (mut connection, mut driver) = open_connection(client, &flight).await?;
    let introduced = ask_identity(&mut connection);
    // Nothing reads the socket until the driver runs, so both run together.
    let greeting = match &mut driver {
        Some(driver) => match select(pin!(introduced), driver).await {
            Either::Left((introduced, _)) => introduced,
            Either::Right((never, _)) => match never {},
        },
        None => introduced.await,
    }?;
    Ok(DialedConnection { connection, greeting, flight, driver })
}

/// Opens a connection. The library does not expose its TLS setup, so there only whole replies count as signs of life.
async fn open_connection(
    client: &Client,
    flight: &Arc<InFlight>,
) -> RedisResult<(MultiplexedConnection, Option<ConnectionDriver>)> {
    let info = client.get_connection_info();
    let settings = info.redis_settings();
    match info.addr() {
        ConnectionAddr::Tcp(host, port) => {
            connect_over(settings, ActivityStream::new(stream::connect_to_any(host, *port).await?, flight.clone()))
                .await
        }
        ConnectionAddr::Unix(path) => {
            connect_over(settings, ActivityStream::new(UnixStream::connect(path).await?, flight.clone())).await
        }
        ConnectionAddr::TcpTls { .. } | _ => {
            Ok((client.get_multiplexed_async_connection_with_config(&untimed_config()).await?, None))
        }
    }
}

async fn connect_over<S>(
    settings: &RedisConnectionInfo,
    stream: ActivityStream<S>,
) -> RedisResult<(MultiplexedConnection, Option<ConnectionDriver>)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (connection, driver) = MultiplexedConnection::new_with_config(settings, stream, untimed_config()).await?;
    // Replies from before its end are still to be read, so its end is not an outcome.
    Ok((connection, Some(driver.then(|()| std::future::pending()).boxed())))
}

/// A configuration without timeouts: the link has its own, for whole attempts and whole replies.
fn untimed_config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None)
}

/// Asks everything about a server in one round trip.
async fn ask_identity(connection: &mut MultiplexedConnection) -> RedisResult<ServerHello> {
    let mut all = redis::pipe();
    all.ignore_errors().cmd("HELLO").cmd("PING").cmd("INFO").arg("server");
    let mut answers: Vec<RedisResult<Value>> = all.query_async(connection).await?;
    let about = answers.pop();
    let greeting = judge_hello(answers)?;
    let about: Option<String> = about.and_then(Result::ok).and_then(|about| from_redis_value(about).ok());
    let run_id = about.as_deref().and_then(run_id);
    Ok(ServerHello { run_id, ..greeting })
}

/// Sends `HELLO`, which every user may send and which a server answers in any state, and `PING`, which it refuses
/// while it does not serve.
pub(super) async fn say_hello(connection: &mut MultiplexedConnection) -> RedisResult<ServerHello> {
    let mut both = redis::pipe();
    both.ignore_errors().cmd("HELLO").cmd("PING");
    judge_hello(both.query_async(connection).await?)
}

fn judge_hello(answers: Vec<RedisResult<Value>>) -> RedisResult<ServerHello> {
    for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        // The error itself decides; any other refusal, such as of `INFO`, leaves a usable server.
        if failure::is_end(error) {
            return Err(error.clone());
        }
    }
    let Some(Ok(hello)) = answers.into_iter().next() else {
        // A proxy that does not know HELLO: the nature of its server shows in its later replies.
        return Ok(ServerHello::default());
    };
    parse_hello(hello)
}

fn parse_hello(hello: Value) -> RedisResult<ServerHello> {
    let says: HashMap<String, Value> = from_redis_value(hello)?;
    let text = |name: &str| says.get(name).and_then(|value| from_redis_value::<String>(value.clone()).ok());
    // A replica answers reads and refuses writes, so it would fail only at the first publish.
    if text("role").is_some_and(|role| role != "master") {
        return Err(replica_error());
    }
    Ok(ServerHello { cluster: text("mode").is_some_and(|mode| mode == "cluster"), run_id: None })
}

fn run_id(about: &str) -> Option<String> {
    about.lines().find_map(|line| line.strip_prefix("run_id:")).map(str::to_owned)
}

/// The error that a replica gives to a write.
fn replica_error() -> RedisError {
    redis::make_extension_error("READONLY".to_owned(), Some("it says that it is a replica".to_owned()))
}
