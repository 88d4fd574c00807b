//! When each wire of a reader is to be looked at though its peer sends nothing: one place for each, instead of a timer.
//! Times are rounded up to a grain, so that one wake-up serves many wires.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// The coarsest grain: late by so much at most.
const COARSEST: Duration = Duration::from_millis(100);
/// The part of the shortest time in use that a grain may be.
const PART: u32 = 64;

/// The times of all wires; see the module.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Grains are counted from here.
    epoch: Instant,
    /// What times are rounded up to, in nanoseconds.
    grain: u64,
    /// Each wire at most once, the earliest first.
    places: BTreeSet<(u64, usize)>,
}

/// Where a wire stands in a schedule.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SchedulePlace(Option<u64>);

impl Schedule {
    /// An empty schedule for times of which `shortest` is the shortest.
    pub(super) fn new(epoch: Instant, shortest: Duration) -> Self {
        let grain = (shortest / PART).clamp(Duration::from_millis(1), COARSEST);
        Self { epoch, grain: whole_nanos(grain), places: BTreeSet::new() }
    }

    /// Puts the wire `key`, which stands at `place`, to a time, or takes it out.
    pub(super) fn set_time(&mut self, key: usize, place: &mut SchedulePlace, due: Option<Instant>) {
        let grain = due.map(|due| whole_nanos(due.saturating_duration_since(self.epoch)).div_ceil(self.grain));
        // Most calls change nothing: a wire that has been read is due when it was due before.
        if place.0 == grain {
            return;
        }
        if let Some(before) = place.0 {
            self.places.remove(&(before, key));
        }
        if let Some(grain) = grain {
            self.places.insert((grain, key));
        }
        place.0 = grain;
    }

    /// When the earliest wire is due.
    pub(super) fn next_time(&self) -> Option<Instant> {
        let (grain, _) = self.places.first()?;
        self.epoch.checked_add(Duration::from_nanos(self.grain.saturating_mul(*grain)))
    }

    /// Takes out a wire that is due at `now`; its place is the default one then.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<usize> {
        if self.next_time()? > now {
            return None;
        }
        self.places.pop_first().map(|(_, key)| key)
    }
}

/// A time in nanoseconds, of which a number holds more than five hundred years.
fn whole_nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn wires_are_due_in_the_order_of_their_times_and_never_before_them() {
        let epoch = Instant::now();
        let mut schedule = Schedule::new(epoch, Duration::from_secs(20));
        let mut places = [SchedulePlace::default(); 3];
        for (key, ms) in [(0, 950), (1, 120), (2, 500)] {
            schedule.set_time(key, &mut places[key], Some(epoch + Duration::from_millis(ms)));
        }
        assert_eq!(schedule.take_due(epoch + Duration::from_millis(119)), None);
        assert_eq!(schedule.take_due(epoch + Duration::from_millis(200)), Some(1));
        places[1] = SchedulePlace::default();
        schedule.set_time(1, &mut places[1], Some(epoch + Duration::from_secs(3)));
        schedule.set_time(2, &mut places[2], None);
        assert_eq!(schedule.next_time(), Some(epoch + Duration::from_secs(1)));
        assert_eq!(schedule.take_due(epoch + Duration::from_secs(1)), Some(0));
        assert_eq!(schedule.take_due(epoch + Duration::from_secs(2)), None);
        assert_eq!(schedule.take_due(epoch + Duration::from_secs(3)), Some(1));
        assert_eq!(schedule.next_time(), None);
    }
}
