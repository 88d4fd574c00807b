//! Authentication and authorization: tokens, the keys that verify them, claims, policy.

pub mod action;
pub mod authorizer;
pub mod claims;
pub mod jwks;
pub mod keys;
pub mod policy;
pub mod subject_hash;
pub mod token;
mod token_error;
mod token_part;
mod unverified;
