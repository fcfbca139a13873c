//! The async runtime of the long-running commands, and the signals that stop them.

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;

/// A runtime of one thread.
pub(super) fn single_threaded() -> Result<Runtime, Failure> {
    Builder::new_current_thread().enable_all().build().map_err(Failure::other)
}

/// SIGINT and SIGTERM, which no longer end the process once this is registered.
pub(super) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    /// Register inside a runtime, before creating anything that has to be cleaned up: a process that the
    /// signal itself ends cleans nothing up.
    pub(super) fn register() -> Result<StopSignals, Failure> {
        let interrupt = signal(SignalKind::interrupt()).map_err(Failure::other)?;
        let terminate = signal(SignalKind::terminate()).map_err(Failure::other)?;
        Ok(StopSignals { interrupt, terminate })
    }

    /// Resolves when one of the signals has arrived since the last call.
    pub(super) async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// SIGHUP, which no longer ends the process once this is registered.
pub(super) fn hangups() -> Result<Signal, Failure> {
    signal(SignalKind::hangup()).map_err(Failure::other)
}
