//! What is measured on each server.

use serde::Serialize;

use super::contender::Contender;
use super::work::Work;

/// Requests of one kind, by a number of clients.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Row {
    SetLone,
    SetMany,
    SetPipelined,
    GetMany,
    GetPipelined,
    LockLone,
    LockMany,
}

impl Row {
    pub(super) const ALL: [Row; 7] = [
        Row::SetLone,
        Row::SetMany,
        Row::SetPipelined,
        Row::GetMany,
        Row::GetPipelined,
        Row::LockLone,
        Row::LockMany,
    ];
    /// Those of single requests.
    pub(super) const REQUESTS: [Row; 5] =
        [Row::SetLone, Row::SetMany, Row::SetPipelined, Row::GetMany, Row::GetPipelined];

    pub(super) fn name(self) -> &'static str {
        match self {
            Row::SetLone => "SET, 1 client",
            Row::SetMany => "SET, 64 clients",
            Row::SetPipelined => "SET, 64 clients, 16 at once",
            Row::GetMany => "GET, 64 clients",
            Row::GetPipelined => "GET, 64 clients, 16 at once",
            Row::LockLone => "lock + release, 1 client",
            Row::LockMany => "lock + release, 64 clients",
        }
    }

    pub(super) fn work(self) -> Work {
        match self {
            Row::SetLone | Row::SetMany | Row::SetPipelined => Work::Set,
            Row::GetMany | Row::GetPipelined => Work::Get,
            Row::LockLone | Row::LockMany => Work::Lock,
        }
    }

    pub(super) fn clients(self) -> usize {
        if matches!(self, Row::SetLone | Row::LockLone) { 1 } else { 64 }
    }

    /// Whether a server can do it: the bare processes know no locks.
    pub(super) fn suits(self, contender: Contender) -> bool {
        self.work() != Work::Lock || !matches!(contender, Contender::Bare | Contender::BareStore)
    }

    /// How many requests a client sends before it waits for their answers.
    pub(super) fn pipeline(self) -> usize {
        if matches!(self, Row::SetPipelined | Row::GetPipelined) { 16 } else { 1 }
    }
}
