//! Every state of a node that has been seen, once, and the steps between them.
//!
//! The state of the whole cluster is then just three references, and a real replica takes each of its steps
//! only once, however many states of the other nodes there are. A replica can't be copied; so a node
//! remembers its history, and repeats it to find where one more step leads.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use paxos_core::sim::Mutant;
use paxos_core::{Message, NodeId};

use crate::model::Bounds;
use crate::node::{Event, Facts, Letter, Node, Step};
use crate::running::Running;

/// All letters and nodes there have been. They stay until the test ends, so that states can refer to them.
#[derive(Default)]
pub(crate) struct Catalogue {
    letters: Mutex<HashMap<String, &'static Letter>>,
    nodes: Mutex<HashMap<String, &'static Node>>,
    starts: Mutex<HashMap<String, &'static Facts>>,
}

/// How a node came to be as it is: from what it was started, and what it has done since then.
#[derive(Clone)]
pub(crate) struct History {
    start: &'static Facts,
    steps: Vec<Step>,
}

/// Where a step leads to, if anywhere.
#[derive(Clone, Copy)]
pub(crate) struct Next {
    step: Step,
    after: Option<&'static Node>,
}

impl Catalogue {
    pub(crate) fn first(&self, bounds: &Bounds, id: NodeId) -> &'static Node {
        let start = self.start(Facts::first(id));
        self.arrive(bounds, History { start, steps: Vec::new() }).expect("nothing forbids to start")
    }

    /// The node after a step, or `None` where the step changes nothing or is out of bounds.
    pub(crate) fn next(&self, bounds: &Bounds, node: &'static Node, step: Step) -> Option<&'static Node> {
        let number = step.number();
        let mut next = lock(&node.next);
        if let Some(Some(next)) = next.get(number) {
            return next.after;
        }
        if next.len() <= number {
            next.resize(number + 1, None);
        }
        let after = self.arrive(bounds, self.history_after(bounds, &node.history, step));
        let after = after.filter(|&after| after != node);
        next[number] = Some(Next { step, after });
        after
    }

    pub(crate) fn nodes(&self) -> usize {
        lock(&self.nodes).len()
    }

    pub(crate) fn letter(&self, from: NodeId, to: Option<NodeId>, message: Message) -> &'static Letter {
        let mut letters = lock(&self.letters);
        let number = letters.len();
        let key = format!("{from} {to:?} {message:?}");
        letters.entry(key).or_insert_with(|| Box::leak(Box::new(Letter { number, from, to, message })))
    }

    /// Repeats all steps from each state that was reached by two histories, this time with the other history.
    /// The results must be the same, as what is left out of a state must not decide anything. Returns the
    /// number of steps.
    pub(crate) fn compare_histories(&self, bounds: &Bounds) -> usize {
        let nodes: Vec<&'static Node> = lock(&self.nodes).values().copied().collect();
        let mut compared = 0;
        for node in nodes {
            let Some(other) = lock(&node.other_history).clone() else { continue };
            for Next { step, after } in lock(&node.next).iter().flatten() {
                let after = after.map_or_else(|| node.key(), Node::key);
                let facts = self.facts_after(bounds, &self.history_after(bounds, &other, *step));
                let other_after = facts.map_or_else(|| node.key(), |facts| format!("{facts:?}"));
                assert_eq!(
                    other_after, after,
                    "{step:?} leads elsewhere after {:?} than after {:?}",
                    other.steps, node.history.steps
                );
                compared += 1;
            }
        }
        compared
    }

    fn arrive(&self, bounds: &Bounds, history: History) -> Option<&'static Node> {
        let facts = self.facts_after(bounds, &history)?;
        let key = format!("{facts:?}");
        let mut nodes = lock(&self.nodes);
        if let Some(&node) = nodes.get(&key) {
            lock(&node.other_history).get_or_insert(history);
            return Some(node);
        }
        let node: &'static Node = Box::leak(Box::new(Node {
            number: nodes.len(),
            proposals: facts.proposals(),
            facts,
            history,
            other_history: Mutex::default(),
            next: Mutex::default(),
        }));
        nodes.insert(key, node);
        Some(node)
    }

    fn history_after(&self, bounds: &Bounds, before: &History, step: Step) -> History {
        if step.event == Event::Restart {
            let facts = self.facts_after(bounds, before).expect("this way has been gone before");
            return History { start: self.start(facts.after_crash()), steps: Vec::new() };
        }
        let mut steps = before.steps.clone();
        steps.push(step);
        History { start: before.start, steps }
    }

    /// `None` if the way leads out of bounds.
    fn facts_after(&self, bounds: &Bounds, history: &History) -> Option<Facts> {
        Mutant::activate(bounds.mutant);
        let mut running = Running::start(self, bounds, history.start);
        history.steps.iter().all(|step| running.take(*step)).then(|| running.facts())
    }

    fn start(&self, facts: Facts) -> &'static Facts {
        lock(&self.starts).entry(format!("{facts:?}")).or_insert_with(|| Box::leak(Box::new(facts)))
    }
}

impl Node {
    fn key(&self) -> String {
        format!("{:?}", self.facts)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no other thread has panicked")
}
