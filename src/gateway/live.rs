//! The thread of live delivery: what comes through pub/sub, and what live delivery and readiness need of Redis.
//!
//! A thousand clients that come back at once are some hundred milliseconds of work for all cores: commands to read and large
//! answers to write. Those who are there must not wait until that is done, and no order among the tasks of one runtime
//! promises that they do not. So live delivery has a thread, which the kernel gives its share of the cores.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// See the module. It ends with this.
#[derive(Debug)]
pub(super) struct Live(Option<Runtime>);

impl Live {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("live").enable_all().build()?;
        Ok(Self(Some(runtime)))
    }

    /// None of its own: for whoever runs nothing.
    pub(super) const fn none() -> Self {
        Self(None)
    }

    pub(super) fn handle(&self) -> Handle {
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // What runs on it has been told to stop and waited for; a runtime must not be waited for in another.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
