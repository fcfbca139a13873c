//! Watches the space of the data directory: shows it in metrics, and warns before there is too little for
//! commands.

use std::path::{Path, PathBuf};
use std::time::Duration;

use paxos_storage::file::{Usage, usage};
use tokio::time::MissedTickBehavior;

use crate::runtime::metrics;

/// How often the space is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Space is low with less than this share of the volume free, and no longer with a quarter more.
const LOW_PERCENT: u64 = 10;
/// With this much free it is not low, however large the volume is.
const AMPLE_BYTES: u64 = 4 << 30;

/// Watches forever.
pub(super) async fn watch(data: PathBuf) {
    let mut clock = tokio::time::interval(LOOK_INTERVAL);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_told = false;
    loop {
        clock.tick().await;
        let directory = data.clone();
        // It fails only if the node ends.
        let Ok(looked) = tokio::task::spawn_blocking(move || usage(&directory)).await else { return };
        match looked {
            Ok(usage) => {
                metrics::show_space(&usage);
                if let Some(line) = told(&data, &usage, &mut is_told) {
                    tracing::warn!("{line}");
                }
            }
            Err(error) => tracing::debug!(%error, "the space of the data directory can't be looked at"),
        }
    }
}

/// The line to log, if there is one.
fn told(data: &Path, usage: &Usage, is_told: &mut bool) -> Option<String> {
    let limit = (usage.volume_bytes / 100 * LOW_PERCENT).min(AMPLE_BYTES);
    let (free, all, data) = (usage.free_bytes >> 20, usage.volume_bytes >> 20, data.display());
    if usage.free_bytes < limit && !std::mem::replace(is_told, true) {
        return Some(format!(
            "space runs low: {free} of {all} MiB are left on the volume of {data}; make room, before commands are refused"
        ));
    }
    let is_over = usage.free_bytes > limit / 4 * 5 && std::mem::take(is_told);
    is_over.then(|| format!("there is space again: {free} of {all} MiB are left on the volume of {data}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_that_runs_low_is_told_once_and_again_when_there_is_more() {
        let mut is_told = false;
        let mut look = |free_mib: u64, volume_mib: u64| {
            let mut usage = Usage::default();
            (usage.free_bytes, usage.volume_bytes) = (free_mib << 20, volume_mib << 20);
            told(Path::new("data"), &usage, &mut is_told)
        };
        assert_eq!(look(150, 1000), None);
        let low = look(90, 1000).expect("less than a tenth is left");
        assert!(low.starts_with("space runs low: 90 of 1000 MiB are left on the volume of data"), "{low}");
        assert_eq!((look(80, 1000), look(110, 1000)), (None, None));
        assert!(look(130, 1000).is_some_and(|line| line.starts_with("there is space again")));
        assert_eq!(look(5000, 1_000_000), None, "more than enough, though it is a small share");
    }
}
