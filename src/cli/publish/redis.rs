//! Publishing through the function in Redis, with the short form of keys.

use ::redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, Value as Reply, cmd, from_redis_value};
use serde_json::{Map, Value, json};

use super::{CliEvent, Problem};
use crate::config::Config;
use crate::gateway;

/// Room, offset, and whether the id was known there.
type CliPlace = (String, String, i64);

pub(super) async fn publish_event(client: &Client, config: &Config, event: &CliEvent) -> Result<Value, Problem> {
    let reply = call(client, config, event).await.map_err(|error| Problem::Failed(describe_error(&error, config)))?;
    parse_reply(reply).ok_or_else(|| {
        Problem::Failed(
            "Redis holds another function of this name; load Hallway's with `hallway redis-function`".to_owned(),
        )
    })
}

async fn call(client: &Client, config: &Config, event: &CliEvent) -> Result<Vec<Reply>, RedisError> {
    // The configured timeouts, as for a node: the library has defaults of its own.
    let wait_limit = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(config.redis.connect_timeout))
        .set_response_timeout(Some(config.redis.response_timeout));
    let mut connection = client.get_multiplexed_async_connection_with_config(&wait_limit).await?;
    let prefix = &config.redis.prefix;
    let mut call = cmd("FCALL");
    call.arg(gateway::build_function(config).publish_name()).arg(event.rooms.len());
    // The short key is the room's channel; the function derives all others from it.
    for room in &event.rooms {
        call.arg(format!("{prefix}:{{{room}}}"));
    }
    call.arg(event.to_json(Vec::new()));
    if let Some(id) = &event.id {
        call.arg("ID").arg(id);
    }
    if event.requires_ack {
        call.arg("REQUIRESACK");
    }
    call.query_async(&mut connection).await
}

fn parse_reply(reply: Vec<Reply>) -> Option<Value> {
    let mut parts = reply.into_iter();
    let id: String = from_redis_value(parts.next()?).ok()?;
    let places: Vec<CliPlace> = parts.map(|place| from_redis_value(place).ok()).collect::<Option<_>>()?;
    let duplicate = !places.is_empty() && places.iter().all(|(_, _, known)| *known == 1);
    let stored = places.into_iter().filter(|(_, offset, _)| !offset.is_empty());
    let offsets: Map<String, Value> = stored.map(|(room, offset, _)| (room, offset.into())).collect();
    Some(json!({"id": id, "offsets": offsets, "duplicate": duplicate}))
}

fn describe_error(error: &RedisError, config: &Config) -> String {
    let detail = error.detail().unwrap_or_default();
    // The usual cause: no gateway, which loads the function, has run on this Redis yet.
    if gateway::function_is_absent(error) {
        return format!(
            "no gateway has loaded the function {} into this Redis; start one, or load it with `hallway redis-function | \
             redis-cli -x FUNCTION LOAD REPLACE`, with the same --config",
            gateway::build_function(config).publish_name()
        );
    }
    // A server before version 7 has no functions at all.
    if detail.contains("unknown command") {
        return "Redis does not know FCALL; use Redis 7 or newer, or Valkey".to_owned();
    }
    if error.kind() == ErrorKind::AuthenticationFailed || ["NOAUTH", "WRONGPASS"].map(Some).contains(&error.code()) {
        return "Redis refuses the password; see the user and the password in its URL (--redis or redis.url) or in redis.username and redis.password"
            .to_owned();
    }
    if error.code() == Some("NOPERM") {
        return "the user of Redis lacks a right; `hallway redis-function` prints the ACL line that publishing needs"
            .to_owned();
    }
    // Refusals of the function begin with their code; anything else is an error of Redis.
    match detail.split(' ').next().unwrap_or_default() {
        "invalid-event" | "invalid-room" | "usage" => format!("the function refused the event: {detail}"),
        "event-too-large" => format!("the function refused the event: {detail} (limits.event_bytes)"),
        _ => format!("Redis did not take the event: {error}; see its URL (--redis or redis.url) and whether it runs"),
    }
}
