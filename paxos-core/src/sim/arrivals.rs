//! Messages that arrive over streams at the nodes of a run.

use super::disk::Disk;
use super::event::Event;
use super::machine::Machine;
use super::marks::Mark;
use super::rule::Rule;
use super::world::World;

impl<M: Machine, D: Disk> World<M, D> {
    /// Reads what an earlier arrival has left under way, at a node that is awake.
    pub(super) fn on_planned_arrival(&mut self, from: usize, to: usize) {
        if let Some(streams) = &mut self.streams {
            streams.begin_planned(from, to);
        }
        self.on_arrival(from, to);
    }

    /// Reads some of what is under way on a stream, at a node that is awake.
    pub(super) fn on_arrival(&mut self, from: usize, to: usize) {
        let Some(streams) = &mut self.streams else { return };
        let arrived = streams.arrive(from, to);
        if arrived.is_to_be_planned {
            self.schedule.after(streams.delay_units(), Event::Arrive(from, to));
        }
        if arrived.is_in_pieces {
            self.marks.hit(Mark::FrameInPieces);
        }
        for _ in 0..arrived.refused {
            self.marks.hit(Mark::DamagedMessage);
        }
        let ids = [from, to].map(|node| self.nodes[node].id);
        self.observer.check(arrived.problem.is_none(), Rule::ArrivesAsSent, || {
            format!("from node {} to node {}: {}", ids[0], ids[1], arrived.problem.unwrap_or_default())
        });
        for message in arrived.messages {
            self.receive(from, to, message);
        }
    }
}
