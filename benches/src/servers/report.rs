//! The results as tables, as JSON and as a chart.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::arguments::Arguments;
use super::contender::Contender;
use super::failure::Failure;
use super::figures::{Figures, Median, Medians};
use super::goals::judge;
use super::row::Row;
use super::work::VALUE_BYTES;
use crate::plot::{Bars, Scale, Series, bars};
use crate::statistics::median;

/// The results of a run.
pub(super) struct Report {
    pub(super) versions: BTreeMap<Contender, String>,
    /// Over how many connections etcd's clients were spread.
    pub(super) connections: BTreeMap<Row, usize>,
    pub(super) figures: Figures,
}

impl Report {
    /// Prints everything, and writes the files that are asked for.
    pub(super) fn tell(&self, arguments: &Arguments) -> Result<(), Failure> {
        let medians = self.figures.medians();
        let parts =
            [self.introduction(arguments, &medians), table(&medians), ratios(&medians), verdicts(&medians)];
        println!("{}", parts.map(|lines| lines.join("\n")).join("\n\n"));
        if let Some(file) = &arguments.json {
            write(file, &format!("{:#}\n", self.json(arguments, &medians)))?;
        }
        if let Some(directory) = &arguments.plots {
            let svg = chart(&medians).ok_or_else(|| Failure::new("there is nothing to draw"))?;
            write(&directory.join("servers.svg"), &svg)?;
        }
        Ok(())
    }

    fn introduction(&self, arguments: &Arguments, medians: &Medians) -> Vec<String> {
        let mut lines = vec![
            machine(),
            format!(
                "{VALUE_BYTES}-byte values, {} s for each figure, the median of {}",
                arguments.time().as_secs(),
                arguments.rounds
            ),
            format!("4 KiB written past the page cache, with fdatasync: {:.3} ms", medians.sync_milliseconds),
        ];
        for (contender, version) in &self.versions {
            lines.push(format!("{}: {version}", contender.name()));
        }
        if !self.connections.is_empty() {
            let counts: Vec<String> = self.connections.values().map(usize::to_string).collect();
            lines.push(format!(
                "connections to etcd, the best of those tried, row by row: {}",
                counts.join(", ")
            ));
        }
        let samples = || self.figures.samples.values().flatten();
        let stolen = median(samples().map(|sample| sample.stolen).collect());
        lines.push(format!("the host took away {:.1} % of the processors' time (median)", stolen * 1e2));
        for ((row, contender), samples) in &self.figures.samples {
            let errors: u64 = samples.iter().map(|sample| sample.measured.errors).sum();
            if let Some(first) = samples.iter().find_map(|sample| sample.measured.first_error.as_ref()) {
                lines.push(format!(
                    "{}, {}: {errors} errors, the first: {first}",
                    contender.name(),
                    row.name()
                ));
            }
        }
        lines
    }

    fn json(&self, arguments: &Arguments, medians: &Medians) -> Value {
        let rows: Vec<Value> = self
            .figures
            .samples
            .iter()
            .map(|((row, contender), samples)| {
                let rounds: Vec<Median> =
                    samples.iter().map(|sample| Median::of(std::slice::from_ref(sample))).collect();
                let connections = match contender {
                    Contender::Etcd => self.connections.get(row).copied(),
                    _ => Some(row.clients()),
                };
                json!({
                    "row": row,
                    "server": contender,
                    "clients": row.clients(),
                    "pipeline": row.pipeline(),
                    "connections": connections,
                    "errors": samples.iter().map(|sample| sample.measured.errors).sum::<u64>(),
                    "median": medians.rows.get(&(*row, *contender)),
                    "rounds": rounds,
                })
            })
            .collect();
        let versions: BTreeMap<&str, &String> =
            self.versions.iter().map(|(contender, version)| (contender.name(), version)).collect();
        json!({
            "machine": machine(),
            "versions": versions,
            "value_bytes": VALUE_BYTES,
            "seconds": arguments.time().as_secs(),
            "sync_milliseconds": medians.sync_milliseconds,
            "rows": rows,
            "goals": judge(medians),
        })
    }
}

fn table(medians: &Medians) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<29}{:<11}{:>11}{:>9}{:>9}{:>9}{:>14}{:>9}{:>15}",
        "", "", "requests/s", "p50 ms", "p99 ms", "p99.9 ms", "server cpu s", "µs each", "clients cpu s"
    )];
    for ((row, contender), median) in &medians.rows {
        lines.push(format!(
            "{:<29}{:<11}{:>11.0}{:>9.3}{:>9.3}{:>9.3}{:>14.2}{:>9.1}{:>15.2}",
            row.name(),
            contender.name(),
            median.requests_per_second,
            median.p50_milliseconds,
            median.p99_milliseconds,
            median.p999_milliseconds,
            median.server_cpu_seconds,
            median.server_microseconds_each(),
            median.client_cpu_seconds
        ));
    }
    lines
}

fn ratios(medians: &Medians) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<29}{:>14}{:>14}{:>14}{:>14}",
        "paxos-node, as a multiple of", "etcd's rate", "etcd's p50", "Redis's rate", "Redis's p50"
    )];
    for row in Row::ALL {
        let figures = [Contender::Etcd, Contender::Redis].map(|other| {
            let of: [fn(&Median) -> f64; 2] =
                [|median| median.requests_per_second, |median| median.p50_milliseconds];
            of.map(|of| {
                medians.ratio(row, other, of).map_or(String::from("-"), |ratio| format!("{ratio:.2}"))
            })
        });
        let [[etcd_rate, etcd_wait], [redis_rate, redis_wait]] = figures;
        lines.push(format!(
            "{:<29}{etcd_rate:>14}{etcd_wait:>14}{redis_rate:>14}{redis_wait:>14}",
            row.name()
        ));
    }
    lines
}

fn verdicts(medians: &Medians) -> Vec<String> {
    judge(medians).iter().map(ToString::to_string).collect()
}

/// All rates, as SVG.
fn chart(medians: &Medians) -> Option<String> {
    let contenders = [
        (Contender::PaxosNode, "paxos-node, 3 nodes"),
        (Contender::Etcd, "etcd, 3 nodes"),
        (Contender::Redis, "Redis, 1 node, appendfsync always"),
        (Contender::Bare, "3 processes that copy and sync, nothing else"),
        (Contender::BareStore, "the same over QUIC, with a table of keys"),
    ];
    let series = contenders
        .into_iter()
        .map(|(contender, name)| {
            let rate = |row| Some(medians.rows.get(&(row, contender))?.requests_per_second);
            Series { name: name.to_owned(), values: Row::REQUESTS.map(rate).to_vec() }
        })
        .filter(|series| series.values.iter().any(Option::is_some))
        .collect();
    let groups = ["SET\n1 client", "SET\n64 clients", "SET\n64 × 16", "GET\n64 clients", "GET\n64 × 16"];
    bars(&Bars {
        title: format!("Durable SET and linearizable GET, {VALUE_BYTES} bytes"),
        unit: String::from("requests per second, log scale"),
        groups: groups.map(str::to_owned).to_vec(),
        series,
        scale: Scale::Logarithmic,
    })
}

/// The processor and the system.
pub(super) fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(':')).map_or("a processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let system = rustix::system::uname();
    format!(
        "{model}, {cores} cores, {} {}",
        system.sysname().to_string_lossy(),
        system.release().to_string_lossy()
    )
}

/// Writes a file, and says so.
pub(super) fn write(file: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(file, text).map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
    eprintln!("wrote {}", file.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::row;
    use super::*;

    #[test]
    fn ratios_and_the_chart_come_from_the_same_medians() {
        let mut medians = Medians::default();
        medians.rows.insert((Row::SetMany, Contender::PaxosNode), row(50_000.0, 1.0));
        medians.rows.insert((Row::SetMany, Contender::Etcd), row(2_000.0, 4.0));
        let lines = ratios(&medians).join("\n");
        let words: Vec<&str> = lines.lines().nth(2).expect("the second row").split_whitespace().collect();
        assert_eq!(words, ["SET,", "64", "clients", "25.00", "0.25", "-", "-"]);
        let svg = chart(&medians).expect("there are bars");
        assert!(svg.contains("50.0k") && svg.contains("2.00k"), "{svg}");
        assert!(!svg.contains("Redis"), "what was not measured is not in the legend");
        assert_eq!(chart(&Medians::default()), None);
    }
}
