//! The log: where it goes, and what is in it, which can be changed while the program runs.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::reload::Handle;

use super::Failure;
use super::options::{LogFormat, LogOptions};
use super::terminal;

/// What the log has by default.
const DEFAULT_FILTER: &str = "warn";

/// Changes the filter of the log, once that has started.
static CHANGE_FILTER: OnceLock<Box<ChangeFilter>> = OnceLock::new();

type ChangeFilter = dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync;

/// Sends the log to standard error through a queue, so that logging never waits for the reader of the stream.
pub(crate) fn start_log(options: &LogOptions) -> Result<(), Failure> {
    let filter = filter(options.log.as_deref()).map_err(Failure::usage)?;
    let lines = terminal::queue_error().map_err(Failure::other)?;
    let has_colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(has_colours).with_writer(lines);
    match options.log_format.unwrap_or_default() {
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            remember(builder.reload_handle());
            builder.init();
        }
        LogFormat::Json => {
            let builder = builder.json().with_filter_reloading();
            remember(builder.reload_handle());
            builder.init();
        }
    }
    Ok(())
}

fn remember<S: 'static>(handle: Handle<EnvFilter, S>) {
    // The log starts once.
    let _ =
        CHANGE_FILTER.set(Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())));
}

/// Has the log show what `log` says, or what it shows by default.
///
/// # Errors
///
/// Why it goes on as before.
pub(super) fn change_log(log: Option<&str>) -> Result<(), String> {
    let change = CHANGE_FILTER.get().ok_or("the log has not started")?;
    change(filter(log)?)
}

fn filter(log: Option<&str>) -> Result<EnvFilter, String> {
    let log = log.unwrap_or(DEFAULT_FILTER);
    EnvFilter::try_new(log).map_err(|error| format!("--log {log}: {error}; try for example --log info"))
}
