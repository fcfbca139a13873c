//! A timer that is exact to some microseconds on Linux. The timer of tokio has a resolution of a millisecond.

use std::io;
use std::time::Duration;

#[cfg(target_os = "linux")]
pub(super) use linux::Timer;
#[cfg(not(target_os = "linux"))]
pub(super) use portable::Timer;

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::OwnedFd;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    use super::{Duration, io};

    /// A `timerfd`, which the system fires without the slack that it adds to time-outs of system calls.
    #[derive(Debug)]
    pub(in super::super) struct Timer {
        descriptor: AsyncFd<OwnedFd>,
    }

    impl Timer {
        /// Must be called within a tokio runtime.
        pub(in super::super) fn new() -> io::Result<Timer> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            Ok(Timer { descriptor: watch(descriptor)? })
        }

        /// Returns when this time is over. The wait ends if the future is dropped.
        pub(in super::super) async fn sleep(&self, time: Duration) -> io::Result<()> {
            let Ok(tv_sec) = time.as_secs().try_into() else { return std::future::pending().await };
            let value = Timespec { tv_sec, tv_nsec: time.subsec_nanos().into() };
            if time.is_zero() {
                return Ok(()); // It would switch the timer off.
            }
            let interval = Timespec { tv_sec: 0, tv_nsec: 0 };
            let setting = Itimerspec { it_interval: interval, it_value: value };
            timerfd_settime(self.descriptor.get_ref(), TimerfdTimerFlags::empty(), &setting)?;
            loop {
                let mut ready = self.descriptor.readable().await?;
                let mut expirations = [0; size_of::<u64>()];
                // Setting the timer has forgotten earlier expirations; what is ready may be one of those.
                let read = ready.try_io(|descriptor| {
                    rustix::io::read(descriptor.get_ref(), &mut expirations).map_err(io::Error::from)
                });
                match read {
                    Ok(result) => return result.map(drop),
                    Err(_would_block) => {}
                }
            }
        }
    }

    #[expect(
        deprecated,
        reason = "its successor is unsafe, as it wants a promise that the descriptor stays the same: an owned one does"
    )]
    fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
        AsyncFd::with_interest(descriptor, Interest::READABLE)
    }
}

#[cfg(not(target_os = "linux"))]
mod portable {
    use super::{Duration, io};

    /// The timer of tokio.
    #[derive(Debug)]
    pub(in super::super) struct Timer;

    impl Timer {
        pub(in super::super) fn new() -> io::Result<Timer> {
            Ok(Timer)
        }

        pub(in super::super) async fn sleep(&self, time: Duration) -> io::Result<()> {
            tokio::time::sleep(time).await;
            Ok(())
        }
    }
}
