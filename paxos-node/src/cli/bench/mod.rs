//! `paxos-node bench`: compares transports and storages, or measures a running cluster.

mod arguments;

use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use paxos_node::bench::{Case, Error, Progress, Report, Run, Table};

pub(crate) use self::arguments::Arguments;
use super::Failure;
use super::runtime::{self, StopSignals};
use super::terminal::say;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut run = arguments.prepare()?;
    let was_interrupted = runtime::single_threaded()?.block_on(async {
        let mut stop_signals = StopSignals::register()?;
        tokio::select! {
            result = measure(&mut run) => result.map(|()| false),
            () = stop_signals.received() => Ok(true),
        }
    })?;
    write_reports(arguments, run.report())?;
    if was_interrupted {
        return Err(Failure::other("interrupted; what was measured until then is above"));
    }
    let failed = run.report().rows.iter().find_map(|row| Some((row, row.first_error.as_ref()?)));
    match failed {
        Some((row, error)) => Err(Failure::other(format!(
            "{} requests to {} failed, the first with: {error}",
            row.errors,
            row.place.label()
        ))),
        None => Ok(()),
    }
}

/// Measures everything, and prints each row when it is done.
async fn measure(run: &mut Run) -> Result<(), Failure> {
    let bar = ProgressBar::new(run.steps() as u64);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {elapsed} of about {duration}  {msg}");
    bar.set_style(style.expect("the template is well-formed"));
    bar.enable_steady_tick(Duration::from_millis(200));
    let table = Table::new(run.places());
    bar.suspend(|| say!("{}\n{}", run.report().conditions(), table.titles()));
    let mut tell = |progress: Progress<'_>| match progress {
        Progress::Starting(place) => bar.set_message(format!("starting {}", place.label())),
        Progress::Measuring(place, Case { work, value_bytes, clients, .. }) => {
            let place = place.label();
            bar.set_message(format!("{place}: {work} of {value_bytes} bytes, {clients} clients"));
        }
        Progress::Measured => bar.inc(1),
        Progress::Row(row) => bar.suspend(|| say!("{}", table.row(row))),
        Progress::Emulated(emulated) => bar.suspend(|| say!("{}", Table::emulated(emulated))),
    };
    let measured = run.measure(&mut tell).await;
    bar.finish_and_clear();
    Ok(measured?)
}

/// Writes the reports that were asked for.
fn write_reports(arguments: &Arguments, report: &Report) -> Result<(), Failure> {
    let Arguments { json, html, charts, .. } = arguments;
    let write = |path: &PathBuf, text: &str| {
        std::fs::write(path, text).map_err(|error| Failure::other(format!("{}: {error}", path.display())))
    };
    if let Some(path) = json {
        write(path, &report.json())?;
    }
    if let Some(path) = html {
        write(path, &report.page())?;
    }
    if let Some(directory) = charts {
        for chart in report.charts() {
            write(&directory.join(chart.file), &chart.svg)?;
        }
    }
    Ok(())
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::OutOfRange { what, given, least, most } => {
                Failure::usage(format!("--{what} {given}: must be in {least}..={most}"))
            }
            Error::NoTime => Failure::usage("--time must be longer than 0"),
            Error::ThroughLogOfRunning => {
                Failure::usage("--work get-through-log is for clusters in this process: leave out --cluster")
            }
            Error::NotConnected { address, error } => {
                Failure::other(format!("--cluster {address}: {error}; is this an address given to --client?"))
            }
            Error::Cluster(error) => Failure::from(error),
            other => Failure::other(other),
        }
    }
}

impl From<paxos_node::in_process::Error> for Failure {
    fn from(error: paxos_node::in_process::Error) -> Failure {
        use paxos_node::backends::BackendError;
        use paxos_node::in_process::Error;
        match error {
            Error::Backend(BackendError::NotCompiledIn { .. }) | Error::Directory { .. } => {
                Failure::usage(error)
            }
            Error::Backend(BackendError::Storage(error)) => Failure::storage(&error),
            Error::Node(error) => Failure::from(error),
            other => Failure::other(other),
        }
    }
}
