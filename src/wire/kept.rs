//! What is kept for as long as a descriptor is open, such as a slot of the listener.

use std::any::Any;
use std::fmt;

/// A value that is dropped once the descriptor is closed.
pub(super) struct ClosedWithSocket(#[expect(dead_code, reason = "it is there to be dropped")] Box<dyn Any + Send>);

impl ClosedWithSocket {
    pub(super) fn new(kept: impl Send + 'static) -> Self {
        Self(Box::new(kept))
    }
}

impl fmt::Debug for ClosedWithSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}
