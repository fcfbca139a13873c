//! What the long-running commands run on, and how they are asked to stop.

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;

/// A runtime of one thread.
pub(super) fn single_threaded() -> Result<Runtime, Failure> {
    Builder::new_current_thread().enable_all().build().map_err(Failure::other)
}

/// SIGINT and SIGTERM, which end the process no more once this has been registered.
pub(super) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    /// Within a runtime. Before anything is written that is to be cleaned up: who is stopped by the signal itself
    /// cleans nothing up.
    pub(super) fn register() -> Result<StopSignals, Failure> {
        let interrupt = signal(SignalKind::interrupt()).map_err(Failure::other)?;
        let terminate = signal(SignalKind::terminate()).map_err(Failure::other)?;
        Ok(StopSignals { interrupt, terminate })
    }

    /// Resolves when one of them has come since it was last waited for.
    pub(super) async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
