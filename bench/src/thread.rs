//! Threads with a runtime each, so that what is measured is not late because the load is busy.

use std::process::Command;

use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::Outcome;

/// How much lower the priority of a load is than that of the thread that measures on the same core.
const NICENESS: &str = "10";

/// Runs `work` on a thread of its own. Its outcome comes when it has ended.
pub(crate) fn run<T, F>(name: &str, work: impl FnOnce() -> F + Send + 'static) -> Outcome<oneshot::Receiver<Outcome<T>>>
where
    T: Send + 'static,
    F: Future<Output = Outcome<T>>,
{
    let (tell, told) = oneshot::channel();
    let body = move || {
        let outcome = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let outcome = outcome.map_err(Into::into).and_then(|runtime| LocalSet::new().block_on(&runtime, work()));
        tell.send(outcome).ok();
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(body)?;
    Ok(told)
}

/// Lets the thread that measures go first: for the calling thread.
pub(crate) fn give_way() -> Outcome<()> {
    let own = std::fs::read_link("/proc/thread-self")?;
    let own = own.file_name().and_then(|id| id.to_str()).ok_or("a thread has a number")?.to_owned();
    let done = Command::new("renice").args(["-n", NICENESS, "-p", &own]).output();
    let done = done.map_err(|error| format!("renice (util-linux) is needed: {error}"))?;
    if done.status.success() { Ok(()) } else { Err("the load cannot lower its priority".into()) }
}
