//! The thread of live delivery: the tasks that receive from pub/sub, and the links to Redis that live delivery and
//! readiness need.
//!
//! A thousand clients that reconnect at once are some hundred milliseconds of work for all cores: commands to parse and
//! large answers to write. Connected clients must not wait until that is done, and the scheduler of one shared runtime
//! cannot guarantee it. So live delivery has a thread of its own, to which the kernel gives its share of the cores.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// The runtime of live delivery; see the module. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct LiveThread(Option<Runtime>);

impl LiveThread {
    pub(super) fn start_thread() -> io::Result<Self> {
        // "Multi" with one worker: a current-thread runtime would run only inside a `block_on`.
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("live").enable_all().build()?;
        Ok(Self(Some(runtime)))
    }

    /// Without a thread, for a gateway that is built but not run.
    pub(super) const fn without_thread() -> Self {
        Self(None)
    }

    pub(super) fn handle(&self) -> Handle {
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }
}

impl Drop for LiveThread {
    fn drop(&mut self) {
        // Its tasks were told to stop and waited for. In the background, because a runtime must not block while it is
        // dropped inside another one.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
