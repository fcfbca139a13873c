//! The goals of paxos-node, and whether it reaches them.

use std::fmt;

use serde::Serialize;

use super::super::contender::Contender;
use super::action::Action;
use super::arguments::Server;
use super::figures::Summaries;
use crate::statistics::median as median_of;

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
    /// The median over all actions of the longest waits just before, while nothing was done.
    quiet_milliseconds: Option<f64>,
    /// The same of the bare processes: no server can be below it here and now.
    floor_milliseconds: Option<f64>,
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
    let quiet = |server| {
        let of_server = summaries.iter().filter(|((_, of), _)| *of == server);
        let quiet: Vec<f64> = of_server.map(|(_, summary)| summary.quiet_median).collect();
        (!quiet.is_empty()).then(|| median_of(quiet))
    };
    let of_paxos = servers.iter().copied().filter(|server| server.contender() == Contender::PaxosNode);
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
            quiet_milliseconds: quiet(server),
            floor_milliseconds: median(Action::Nothing, Server::Bare),
        })
        .collect()
}

impl Verdict {
    /// `None` if that was not measured.
    pub(super) fn is_met(&self) -> Option<bool> {
        Some(self.milliseconds? <= self.limit_milliseconds?)
    }

    /// Whether clients waited for longer than that even where there is nothing but copying and syncing.
    pub(super) fn is_below_floor(&self) -> bool {
        self.floor_milliseconds.zip(self.limit_milliseconds).is_some_and(|(floor, limit)| floor > limit)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.is_met() {
            Some(true) => "met",
            Some(false) if self.is_below_floor() => "BELOW FLOOR",
            Some(false) => "MISSED",
            None => "not measured",
        };
        let in_words = |wait: f64| format!("{wait:.2} ms");
        let [measured, quiet, floor] = [self.milliseconds, self.quiet_milliseconds, self.floor_milliseconds]
            .map(|wait| wait.map_or_else(|| String::from("-"), in_words));
        let (server, action, goal) = (self.server.name(), self.action.name(), &self.goal);
        write!(
            formatter,
            "{word:<14}{server:<16}{action:<24}{measured:>12}  {goal:<24}without action {quiet}, bare {floor}"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::figures::tests::sample;
    use super::super::figures::{Sample, Summary};
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
    fn a_goal_that_can_not_be_reached_is_told_from_one_that_is_missed() {
        let line = |longest: u64, floor: u64| {
            let server = Sample { quiet: Duration::from_millis(17), ..sample(longest) };
            let summaries = [
                ((Action::Transfer, Server::PaxosNode), Summary::of(&[server])),
                ((Action::Nothing, Server::Bare), Summary::of(&[sample(floor)])),
            ];
            judge(&summaries.into(), &[Server::PaxosNode, Server::Bare])[1].to_string()
        };
        assert!(line(25, 19).starts_with("MISSED"), "{}", line(25, 19));
        assert!(line(25, 21).starts_with("BELOW FLOOR"), "{}", line(25, 21));
        assert!(line(20, 21).starts_with("met"), "{}", line(20, 21));
        assert!(line(20, 21).ends_with("without action 17.00 ms, bare 21.00 ms"), "{}", line(20, 21));
    }

    #[test]
    fn without_etcd_nothing_is_level_with_it() {
        let waits = Action::ALL.map(|action| (action, Server::PaxosNode, 1));
        let (yes, unknown) = (Some(true), None);
        assert_eq!(verdicts(&waits), [yes, yes, yes, unknown, unknown]);
        assert_eq!(verdicts(&[]), [unknown; 5]);
    }
}
