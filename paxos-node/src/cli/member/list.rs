//! `paxos-node member list`.

use paxos_node::fronts::operator::MembershipReport;

use super::contact::Contact;
use crate::cli::Failure;
use crate::cli::terminal::say;

pub(super) async fn list(contact: &mut Contact, is_json: bool) -> Result<(), Failure> {
    let members = contact.look().await?;
    if is_json {
        let json = serde_json::to_string_pretty(&members).map_err(Failure::other)?;
        say!("{json}");
    } else {
        show(&members);
    }
    Ok(())
}

fn show(members: &MembershipReport) {
    let leader = members.leader.map_or_else(|| String::from("none"), |leader| leader.to_string());
    say!(
        "cluster {}, epoch {}, format level {}, leader {leader}, as node {} sees it",
        members.cluster,
        members.epoch,
        members.format_level,
        members.node
    );
    say!(
        "{:>6}  {:<8} {:<28} {:>8} {:>10}  {:<7}  KNOWS LEVEL",
        "ID",
        "ROLE",
        "ADDRESS",
        "PRIORITY",
        "LAG",
        "HEARD"
    );
    for member in &members.members {
        let role = if members.leader == Some(member.id) { "leader" } else { &member.role };
        let lag = member.lag_slots.map_or_else(|| String::from("unknown"), |slots| slots.to_string());
        let heard = match member.is_heard {
            None => "unknown",
            Some(true) => "yes",
            Some(false) => "no",
        };
        let level = member.newest_level.map_or_else(|| String::from("unknown"), |level| level.to_string());
        let address = if member.address.is_empty() { "unknown" } else { &member.address };
        say!(
            "{:>6}  {role:<8} {address:<28} {:>8} {lag:>10}  {heard:<7}  {level}",
            member.id,
            member.priority
        );
    }
    if !members.removed.is_empty() {
        let removed: Vec<String> = members.removed.iter().map(u64::to_string).collect();
        say!("removed, and never used again: {}", removed.join(", "));
    }
}
