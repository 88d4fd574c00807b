//! Making a connection, and asking the server at its other end what it is.

use std::collections::HashMap;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisError, RedisResult, Value, cmd, from_redis_value};
use tokio::time::timeout;

use super::{LinkSettings, remedy, trouble};

/// What a server says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Greeting {
    /// Whether it is a node of a Redis Cluster.
    pub(super) cluster: bool,
    /// The id of its process, where this user may know it.
    pub(super) run_id: Option<String>,
}

/// The same client, whose connections Redis lists as `lib-name=hallway-<name>`.
///
/// # Errors
/// When the client's address is none.
pub fn named(client: &Client, name: &str) -> RedisResult<Client> {
    let address = client.get_connection_info().clone().into_connection_info()?;
    let settings = address.redis_settings().clone();
    let settings = settings.set_lib_name(format!("hallway-{name}"), env!("CARGO_PKG_VERSION"));
    Client::open(address.set_redis_settings(settings))
}

/// A connection to a server that serves, or why there is none. The name is resolved anew.
pub(super) async fn dial(
    client: &Client,
    settings: &LinkSettings,
) -> Result<(MultiplexedConnection, Greeting), String> {
    let connecting = timeout(settings.connect_timeout, connect(client)).await;
    let Ok(connected) = connecting else { return Err(unanswered(settings.connect_timeout)) };
    connected.map_err(|error| remedy::problem(settings.name, &error))
}

/// What is said of an attempt that took too long.
#[must_use]
pub fn unanswered(limit: Duration) -> String {
    format!("Redis did not answer within redis.connect_timeout ({limit:?}); {}", remedy::SEE_URL)
}

async fn connect(client: &Client) -> RedisResult<(MultiplexedConnection, Greeting)> {
    // Time is kept by the link, for whole attempts and whole answers.
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    let mut greeting = greet(&mut connection).await?;
    greeting.run_id = run_id(&mut connection).await;
    Ok((connection, greeting))
}

/// Asks `HELLO`, which every user may and which a server answers in any state, and `PING`, which it refuses while it
/// does not serve.
pub(super) async fn greet(connection: &mut MultiplexedConnection) -> RedisResult<Greeting> {
    let mut both = redis::pipe();
    both.ignore_errors().cmd("HELLO").cmd("PING");
    let answers: Vec<RedisResult<Value>> = both.query_async(connection).await?;
    for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        if trouble::is_end(error) {
            return Err(error.clone());
        }
    }
    let Some(Ok(hello)) = answers.into_iter().next() else {
        // A proxy that does not know HELLO: what its server is shows in what it answers.
        return Ok(Greeting::default());
    };
    read(hello)
}

fn read(hello: Value) -> RedisResult<Greeting> {
    let says: HashMap<String, Value> = from_redis_value(hello)?;
    let text = |name: &str| says.get(name).and_then(|value| from_redis_value::<String>(value.clone()).ok());
    if text("role").is_some_and(|role| role != "master") {
        return Err(demoted());
    }
    Ok(Greeting { cluster: text("mode").is_some_and(|mode| mode == "cluster"), run_id: None })
}

async fn run_id(connection: &mut MultiplexedConnection) -> Option<String> {
    let about: String = cmd("INFO").arg("server").query_async(connection).await.ok()?;
    about.lines().find_map(|line| line.strip_prefix("run_id:")).map(str::to_owned)
}

/// The error that a replica gives to a write.
fn demoted() -> RedisError {
    redis::make_extension_error("READONLY".to_owned(), Some("it says that it is a replica".to_owned()))
}
