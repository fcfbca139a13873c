//! The clocks that a node reads.

use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use paxos_core::{Reading, Time};

/// Where a node reads the time: by default the clocks of the system.
///
/// The node trusts the monotonic clock to go at nearly the right speed. The wall clock may be wrong, and may
/// jump: see [the guide](crate::guide::time) on what that does.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Reading + Send + Sync>);

impl Clock {
    /// The clocks of the system.
    #[must_use]
    pub fn system() -> Clock {
        let started = Instant::now();
        Clock::new(move || {
            let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Reading {
                monotonic_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
                wall: Time(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)),
            }
        })
    }

    /// Other clocks, for tests. `read` is called in each turn of the driver, so it must be quick.
    pub fn new(read: impl Fn() -> Reading + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(read))
    }

    pub(crate) fn read(&self) -> Reading {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Clock").field(&self.read()).finish()
    }
}
