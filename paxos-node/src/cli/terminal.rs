//! Writes to the standard streams without failing or waiting because of them.
//!
//! A stream may be a file on a full disk, a pipe that nobody reads, or closed. Commands that run for long
//! (`serve`, `local`) write through [`Lines`], a bounded queue with a thread behind it. When the queue is
//! full, lines are dropped and counted, and the count is written as a line of its own as soon as the stream
//! takes lines again.
//!
//! Commands that end by themselves write directly, with [`print_line`]. They go on if the reader has left
//! (`status | head`), and report by their exit code if the stream did not take everything.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use crate::lock::lock;

/// How many bytes may wait for a stream.
const QUEUED_BYTES: usize = 1 << 20;
/// How many bytes a line in the queue counts beside its text.
const LINE_BYTES: usize = 64;
/// How long the program, at its end, waits for a stream to take the queued lines.
const FLUSH_PATIENCE: Duration = Duration::from_millis(100);

/// Standard output of a long-running command.
static OUTPUT: OnceLock<Lines> = OnceLock::new();
/// Standard error, with the log.
static ERROR: OnceLock<Lines> = OnceLock::new();
/// Why standard output did not take everything.
static OUTPUT_FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

/// Writes a line to standard output, as `println!` does.
macro_rules! say {
    ($($argument:tt)*) => { $crate::cli::terminal::print_line(format_args!($($argument)*)) };
}
pub(crate) use say;

/// Writes a line to standard output.
pub(crate) fn print_line(line: impl fmt::Display) {
    if let Some(output) = OUTPUT.get() {
        output.push(format!("{line}\n").into_bytes());
    } else if let Err(error) = writeln!(io::stdout(), "{line}") {
        let mut failed = lock(&OUTPUT_FAILED);
        failed.get_or_insert(error);
    }
}

/// Why [`print_line`] could not write everything; `None` if the reader has left.
pub(crate) fn output_failed() -> Option<io::Error> {
    let failed = lock(&OUTPUT_FAILED).take();
    failed.filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
}

/// Writes a line to standard error, behind the log.
pub(crate) fn warn_line(line: impl fmt::Display) {
    match ERROR.get() {
        Some(lines) => lines.push(format!("{line}\n").into_bytes()),
        None => drop(writeln!(io::stderr(), "{line}")), // There is no other place to report a failure.
    }
}

/// From now on a thread writes to standard output, and lines that the stream does not take are dropped.
pub(crate) fn queue_output() -> io::Result<()> {
    if OUTPUT.get().is_none() {
        let _ = OUTPUT.set(Lines::start("paxos-stdout", io::stdout())?); // Only the main thread comes here.
    }
    Ok(())
}

/// From now on a thread writes to standard error, and lines that the stream does not take are dropped.
/// Returns the queue, for the log.
pub(crate) fn queue_error() -> io::Result<Lines> {
    if let Some(lines) = ERROR.get() {
        return Ok(lines.clone());
    }
    let lines = ERROR.get_or_init({
        let lines = Lines::start("paxos-stderr", io::stderr())?;
        || lines
    });
    // The standard hook waits for standard error, and a panic may be in a thread that must not wait.
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let backtrace = std::backtrace::Backtrace::capture();
        warn_line(format_args!("thread '{}' {panic}", thread.name().unwrap_or("without a name")));
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            warn_line(backtrace);
        }
    }));
    Ok(lines.clone())
}

/// Waits a moment for the streams to take the queued lines.
pub(crate) fn flush() {
    for lines in [&OUTPUT, &ERROR] {
        if let Some(lines) = lines.get() {
            lines.flush();
        }
    }
}

/// A queue of lines for a stream that may take none: see the [module](self).
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    queue: mpsc::Sender<Item>,
    counts: Arc<QueueCounts>,
}

#[derive(Debug, Default)]
struct QueueCounts {
    queued_bytes: AtomicUsize,
    dropped: AtomicU64,
}

#[derive(Debug)]
enum Item {
    Line(Vec<u8>),
    Flush(mpsc::SyncSender<()>),
}

impl Lines {
    /// Starts a thread of this name that writes lines to `stream`.
    pub(crate) fn start(name: &str, stream: impl Write + Send + 'static) -> io::Result<Lines> {
        let (queue, items) = mpsc::channel();
        let counts = Arc::new(QueueCounts::default());
        let theirs = Arc::clone(&counts);
        let work = move || write_lines(stream, &items, &theirs);
        std::thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Lines { queue, counts })
    }

    /// Queues a line, with its end; drops and counts it if too much is queued already.
    pub(crate) fn push(&self, line: Vec<u8>) {
        let bytes = line.len() + LINE_BYTES;
        let queued_bytes = self.counts.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if queued_bytes + bytes > QUEUED_BYTES {
            self.counts.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("paxos_log_lines_dropped_total").increment(1);
        } else {
            let _ = self.queue.send(Item::Line(line)); // The thread lives as long as this sender.
        }
    }

    /// Waits until all that is queued is written, but for [`FLUSH_PATIENCE`] at most.
    pub(crate) fn flush(&self) {
        let (written, done) = mpsc::sync_channel(1);
        if self.queue.send(Item::Flush(written)).is_ok() {
            let _ = done.recv_timeout(FLUSH_PATIENCE);
        }
    }
}

/// The thread behind [`Lines`]: ends when all senders are gone.
fn write_lines(mut stream: impl Write, items: &mpsc::Receiver<Item>, counts: &QueueCounts) {
    let mut told = 0;
    for item in items {
        match item {
            Item::Line(line) => {
                // A stream that is full or closed loses the line, and there is no one to tell.
                let _ = stream.write_all(&line);
                counts.queued_bytes.fetch_sub(line.len() + LINE_BYTES, Ordering::Relaxed);
            }
            Item::Flush(written) => {
                let _ = stream.flush();
                let _ = written.send(()); // The waiting thread may have given up.
            }
        }
        let dropped = counts.dropped.load(Ordering::Relaxed);
        let has_room = counts.queued_bytes.load(Ordering::Relaxed) < QUEUED_BYTES / 2;
        if dropped > told && has_room {
            let count = dropped - told;
            let _ = writeln!(stream, "{count} lines are missing here: nobody read them in time");
            told = dropped;
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, text: Vec::new() }
    }
}

/// One line of the log; queued as a whole when it is dropped.
pub(crate) struct Line<'a> {
    lines: &'a Lines,
    text: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.text.is_empty() {
            self.lines.push(std::mem::take(&mut self.text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that takes a line only when the test allows it.
    struct Gate {
        let_through: mpsc::Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.let_through.recv(); // Once the sender is gone everything passes.
            self.written.lock().expect("no test panics with it").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stream_that_takes_nothing_costs_lines_and_no_time_and_they_are_counted() {
        let (open, let_through) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let lines = Lines::start("gate", Gate { let_through, written: Arc::clone(&written) });
        let lines = lines.expect("there is a thread");
        let dropped = || lines.counts.dropped.load(Ordering::Relaxed);
        let line = vec![b'x'; 1000];
        for _ in 0..10_000 {
            lines.push(line.clone());
        }
        let most = (QUEUED_BYTES / (line.len() + LINE_BYTES)) as u64;
        assert!(dropped() >= 10_000 - most - 1, "{} of 10 000 were dropped", dropped());
        drop(open);
        let said = format!("{} lines are missing here", dropped());
        for _ in 0..100 {
            lines.flush();
            let text = String::from_utf8_lossy(&written.lock().expect("no test panics with it")).into_owned();
            if text.contains(&said) {
                return;
            }
        }
        panic!("the stream was never told: {said}");
    }
}
