//! Who somebody is and what they may do: tokens, the keys that prove them, claims, policy.

pub mod authorizer;
pub mod claims;
pub mod jwks;
pub mod keys;
pub mod mark;
pub mod policy;
pub mod token;
