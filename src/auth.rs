//! Who somebody is and what they may do: tokens, the keys that prove them, claims, policy.

pub mod claims;
pub mod jwks;
pub mod keys;
pub mod policy;
pub mod token;
