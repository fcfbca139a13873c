//! The results as a table and as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::failure::Failure;
use super::super::report::{machine, write};
use super::super::work::VALUE_BYTES;
use super::action::Action;
use super::arguments::{Arguments, Server};
use super::figures::{Figures, Sample, Summaries, milliseconds};
use super::goals::{Verdict, judge};
use crate::statistics::median;

/// The results of a run.
pub(super) struct Report {
    pub(super) versions: BTreeMap<Server, String>,
    pub(super) sync_milliseconds: f64,
    /// The machine's load of the last minute, before each server of each round.
    pub(super) loads: Vec<f64>,
    pub(super) figures: Figures,
}

impl Report {
    /// Prints everything, and writes the file that is asked for. With `--check` it fails if a goal is missed.
    pub(super) fn tell(&self, arguments: &Arguments) -> Result<(), Failure> {
        let summaries = self.figures.summaries();
        let verdicts = judge(&summaries, &arguments.servers());
        let lines: Vec<String> = verdicts.iter().map(ToString::to_string).collect();
        let parts = [self.introduction(arguments), table(&summaries), lines];
        println!("{}", parts.map(|lines| lines.join("\n")).join("\n\n"));
        if let Some(file) = &arguments.json {
            write(file, &format!("{:#}\n", self.json(arguments, &summaries, &verdicts)))?;
        }
        let counts = |verdict: &&Verdict| verdict.is_met() == Some(true) || verdict.is_below_floor();
        let missed = verdicts.len() - verdicts.iter().filter(counts).count();
        if arguments.check && missed > 0 {
            return Err(Failure::new(format!("{missed} of {} goals are not met", verdicts.len())));
        }
        Ok(())
    }

    fn introduction(&self, arguments: &Arguments) -> Vec<String> {
        let samples = || self.figures.samples.values().flatten();
        let stolen = median(samples().map(|sample| sample.stolen).collect());
        let most = self.loads.iter().copied().fold(0.0, f64::max);
        let mut lines = vec![
            machine(),
            format!(
                "{} clients that write {VALUE_BYTES}-byte values, {} rounds, each on new clusters of three",
                arguments.clients, arguments.rounds
            ),
            format!("4 KiB written past the page cache, with fdatasync: {:.3} ms", self.sync_milliseconds),
            format!(
                "load of the machine before each cluster: {:.1} in the median, {most:.1} at most",
                median(self.loads.clone())
            ),
            format!("the host took away {:.1} % of the processors' time (median)", stolen * 1e2),
        ];
        for (server, version) in &self.versions {
            lines.push(format!("{}: {version}", server.name()));
        }
        lines
    }

    fn json(&self, arguments: &Arguments, summaries: &Summaries, verdicts: &[Verdict]) -> Value {
        let actions: Vec<Value> = self
            .figures
            .samples
            .iter()
            .map(|((action, server), samples)| {
                json!({
                    "action": action,
                    "server": server,
                    "summary": summaries.get(&(*action, *server)),
                    "rounds": samples.iter().map(sample_json).collect::<Vec<_>>(),
                })
            })
            .collect();
        let goals: Vec<Value> =
            verdicts.iter().map(|verdict| json!({ "goal": verdict, "is_met": verdict.is_met() })).collect();
        let versions: BTreeMap<&str, &String> =
            self.versions.iter().map(|(server, version)| (server.name(), version)).collect();
        json!({
            "machine": machine(),
            "versions": versions,
            "clients": arguments.clients,
            "value_bytes": VALUE_BYTES,
            "sync_milliseconds": self.sync_milliseconds,
            "loads": self.loads,
            "actions": actions,
            "goals": goals,
        })
    }
}

fn sample_json(sample: &Sample) -> Value {
    json!({
        "longest_milliseconds": milliseconds(sample.longest),
        "asked_after_milliseconds": sample.longest_at.map(milliseconds),
        "quiet_milliseconds": milliseconds(sample.quiet),
        "command_milliseconds": sample.command.map(milliseconds),
        "answers": sample.answers,
        "errors": sample.errors,
        "first_error": sample.first_error,
        "stolen": sample.stolen,
    })
}

fn table(summaries: &Summaries) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{:<24}{:<16}{:>24}{:>26}{:>14}",
            "", "", "longest wait, ms", "without any action, ms", "command, ms"
        ),
        format!(
            "{:<24}{:<16}{:>12}{:>12}{:>14}{:>12}{:>14}",
            "", "", "median", "max", "median", "max", "median"
        ),
    ];
    for ((action, server), summary) in summaries {
        let command = summary.command_median.map_or_else(|| String::from("-"), |time| format!("{time:.1}"));
        lines.push(format!(
            "{:<24}{:<16}{:>12.2}{:>12.2}{:>14.2}{:>12.2}{command:>14}",
            action.name(),
            server.name(),
            summary.longest_median,
            summary.longest_max,
            summary.quiet_median,
            summary.quiet_max,
        ));
        let is_last = *server == summaries.keys().map(|(_, server)| *server).max().unwrap_or(*server);
        if is_last && *action != Action::RemoveLeader {
            lines.push(String::new());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::figures::Summary;
    use super::super::figures::tests::sample;
    use super::*;

    #[test]
    fn a_row_has_medians_and_maxima_and_the_command() {
        let samples = [sample(9), sample(30), sample(7)];
        let summaries = [((Action::Transfer, Server::PaxosNode), Summary::of(&samples))].into();
        let lines = table(&summaries);
        let words: Vec<&str> = lines[2].split_whitespace().collect();
        assert_eq!(words, ["transfer", "leadership", "paxos-node", "9.00", "30.00", "1.00", "1.00", "18.0"]);
    }
}
