//! A run: what was measured of what is to be measured.

use std::time::{SystemTime, UNIX_EPOCH};

use super::builder::Bench;
use super::case::Case;
use super::error::Error;
use super::machine::Machine;
use super::report::{Emulated, Place, Report, Row};
use super::target::{Sample, Subject, Target};
use crate::in_process::TransportKind;

/// What happens in a run.
#[derive(Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// A cluster is started, or connected.
    Starting(&'a Place),
    /// A case is measured for one of its rounds.
    Measuring(&'a Place, Case),
    /// That is done.
    Measured,
    /// All rounds of a case are done.
    Row(&'a Row),
    /// All is done with an emulated network: how exact it was.
    Emulated(&'a Emulated),
}

/// A run: it can be given up at any time, and keeps what it has measured until then.
#[derive(Debug)]
#[must_use = "nothing is measured until it is told to"]
pub struct Run {
    bench: Bench,
    subjects: Vec<(Place, Subject)>,
    cases: Vec<Case>,
    /// The measured rounds of each place and case.
    samples: Vec<Vec<Vec<Sample>>>,
    report: Report,
}

impl Run {
    pub(super) fn new(bench: Bench) -> Run {
        let (subjects, cases) = (bench.subjects(), bench.cases());
        let samples = vec![vec![Vec::new(); cases.len()]; subjects.len()];
        let report = empty_report(&bench, &subjects);
        Run { bench, subjects, cases, samples, report }
    }

    /// The clusters that it measures.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.subjects.iter().map(|(place, _)| place)
    }

    /// How many times it measures something.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.subjects.len() * self.cases.len() * self.bench.rounds
    }

    /// Measures everything, and tells what it does. Dropping the future gives the run up.
    ///
    /// # Errors
    ///
    /// [`Error`] if a cluster can't be started or has failed. Requests that fail are no such error: they are
    /// counted in the row.
    pub async fn measure(&mut self, on_progress: &mut impl FnMut(Progress<'_>)) -> Result<(), Error> {
        for round in 1..=self.bench.rounds {
            for place in 0..self.subjects.len() {
                let (name, subject) = &self.subjects[place];
                on_progress(Progress::Starting(name));
                let target = Target::start(subject).await?;
                for case in 0..self.cases.len() {
                    let (name, _) = &self.subjects[place];
                    on_progress(Progress::Measuring(name, self.cases[case]));
                    let sample = target.measure(self.cases[case], self.bench.plan, self.bench.seed).await?;
                    self.samples[place][case].push(sample);
                    on_progress(Progress::Measured);
                    if round == self.bench.rounds {
                        let samples = &self.samples[place][case];
                        let row = Row::new(name.clone(), self.cases[case], self.bench.seed, samples);
                        on_progress(Progress::Row(&row));
                        self.report.rows.push(row);
                    }
                }
                if let Some(accuracy) = target.accuracy().filter(|_| round == self.bench.rounds) {
                    let (name, _) = &self.subjects[place];
                    if accuracy.delivered == 0 {
                        return Err(Error::NotEmulated { place: name.label() });
                    }
                    let emulated = Emulated { place: name.label(), accuracy: accuracy.to_string() };
                    on_progress(Progress::Emulated(&emulated));
                    self.report.emulated.push(emulated);
                }
                target.finish().await?;
            }
        }
        Ok(())
    }

    /// What was measured until now: the rows whose rounds are all done.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Likewise.
    #[must_use]
    pub fn into_report(self) -> Report {
        self.report
    }
}

fn empty_report(bench: &Bench, subjects: &[(Place, Subject)]) -> Report {
    let setups = || {
        subjects.iter().filter_map(|(_, subject)| match subject {
            Subject::InProcess(setup) => Some(setup),
            Subject::Running(_) => None,
        })
    };
    let with_quic = setups().any(|setup| setup.transport.name() == TransportKind::Quic.name());
    let with_disk = setups().any(|setup| setup.storage.blocks());
    let logs = bench.data.clone().unwrap_or_else(std::env::temp_dir);
    Report {
        version: env!("CARGO_PKG_VERSION"),
        command: bench.command.clone(),
        started_unix_seconds: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        machine: Machine::look(with_disk.then_some(logs.as_path()), with_quic),
        nodes: setups().next().is_some().then_some(bench.nodes),
        threads: bench.threads,
        warm_up_seconds: bench.plan.warm_up.as_secs_f64(),
        time_seconds: bench.plan.time.as_secs_f64(),
        rounds: bench.rounds,
        rows: Vec::new(),
        emulated: Vec::new(),
    }
}
