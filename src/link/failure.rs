//! What a reply says about its connection.

use redis::{RedisError, RedisResult, Value};

/// Replies of a server that serves no client: a demoted primary, a server that is still loading, or one that does not
/// know this user any more.
const ENDS: [&str; 7] = ["READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOAUTH", "WRONGPASS", "UNBLOCKED"];

/// Replies that may concern this server alone: its successor may have the rights, the memory or the replicas.
const DOUBTS: [&str; 5] = ["NOPERM", "NOREPLICAS", "MISCONF", "OOM", "BUSY"];

/// The meaning of a reply for the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LinkVerdict {
    /// Nothing.
    Fine,
    /// Another connection might serve better.
    Doubt(String),
    /// This connection is of no use.
    End(String),
}

/// A reply of Redis.
pub(super) trait RedisAnswer {
    /// The refusals in it.
    fn refusals(&self) -> Vec<String>;
}

impl RedisAnswer for Value {
    fn refusals(&self) -> Vec<String> {
        let Self::ServerError(error) = self else { return Vec::new() };
        vec![format!("{} {}", error.code(), error.details().unwrap_or_default())]
    }
}

impl RedisAnswer for Vec<Value> {
    /// A transaction's replies are one list in the list.
    fn refusals(&self) -> Vec<String> {
        let inner = |value: &Value| {
            let Value::Array(answers) = value else { return value.refusals() };
            answers.iter().flat_map(Value::refusals).collect()
        };
        self.iter().flat_map(inner).collect()
    }
}

/// The verdict on a connection by a reply.
pub(super) fn judge_answer<T: RedisAnswer>(answer: &RedisResult<T>) -> LinkVerdict {
    match answer {
        Ok(answer) => judge_refusals(&answer.refusals()),
        Err(error) if is_broken(error) => LinkVerdict::End(error.to_string()),
        // A refused transaction names the refusals of its commands in its text alone.
        Err(error) => judge_refusals(&[error_text(error)]),
    }
}

/// Whether the error means that the server serves no client.
pub(super) fn is_end(error: &RedisError) -> bool {
    is_broken(error) || contains_code(&error_text(error), &ENDS)
}

/// An error as Redis wrote it, if it came from Redis.
pub(super) fn error_text(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    }
}

fn is_broken(error: &RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped() || error.kind() == redis::ErrorKind::Parse
}

fn judge_refusals(refusals: &[String]) -> LinkVerdict {
    let first = |codes: &[&str]| refusals.iter().find(|text| contains_code(text, codes)).cloned();
    match (first(&ENDS), first(&DOUBTS)) {
        // A server of no use decides, whatever else is in the reply.
        (Some(end), _) => LinkVerdict::End(end),
        (None, Some(doubt)) => LinkVerdict::Doubt(doubt),
        (None, None) => LinkVerdict::Fine,
    }
}

/// Whether a text has one of these codes as a word.
fn contains_code(text: &str, codes: &[&str]) -> bool {
    words_of(text).any(|word| codes.contains(&word.as_str()))
}

/// The words of a text in the spelling of Redis' codes. The client library writes `NoPerm` for some of them.
pub(super) fn words_of(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric()).map(str::to_ascii_uppercase);
    words.map(|word| if word == "BUSYLOADING" { "LOADING".to_owned() } else { word })
}

#[cfg(test)]
mod tests {
    use redis::make_extension_error;

    use super::*;

    fn refused(code: &str) -> RedisResult<Value> {
        Err(make_extension_error(code.to_owned(), Some("some words".to_owned())))
    }

    #[test]
    fn a_server_that_serves_nobody_ends_a_connection_and_one_refusal_is_a_doubt() {
        for code in ENDS {
            assert!(matches!(judge_answer(&refused(code)), LinkVerdict::End(_)), "{code}");
        }
        for code in DOUBTS {
            assert!(matches!(judge_answer(&refused(code)), LinkVerdict::Doubt(_)), "{code}");
        }
        for code in ["ERR", "WRONGTYPE", "BUSYGROUP", "NOGROUP", "NOSCRIPT"] {
            assert_eq!(judge_answer(&refused(code)), LinkVerdict::Fine, "{code}");
        }
        assert_eq!(judge_answer(&Ok(Value::Nil)), LinkVerdict::Fine);
    }

    #[test]
    fn a_refused_transaction_is_judged_by_the_refusals_of_its_commands() {
        for code in ["NOPERM", "LOADING", "OOM"] {
            let refused = redis::parse_redis_value(format!("-{code} some words\r\n").as_bytes()).expect("a reply");
            let told = vec![Value::Okay, Value::Array(vec![refused])];
            assert_ne!(judge_answer(&Ok(told)), LinkVerdict::Fine, "{code}");
            let error =
                RedisError::from((redis::ErrorKind::Client, "aborted", format!("NoPerm: x, BusyLoading: {code}")));
            assert_ne!(judge_answer::<Value>(&Err(error)), LinkVerdict::Fine, "{code}");
        }
    }

    #[test]
    fn a_broken_connection_is_one_whatever_the_error_says() {
        let broken = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        assert!(matches!(judge_answer::<Value>(&Err(RedisError::from(broken))), LinkVerdict::End(_)));
    }
}
