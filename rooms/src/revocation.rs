//! Revocations: which tokens are void before their expiry.
//!
//! A list of them only grows stronger. Two copies are merged entry by entry, by the later of their times, in any
//! order and any number of times. So nodes may send each other everything twice, and a lost list is restored from any
//! node that still has it.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

/// The subject of a revocation: the hash of a user's id or of a token's. All are of one length, whatever an issuer
/// puts into its tokens, and none reveals the id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectHash(pub u128);

/// A text is not a subject hash or not a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no revocation of ours")]
pub struct InvalidRevocation;

impl fmt::Display for SubjectHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for SubjectHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mark({self})")
    }
}

impl FromStr for SubjectHash {
    type Err = InvalidRevocation;

    fn from_str(text: &str) -> Result<Self, InvalidRevocation> {
        let fine = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if fine {
            u128::from_str_radix(text, 16).map(Self).map_err(|_| InvalidRevocation)
        } else {
            Err(InvalidRevocation)
        }
    }
}

/// A revoked subject, and how long it must be kept. As text: `<mark>:<before_ms>`, with the end beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Revocation {
    /// The hash of the user or of the single token.
    pub mark: SubjectHash,
    /// Tokens issued before this are void; milliseconds since the Unix epoch.
    pub before_ms: u64,
    /// By then every such token has expired, and the entry can be dropped; milliseconds since the Unix epoch.
    pub until_ms: u64,
}

impl Revocation {
    /// The [`before_ms`](Self::before_ms) of a single revoked token, which is void whenever it was issued. The
    /// largest number that JSON and Lua keep exactly.
    pub const WHENEVER: u64 = (1 << 53) - 1;

    /// The revoked subject as text, without the end.
    #[must_use]
    pub fn to_record(&self) -> String {
        format!("{}:{}", self.mark, self.before_ms)
    }

    /// Parses the text of [`to_record`](Self::to_record).
    ///
    /// # Errors
    /// When the text has another form.
    pub fn from_record(what: &str, until_ms: u64) -> Result<Self, InvalidRevocation> {
        let (mark, before) = what.split_once(':').ok_or(InvalidRevocation)?;
        Ok(Self { mark: mark.parse()?, before_ms: before.parse().map_err(|_| InvalidRevocation)?, until_ms })
    }
}

/// The facts about a token that are compared with the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenIdentity {
    /// The hash of its user.
    pub user: SubjectHash,
    /// The hash of its id, if it has one.
    pub token: Option<SubjectHash>,
    /// When it was issued, in milliseconds since the Unix epoch. A token without it counts as issued before
    /// everything.
    pub issued_ms: Option<u64>,
}

/// All revocations.
#[derive(Clone, Debug, Default)]
pub struct Revocations(HashMap<SubjectHash, RevocationTerm>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RevocationTerm {
    before_ms: u64,
    until_ms: u64,
}

impl Revocations {
    /// Adds a revocation. False if all of it was known.
    pub fn add(&mut self, revocation: &Revocation) -> bool {
        let Revocation { mark, before_ms, until_ms } = *revocation;
        let Some(known) = self.0.get_mut(&mark) else {
            self.0.insert(mark, RevocationTerm { before_ms, until_ms });
            return true;
        };
        // The later of both times, so that merging in any order gives the same list.
        let joined =
            RevocationTerm { before_ms: known.before_ms.max(before_ms), until_ms: known.until_ms.max(until_ms) };
        std::mem::replace(known, joined) != joined
    }

    /// Whether a token is void.
    #[must_use]
    pub fn cover_token(&self, identity: &TokenIdentity) -> bool {
        // Without an issue time the token could be older than any revocation, so all of them apply.
        let issued_ms = identity.issued_ms.unwrap_or(0);
        let named = |mark: SubjectHash| self.0.get(&mark).is_some_and(|term| issued_ms < term.before_ms);
        named(identity.user) || identity.token.is_some_and(named)
    }

    /// Drops the revocations that are over at `now_ms`.
    pub fn remove_expired(&mut self, now_ms: u64) {
        self.0.retain(|_, term| term.until_ms > now_ms);
    }

    /// The number of revoked subjects.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is revoked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The revocation of one user or token.
    #[must_use]
    pub fn revocation_of(&self, mark: SubjectHash) -> Option<Revocation> {
        let RevocationTerm { before_ms, until_ms } = *self.0.get(&mark)?;
        Some(Revocation { mark, before_ms, until_ms })
    }

    /// The revocations of this list that `other` does not have, or has weaker.
    #[must_use]
    pub fn missing_from(&self, other: &Self) -> Vec<Revocation> {
        let stronger = |mark: &SubjectHash, term: &RevocationTerm| {
            other.0.get(mark).is_none_or(|its| its.before_ms < term.before_ms || its.until_ms < term.until_ms)
        };
        let beyond = self.0.iter().filter(|(mark, term)| stronger(mark, term));
        beyond
            .map(|(mark, term)| Revocation { mark: *mark, before_ms: term.before_ms, until_ms: term.until_ms })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_revocation() -> impl Strategy<Value = Revocation> {
        (0..4_u128, 0..6_u64, 0..6_u64).prop_map(|(mark, before_ms, until_ms)| Revocation {
            mark: SubjectHash(mark),
            before_ms,
            until_ms,
        })
    }

    fn list(of: &[Revocation]) -> Revocations {
        let mut list = Revocations::default();
        of.iter().for_each(|one| _ = list.add(one));
        list
    }

    proptest! {
        #[test]
        fn a_token_is_covered_when_one_revocation_of_it_is(
            of in prop::collection::vec(any_revocation(), 0..8),
            user in 0..4_u128,
            token in prop::option::of(0..4_u128),
            issued_ms in prop::option::of(0..7_u64),
        ) {
            let identity = TokenIdentity { user: SubjectHash(user), token: token.map(SubjectHash), issued_ms };
            let meant = |one: &&Revocation| one.mark == identity.user || Some(one.mark) == identity.token;
            let naive = of.iter().filter(meant).any(|one| issued_ms.unwrap_or(0) < one.before_ms);
            prop_assert_eq!(list(&of).cover_token(&identity), naive);
        }

        #[test]
        fn what_one_copy_tells_beyond_the_other_makes_it_as_strong(
            mine in prop::collection::vec(any_revocation(), 0..8),
            its in prop::collection::vec(any_revocation(), 0..8),
        ) {
            let (mine, mut its) = (list(&mine), list(&its));
            for told in mine.missing_from(&its) {
                prop_assert!(its.add(&told), "nothing is told that was known");
            }
            prop_assert!(mine.missing_from(&its).is_empty());
        }

        #[test]
        fn it_is_read_as_it_was_written(mark: u128, before_ms: u64, until_ms: u64) {
            let revocation = Revocation { mark: SubjectHash(mark), before_ms, until_ms };
            prop_assert_eq!(Revocation::from_record(&revocation.to_record(), until_ms), Ok(revocation));
        }
    }

    #[test]
    fn it_is_forgotten_at_its_end_and_not_before() {
        let mut list = list(&[Revocation { mark: SubjectHash(1), before_ms: 5, until_ms: 10 }]);
        let identity = TokenIdentity { user: SubjectHash(1), token: None, issued_ms: Some(4) };
        list.remove_expired(9);
        assert!(list.cover_token(&identity) && !list.is_empty());
        list.remove_expired(10);
        assert!(!list.cover_token(&identity) && list.is_empty());
    }

    #[test]
    fn what_is_not_ours_is_not_read() {
        let half = "0123456789abcdef";
        for text in
            ["", ":", "revision", "x:1", &format!("{half}{half}"), &format!("{half}{half}:"), &format!("{half}:1")]
        {
            assert_eq!(Revocation::from_record(text, 1), Err(InvalidRevocation), "{text}");
        }
        assert!(format!("+{half}{}", &half[1..]).parse::<SubjectHash>().is_err(), "no sign");
    }
}
