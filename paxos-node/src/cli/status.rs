//! `paxos-node status`: how the nodes of a cluster are doing.

use std::time::Duration;

use clap::Args;

use super::Failure;
use paxos_node::http::StatusReport;

const TIMEOUT: Duration = Duration::from_secs(2);

/// Show how the nodes of a cluster are doing.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The nodes' HTTP addresses.
    #[arg(value_name = "HTTP-HOST:PORT,..", value_delimiter = ',', required = true)]
    addresses: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).build().into();
    let reports: Vec<_> = arguments.addresses.iter().map(|address| (address, ask(&agent, address))).collect();
    let highest =
        reports.iter().filter_map(|(_, report)| Some(report.as_ref().ok()?.chosen)).max().unwrap_or(0);
    println!(
        "{:<24} {:>6}  {:<9} {:>6}  {:>10} {:>12} {:>12} {:>8}",
        "ADDRESS", "NODE", "ROLE", "LEADER", "BALLOT", "CHOSEN", "APPLIED", "LAG"
    );
    for (address, report) in &reports {
        match report {
            Ok(report) => println!(
                "{:<24} {:>6}  {:<9} {:>6}  {:>10} {:>12} {:>12} {:>8}",
                address,
                report.node,
                if report.repairs_through.is_some() { "repairing" } else { &report.role },
                report.leader.map_or_else(|| String::from("none"), |leader| leader.to_string()),
                report.ballot,
                report.chosen,
                report.applied,
                highest.saturating_sub(report.applied)
            ),
            Err(error) => println!("{address:<24} no answer: {error}"),
        }
    }
    if reports.iter().any(|(_, report)| report.is_ok()) {
        Ok(())
    } else {
        Err(Failure::other("no node answers; are these the addresses given to --http?"))
    }
}

fn ask(agent: &ureq::Agent, address: &str) -> Result<StatusReport, String> {
    let mut response =
        agent.get(format!("http://{address}/status")).call().map_err(|error| error.to_string())?;
    let text = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| format!("not a status: {error}"))
}
