//! What a node of a transcript does for each output of its replica.

use bytes::Bytes;
use paxos_core::{
    ChangeRefusal, Driver, Epoch, HandoverRefusal, Input, Membership, Message, NodeId, ReadId, Refusal,
    RequestId, Slot, SnapshotMeta, Time, Value, Write,
};
use std::error::Error;

use crate::cluster::{Cluster, Done};
use crate::node::State;
use crate::text;

/// Shows and carries out the outputs of one node's replica.
pub(crate) struct NodeDriver<'a> {
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) id: NodeId,
    /// What the replica gets next, as a snapshot was read or written; each with the line that says so.
    pub(crate) answers: Vec<(String, Input)>,
}

impl Driver for NodeDriver<'_> {
    type Error = Box<dyn Error>;

    fn send(&mut self, to: NodeId, message: Message) -> Done {
        let line = self.cluster.send(self.id, vec![to], &message);
        self.cluster.show(&line);
        Ok(())
    }

    fn broadcast(&mut self, message: Message) -> Done {
        let replica = self.cluster.node(self.id)?.replica.as_ref().ok_or("only a node that runs sends")?;
        let peers = replica.config().peers().collect();
        let line = self.cluster.send(self.id, peers, &message);
        self.cluster.show(&line);
        Ok(())
    }

    fn persist(&mut self, write: Write) -> Done {
        let node = self.cluster.node(self.id)?;
        let line = text::write(&node.written, &write);
        node.written = write.hard_state();
        node.disk.unsynced.push_back(write);
        self.cluster.show(&line);
        Ok(())
    }

    fn apply(&mut self, slot: Slot, value: Value) -> Done {
        self.cluster.node(self.id)?.state.apply(slot, &value);
        self.cluster.show(&format!("applies slot {slot}: {value}"));
        Ok(())
    }

    fn read_ready(&mut self, read: ReadId, _: Time) -> Done {
        let state = &self.cluster.node(self.id)?.state;
        let line = format!("read {} may look at the state: {state}", read.0);
        self.cluster.show(&line);
        Ok(())
    }

    fn read_refused(&mut self, read: ReadId) -> Done {
        self.cluster.show(&format!("refuses read {}", read.0));
        Ok(())
    }

    fn refused(&mut self, commands: Vec<Bytes>, reason: Refusal) -> Done {
        self.cluster.show(&format!("refuses {}: {}", Value::batch(&commands), text::refusal(reason)));
        Ok(())
    }

    fn membership_changed(&mut self, _: Slot, membership: Membership) -> Done {
        self.cluster.show(&format!("is in {membership}"));
        Ok(())
    }

    fn change_in_force(&mut self, request: RequestId, epoch: Epoch) -> Done {
        self.cluster.show(&format!("change {} is in force in epoch {epoch}", request.0));
        Ok(())
    }

    fn change_refused(&mut self, request: RequestId, refusal: ChangeRefusal) -> Done {
        self.cluster.show(&format!("refuses change {}: {refusal}", request.0));
        Ok(())
    }

    fn handed_over(&mut self, _: RequestId, to: NodeId) -> Done {
        self.cluster.show(&format!("has handed over to n{to}"));
        Ok(())
    }

    fn handover_refused(&mut self, _: RequestId, refusal: HandoverRefusal) -> Done {
        self.cluster.show(&format!("does not hand over: {refusal}"));
        Ok(())
    }

    fn restore(&mut self, meta: SnapshotMeta) -> Done {
        let node = self.cluster.node(self.id)?;
        let (_, bytes) = node.disk.snapshot.as_ref().ok_or("an installed snapshot is on the disk")?;
        node.state = State::restore(bytes);
        let line = format!("takes the state of the snapshot of slots 1..={}: {}", meta.slot, node.state);
        self.cluster.show(&line);
        Ok(())
    }

    fn load_snapshot(&mut self, to: NodeId, meta: SnapshotMeta, offset: u64, max_bytes: usize) -> Done {
        let disk = &self.cluster.node(self.id)?.disk;
        let bytes = disk.snapshot_of(meta.slot).ok_or("a snapshot served is on the disk")?;
        let start = usize::try_from(offset)?;
        let data = bytes.slice(start..bytes.len().min(start + max_bytes));
        let read = text::count(data.len() as u64, "byte");
        let line = format!("n{} has read {read} of the snapshot", self.id);
        self.cluster.show(&format!("reads a piece of the snapshot of slots 1..={} for n{to}", meta.slot));
        self.answers.push((line, Input::SnapshotLoaded { to, meta, offset, data }));
        Ok(())
    }

    fn store_snapshot(&mut self, slot: Slot, offset: u64, data: Bytes) -> Done {
        let disk = &mut self.cluster.node(self.id)?.disk;
        disk.incoming.truncate(usize::try_from(offset)?);
        disk.incoming.extend_from_slice(&data);
        let input = Input::SnapshotStored { slot, offset: disk.incoming.len() as u64 };
        self.answers.push((format!("n{} has stored the piece", self.id), input));
        self.cluster.show(&format!("stores a piece of the snapshot of slots 1..={slot}"));
        Ok(())
    }

    fn install_snapshot(&mut self, meta: SnapshotMeta) -> Done {
        let disk = &mut self.cluster.node(self.id)?.disk;
        let bytes = Bytes::from(std::mem::take(&mut disk.incoming));
        disk.save_snapshot(meta.clone(), bytes);
        self.answers
            .push((format!("n{} has saved the snapshot", self.id), Input::SnapshotInstalled { meta }));
        self.cluster.show("verifies and saves the whole snapshot");
        Ok(())
    }
}
