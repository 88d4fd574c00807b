//! A service without doors, on the embedded broker and a fleet of the test's own.

use std::sync::Arc;
use std::time::Duration;

use hallway::auth::token::{TokenRules, Verifier};
use hallway::broker::event_channel::event_channel;
use hallway::broker::memory::{MemoryBroker, MemoryLimits};
use hallway::config::{Config, Mode};
use hallway::fleet::Fleet;
use hallway::hub::Hubs;
use hallway::rate::Rate;
use hallway::service::{FairQueue, FairQueueLimits, Service, ServiceLimits, ServiceParts, UserQuota};
use hallway::sessions::Sessions;
use hallway_rooms::class::{Classes, Retention};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const HOUR: Duration = Duration::from_hours(1);

/// A service that nothing hurries: no bound of it is reached by accident.
pub fn service(fleet: Arc<dyn Fleet>, sessions: Sessions) -> Service {
    let retention = Retention { max_events: 1, ttl: HOUR };
    let classes = Arc::new(Classes::built_in(retention, HOUR));
    let limits = MemoryLimits { id_window_ms: 1000, event_bytes: 1000 };
    let broker =
        Arc::new(MemoryBroker::new(classes.clone(), limits, Arc::new(|| 1_700_000_000_000), event_channel(1).0));
    let policy = hallway::gateway::build_policy(&Config::default(), Mode::Dev, CancellationToken::new());
    Service::new(ServiceParts {
        hubs: Hubs::new(vec![broker.clone()], fleet.clone(), HOUR, HOUR),
        broker,
        fleet,
        classes,
        policy: Arc::new(policy.expect("the rules compile")),
        verifier: Verifier::new(TokenRules::default(), Vec::new(), None),
        limits: ServiceLimits {
            rooms_per_socket: 1,
            event_bytes: 1000,
            page_bytes: 1000,
            burst: 1000,
            answer_wait: HOUR,
            join_wait: HOUR,
            locations: Rate::per_second(1),
            token_life: HOUR,
            connections_per_user: 100,
            quota_wait: HOUR,
        },
        sessions,
        quota: UserQuota::default(),
        turns: FairQueue::new(FairQueueLimits { bytes: 1000, per_user: 1 }),
        tasks: TaskTracker::new(),
    })
}
