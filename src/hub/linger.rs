//! Letting go: a room whose last member left some seconds ago is unsubscribed and forgotten.

use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use tokio_util::sync::CancellationToken;

use super::Hub;
use super::room::{LocalRoom, Turn};

/// How often empty rooms are looked for.
const TURN: Duration = Duration::from_secs(1);

impl Hub {
    /// Forgets empty rooms until `stop`.
    pub async fn tidy(&self, stop: CancellationToken) {
        let mut turns = tokio::time::interval(TURN);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = turns.tick() => {
                    self.let_go();
                    gauge!(crate::metrics::ROOMS).set(count(self.rooms()));
                }
            }
        }
    }

    fn let_go(&self) {
        let idle = |local: &Arc<LocalRoom>| local.idle_since().is_some_and(|since| since.elapsed() >= self.0.linger);
        for local in self.all().into_iter().filter(idle) {
            let Some(mut turn) = local.try_opening() else { continue };
            let mut rooms = self.0.rooms.write();
            let mut seated = local.hold();
            if seated.size() > 0 || seated.is_watched() || !self.0.broker.unsubscribe(local.room()) {
                continue;
            }
            seated.shut();
            rooms.remove(local.room());
            *turn = Turn::Gone;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(crate) fn count(n: usize) -> f64 {
    n as f64
}
