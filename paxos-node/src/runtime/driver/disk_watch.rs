//! Logs when the disk neither fails nor returns, and again when it does.

use std::time::Duration;

/// A call of the storage that takes longer than this is logged.
const SILENCE: Duration = Duration::from_secs(5);

/// What was logged of the disk.
#[derive(Debug, Default)]
pub(super) struct DiskWatch {
    is_told: bool,
    /// The longest that the present silence was seen to last.
    silent_for: Duration,
}

impl DiskWatch {
    /// Notes how long the present call of the storage has taken so far, if there is one.
    pub(super) fn look(&mut self, busy_for: Option<Duration>) {
        let busy_for = busy_for.unwrap_or_default();
        metrics::gauge!("paxos_disk_busy_seconds").set(busy_for.as_secs_f64());
        if busy_for < SILENCE {
            if std::mem::take(&mut self.is_told) {
                let seconds = self.silent_for.as_secs();
                tracing::warn!(seconds, "the disk answers again");
            }
            return;
        }
        self.silent_for = busy_for;
        if !std::mem::replace(&mut self.is_told, true) {
            tracing::warn!(
                "the disk has not answered for {} s: this node promises and accepts nothing meanwhile; look after its disk, or \
                 stop the node",
                SILENCE.as_secs()
            );
        }
    }
}
