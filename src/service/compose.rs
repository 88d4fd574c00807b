//! Stored events as clients get them. An event that no client may get is counted and passed over.

use hallway_rooms::draft::InvalidEvent;
use hallway_rooms::entry::Entry;
use hallway_rooms::envelope::Envelope;
use metrics::counter;

use crate::broker::SharedEntry;
use crate::logs;
use crate::metrics::EVENTS_REFUSED;

/// A stored event as clients get it; none when it is not valid, such as one that an older version accepted.
pub(super) fn compose_entry(entry: &Entry) -> Option<Envelope> {
    Envelope::from_entry(entry).inspect_err(|error| note_unfit(entry, error)).ok()
}

/// The same for an entry that other readers share.
pub(super) fn shared_envelope(entry: &SharedEntry) -> Option<&Envelope> {
    entry.envelope().inspect_err(|error| note_unfit(entry, error)).ok()
}

fn note_unfit(entry: &Entry, error: &InvalidEvent) {
    counter!(EVENTS_REFUSED, "source" => "history").increment(1);
    tracing::debug!(event = logs::EVENT_UNFIT, id = %entry.id, %error, "a stored event is not fit to be passed on");
}
