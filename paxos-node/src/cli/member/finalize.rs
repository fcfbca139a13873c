//! `paxos-node member finalize`: raises the format level to the newest that the programs of all members know.

use paxos_core::FormatLevel;
use paxos_node::fronts::operator::{ChangeOrder, MembershipReport};

use super::contact::{Contact, Retries};
use super::orders::{Order, Terms};
use crate::cli::Failure;
use crate::cli::terminal::say;

pub(super) async fn finalize(contact: &mut Contact, if_epoch: Option<u64>) -> Result<(), Failure> {
    let mut retries = Retries::new();
    let level = loop {
        let members = contact.look().await?;
        match choose(&members) {
            Choice::Raise { level } => break level,
            Choice::Newest => {
                say!("already so: the programs of all members know no newer level; {members}");
                return Ok(());
            }
            Choice::TooOld { node, newest, wanted } => {
                return Err(Failure::other(format!(
                    "not done: the program of node {node} knows format level {newest} at most, and others know level \
                     {wanted}; start the newer version on it first; {members}"
                )));
            }
            // One that was started just now is heard soon.
            Choice::NotHeard { node } => {
                let reason = format!(
                    "node {node} is not heard, and its program may be too old: start it, or remove it from the cluster"
                );
                retries.pause(&reason).await?;
            }
        }
    };
    let order =
        Order { change: ChangeOrder::Finalize { level }, terms: Terms { if_epoch, is_forced: false } };
    say!("{}", order.make(contact).await?);
    Ok(())
}

/// What is to be done.
#[derive(PartialEq, Eq, Debug)]
enum Choice {
    /// Finalize this level.
    Raise { level: u16 },
    /// Nothing: the newest level that any program knows is finalized.
    Newest,
    /// Nothing can be done: the program of this member knows level `newest` at most, and those of others know
    /// level `wanted`.
    TooOld { node: u64, newest: u16, wanted: u16 },
    /// Nobody knows what the program of this member knows.
    NotHeard { node: u64 },
}

fn choose(members: &MembershipReport) -> Choice {
    let answers = members.member(members.node);
    if let Some(member) = answers.filter(|member| member.newest_level.is_none()) {
        // A node knows its own program, unless that is from before there were levels.
        let (newest, wanted) = (FormatLevel::FIRST.0, FormatLevel::NEWEST.0);
        return Choice::TooOld { node: member.id, newest, wanted };
    }
    let unknown = members.members.iter().find(|member| member.newest_level.is_none());
    if let Some(member) = unknown {
        return Choice::NotHeard { node: member.id };
    }
    let newest = || members.members.iter().filter_map(|member| Some((member.newest_level?, member.id)));
    let finalized = (members.format_level, 0);
    let ((oldest, node), (wanted, _)) =
        (newest().min().unwrap_or(finalized), newest().max().unwrap_or(finalized));
    if oldest > members.format_level {
        Choice::Raise { level: oldest }
    } else if wanted > members.format_level {
        Choice::TooOld { node, newest: oldest, wanted }
    } else {
        Choice::Newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report of members whose programs know these levels at most.
    fn members(format_level: u16, newest: &[Option<u16>]) -> MembershipReport {
        let member = |(id, newest): (u64, &Option<u16>)| {
            serde_json::json!({
                "id": id, "role": "voter", "address": "", "priority": 1, "lag_slots": null, "is_heard": null,
                "newest_level": newest,
            })
        };
        let members: Vec<serde_json::Value> = (1..).zip(newest).map(member).collect();
        let report = serde_json::json!({
            "cluster": "c", "node": 1, "epoch": 0, "leader": 1, "members": members, "removed": [],
            "format_level": format_level, "founding": "",
        });
        serde_json::from_value(report).expect("all fields are there")
    }

    #[test]
    fn the_newest_level_is_chosen_that_all_members_know() {
        let choice = |level, newest: &[Option<u16>]| choose(&members(level, newest));
        assert_eq!(choice(1, &[Some(2), Some(2), Some(2)]), Choice::Raise { level: 2 });
        assert_eq!(choice(1, &[Some(3), Some(2), Some(3)]), Choice::Raise { level: 2 });
        assert_eq!(choice(2, &[Some(2), Some(2)]), Choice::Newest);
        assert_eq!(choice(1, &[Some(2), Some(1)]), Choice::TooOld { node: 2, newest: 1, wanted: 2 });
        assert_eq!(choice(1, &[Some(2), None]), Choice::NotHeard { node: 2 });
        let before_levels = Choice::TooOld { node: 1, newest: 1, wanted: FormatLevel::NEWEST.0 };
        assert_eq!(choice(1, &[None, None]), before_levels, "node 1 has answered");
    }

    #[test]
    fn a_report_from_before_there_were_levels_is_of_the_first_one() {
        let mut report = serde_json::to_value(members(7, &[None])).expect("it has a form in JSON");
        report.as_object_mut().expect("it is an object").remove("format_level");
        let report: MembershipReport = serde_json::from_value(report).expect("all fields are there");
        assert_eq!(report.format_level, 1);
    }
}
