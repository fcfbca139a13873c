//! A report as one page that opens in any browser, offline.

use std::fmt::Write;

use super::report::{Report, Row};

const STYLE: &str = "\
:root { color-scheme: light dark; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1180px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; }
h2 { font-size: 1.1rem; margin-top: 2.5rem; }
code { font: 13px ui-monospace, monospace; background: #8882; padding: .15em .4em; border-radius: 4px; }
dl { display: grid; grid-template-columns: max-content auto; gap: .1rem 1.2rem; }
dt { opacity: .65; } dd { margin: 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(520px, 1fr)); gap: 1rem; }
figure { margin: 0; }
.charts svg { width: 100%; height: auto; border: 1px solid var(--line); border-radius: 6px; background: #fff; }
.rows { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--line); }
th { position: sticky; top: 0; font-weight: 600; background: Canvas; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
tr:hover td { background: #8881; }
p.note { opacity: .75; max-width: 80ch; }";

impl Report {
    /// It as a page that opens in any browser, with charts, all in one file.
    #[must_use]
    pub fn page(&self) -> String {
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>paxos-node bench</title>\n\
         <style>\n{STYLE}\n</style>\n</head>\n<body>\n<h1>paxos-node bench</h1>\n{}{}{}</body>\n</html>\n",
            facts(self),
            plots(self),
            table(self)
        )
    }

    /// It as JSON, for programs.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "names and numbers can always be written")]
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("names and numbers can be written as JSON")
    }
}

fn facts(report: &Report) -> String {
    let machine = &report.machine;
    let mut facts = Vec::new();
    if !report.command.is_empty() {
        facts.push(("command", format!("<code>{}</code>", escape(&report.command))));
    }
    facts.extend([
        ("version", escape(report.version)),
        ("begun", escape(&begun(report))),
        ("processor", format!("{}, {} cores", escape(&machine.processor), machine.cores)),
        ("system", escape(&machine.system)),
    ]);
    if let Some(microseconds) = machine.sync_microseconds {
        facts.push((
            "disk",
            format!("4 KiB at the end of a file, with fdatasync: {microseconds:.0} µs in the median"),
        ));
    }
    if let Some(packets) = &machine.quic_packets {
        facts.push(("QUIC packets", escape(packets)));
    }
    if let Some(nodes) = report.nodes {
        facts.push(("nodes", nodes.to_string()));
    }
    for emulated in &report.emulated {
        facts.push(("emulated", escape(&format!("{}: {}", emulated.place, emulated.accuracy))));
    }
    facts.push((
        "each row",
        format!(
            "{} s after {} s of warm-up, {}",
            report.time_seconds,
            report.warm_up_seconds,
            match report.rounds {
                1 => String::from("once"),
                rounds => format!("the median of {rounds} rounds"),
            }
        ),
    ));
    let list: Vec<String> =
        facts.iter().map(|(term, text)| format!("<dt>{term}</dt><dd>{text}</dd>\n")).collect();
    format!("<dl>\n{}</dl>\n", list.concat())
}

fn begun(report: &Report) -> String {
    let since = std::time::Duration::from_secs(report.started_unix_seconds);
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}

fn plots(report: &Report) -> String {
    let plots: Vec<String> = report
        .charts()
        .iter()
        .map(|chart| {
            format!("<figure role=\"img\" aria-label=\"{}\">\n{}</figure>\n", escape(&chart.title), chart.svg)
        })
        .collect();
    format!("<h2>At a glance</h2>\n<div class=\"charts\">\n{}</div>\n", plots.concat())
}

fn table(report: &Report) -> String {
    let titles: Vec<String> = Row::TITLES.iter().map(|title| format!("<th>{title}</th>")).collect();
    let rows: Vec<String> = report
        .rows
        .iter()
        .map(|row| {
            let cells: Vec<String> =
                row.cells().iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
            format!("<tr title=\"{}\">{}</tr>\n", escape(&details(row)), cells.concat())
        })
        .collect();
    format!(
        "<h2>All rows</h2>\n<p class=\"note\">Each client asks again as soon as it is answered. CPU is the processor time of \
         the measuring process, nodes included if they run in it. Messages, their bytes and syncs are those of all nodes \
         together. STOLEN is what a virtual machine's host kept for itself meanwhile: where it is more than a few percent, \
         measure again. Point at a row for more.</p>\n<div class=\"rows\">\n<table>\n<thead><tr>{}</tr></thead>\n\
         <tbody>\n{}</tbody>\n</table>\n</div>\n",
        titles.concat(),
        rows.concat()
    )
}

/// Details without a column of their own.
fn details(row: &Row) -> String {
    let mut details = format!("seed {}, {} requests", row.seed, row.requests);
    if let super::report::Place::InProcess { threads, .. } = &row.place {
        let _ = write!(details, ", current-thread runtime, threads {threads}");
    }
    match row.leader {
        Some(leader) => drop(write!(details, ", led by node {leader}")),
        None if row.leader_has_changed() => details.push_str(", the leader has changed meanwhile"),
        None => {}
    }
    if let Some(mode) = row.sync_mode {
        let _ = write!(details, ", sync {mode}");
    }
    if let Some(error) = &row.first_error {
        let _ = write!(details, ", first error: {error}");
    }
    details
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
