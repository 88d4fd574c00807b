//! Tasks that a node cannot be without: the dispatch of an event loop, the links to Redis, what counts and revokes. If one
//! of them panicked and the others went on, clients would stay connected and hear nothing. So the process ends: its clients
//! come back to another node, or to this one when it has been started again.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use crate::logs;

/// Runs an essential task. A panic in it is logged, and ends the process.
pub(crate) async fn run_essential<T>(task: &'static str, work: impl Future<Output = T>) -> T {
    // Nothing of the task is looked at after a panic, so it does not matter in which state it is.
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(done) => done,
        Err(_) => {
            tracing::error!(
                event = logs::ESSENTIAL_TASK_DIED,
                task,
                "a task that this node cannot be without has panicked, so the node ends; report the lines above as a defect of Hallway"
            );
            std::process::abort()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    const INNER: &str = "ESSENTIAL_TASK_PANICS";
    const SIGABRT: i32 = 6;

    #[tokio::test]
    async fn a_panic_ends_the_process_and_an_end_does_not() {
        if std::env::var_os(INNER).is_some() {
            return run_essential("of a test", async { panic!("on purpose") }).await;
        }
        assert_eq!(run_essential("of a test", async { 5 }).await, 5);
        let mut itself = Command::new(std::env::current_exe().expect("a path"));
        itself.args(["--exact", "essential::tests::a_panic_ends_the_process_and_an_end_does_not"]).env(INNER, "1");
        let ended = itself.output().expect("it runs");
        assert_eq!(ended.status.signal(), Some(SIGABRT), "{ended:?}");
    }
}
