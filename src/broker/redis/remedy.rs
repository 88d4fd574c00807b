//! What an operator is told when Redis refuses or does not answer: what is wrong, and what mends it.

use ::redis::{ErrorKind, RedisError};

/// Says that Redis cannot be used for `what` because of `error`, and what to do about it.
pub(super) fn problem(what: &str, error: &RedisError) -> String {
    if let Some((wrong, remedy)) = refusal(error) {
        return format!("{wrong} ({error}); {remedy}");
    }
    if error.detail().is_some_and(|detail| detail.contains("unknown command")) {
        return "Redis does not know a command that a gateway needs; use Redis 7 or newer, or Valkey, with FUNCTION and \
                FCALL not renamed"
            .to_owned();
    }
    format!("Redis is out of reach for {what}: {error}; see redis.url and whether it runs")
}

/// Whether a key holds something else than it should; a pipeline hides the code of its error.
pub(super) fn is_wrong_type(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE") || error.to_string().contains("WRONGTYPE")
}

/// What Redis refused, and what mends it; none when it is no refusal.
fn refusal(error: &RedisError) -> Option<(&'static str, &'static str)> {
    if error.kind() == ErrorKind::AuthenticationFailed {
        return Some(("Redis refuses the password", "see the user and the password in redis.url"));
    }
    match error.code()? {
        "NOAUTH" | "WRONGPASS" => Some(("Redis refuses the password", "see the user and the password in redis.url")),
        "NOPERM" => Some((
            "the user in redis.url lacks a right",
            "ACL SETUSER it with ~<prefix>:* &<prefix>:* +@all -@dangerous +info, or load the function for it with \
             `hallway redis-function`",
        )),
        "READONLY" => Some(("redis.url leads to a replica", "name the primary")),
        "OOM" => Some(("Redis has reached maxmemory", "raise it, or shorten the histories")),
        "LOADING" => Some(("Redis is still loading its data", "wait")),
        "MISCONF" => Some(("Redis takes no writes because it cannot save", "see its disk and its log")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ::redis::make_extension_error;

    use super::*;

    #[track_caller]
    fn check(code: &str, detail: &str, expected: &str) {
        let said = problem("commands", &make_extension_error(code.to_owned(), Some(detail.to_owned())));
        assert!(said.contains(expected), "{said}");
    }

    #[test]
    fn a_refusal_names_what_mends_it() {
        check("NOAUTH", "Authentication required.", "the password in redis.url");
        check("WRONGPASS", "invalid username-password pair", "the password in redis.url");
        check("OOM", "command not allowed", "maxmemory");
        check("ERR", "unknown command 'FUNCTION', with args beginning with: 'LOAD'", "Redis 7 or newer");
        check("ERR", "something else", "see redis.url");
    }
}
