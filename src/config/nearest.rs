//! The known name that a mistyped one resembles.

/// The most wrong letters of a name that is suggested.
const MOST_WRONG: usize = 3;

/// The known name closest to `name`, if one is close.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = |candidate: &str| strsim::levenshtein(name, candidate);
    let (candidate, count) = known.map(|candidate| (candidate, wrong(candidate))).min_by_key(|(_, count)| *count)?;
    // A short name is within three letters of anything, so at most half may be wrong.
    (count <= MOST_WRONG && count * 2 < candidate.chars().count()).then_some(candidate)
}
