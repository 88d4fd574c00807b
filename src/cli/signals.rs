//! Signals: three stop the process, and three that other servers read as "reload" do nothing here.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::logs;

/// The registered signals, for the rest of the process. One that comes during the drain is not read, and does
/// nothing.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    user_1: Signal,
    user_2: Signal,
}

impl Signals {
    /// Replaces the signals' defaults, which end a process at once.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for a signal to stop. The others are logged as ignored.
    pub(super) async fn asked_to_stop(&mut self) {
        loop {
            let ignored = tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.quit.recv() => return,
                // Supervisors send these to reload a configuration; ending the process would be a surprise.
                _ = self.hangup.recv() => "SIGHUP",
                _ = self.user_1.recv() => "SIGUSR1",
                _ = self.user_2.recv() => "SIGUSR2",
            };
            tracing::info!(
                event = logs::SIGNAL_IGNORED,
                signal = ignored,
                "this signal does nothing: the configuration is read at the start only, and SIGTERM drains"
            );
        }
    }
}
