//! Entry parsing, made public for the fuzz targets.

use super::entry;
use crate::service::publish::{PublishRefused, PublishRequest};

/// Parses an entry from its id and its fields.
///
/// # Errors
/// `invalid-event` when the entry has no known form.
pub fn read(id: &str, fields: &[(Vec<u8>, Vec<u8>)]) -> Result<PublishRequest, PublishRefused> {
    entry::parse_entry(id, &fields.to_vec())
}
