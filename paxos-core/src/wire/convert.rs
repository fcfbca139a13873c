//! Between the messages of the protocol and those of the schema.

use bytes::Bytes;

use super::{WireError, schema};
use crate::durable::{Entry, SnapshotMeta};
use crate::id::{Ballot, NodeId, Slot};
use crate::message::{Body, HeartbeatRound, Message, ReadId};
use crate::value::Value;

impl From<&Message> for schema::Frame {
    fn from(message: &Message) -> schema::Frame {
        schema::Frame { epoch: message.epoch.0, body: Some(schema::Body::from(&message.body)) }
    }
}

impl From<&Body> for schema::Body {
    fn from(body: &Body) -> schema::Body {
        match body {
            Body::Probe { ballot } => schema::Body::Probe(at_ballot(*ballot, 0)),
            Body::Consent { ballot, promised } => schema::Body::Consent(two_ballots(*ballot, *promised)),
            Body::Prepare { ballot, first } => schema::Body::Prepare(at_ballot(*ballot, first.0)),
            Body::Promise { ballot, first, reports, rest } => schema::Body::Promise(schema::Promise {
                ballot: some_ballot(*ballot),
                first: first.0,
                reports: reports.iter().map(schema::Entry::from).collect(),
                rest: rest.map_or(0, |rest| rest.0),
            }),
            Body::Trimmed { below } => schema::Body::Trimmed(at_slot(*below, 0)),
            Body::Accept { ballot, slot, value, chosen } => schema::Body::Accept(schema::Accept {
                ballot: some_ballot(*ballot),
                slot: slot.0,
                value: Some(value.as_bytes().clone()),
                chosen: chosen.0,
            }),
            Body::Accepted { ballot, first, last } => schema::Body::Accepted(schema::Accepted {
                ballot: some_ballot(*ballot),
                first: first.0,
                last: last.0,
            }),
            Body::Reject { ballot, promised } => schema::Body::Reject(two_ballots(*ballot, *promised)),
            Body::Heartbeat { ballot, chosen, round } => schema::Body::Heartbeat(schema::Heartbeat {
                ballot: some_ballot(*ballot),
                chosen: chosen.0,
                round: round.0,
            }),
            Body::HeartbeatAck { ballot, round } => schema::Body::HeartbeatAck(at_ballot(*ballot, round.0)),
            Body::Forward { commands } => {
                schema::Body::Forward(schema::Forward { commands: commands.clone() })
            }
            Body::ReadRequest { read } => schema::Body::ReadRequest(schema::ReadRequest { read: read.0 }),
            Body::ReadGrant { read, slot, ballot, chosen } => schema::Body::ReadGrant(schema::ReadGrant {
                read: read.0,
                slot: slot.0,
                ballot: some_ballot(*ballot),
                chosen: chosen.0,
            }),
            Body::Fetch { first } => schema::Body::Fetch(at_slot(*first, 0)),
            Body::Chosen { first, values, chosen } => schema::Body::Chosen(schema::Chosen {
                first: first.0,
                values: values.iter().map(|value| value.as_bytes().clone()).collect(),
                chosen: chosen.0,
            }),
            Body::FetchSnapshot { slot, offset } => schema::Body::FetchSnapshot(at_slot(*slot, *offset)),
            Body::SnapshotChunk { meta, offset, data } => {
                let SnapshotMeta { slot, size_bytes, checksum } = *meta;
                let snapshot = Some(schema::Snapshot { slot: slot.0, size_bytes, checksum });
                let data = data.clone();
                schema::Body::SnapshotChunk(schema::SnapshotChunk { snapshot, offset: *offset, data })
            }
        }
    }
}

impl From<&(Slot, Entry)> for schema::Entry {
    fn from((slot, entry): &(Slot, Entry)) -> schema::Entry {
        let standing = match entry {
            Entry::Accepted { ballot, .. } => schema::Standing::Accepted((*ballot).into()),
            Entry::Chosen { .. } => schema::Standing::Chosen(schema::Empty {}),
        };
        let value = entry.value().as_bytes().clone();
        schema::Entry { slot: slot.0, value: Some(value), standing: Some(standing) }
    }
}

impl From<Ballot> for schema::Ballot {
    fn from(ballot: Ballot) -> schema::Ballot {
        schema::Ballot { round: ballot.round, node: ballot.node.0 }
    }
}

impl From<schema::Ballot> for Ballot {
    fn from(ballot: schema::Ballot) -> Ballot {
        Ballot { round: ballot.round, node: NodeId(ballot.node) }
    }
}

fn at_ballot(ballot: Ballot, number: u64) -> schema::AtBallot {
    schema::AtBallot { ballot: some_ballot(ballot), number }
}

fn two_ballots(ballot: Ballot, promised: Ballot) -> schema::TwoBallots {
    schema::TwoBallots { ballot: some_ballot(ballot), promised: some_ballot(promised) }
}

fn at_slot(slot: Slot, offset: u64) -> schema::AtSlot {
    schema::AtSlot { slot: slot.0, offset }
}

#[expect(clippy::unnecessary_wraps, reason = "prost holds every nested message in an Option")]
fn some_ballot(ballot: Ballot) -> Option<schema::Ballot> {
    Some(ballot.into())
}

impl TryFrom<schema::Body> for Body {
    type Error = WireError;

    fn try_from(body: schema::Body) -> Result<Body, WireError> {
        Ok(match body {
            schema::Body::Probe(probe) => Body::Probe { ballot: ballot(probe.ballot)? },
            schema::Body::Consent(consent) => {
                Body::Consent { ballot: ballot(consent.ballot)?, promised: promised(consent.promised)? }
            }
            schema::Body::Prepare(prepare) => {
                Body::Prepare { ballot: ballot(prepare.ballot)?, first: slot(prepare.number, "first")? }
            }
            schema::Body::Promise(promise) => Body::Promise {
                ballot: ballot(promise.ballot)?,
                first: slot(promise.first, "first")?,
                reports: promise.reports.into_iter().map(entry).collect::<Result<_, _>>()?,
                rest: (promise.rest != 0).then_some(Slot(promise.rest)),
            },
            schema::Body::Trimmed(trimmed) => Body::Trimmed { below: slot(trimmed.slot, "below")? },
            schema::Body::Accept(accept) => Body::Accept {
                ballot: ballot(accept.ballot)?,
                slot: slot(accept.slot, "slot")?,
                value: value(accept.value)?,
                chosen: Slot(accept.chosen),
            },
            schema::Body::Accepted(accepted) => Body::Accepted {
                ballot: ballot(accepted.ballot)?,
                first: slot(accepted.first, "first")?,
                last: slot(accepted.last, "last")?,
            },
            schema::Body::Reject(reject) => {
                Body::Reject { ballot: ballot(reject.ballot)?, promised: promised(reject.promised)? }
            }
            schema::Body::Heartbeat(heartbeat) => Body::Heartbeat {
                ballot: ballot(heartbeat.ballot)?,
                chosen: Slot(heartbeat.chosen),
                round: HeartbeatRound(heartbeat.round),
            },
            schema::Body::HeartbeatAck(ack) => {
                Body::HeartbeatAck { ballot: ballot(ack.ballot)?, round: HeartbeatRound(ack.number) }
            }
            schema::Body::Forward(forward) => Body::Forward { commands: forward.commands },
            schema::Body::ReadRequest(request) => Body::ReadRequest { read: ReadId(request.read) },
            schema::Body::ReadGrant(grant) => Body::ReadGrant {
                read: ReadId(grant.read),
                slot: Slot(grant.slot),
                ballot: ballot(grant.ballot)?,
                chosen: Slot(grant.chosen),
            },
            schema::Body::Fetch(fetch) => Body::Fetch { first: slot(fetch.slot, "first")? },
            schema::Body::Chosen(chosen) => Body::Chosen {
                first: slot(chosen.first, "first")?,
                values: chosen.values.into_iter().map(Value::parse).collect::<Result<_, _>>()?,
                chosen: Slot(chosen.chosen),
            },
            schema::Body::FetchSnapshot(fetch) => {
                Body::FetchSnapshot { slot: Slot(fetch.slot), offset: fetch.offset }
            }
            schema::Body::SnapshotChunk(chunk) => {
                let schema::Snapshot { slot, size_bytes, checksum } = required(chunk.snapshot, "snapshot")?;
                let meta = SnapshotMeta { slot: Slot(slot), size_bytes, checksum };
                Body::SnapshotChunk { meta, offset: chunk.offset, data: chunk.data }
            }
        })
    }
}

fn entry(entry: schema::Entry) -> Result<(Slot, Entry), WireError> {
    let value = value(entry.value)?;
    let decoded = match required(entry.standing, "accepted or chosen")? {
        schema::Standing::Accepted(ballot) => Entry::Accepted { ballot: ballot.into(), value },
        schema::Standing::Chosen(schema::Empty {}) => Entry::Chosen { value },
    };
    Ok((slot(entry.slot, "slot")?, decoded))
}

fn ballot(ballot: Option<schema::Ballot>) -> Result<Ballot, WireError> {
    required(ballot, "ballot").map(Ballot::from)
}

fn promised(promised: Option<schema::Ballot>) -> Result<Ballot, WireError> {
    required(promised, "promised").map(Ballot::from)
}

fn value(value: Option<Bytes>) -> Result<Value, WireError> {
    Ok(Value::parse(required(value, "value")?)?)
}

fn slot(slot: u64, field: &'static str) -> Result<Slot, WireError> {
    required((slot != 0).then_some(Slot(slot)), field)
}

fn required<T>(found: Option<T>, field: &'static str) -> Result<T, WireError> {
    found.ok_or(WireError::MissingField { field })
}
