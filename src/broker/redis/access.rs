//! The Redis rights of a node and of a publishing service, and nothing more. The only place where these lines are
//! kept.

/// The commands that a publisher runs, directly or through the function.
const COMMANDS: &str = "+fcall +time +mget +xrevrange +xadd +pexpire +set +publish +spublish +cluster|myid +hget +hset +hdel +hgetall +hlen";

/// The commands that a node runs, directly or through functions and scripts.
const NODE_COMMANDS: &str = "+ping +hello +select +info +time +subscribe +unsubscribe +publish +spublish +cluster|myid +function|load \
    +fcall +fcall_ro +eval +evalsha +script|load +multi +exec +get +mget +set +setnx +del +pexpire +pttl \
    +hget +hset +hsetnx +hdel +hgetall +hkeys +hlen +hincrby +xadd +xrange +xrevrange +xlen +xread +xreadgroup +xack +xdel +xgroup|create \
    +zadd +zrem +zremrangebyscore +zincrby +zscore +zscan";

/// The `ACL SETUSER` line of a node, named `gateway`, with the password `secret`.
fn node_acl(prefix: &str) -> String {
    format!("ACL SETUSER gateway on >secret resetkeys ~{prefix}:* resetchannels &{prefix}:* -@all {NODE_COMMANDS}")
}

/// The `ACL SETUSER` line of a publishing service, named `svc`, with the password `secret`.
fn publisher_acl(prefix: &str) -> String {
    format!("ACL SETUSER svc on >secret resetkeys ~{prefix}:{{* resetchannels &{prefix}:{{* -@all {COMMANDS}")
}

/// Both lines as a comment for the library.
pub(super) fn acl_comment(prefix: &str) -> String {
    let (publisher, node) = (publisher_acl(prefix), node_acl(prefix));
    format!(
        "-- A Redis user for publishing, who reaches nothing but the keys and channels of rooms; put a name and a password in\n\
         -- the place of `svc` and `secret`:\n--\n--   {publisher}\n--\n-- And one for the nodes:\n--\n--   {node}\n\n"
    )
}
