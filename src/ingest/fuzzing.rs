//! What the fuzz targets need of the ingest stream: how an entry is read.

use super::entry;
use crate::service::publish::{Refused, Request};

/// Reads an entry by its id and its fields.
///
/// # Errors
/// `invalid-event` when it is of no known form.
pub fn read(id: &str, fields: &[(Vec<u8>, Vec<u8>)]) -> Result<Request, Refused> {
    entry::read(id, &fields.to_vec())
}
