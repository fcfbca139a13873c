//! Has the system find clients whose machine vanished, and end their connections.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// How many probes a client may leave unanswered before its connection ends.
const PROBES: u32 = 3;
/// The system counts in whole seconds.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Sets up the socket of a client: replies are sent at once, and a connection whose client acknowledges
/// neither replies nor the probes that are sent after a silence of `keepalive` ends after twice that time.
pub(super) fn set_up(stream: &TcpStream, keepalive: Option<Duration>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let Some(silence) = keepalive else { return Ok(()) };
    let silence = silence.max(MIN_INTERVAL);
    let interval = (silence / PROBES).max(MIN_INTERVAL);
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new().with_time(silence).with_interval(interval).with_retries(PROBES);
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(silence + PROBES * interval))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_is_asked_to_look_after_clients() -> io::Result<()> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let stream = TcpStream::connect(listener.local_addr()?).await?;
        set_up(&stream, None)?;
        assert!(!SockRef::from(&stream).keepalive()?);
        for (asked_for, silence, interval) in [(60, 60, 20), (0, 1, 1), (2, 2, 1)] {
            set_up(&stream, Some(Duration::from_secs(asked_for)))?;
            let socket = SockRef::from(&stream);
            assert!(stream.nodelay()? && socket.keepalive()?);
            assert_eq!(socket.tcp_keepalive_time()?, Duration::from_secs(silence));
            assert_eq!(socket.tcp_keepalive_interval()?, Duration::from_secs(interval));
            assert_eq!(socket.tcp_keepalive_retries()?, PROBES);
            #[cfg(target_os = "linux")]
            assert_eq!(socket.tcp_user_timeout()?, Some(Duration::from_secs(silence + 3 * interval)));
        }
        Ok(())
    }
}
