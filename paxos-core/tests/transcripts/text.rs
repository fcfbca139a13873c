//! Words for what replicas do beside sending messages, which core shows by itself.

use paxos_core::{Epoch, HardState, Message, Refusal, Write};

/// A message; of the founding membership its epoch is left out.
pub(crate) fn message(message: &Message) -> String {
    if message.epoch == Epoch(0) {
        message.body.to_string()
    } else {
        format!("{} (epoch {})", message.body, message.epoch)
    }
}

/// What a write changes.
pub(crate) fn write(before: &HardState, write: &Write) -> String {
    let after = write.hard_state();
    let mut changes = Vec::new();
    if after.promised != before.promised {
        changes.push(format!("promised {}", after.promised));
    }
    changes.extend(write.entries().iter().map(|(slot, entry)| format!("slot {slot} = {entry}")));
    if after.chosen != before.chosen {
        changes.push(format!("chosen through {}", after.chosen));
    }
    if changes.is_empty() {
        return String::from("writes: nothing new, so that all before it is durable");
    }
    format!("writes: {}", changes.join("; "))
}

pub(crate) fn refusal(refusal: Refusal) -> String {
    match refusal {
        Refusal::NoLeader => String::from("no leader is known here"),
        Refusal::Overloaded => String::from("too many commands wait"),
        Refusal::TooLong { limit_bytes } => format!("longer than {limit_bytes} bytes"),
        other => format!("{other:?}"),
    }
}

pub(crate) fn count(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}
