//! Runs the contenders round by round, and prints what came of it.

use std::fmt::Write as _;

use paxos_node::in_process::Threads;
use serde::Serialize;

use super::arguments::Arguments;
use super::contender::{Contender, Load, Log};
use crate::plot;
use crate::statistics::median;

/// One load, and what each contender made of it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Which threads the replicas ran on.
    pub threads: Threads,
    /// How many clients there were.
    pub clients: usize,
    /// How long their commands were.
    pub command_bytes: usize,
    /// In the order in which they were asked for.
    pub results: Vec<Measured>,
}

/// What one contender made of a load.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Which one.
    pub contender: Contender,
    /// The median over all rounds.
    pub commands_per_second: f64,
    /// Of each round.
    pub rounds: Vec<f64>,
}

/// Measures all rows that are asked for; `progress` hears a line before each round.
pub fn measure(arguments: &Arguments, log: &Log, mut progress: impl FnMut(&str)) -> Vec<Row> {
    let mut rows = Vec::new();
    let count = arguments.threads.len() * arguments.command_bytes.len() * arguments.clients.len();
    for &threads in &arguments.threads {
        for &command_bytes in &arguments.command_bytes {
            for &clients in &arguments.clients {
                let load = Load {
                    clients,
                    command_bytes,
                    warm_up: arguments.warm_up_seconds,
                    time: arguments.seconds,
                };
                let number = rows.len() + 1;
                let results = measure_row(arguments, threads, log, &load, |round| {
                    let rounds = arguments.rounds;
                    progress(&format!(
                        "row {number} of {count}, round {round} of {rounds}: {clients} clients, {command_bytes} bytes, {}",
                        name(threads)
                    ));
                });
                rows.push(Row { threads, clients, command_bytes, results });
            }
        }
    }
    rows
}

fn measure_row(
    arguments: &Arguments,
    threads: Threads,
    log: &Log,
    load: &Load,
    mut progress: impl FnMut(usize),
) -> Vec<Measured> {
    let takes_part = |contender: &Contender| *log == Log::Memory || contender.log_on_disk().is_some();
    let contenders: Vec<Contender> = arguments.only.iter().copied().filter(takes_part).collect();
    let mut rates = vec![Vec::new(); contenders.len()];
    for round in 1..=arguments.rounds {
        progress(round);
        for (contender, rates) in contenders.iter().zip(&mut rates) {
            rates.push(contender.measure(threads, log, load));
        }
    }
    let measured = |(contender, rounds): (Contender, Vec<f64>)| Measured {
        contender,
        commands_per_second: median(rounds.clone()),
        rounds,
    };
    contenders.into_iter().zip(rates).map(measured).collect()
}

/// A table for each kind of threads and length of commands.
#[must_use]
pub fn render(rows: &[Row]) -> String {
    let mut text = String::new();
    let mut shown = None;
    for row in rows {
        if shown != Some((row.threads, row.command_bytes)) {
            shown = Some((row.threads, row.command_bytes));
            head(&mut text, row);
        }
        let _ = write!(text, "{:>7}", row.clients); // A string takes everything.
        for measured in &row.results {
            let _ =
                write!(text, "{:>width$.0}", measured.commands_per_second, width = width(measured.contender));
        }
        for contender in Contender::ALL.into_iter().filter(|contender| contender.is_ours()) {
            if let Some(ratio) = row.ratio(contender) {
                let _ = write!(text, "{ratio:>width$.2}", width = width(contender) + 5);
            }
        }
        text.push('\n');
    }
    text
}

/// With fewer clients a row says more of how a library wakes its threads than of its rate.
const MANY_CLIENTS: usize = 64;

/// The rows with many clients in which `paxos-node` is behind the best of the others, a line for each.
///
/// # Errors
///
/// [`NothingCompared`] if no row has many clients, `paxos-node` and another library.
pub fn behind(rows: &[Row]) -> Result<String, NothingCompared> {
    let many = rows.iter().filter(|row| row.clients >= MANY_CLIENTS);
    let ratios: Vec<(&Row, f64)> =
        many.filter_map(|row| Some((row, row.ratio(Contender::PaxosNode)?))).collect();
    if ratios.is_empty() {
        return Err(NothingCompared);
    }
    let mut text = String::new();
    for (row, ratio) in ratios.into_iter().filter(|(_, ratio)| *ratio < 1.0) {
        let (clients, bytes, threads) = (row.clients, row.command_bytes, name(row.threads));
        let _ = writeln!(text, "MISSED  {ratio:.2} of the best: {clients} clients, {bytes} bytes, {threads}");
    }
    Ok(text)
}

/// There is no row with many clients in which `paxos-node` and another library took part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there is nothing to check: no row has {MANY_CLIENTS} clients, paxos-node and another library")]
pub struct NothingCompared;

/// The last table as a chart; `None` if there is none.
#[must_use]
pub fn chart(rows: &[Row]) -> Option<String> {
    let last = rows.last()?;
    let mut rates = Vec::new();
    for row in
        rows.iter().filter(|row| (row.threads, row.command_bytes) == (last.threads, last.command_bytes))
    {
        let contenders =
            row.results.iter().filter(|result| result.contender.is_ours() || result.contender.is_other());
        rates.extend(contenders.map(|measured| plot::Rate {
            contender: measured.contender.name().to_owned(),
            clients: row.clients,
            commands_per_second: measured.commands_per_second,
        }));
    }
    let title = format!("commands of {} bytes on three replicas, {}", last.command_bytes, name(last.threads));
    plot::rates(&title, &rates)
}

/// A line for each of `contenders` that has a log on disk: which, and whether it syncs.
#[must_use]
pub fn render_logs(contenders: &[Contender]) -> String {
    let mut text = String::from("\nlogs on disk\n\n");
    for contender in contenders {
        if let Some(log) = contender.log_on_disk() {
            let _ = writeln!(text, "{:<15}{log}", contender.name());
        }
    }
    text
}

fn head(text: &mut String, row: &Row) {
    let (bytes, threads) = (row.command_bytes, name(row.threads));
    let _ = write!(text, "\ncommands of {bytes} bytes in a second, {threads}\n\nclients");
    for measured in &row.results {
        let _ = write!(text, "{:>width$}", measured.contender.name(), width = width(measured.contender));
    }
    for contender in Contender::ALL.into_iter().filter(|contender| contender.is_ours()) {
        if row.ratio(contender).is_some() {
            let _ = write!(text, "  {}/best", contender.name());
        }
    }
    text.push('\n');
}

impl Row {
    /// How many times as many commands `contender` commits as the best that is not ours.
    #[must_use]
    pub fn ratio(&self, contender: Contender) -> Option<f64> {
        let rate = |measured: &Measured| measured.commands_per_second;
        let own = self.results.iter().find(|measured| measured.contender == contender).map(rate)?;
        let others = self.results.iter().filter(|measured| measured.contender.is_other());
        others.map(rate).max_by(f64::total_cmp).map(|best| own / best)
    }
}

fn width(contender: Contender) -> usize {
    contender.name().len().max(8) + 2
}

fn name(threads: Threads) -> &'static str {
    match threads {
        Threads::Shared => "all replicas on one thread",
        Threads::PerNode => "each replica on a thread of its own",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(clients: usize, rates: &[(Contender, f64)]) -> Row {
        let result =
            |&(contender, commands_per_second)| Measured { contender, commands_per_second, rounds: vec![] };
        let results = rates.iter().map(result).collect();
        Row { threads: Threads::Shared, clients, command_bytes: 0, results }
    }

    #[test]
    fn only_rows_with_many_clients_in_which_ours_is_behind_are_told() {
        let measured =
            |clients, rate| row(clients, &[(Contender::PaxosNode, rate), (Contender::RaftRs, 100.0)]);
        assert_eq!(behind(&[measured(1, 50.0), measured(64, 100.0)]), Ok(String::new()));
        let told = behind(&[measured(64, 120.0), measured(256, 99.0)]).expect("there are such rows");
        assert_eq!(told, "MISSED  0.99 of the best: 256 clients, 0 bytes, all replicas on one thread\n");
        assert_eq!(behind(&[measured(1, 50.0)]), Err(NothingCompared));
        assert_eq!(behind(&[row(64, &[(Contender::PaxosNode, 1.0)])]), Err(NothingCompared));
    }

    #[test]
    fn ours_are_compared_with_the_best_of_the_others() {
        let rates = [
            (Contender::PaxosNode, 300.0),
            (Contender::OmniPaxos, 50.0),
            (Contender::RaftRs, 100.0),
            (Contender::OpenRaft, 75.0),
        ];
        let row = row(1, &rates);
        assert_eq!(row.ratio(Contender::PaxosNode), Some(3.0));
        assert_eq!(row.ratio(Contender::PaxosCore), None);
        let line = format!("{:>7}{:>12}{:>11}{:>10}{:>10}{:>17}\n", 1, 300, 50, 100, 75, "3.00");
        assert!(render(std::slice::from_ref(&row)).ends_with(&line));
        let chart = chart(&[row]).expect("there are rates to show");
        assert!(chart.contains("paxos-node") && chart.contains("raft"), "{chart}");
    }
}
