//! Authentication and authorization: tokens, the keys that verify them, claims, policy.

pub mod authorizer;
pub mod claims;
pub mod jwks;
pub mod keys;
pub mod mark;
pub mod policy;
pub mod token;
