//! The goals of paxos-node, and whether it reaches them.

use std::fmt;

use serde::Serialize;

use super::action::Action;
use super::arguments::Server;
use super::figures::Summaries;

/// How much longer than etcd's a wait may be that is called level with it: the longest of a thousand waits
/// differs by as much from run to run.
const LEVEL: f64 = 1.2;

/// A goal that was judged: a median of longest waits, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Verdict {
    action: Action,
    server: Server,
    goal: String,
    /// `None` if what it is compared with was not measured.
    limit_milliseconds: Option<f64>,
    /// `None` if it was not measured.
    milliseconds: Option<f64>,
}

#[derive(Clone, Copy)]
enum Goal {
    Milliseconds(f64),
    LevelWithEtcd,
}

const GOALS: [(Action, Goal); 5] = [
    (Action::ReplaceLeader, Goal::Milliseconds(50.0)),
    (Action::Transfer, Goal::Milliseconds(20.0)),
    (Action::TerminateLeader, Goal::Milliseconds(20.0)),
    (Action::Add, Goal::LevelWithEtcd),
    (Action::Promote, Goal::LevelWithEtcd),
];

/// Judges all goals for each of these servers that is one of paxos-node.
pub(super) fn judge(summaries: &Summaries, servers: &[Server]) -> Vec<Verdict> {
    let median = |action, server| summaries.get(&(action, server)).map(|summary| summary.longest_median);
    let of_paxos = servers.iter().copied().filter(|server| *server != Server::Etcd);
    let goals = of_paxos.flat_map(|server| GOALS.map(|(action, goal)| (server, action, goal)));
    goals
        .map(|(server, action, goal)| Verdict {
            action,
            server,
            goal: match goal {
                Goal::Milliseconds(limit) => format!("at most {limit} ms"),
                Goal::LevelWithEtcd => format!("at most {LEVEL} of etcd's"),
            },
            limit_milliseconds: match goal {
                Goal::Milliseconds(limit) => Some(limit),
                Goal::LevelWithEtcd => median(action, Server::Etcd).map(|etcd| LEVEL * etcd),
            },
            milliseconds: median(action, server),
        })
        .collect()
}

impl Verdict {
    /// `None` if that was not measured.
    pub(super) fn is_met(&self) -> Option<bool> {
        Some(self.milliseconds? <= self.limit_milliseconds?)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.is_met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not measured",
        };
        let measured = self.milliseconds.map_or_else(|| String::from("-"), |wait| format!("{wait:.2} ms"));
        let (server, action) = (self.server.name(), self.action.name());
        write!(formatter, "{word:<14}{server:<16}{action:<24}{measured:>12}  {}", self.goal)
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::Summary;
    use super::super::figures::tests::sample;
    use super::*;

    fn verdicts(waits: &[(Action, Server, u64)]) -> Vec<Option<bool>> {
        let summaries = waits
            .iter()
            .map(|(action, server, wait)| ((*action, *server), Summary::of(&[sample(*wait)])))
            .collect();
        let verdicts = judge(&summaries, &[Server::PaxosNode, Server::Etcd]);
        verdicts.iter().map(Verdict::is_met).collect()
    }

    #[test]
    fn what_is_just_enough_is_enough_and_a_little_more_is_not() {
        let waits = |more: u64| {
            [
                (Action::ReplaceLeader, Server::PaxosNode, 50 + more),
                (Action::Transfer, Server::PaxosNode, 20 + more),
                (Action::TerminateLeader, Server::PaxosNode, 20 + more),
                (Action::Add, Server::PaxosNode, 12 + more),
                (Action::Add, Server::Etcd, 10),
                (Action::Promote, Server::PaxosNode, 6 + more),
                (Action::Promote, Server::Etcd, 5),
            ]
        };
        assert_eq!(verdicts(&waits(0)), [Some(true); 5]);
        assert_eq!(verdicts(&waits(1)), [Some(false); 5]);
    }

    #[test]
    fn without_etcd_nothing_is_level_with_it() {
        let waits = Action::ALL.map(|action| (action, Server::PaxosNode, 1));
        let (yes, unknown) = (Some(true), None);
        assert_eq!(verdicts(&waits), [yes, yes, yes, unknown, unknown]);
        assert_eq!(verdicts(&[]), [unknown; 5]);
    }
}
