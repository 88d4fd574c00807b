//! Rejected entries: what is kept of them, and how they are reported.

use std::time::{Duration, Instant};

use metrics::counter;
use redis::{Cmd, cmd};

use super::entry::StreamFields;
use crate::logs;
use crate::metrics::INGEST_REJECTED;
use crate::service::publish::PublishRefused;

/// Bytes kept of a reason; some reasons quote what they found.
const REASON_BYTES: usize = 300;
/// Pause between two log lines about rejected entries.
const QUIET: Duration = Duration::from_secs(10);

/// A refused entry.
#[derive(Debug)]
pub(super) struct Reject {
    pub(super) entry: String,
    pub(super) refused: PublishRefused,
    fields: StreamFields,
}

impl Reject {
    pub(super) fn new(entry: String, refused: PublishRefused, fields: StreamFields) -> Self {
        Self { entry, refused, fields }
    }

    /// The `XADD` to the stream of rejected entries: the reason, then the entry's fields, cut to `bytes` in all.
    pub(super) fn store_command(&self, stream: &str, about: usize, bytes: usize) -> Cmd {
        let mut add = cmd("XADD");
        add.arg(stream).arg("MAXLEN").arg("~").arg(about).arg("*");
        let reason = cut_text(self.refused.message.as_bytes(), REASON_BYTES);
        add.arg("entry").arg(&self.entry).arg("code").arg(self.refused.refusal.code()).arg("reason").arg(reason);
        let mut room = bytes;
        for (name, value) in &self.fields {
            // An empty field would follow for each remaining one, without a use for the reader.
            if room == 0 {
                break;
            }
            for part in [name, value] {
                let kept = cut_text(part, room);
                room -= kept.len();
                add.arg(kept);
            }
        }
        add
    }
}

/// The first bytes of a text, without half a character at the end.
fn cut_text(text: &[u8], bytes: usize) -> &[u8] {
    let Some(head) = text.get(..bytes).filter(|_| text.len() > bytes) else { return text };
    match std::str::from_utf8(head) {
        // Cut inside a character. Other invalid bytes are the entry's own and are kept as they are.
        Err(error) if error.error_len().is_none() => &head[..error.valid_up_to()],
        _ => head,
    }
}

/// Counts rejected entries and logs them at intervals.
#[derive(Debug, Default)]
pub(super) struct RejectCounts {
    /// Rejected since the last log line.
    unsaid: u64,
    /// When the last line was written.
    said: Option<Instant>,
}

impl RejectCounts {
    /// Counts an entry that has been put aside.
    pub(super) fn note_reject(&mut self, reject: &Reject, stream: &str) {
        let (entry, code) = (&reject.entry, reject.refused.refusal.code());
        counter!(INGEST_REJECTED, "code" => code).increment(1);
        self.unsaid += 1;
        // A broken publisher may send thousands a second; the metric has them all.
        if self.said.is_some_and(|said| said.elapsed() < QUIET) {
            return;
        }
        let count = std::mem::take(&mut self.unsaid);
        self.said = Some(Instant::now());
        tracing::warn!(
            event = logs::INGEST_REJECTED,
            count,
            entry,
            code,
            "bad ingest entries were put aside; `XREVRANGE {stream} + -` says why"
        );
    }
}

#[cfg(test)]
mod tests {
    use hallway_rooms::close::Refusal;

    use super::*;

    fn kept(fields: &[(&[u8], &[u8])], bytes: usize) -> Vec<u8> {
        let fields = fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        Reject::new("1-0".to_owned(), PublishRefused::new(Refusal::InvalidEvent, "x".repeat(1000)), fields)
            .store_command("s", 5, bytes)
            .get_packed_command()
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let long = vec![b'y'; 100_000];
        assert!(kept(&[(b"payload", &long), (b"meta", &long), (&long, b"")], 2000).len() < 3000);
        let many = vec![(long.as_slice(), long.as_slice()); 50];
        assert!(kept(&many, 2000).len() < 3000);
        assert!(kept(&[(b"payload", b"1")], 2000).ends_with(b"payload\r\n$1\r\n1\r\n"));
    }

    #[test]
    fn a_cut_leaves_no_half_character() {
        assert_eq!(cut_text("aé".as_bytes(), 2), b"a");
        assert_eq!(cut_text("aé".as_bytes(), 3), "aé".as_bytes());
        assert_eq!(cut_text(b"\xff\xff\xff", 2), b"\xff\xff");
    }
}
