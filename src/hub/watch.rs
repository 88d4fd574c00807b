//! The watch of a joining session over a room, from before its read of the current events until it is a member.

use std::sync::Arc;

use super::latest::LatestDelivered;
use super::room::LocalRoom;

/// A session's watch over a room while it reads the current events. During a watch the room keeps incoming `latest`
/// events and stays subscribed.
#[derive(Debug)]
pub struct LatestWatch(Arc<LocalRoom>);

impl LatestWatch {
    /// Begins a watch.
    #[must_use]
    pub fn for_room(local: &Arc<LocalRoom>) -> Self {
        local.with_latest(LatestDelivered::begin_watch);
        Self(local.clone())
    }

    /// The watched room.
    #[must_use]
    pub fn room(&self) -> &Arc<LocalRoom> {
        &self.0
    }
}

impl Drop for LatestWatch {
    fn drop(&mut self) {
        self.0.with_latest(LatestDelivered::end_watch);
    }
}
