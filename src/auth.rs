//! Who somebody is and what they may do: tokens, claims, policy.

pub mod authorizer;
pub mod claims;
pub mod mark;
pub mod policy;
pub mod token;
