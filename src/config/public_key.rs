//! Public keys by their looks. As the shared secret of tokens, one would let in whoever can read it, which is everybody.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The tag of a sequence in DER.
const SEQUENCE: u8 = 0x30;
/// What the inner sequence of a public key begins with: the name of its algorithm.
const NAME: u8 = 0x06;
/// What that of a certificate begins with: its version.
const VERSION: u8 = 0xa0;

/// Whether a text is a key in PEM, a JWK or a list of them, or a public key or certificate as consoles of identity
/// providers show it: base64 of DER, without the lines around it.
pub(super) fn looks_like_one(text: &str) -> bool {
    let compact: String = text.split_whitespace().collect();
    text.contains("-----BEGIN ")
        || compact.contains("\"kty\":")
        || STANDARD.decode(compact).is_ok_and(|bytes| is_der(&bytes))
}

/// Chance makes one of 2^32 random secrets look so.
fn is_der(bytes: &[u8]) -> bool {
    let Some((outer, SEQUENCE, length)) = open(bytes) else { return false };
    let Some((inner, SEQUENCE, _)) = open(outer) else { return false };
    length == outer.len() && matches!(inner, [NAME | VERSION, ..])
}

/// Behind the head of a value, its tag, and how long it says it is.
fn open(bytes: &[u8]) -> Option<(&[u8], u8, usize)> {
    let (tag, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    // From 0x81 on it tells how many bytes of length follow.
    let (long, rest) = rest.split_at_checked(usize::from(length.saturating_sub(0x80)))?;
    let short = if long.is_empty() { usize::from(*length) } else { 0 };
    Some((rest, *tag, long.iter().fold(short, |length, byte| length << 8 | usize::from(*byte))))
}
