//! Divides the file descriptors of this process between its listeners, so that clients of one leave some for everything
//! else. A connection takes one when it is accepted, before its peer has sent a byte.

use crate::config::Config;

/// Descriptors reserved for the node itself. At rest it has some 25: nine links to Redis, two runtimes, listeners and
/// standard streams. Each link may be made anew, or checked by another one, before the old one is closed; a name
/// lookup, the keys of an identity provider and the numbers of `/proc` take one or two for a moment; each listener has
/// one for a connection that is accepted only to be refused, and two of them have sixteen more for refusals with a
/// response. That is a hundred, rounded up.
const OWN: u32 = 128;
/// Descriptors per request to the authorizer: its connection, and the socket of the name lookup.
const OF_A_QUESTION: u32 = 2;
/// Divisor for the operators' part of the rest, if that is less than `limits.admin_connections`: a handful of a
/// thousand.
const ADMIN: u32 = 16;
/// Divisor for the services' part of the rest, if that is less than `limits.api_connections`.
const API: u32 = 4;

/// The connections that the descriptors suffice for, by listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptors {
    /// The soft limit of this process.
    pub(super) limit: u64,
    /// To all of `server.listen` together.
    pub(super) clients: u32,
    /// To `api.listen`; 0 without such a listener.
    pub(super) api: u32,
    /// To `admin.listen`.
    pub(super) admin: u32,
}

impl Descriptors {
    /// Divides the limit of this process as it is at this moment.
    pub(super) fn of_process(config: &Config) -> Self {
        // A system that reports no limit is taken to have none.
        let limit = rlimit::Resource::NOFILE.get_soft().unwrap_or(u64::MAX);
        Self::divide_limit(limit, config)
    }

    fn divide_limit(limit: u64, config: &Config) -> Self {
        let all = u32::try_from(limit).unwrap_or(u32::MAX);
        let questions = config.authorizer.url.as_ref().map_or(0, |_| config.authorizer.concurrent);
        let questions = u32::try_from(questions).unwrap_or(u32::MAX).saturating_mul(OF_A_QUESTION);
        // With hardly any descriptors, half of them is for clients all the same.
        let rest = all - OWN.saturating_add(questions).min(all / 2);
        let api = if config.api.listen.is_some() { config.limits.api_connections.min(rest / API) } else { 0 };
        let admin = config.limits.admin_connections.min(rest / ADMIN).max(1);
        Self { limit, clients: rest.saturating_sub(api + admin).max(1), api, admin }
    }

    /// Explains why the descriptors are too few for `limits.connections` and what to do; `None` if they suffice.
    fn describe_shortage(self, config: &Config) -> Option<String> {
        let allowed = config.limits.connections.filter(|allowed| *allowed > self.clients)?;
        let Self { limit, clients, .. } = self;
        Some(format!(
            "limits.connections: {allowed} is more than the {clients} that {limit} open files are enough for; raise the hard \
             limit (ulimit -Hn, LimitNOFILE= of systemd, ulimits of a container), or lower limits.connections"
        ))
    }
}

/// Explains why this process may open too few files for `limits.connections` and what to do; `None` if they suffice.
#[must_use]
pub fn process_shortage(config: &Config) -> Option<String> {
    Descriptors::of_process(config).describe_shortage(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(limit: u64, with_api: bool, expected: [u32; 3]) {
        let mut config = Config::default();
        config.api.listen = with_api.then(|| "127.0.0.1:1".parse().expect("an address"));
        let Descriptors { clients, api, admin, .. } = Descriptors::divide_limit(limit, &config);
        assert_eq!([clients, api, admin], expected, "{limit} {with_api}");
        assert!(u64::from(clients + api + admin) <= limit);
    }

    #[test]
    fn all_but_a_part_is_for_clients() {
        check(1_048_576, false, [1_048_192, 0, 256]);
        check(1_048_576, true, [1_044_096, 4096, 256]);
        check(1024, false, [840, 0, 56]);
        check(1024, true, [616, 224, 56]);
        check(64, false, [30, 0, 2]);
        check(2, false, [1, 0, 1]);
        check(u64::MAX, false, [u32::MAX - OWN - 256, 0, 256]);
    }

    #[test]
    fn questions_to_an_authorizer_are_counted_in() {
        let mut config = Config::default();
        config.authorizer.concurrent = 100;
        assert_eq!(Descriptors::divide_limit(10_000, &config).clients, 10_000 - OWN - 256);
        config.authorizer.url = Some("http://127.0.0.1:1/".to_owned());
        assert_eq!(Descriptors::divide_limit(10_000, &config).clients, 10_000 - OWN - 200 - 256);
    }

    #[test]
    fn more_connections_than_that_are_told() {
        let mut config = Config::default();
        let short = |config: &Config| Descriptors::divide_limit(1024, config).describe_shortage(config);
        assert_eq!(short(&config), None);
        config.limits.connections = Some(840);
        assert_eq!(short(&config), None);
        config.limits.connections = Some(841);
        let told = short(&config).expect("one too many");
        assert!(told.contains("841 is more than the 840 that 1024 open files"), "{told}");
    }
}
