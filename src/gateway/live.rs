//! The thread of the live links: the connection for pub/sub, whose messages it parses for all event loops, and the links to
//! Redis that live delivery and readiness need.
//!
//! Reads of histories for a thousand clients that reconnect at once are some hundred milliseconds of parsing for the other
//! threads. What live delivery hears must not wait until that is done, and the scheduler of one shared runtime cannot
//! guarantee it. So these links have a thread of their own, to which the kernel gives its share of the cores.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// The runtime of the live links; see the module. Dropping it ends the thread.
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
