//! The known name that a mistyped one resembles.

/// The most wrong letters of a name that is suggested.
const MOST_WRONG: usize = 3;

/// The known name closest to `name`, if one is close.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = |candidate: &str| edit_distance(name, candidate);
    let (candidate, count) = known.map(|candidate| (candidate, wrong(candidate))).min_by_key(|(_, count)| *count)?;
    // A short name is within three letters of anything, so at most half may be wrong.
    (count <= MOST_WRONG && count * 2 < candidate.chars().count()).then_some(candidate)
}

/// The Levenshtein distance: letters inserted, removed or replaced.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, letter) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, other) in right.iter().enumerate() {
            let exchanged = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = exchanged.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}
