//! `paxos-node member replace`: three changes, with a wait until the new node has caught up.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use paxos_node::fronts::MemberReport;
use paxos_node::fronts::operator::{ChangeOrder, MembershipReport};
use tokio::time::{Instant, sleep};

use super::contact::Contact;
use super::orders::{NotMade, Order, Terms};
use crate::cli::Failure;
use crate::cli::terminal::{say, warn_line};

/// How often the new node's progress is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// The new node is given up if it is not heard from for this long.
const SILENCE: Duration = Duration::from_secs(60);
/// How often its progress is told if standard error is no terminal.
const TELL_INTERVAL: Duration = Duration::from_secs(2);

pub(super) struct Replacement {
    pub(super) old: u64,
    pub(super) new: u64,
    pub(super) address: String,
    pub(super) is_forced: bool,
}

impl Replacement {
    /// Makes what is still to be made.
    pub(super) async fn make(&self, contact: &mut Contact) -> Result<(), Failure> {
        let Replacement { old, new, .. } = *self;
        if old == new {
            return Err(Failure::usage("--with must be another node than --id: an id is used once"));
        }
        let members = contact.look().await?;
        self.check(&members)?;
        if members.member(new).is_none() {
            self.change(contact, ChangeOrder::Add { id: new, address: self.address.clone() }).await?;
        }
        if members.member(new).is_none_or(|member| !member.is_voter()) {
            self.promote(contact).await?;
        }
        let line = self.change(contact, ChangeOrder::Remove { id: old }).await?;
        say!("{line}");
        Ok(())
    }

    /// Whether this can be a replacement of the old node, or the rest of one.
    fn check(&self, members: &MembershipReport) -> Result<(), Failure> {
        let Replacement { old, new, .. } = *self;
        let not_done = |reason: String| Err(Failure::other(format!("not done: {reason}; {members}")));
        if members.member(old).is_none() && !members.removed.contains(&old) {
            return not_done(format!("node {old} is not a member"));
        }
        if members.removed.contains(&new) {
            return not_done(format!("node {new} was removed, and an id is never used again"));
        }
        match members.member(new) {
            Some(member) if member.address != self.address => {
                not_done(format!("node {new} is a {} at {} already", member.role, member.address))
            }
            _ => Ok(()),
        }
    }

    async fn change(&self, contact: &mut Contact, change: ChangeOrder) -> Result<String, Failure> {
        let terms = Terms { is_forced: self.is_forced, ..Terms::default() };
        Order { change, terms }.make(contact).await
    }

    /// Waits until the new node has caught up, and promotes it.
    async fn promote(&self, contact: &mut Contact) -> Result<(), Failure> {
        let mut progress = Progress::new(self.new);
        loop {
            let members = contact.look().await.ok();
            let member = members.as_ref().and_then(|members| members.member(self.new));
            progress.note(member);
            if progress.is_heard {
                // Only the leader knows how far the node is, and refuses until it has all but a bounded rest.
                let promotion = ChangeOrder::Promote { id: self.new };
                match (Order { change: promotion, terms: Terms::default() }).try_make(contact).await {
                    Ok(_) => return Ok(()),
                    Err(NotMade::Lags { slots, .. }) => progress.show(slots),
                    Err(NotMade::Failed(failure)) => return Err(failure),
                }
            } else if progress.is_silent() {
                return Err(Failure::other(format!(
                    "node {new} was added as a learner and was not heard from for {seconds} s: start it with \
                     'paxos-node serve --id {new} --join ..', and run this again",
                    new = self.new,
                    seconds = SILENCE.as_secs()
                )));
            }
            sleep(LOOK_INTERVAL).await;
        }
    }
}

/// Shows how far the new node has caught up.
struct Progress {
    node: u64,
    bar: Option<ProgressBar>,
    most_slots: u64,
    is_heard: bool,
    heard_at: Instant,
    told_at: Option<Instant>,
}

impl Progress {
    fn new(node: u64) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} slots");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(0).with_style(style);
            bar.set_message(format!("node {node} catches up"));
            bar
        });
        let heard_at = Instant::now();
        Progress { node, bar, most_slots: 0, is_heard: false, heard_at, told_at: None }
    }

    fn note(&mut self, member: Option<&MemberReport>) {
        self.is_heard = member.is_some_and(|member| member.is_heard == Some(true));
        if self.is_heard {
            self.heard_at = Instant::now();
        }
        if let Some(slots) = member.and_then(|member| member.lag_slots) {
            self.show(slots);
        }
    }

    fn is_silent(&self) -> bool {
        self.heard_at.elapsed() > SILENCE
    }

    fn show(&mut self, slots: u64) {
        self.most_slots = self.most_slots.max(slots);
        if let Some(bar) = &self.bar {
            bar.set_length(self.most_slots);
            bar.set_position(self.most_slots - slots);
        } else if self.told_at.is_none_or(|told_at| told_at.elapsed() >= TELL_INTERVAL) {
            self.told_at = Some(Instant::now());
            warn_line(format_args!("node {} catches up: {slots} slots to go", self.node));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
