//! `paxos-node bench`: compares transports and storages, or measures a running cluster.

mod arguments;
mod case;
mod keys;
mod machine;
mod page;
mod plot;
mod report;
mod resp;
mod target;

use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use paxos_node::load::Plan;

pub(crate) use self::arguments::Arguments;
use self::case::{Case, name};
use self::report::{Place, Report, Row, Table};
use self::target::{Sample, Target};
use super::Failure;
use super::runtime::{self, StopSignals};
use super::terminal::say;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let plan = arguments.check()?;
    runtime::single_threaded()?.block_on(async {
        let mut stop_signals = StopSignals::register()?;
        let mut bench = Bench::new(arguments, plan);
        let interrupted = tokio::select! {
            result = bench.measure_all() => {
                result?;
                false
            }
            () = stop_signals.received() => true,
        };
        bench.finish()?;
        if interrupted {
            Err(Failure::other("interrupted; what was measured until then is above"))
        } else {
            Ok(())
        }
    })
}

/// A run and its progress.
struct Bench<'a> {
    arguments: &'a Arguments,
    plan: Plan,
    places: Vec<Place>,
    cases: Vec<Case>,
    /// The measured rounds of each place and case.
    samples: Vec<Vec<Vec<Sample>>>,
    report: Report,
    progress: ProgressBar,
}

impl<'a> Bench<'a> {
    fn new(arguments: &'a Arguments, plan: Plan) -> Bench<'a> {
        let (places, cases) = (arguments.places(), arguments.cases());
        let report = arguments.report(&places, plan);
        let count = places.len() * cases.len() * usize::from(arguments.rounds);
        let progress = ProgressBar::new(count as u64);
        let style =
            ProgressStyle::with_template("{bar:30} {pos}/{len}  {elapsed} of about {duration}  {msg}");
        progress.set_style(style.expect("the template is well-formed"));
        progress.enable_steady_tick(Duration::from_millis(200));
        let samples = vec![vec![Vec::new(); cases.len()]; places.len()];
        Bench { arguments, plan, places, cases, samples, report, progress }
    }

    async fn measure_all(&mut self) -> Result<(), Failure> {
        let table = Table::new(&self.places);
        self.introduce(&table);
        for round in 1..=self.arguments.rounds {
            for place in 0..self.places.len() {
                self.progress.set_message(format!("starting {}", self.places[place].label()));
                let target = self.arguments.start(&self.places[place])?;
                for case in 0..self.cases.len() {
                    self.measure(&target, place, case).await?;
                    if round == self.arguments.rounds {
                        self.tell(place, case, &table);
                    }
                }
                target.finish().await?;
            }
        }
        Ok(())
    }

    async fn measure(&mut self, target: &Target, place: usize, case: usize) -> Result<(), Failure> {
        let Case { work, value_bytes, clients, .. } = self.cases[case];
        let label = self.places[place].label();
        self.progress
            .set_message(format!("{label}: {} of {value_bytes} bytes, {clients} clients", name(&work)));
        let sample = target.measure(self.cases[case], self.plan, self.arguments.seed).await?;
        self.samples[place][case].push(sample);
        self.progress.inc(1);
        Ok(())
    }

    /// Prints the machine and the table's titles.
    fn introduce(&self, table: &Table) {
        let machine = &self.report.machine;
        let mut lines = vec![format!("{}, {} cores, {}", machine.processor, machine.cores, machine.system)];
        if let Some(microseconds) = machine.sync_microseconds {
            lines.push(format!(
                "4 KiB at the end of a file, with fdatasync: {microseconds:.0} µs in the median"
            ));
        }
        if let Some(packets) = &machine.quic_packets {
            lines.push(format!("QUIC packets: {packets}"));
        }
        if let Some(nodes) = self.report.nodes {
            let threads = self.arguments.threads;
            lines.push(format!("{nodes} nodes in this process, current-thread runtimes, threads {threads}"));
        }
        lines.push(String::new());
        lines.push(table.line(&Row::TITLES));
        self.progress.suspend(|| say!("{}", lines.join("\n")));
    }

    /// Prints a case whose rounds are all measured.
    fn tell(&mut self, place: usize, case: usize, table: &Table) {
        let samples = &self.samples[place][case];
        let row = Row::new(self.places[place].clone(), self.cases[case], self.arguments.seed, samples);
        self.progress.suspend(|| say!("{}", table.line(&row.cells())));
        self.report.rows.push(row);
    }

    /// Writes the reports that were asked for.
    fn finish(&mut self) -> Result<(), Failure> {
        self.progress.finish_and_clear();
        let Arguments { json, html, charts, .. } = self.arguments;
        let write = |path: &PathBuf, text: &str| {
            std::fs::write(path, text).map_err(|error| Failure::other(format!("{}: {error}", path.display())))
        };
        if let Some(path) = json {
            write(path, &serde_json::to_string_pretty(&self.report).map_err(Failure::other)?)?;
        }
        if let Some(path) = html {
            write(path, &page::page(&self.report))?;
        }
        if let Some(directory) = charts {
            for chart in plot::charts(&self.report) {
                write(&directory.join(chart.file), &chart.svg)?;
            }
        }
        let failed = self.report.rows.iter().find_map(|row| Some((row, row.first_error.as_ref()?)));
        match failed {
            Some((row, error)) => Err(Failure::other(format!(
                "{} requests to {} failed, the first with: {error}",
                row.errors,
                row.place.label()
            ))),
            None => Ok(()),
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
