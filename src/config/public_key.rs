//! Recognizing public keys. As the shared secret of tokens, a public key would admit every reader of that key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The DER tag of a sequence.
const SEQUENCE: u8 = 0x30;
/// The first byte of a public key's inner sequence: the name of its algorithm.
const NAME: u8 = 0x06;
/// The first byte of a certificate's: its version.
const VERSION: u8 = 0xa0;

/// Whether a text is a key in PEM, a JWK or a list of them, or a public key or certificate as identity providers'
/// consoles display it: base64 of DER without the lines around it.
pub(super) fn looks_like_one(text: &str) -> bool {
    let compact: String = text.split_whitespace().collect();
    text.contains("-----BEGIN ")
        || compact.contains("\"kty\":")
        || STANDARD.decode(compact).is_ok_and(|bytes| is_der(&bytes))
}

/// Whether bytes look like DER. One of 2^32 random secrets does by chance.
fn is_der(bytes: &[u8]) -> bool {
    let Some((outer, SEQUENCE, length)) = open(bytes) else { return false };
    let Some((inner, SEQUENCE, _)) = open(outer) else { return false };
    length == outer.len() && matches!(inner, [NAME | VERSION, ..])
}

/// Splits a DER value: the bytes behind its head, its tag, and its stated length.
fn open(bytes: &[u8]) -> Option<(&[u8], u8, usize)> {
    let (tag, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    // From 0x81 on it is the number of bytes that hold the length.
    let (long, rest) = rest.split_at_checked(usize::from(length.saturating_sub(0x80)))?;
    let short = if long.is_empty() { usize::from(*length) } else { 0 };
    Some((rest, *tag, long.iter().fold(short, |length, byte| length << 8 | usize::from(*byte))))
}
