//! The servers that are measured.

use clap::ValueEnum;
use serde::Serialize;

/// A server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Contender {
    PaxosNode,
    Etcd,
    Redis,
    /// Redis with two replicas, for which it does not wait.
    #[value(name = "redis-x3")]
    #[serde(rename = "redis-x3")]
    RedisWithCopies,
    /// Three bare processes, which do the least that a replicated log has to do.
    Bare,
    /// Three processes that do what a replicated store over QUIC has to do beside that.
    BareStore,
}

impl Contender {
    pub(super) fn name(self) -> &'static str {
        match self {
            Contender::PaxosNode => "paxos-node",
            Contender::Etcd => "etcd",
            Contender::Redis => "redis",
            Contender::RedisWithCopies => "redis-x3",
            Contender::Bare => "bare",
            Contender::BareStore => "bare-store",
        }
    }
}
