//! What a Redis user needs to publish by the function, and nothing besides: the one place where that line stands.

/// The commands that a publisher runs, itself or inside of the function.
const COMMANDS: &str = "+fcall +time +mget +xrevrange +xadd +pexpire +set +publish +spublish +cluster|myid +hget +hset +hdel +hgetall +hlen";

/// The `ACL SETUSER` line of a publishing service, named `svc`, with the password `secret`.
fn publisher(prefix: &str) -> String {
    format!("ACL SETUSER svc on >secret resetkeys ~{prefix}:{{* resetchannels &{prefix}:{{* -@all {COMMANDS}")
}

/// The line as a comment in the library.
pub(super) fn comment(prefix: &str) -> String {
    let line = publisher(prefix);
    format!(
        "-- A Redis user for publishing, who reaches nothing but the keys and channels of rooms; put a name and a password in\n\
         -- the place of `svc` and `secret`:\n--\n--   {line}\n\n"
    )
}
