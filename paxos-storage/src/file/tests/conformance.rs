//! The conformance suite on a simulated disk: reopening loses what was not synced, and the disk gets full.

use crate::Storage;
use crate::conformance::{self, Backend};
use crate::file::disk::simulated::{Kept, SimulatedDisk};
use crate::file::layout::segment::MIN_SEGMENT_BYTES;
use crate::file::storage::PrepareMode;

use super::model::{PREPARE_MODES, formatted, open_unread};
use super::shortage::used_bytes;

struct Simulated {
    disk: SimulatedDisk,
    prepare_mode: PrepareMode,
}

impl Simulated {
    fn open(&self) -> Box<dyn Storage> {
        Box::new(open_unread(&self.disk, self.prepare_mode, MIN_SEGMENT_BYTES).expect("nothing is damaged"))
    }
}

impl Backend for Simulated {
    fn make(&mut self) -> Box<dyn Storage> {
        self.disk = formatted();
        self.open()
    }

    fn open_again(&mut self) -> Box<dyn Storage> {
        self.disk = self.disk.after_crash(Kept::Nothing);
        self.open()
    }

    fn set_full(&mut self, is_full: bool) -> bool {
        self.disk.limit(is_full.then(|| used_bytes(&self.disk) + 5 * MIN_SEGMENT_BYTES));
        true
    }
}

#[test]
fn the_suite_passes_where_each_crash_takes_what_was_not_synced_and_the_disk_gets_full() {
    for prepare_mode in PREPARE_MODES {
        let report = conformance::check(&mut Simulated { disk: formatted(), prepare_mode });
        assert_eq!(report.skipped(), [""; 0], "segments made {prepare_mode:?}");
    }
}
