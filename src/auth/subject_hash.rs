//! Subject hashes: the form in which revocations and the index of sessions know users and tokens.

use aws_lc_rs::digest::{SHA256, digest};
use hallway_rooms::revocation::{SubjectHash, TokenIdentity};

use super::claims::Claims;

/// The subject hash of a user.
#[must_use]
pub fn of_user(id: &str) -> SubjectHash {
    hash_id("sub", id)
}

/// The subject hash of the token with this `jti`.
#[must_use]
pub fn of_token(id: &str) -> SubjectHash {
    hash_id("jti", id)
}

/// The facts about a token that are compared with the revocation list.
#[must_use]
pub fn of_claims(claims: &Claims) -> TokenIdentity {
    TokenIdentity {
        user: of_user(&claims.subject),
        token: claims.token_id.as_deref().map(of_token),
        issued_ms: claims.issued_ms,
    }
}

/// The first 128 bits of a SHA-256: finding two ids with the same ones is out of reach. The kind is hashed too, so
/// that a user and a token with the same id differ.
fn hash_id(kind: &str, id: &str) -> SubjectHash {
    let whole = digest(&SHA256, format!("{kind}:{id}").as_bytes());
    SubjectHash(whole.as_ref().iter().take(16).fold(0, |mark, byte| mark << 8 | u128::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_tell_users_and_tokens_apart() {
        let marks = [of_user("a"), of_user("b"), of_user(""), of_token("a"), of_token("b")];
        for (at, mark) in marks.iter().enumerate() {
            assert!(marks[..at].iter().all(|other| other != mark), "{mark}");
        }
        assert_eq!(of_user("a").to_string(), "39985156c2f26dc6174655050428e03a");
    }
}
