//! The size of a batch: as many entries as allowed, fewer while they are large, and few at first.

/// Bytes of entries read at once, estimated from the entries before.
const BYTES: usize = 4 * 1024 * 1024;
/// Entries of the first batch, whose size is unknown.
const FIRST: usize = 16;

/// The count for the next read.
#[derive(Debug)]
pub(super) struct IngestPage {
    /// `ingest.batch`.
    most: usize,
    /// Between 1 and `most`.
    count: usize,
}

impl IngestPage {
    pub(super) fn new(most: usize) -> Self {
        Self { most, count: FIRST.min(most) }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Adapts the count to the bytes of the last batch. It doubles at most, so that one batch of small entries does
    /// not lead to a huge one.
    pub(super) fn adapt_size(&mut self, entries: usize, bytes: usize) {
        let each = (bytes / entries.max(1)).max(1);
        self.count = (BYTES / each).min(self.count * 2).clamp(1, self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_small_entries_and_shrinks_with_large_ones() {
        let mut portion = IngestPage::new(100);
        let counts = |portion: &mut IngestPage, each: usize| {
            (0..4)
                .map(|_| {
                    portion.adapt_size(portion.count(), portion.count() * each);
                    portion.count()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(counts(&mut portion, 200), [32, 64, 100, 100]);
        assert_eq!(counts(&mut portion, 1024 * 1024), [4, 4, 4, 4]);
        assert_eq!(counts(&mut portion, 512 * 1024 * 1024), [1, 1, 1, 1]);
        assert_eq!(counts(&mut portion, 0), [2, 4, 8, 16]);
    }
}
