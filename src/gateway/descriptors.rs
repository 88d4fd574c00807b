//! Descriptors: how the open files that this process may have are dealt out, so that strangers at one listener leave some for
//! everything else. A connection takes one as soon as it is accepted, before a byte of its peer has come.

use crate::config::Config;

/// What is kept for the node itself. At rest it has some 25: nine links to Redis, two runtimes, listeners and standard streams.
/// Each link may be made anew, or checked by another one, before the one in its place is closed; a name that is looked up, the
/// keys of an identity provider and the numbers of `/proc` take one or two for a moment; each listener has one for who is
/// accepted only to be turned away, and two of them sixteen more for who is told so. That is a hundred, rounded up.
const OWN: u32 = 128;
/// Of a question to the authorizer: its connection, and the socket that looks the name up.
const OF_A_QUESTION: u32 = 2;
/// The part of the rest that operators may take, where that is less than `limits.admin_connections`: a handful of a thousand.
const ADMIN: u32 = 16;
/// The part of the rest that services may take, where that is less than `limits.api_connections`.
const API: u32 = 4;

/// Connections that the descriptors are enough for, by listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptors {
    /// The limit of this process.
    pub(super) limit: u64,
    /// To all of `server.listen` together.
    pub(super) clients: u32,
    /// To `api.listen`; none where there is no such listener.
    pub(super) api: u32,
    /// To `admin.listen`.
    pub(super) admin: u32,
}

impl Descriptors {
    /// Those of this process, as its limit is right now.
    pub(super) fn of_process(config: &Config) -> Self {
        // A system that does not say how many there may be is not taken at less than its word.
        let limit = rlimit::Resource::NOFILE.get_soft().unwrap_or(u64::MAX);
        Self::deal(limit, config)
    }

    fn deal(limit: u64, config: &Config) -> Self {
        let all = u32::try_from(limit).unwrap_or(u32::MAX);
        let questions = config.authorizer.url.as_ref().map_or(0, |_| config.authorizer.concurrent);
        let questions = u32::try_from(questions).unwrap_or(u32::MAX).saturating_mul(OF_A_QUESTION);
        // Where there are hardly any, clients must find some too.
        let rest = all - OWN.saturating_add(questions).min(all / 2);
        let api = if config.api.listen.is_some() { config.limits.api_connections.min(rest / API) } else { 0 };
        let admin = config.limits.admin_connections.min(rest / ADMIN).max(1);
        Self { limit, clients: rest.saturating_sub(api + admin).max(1), api, admin }
    }

    /// Why they are too few for what is allowed, and what to do.
    fn shortage(self, config: &Config) -> Option<String> {
        let allowed = config.limits.connections.filter(|allowed| *allowed > self.clients)?;
        let Self { limit, clients, .. } = self;
        Some(format!(
            "limits.connections: {allowed} is more than the {clients} that {limit} open files are enough for; raise the hard \
             limit (ulimit -Hn, LimitNOFILE= of systemd, ulimits of a container), or lower limits.connections"
        ))
    }
}

/// Why this process may open too few files for `limits.connections`, and what to do.
#[must_use]
pub fn shortage(config: &Config) -> Option<String> {
    Descriptors::of_process(config).shortage(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(limit: u64, with_api: bool, expected: [u32; 3]) {
        let mut config = Config::default();
        config.api.listen = with_api.then(|| "127.0.0.1:1".parse().expect("an address"));
        let Descriptors { clients, api, admin, .. } = Descriptors::deal(limit, &config);
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
        assert_eq!(Descriptors::deal(10_000, &config).clients, 10_000 - OWN - 256);
        config.authorizer.url = Some("http://127.0.0.1:1/".to_owned());
        assert_eq!(Descriptors::deal(10_000, &config).clients, 10_000 - OWN - 200 - 256);
    }

    #[test]
    fn more_connections_than_that_are_told() {
        let mut config = Config::default();
        let short = |config: &Config| Descriptors::deal(1024, config).shortage(config);
        assert_eq!(short(&config), None);
        config.limits.connections = Some(840);
        assert_eq!(short(&config), None);
        config.limits.connections = Some(841);
        let told = short(&config).expect("one too many");
        assert!(told.contains("841 is more than the 840 that 1024 open files"), "{told}");
    }
}
