//! Messages to operators about a Redis that refuses or does not answer: the failure and its remedy.

use redis::{ErrorKind, RedisError};

use super::failure;

/// The remedy without an answer: a server without TLS is silent to `rediss://`, and one with TLS hangs up on
/// `redis://`.
pub const SEE_URL: &str =
    "see whether Redis runs, and redis.url: its host, its port, and rediss:// only where Redis speaks TLS";

/// The sentence that Redis cannot be used for `what` because of `error`, with the remedy.
#[must_use]
pub fn describe_problem(what: &str, error: &RedisError) -> String {
    if error.kind() == ErrorKind::AuthenticationFailed {
        return format!(
            "Redis refuses the password ({error}); see redis.username and redis.password, or the user and the password in redis.url"
        );
    }
    describe_error_text(what, &failure::error_text(error))
}

/// The same for the text of an error. A transaction's error names the refusals of its commands in its text alone.
#[must_use]
pub fn describe_error_text(what: &str, error: &str) -> String {
    if let Some((wrong, remedy)) = failure::words_of(error).find_map(|word| refusal_remedy(&word)) {
        return format!("{wrong} ({error}); {remedy}");
    }
    if error.contains("unknown command") {
        return "Redis does not know a command that a gateway needs; use Redis 7 or newer, or Valkey, with FUNCTION and \
                FCALL not renamed"
            .to_owned();
    }
    if let Some(remedy) = of_tls(error) {
        return format!("there is no TLS with Redis for {what}: {error}; {remedy}");
    }
    // The library's message quotes bytes over several lines.
    if error.contains("Parse error") {
        return "the server at redis.url does not speak the protocol of Redis; see its host and its port".to_owned();
    }
    format!("Redis is out of reach for {what}: {error}; {SEE_URL}")
}

/// The remedy for a TLS failure, by the library's wording.
fn of_tls(error: &str) -> Option<&'static str> {
    let says = |words: &[&str]| words.iter().any(|word| error.contains(word));
    if says(&["CertificateRequired", "BadCertificate", "fatal alert: UnknownCA", "AccessDenied"]) {
        return Some("it refuses the client's certificate: see redis.client_cert_file and redis.client_key_file");
    }
    if says(&["invalid peer certificate"]) {
        return Some(
            "its certificate must come from redis.ca_file, or from an authority of the system without that, and name the host of redis.url",
        );
    }
    says(&["InvalidContentType"]).then_some("it does not speak TLS there: see the scheme and the port in redis.url")
}

/// The message about a cluster node.
#[must_use]
pub fn cluster_remedy() -> &'static str {
    "redis.url leads to a node of a Redis Cluster, which is not supported; name a Redis that runs with cluster mode off"
}

/// Whether a key holds another type. A pipeline hides the code of its error.
#[must_use]
pub fn is_wrong_type(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE") || error.to_string().contains("WRONGTYPE")
}

/// The refusal behind a code, with its remedy; none when the code is not a refusal.
fn refusal_remedy(code: &str) -> Option<(&'static str, &'static str)> {
    // By code: the text behind it is for humans.
    match code {
        "NOAUTH" | "WRONGPASS" => Some((
            "Redis refuses the password",
            "see redis.username and redis.password, or the user and the password in redis.url",
        )),
        "NOPERM" => Some((
            "the user of Redis lacks a right",
            "`hallway redis-function` prints the ACL line of a node's user; ~<prefix>:* &<prefix>:* +@all -@dangerous +info will \
             do as well",
        )),
        "READONLY" => Some(("redis.url leads to a replica", "name the primary")),
        "OOM" => Some(("Redis has reached maxmemory", "raise it, or shorten the histories")),
        "LOADING" => Some(("Redis is still loading its data", "wait")),
        "MASTERDOWN" => Some(("redis.url leads to a replica without its primary", "name the primary")),
        "MISCONF" => Some(("Redis takes no writes because it cannot save", "see its disk and its log")),
        "NOREPLICAS" => Some(("Redis takes no writes because too few replicas follow it", "see its replicas")),
        "BUSY" => Some(("Redis is held up by a script", "see SCRIPT KILL and FUNCTION KILL")),
        "MOVED" | "ASK" | "CROSSSLOT" | "CLUSTERDOWN" => Some((
            "redis.url leads to a node of a Redis Cluster, which is not supported",
            "name a Redis that runs with cluster mode off",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ::redis::make_extension_error;

    use super::*;

    #[track_caller]
    fn check(code: &str, detail: &str, expected: &str) {
        let said = describe_problem("commands", &make_extension_error(code.to_owned(), Some(detail.to_owned())));
        assert!(said.contains(expected), "{said}");
    }

    #[test]
    fn a_refusal_names_what_mends_it() {
        check("NOAUTH", "Authentication required.", "redis.username and redis.password");
        check("WRONGPASS", "invalid username-password pair", "redis.username and redis.password");
        let tls = |text: &str| describe_error_text("commands", text);
        assert!(tls("invalid peer certificate: UnknownIssuer").contains("redis.ca_file"));
        assert!(tls("received fatal alert: CertificateRequired").contains("redis.client_cert_file"));
        check("OOM", "command not allowed", "maxmemory");
        check("ERR", "unknown command 'FUNCTION', with args beginning with: 'LOAD'", "Redis 7 or newer");
        check("ERR", "something else", "redis.url");
        assert!(!tls("Incompatible type - Parse error at 1\nUnexpected `84`\n").contains('\n'));
    }
}
