//! What a driver must do for a replica: one method for each output.

use bytes::Bytes;

use super::{ChangeRefusal, HandoverRefusal, Output, Refusal, RequestId};
use crate::clock::Time;
use crate::durable::{SnapshotMeta, Write};
use crate::id::{Epoch, NodeId, Slot};
use crate::membership::Membership;
use crate::message::{Message, ReadId};
use crate::value::Value;

/// Carries out the outputs of one replica: a method for each kind of [`Output`], which says what it asks for.
///
/// A method with a default only reports something, and may ignore it. All others must do what the output
/// says; a new output of that kind is a method that every driver has to write before it compiles again.
///
/// A method must not carry out the outputs of another step: they would overtake those that still wait. So
/// what answers an output ([`Write::into_durable`], a piece of a snapshot) is best kept for now, and given to
/// the replica as an [`Input`](super::Input) later.
///
/// # Order
///
/// Outputs are carried out in the order in which [`Replica::step`](super::Replica::step) gives them, as
/// [`carry_out_all`] does. A driver with many at once may carry out the [messages](Output::is_message) first,
/// so that peers work meanwhile, then the writes, and then all others; each of the three keeps its order.
///
/// # Example
///
/// The driver of a cluster of one, which takes no snapshots:
///
/// ```
/// use std::convert::Infallible;
///
/// use bytes::Bytes;
/// use paxos_core::{
///     Config, Driver, Input, Membership, Message, NodeId, ProtocolSettings, ReadId, Recovered, Replica, Slot,
///     SnapshotMeta, Time, Value, Write, carry_out_all,
/// };
///
/// #[derive(Default)]
/// struct Alone {
///     inputs: Vec<Input>,
///     applied: Vec<Bytes>,
/// }
///
/// impl Driver for Alone {
///     type Error = Infallible;
///
///     fn send(&mut self, _: NodeId, _: Message) -> Result<(), Infallible> {
///         unreachable!("it has no peers")
///     }
///     fn broadcast(&mut self, _: Message) -> Result<(), Infallible> {
///         Ok(()) // To no one.
///     }
///     fn persist(&mut self, write: Write) -> Result<(), Infallible> {
///         self.inputs.push(Input::Durable(write.into_durable()));
///         Ok(())
///     }
///     fn apply(&mut self, _: Slot, value: Value) -> Result<(), Infallible> {
///         self.applied.extend(value.commands());
///         Ok(())
///     }
///     fn read_ready(&mut self, _: ReadId, _: Time) -> Result<(), Infallible> {
///         unreachable!("it asks for no reads")
///     }
///     fn restore(&mut self, _: SnapshotMeta) -> Result<(), Infallible> {
///         unreachable!("nobody sends it a snapshot")
///     }
///     fn load_snapshot(&mut self, _: NodeId, _: SnapshotMeta, _: u64, _: usize) -> Result<(), Infallible> {
///         unreachable!("it has no peers")
///     }
///     fn store_snapshot(&mut self, _: Slot, _: u64, _: Bytes) -> Result<(), Infallible> {
///         unreachable!("nobody sends it a snapshot")
///     }
///     fn install_snapshot(&mut self, _: SnapshotMeta) -> Result<(), Infallible> {
///         unreachable!("nobody sends it a snapshot")
///     }
/// }
///
/// let config = Config::new(NodeId(1), Membership::new(&[NodeId(1)])?, ProtocolSettings::default())?;
/// let mut replica = Replica::new(config, Recovered::default(), 7)?;
/// let (mut alone, mut outputs) = (Alone::default(), Vec::new());
/// while alone.applied.is_empty() {
///     let input = match alone.inputs.pop() {
///         Some(input) => input,
///         None if replica.leader().is_none() => Input::Tick,
///         None => Input::Propose { commands: vec![Bytes::from_static(b"x = 1")] },
///     };
///     replica.step(input, &mut outputs);
///     carry_out_all(&mut outputs, &mut alone)?;
/// }
/// assert_eq!(alone.applied[0], "x = 1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Driver {
    /// Why an output could not be carried out. The driver must stop the replica then, without another step.
    type Error;

    /// Carries out [`Output::Send`].
    ///
    /// # Errors
    ///
    /// If the node must stop. That a message got lost is no error.
    fn send(&mut self, to: NodeId, message: Message) -> Result<(), Self::Error>;

    /// Carries out [`Output::Broadcast`].
    ///
    /// # Errors
    ///
    /// If the node must stop. That a message got lost is no error.
    fn broadcast(&mut self, message: Message) -> Result<(), Self::Error>;

    /// Carries out [`Output::Persist`].
    ///
    /// # Errors
    ///
    /// If the node must stop, as its storage has failed.
    fn persist(&mut self, write: Write) -> Result<(), Self::Error>;

    /// Carries out [`Output::Apply`].
    ///
    /// # Errors
    ///
    /// If the node must stop, as its state machine has failed.
    fn apply(&mut self, slot: Slot, value: Value) -> Result<(), Self::Error>;

    /// Carries out [`Output::ReadReady`].
    ///
    /// # Errors
    ///
    /// If the node must stop.
    fn read_ready(&mut self, read: ReadId, time: Time) -> Result<(), Self::Error>;

    /// Carries out [`Output::ReadRefused`]. Does nothing by default: the read stays unanswered.
    ///
    /// # Errors
    ///
    /// If the node must stop.
    fn read_refused(&mut self, read: ReadId) -> Result<(), Self::Error> {
        let _ = read;
        Ok(())
    }

    /// Carries out [`Output::Refused`]. Does nothing by default: refused commands are like lost ones.
    ///
    /// # Errors
    ///
    /// If the node must stop.
    fn refused(&mut self, commands: Vec<Bytes>, reason: Refusal) -> Result<(), Self::Error> {
        let _ = (commands, reason);
        Ok(())
    }

    /// Carries out [`Output::MembershipChanged`]. Does nothing by default: so a driver may do that nobody
    /// asks for changes.
    ///
    /// # Errors
    ///
    /// If the node must stop.
    fn membership_changed(&mut self, slot: Slot, membership: Membership) -> Result<(), Self::Error> {
        let _ = (slot, membership);
        Ok(())
    }

    /// Carries out [`Output::ChangeInForce`]. Does nothing by default.
    ///
    /// # Errors
    ///
    /// If the node must stop.
    fn change_in_force(&mut self, request: RequestId, epoch: Epoch) -> Result<(), Self::Error> {
        let _ = (request, epoch);
        Ok(())
    }

    /// Carries out [`Output::ChangeRefused`]. Does nothing by default.
    ///
    /// # Errors
    ///
    /// If the node must stop.
    fn change_refused(&mut self, request: RequestId, refusal: ChangeRefusal) -> Result<(), Self::Error> {
        let _ = (request, refusal);
        Ok(())
    }

    /// Carries out [`Output::HandedOver`]. Does nothing by default.
    ///
    /// # Errors
    ///
    /// If the node must stop.
    fn handed_over(&mut self, request: RequestId, to: NodeId) -> Result<(), Self::Error> {
        let _ = (request, to);
        Ok(())
    }

    /// Carries out [`Output::HandoverRefused`]. Does nothing by default.
    ///
    /// # Errors
    ///
    /// If the node must stop.
    fn handover_refused(&mut self, request: RequestId, refusal: HandoverRefusal) -> Result<(), Self::Error> {
        let _ = (request, refusal);
        Ok(())
    }

    /// Carries out [`Output::Restore`].
    ///
    /// # Errors
    ///
    /// If the node must stop, as its state machine has failed.
    fn restore(&mut self, meta: SnapshotMeta) -> Result<(), Self::Error>;

    /// Carries out [`Output::LoadSnapshot`].
    ///
    /// # Errors
    ///
    /// If the node must stop, as its storage has failed. That the snapshot is gone is no error.
    fn load_snapshot(
        &mut self,
        to: NodeId,
        meta: SnapshotMeta,
        offset: u64,
        max_bytes: usize,
    ) -> Result<(), Self::Error>;

    /// Carries out [`Output::StoreSnapshot`].
    ///
    /// # Errors
    ///
    /// If the node must stop, as its storage has failed.
    fn store_snapshot(&mut self, slot: Slot, offset: u64, data: Bytes) -> Result<(), Self::Error>;

    /// Carries out [`Output::InstallSnapshot`].
    ///
    /// # Errors
    ///
    /// If the node must stop, as its storage has failed. That the snapshot does not match its description is
    /// no error, but the input [`SnapshotRejected`](super::Input::SnapshotRejected).
    fn install_snapshot(&mut self, meta: SnapshotMeta) -> Result<(), Self::Error>;
}

/// Has `driver` carry out all outputs, in order. Leaves `outputs` empty, with its memory for the next step.
///
/// # Errors
///
/// The first error of a method; the outputs behind it are dropped.
pub fn carry_out_all<D: Driver + ?Sized>(outputs: &mut Vec<Output>, driver: &mut D) -> Result<(), D::Error> {
    outputs.drain(..).try_for_each(|output| output.carry_out(driver))
}

impl Output {
    /// Has `driver` carry out this output, by the method of its name.
    ///
    /// # Errors
    ///
    /// That of the method.
    pub fn carry_out<D: Driver + ?Sized>(self, driver: &mut D) -> Result<(), D::Error> {
        match self {
            Output::Send { to, message } => driver.send(to, message),
            Output::Broadcast { message } => driver.broadcast(message),
            Output::Persist(write) => driver.persist(write),
            Output::Apply { slot, value } => driver.apply(slot, value),
            Output::ReadReady { read, time } => driver.read_ready(read, time),
            Output::ReadRefused { read } => driver.read_refused(read),
            Output::Refused { commands, reason } => driver.refused(commands, reason),
            Output::MembershipChanged { slot, membership } => driver.membership_changed(slot, membership),
            Output::ChangeInForce { request, epoch } => driver.change_in_force(request, epoch),
            Output::ChangeRefused { request, refusal } => driver.change_refused(request, refusal),
            Output::HandedOver { request, to } => driver.handed_over(request, to),
            Output::HandoverRefused { request, refusal } => driver.handover_refused(request, refusal),
            Output::Restore { meta } => driver.restore(meta),
            Output::LoadSnapshot { to, meta, offset, max_bytes } => {
                driver.load_snapshot(to, meta, offset, max_bytes)
            }
            Output::StoreSnapshot { slot, offset, data } => driver.store_snapshot(slot, offset, data),
            Output::InstallSnapshot { meta } => driver.install_snapshot(meta),
        }
    }
}
