//! In which scenarios a mutant can make a difference: to try it in others shows nothing.

use super::scenario::{Fault, Scenario};
use crate::ReadMode;
use crate::mutant::Mutant;

impl Mutant {
    /// Whether runs of this scenario do at all what the mutant does wrong. A scenario for which this is
    /// `false` runs exactly as without the mutant; one for which it is `true` may do so, too.
    #[must_use]
    pub fn matters_in(self, scenario: &Scenario) -> bool {
        let has_leases = matches!(scenario.settings.reads, ReadMode::Lease { .. });
        let has_reads = scenario.reads > 0;
        let has_fault = |faults: &[Fault]| scenario.faults.iter().any(|fault| faults.contains(fault));
        match self {
            Mutant::LeaseFromReceipt | Mutant::LeaseIgnoresDrift | Mutant::LeaseNotHeld => has_leases,
            Mutant::LeaseForgottenAtRestart => has_leases && has_fault(&RESTARTS),
            Mutant::LeaseKeptAfterHandover => has_leases && scenario.operators > 0,
            Mutant::ReadRoundTooOld => has_reads,
            Mutant::RepairingPromises | Mutant::RepairingRunsForLeader => has_fault(&[Fault::RottenDisk]),
            Mutant::PromiseForgottenAtRestart | Mutant::AcceptedTakenForChosenAtRestart => {
                has_fault(&RESTARTS)
            }
            Mutant::SnapshotPieceNeverResent
            | Mutant::SnapshotSlotOffByOne
            | Mutant::TrimsBeyondSnapshot
            | Mutant::FetchedSnapshotDropped
            | Mutant::FetchedLogDropped
            | Mutant::PromiseIgnoresTrimmed
            | Mutant::SessionsLostInSnapshot
            | Mutant::RepliesLostInSnapshot
            | Mutant::TimeLostInSnapshot => scenario.snapshot_slots > 0,
            Mutant::MembershipNotInSnapshot => scenario.snapshot_slots > 0 && scenario.operators > 0,
            Mutant::ReadsConfirmedByOldEpoch => has_reads && scenario.operators > 0,
            Mutant::ChangeBeforeOwnValue
            | Mutant::TwoChangesAtOnce
            | Mutant::ProposesBehindMembership
            | Mutant::MembershipUsedBeforeChosen
            | Mutant::OldEpochVotesCounted
            | Mutant::LearnerCounted
            | Mutant::LearnerPromises
            | Mutant::OldQuorumsKept
            | Mutant::RemovedForgotten
            | Mutant::LevelForgotten
            | Mutant::AddressSharedByTwo
            | Mutant::FirstBallotNotPromised
            | Mutant::PhaseOneSkippedAfterTakeover
            | Mutant::RemovedLeaderGoesOn
            | Mutant::RemovedLeavesAtOnce
            | Mutant::HandedOverToLaggard => scenario.operators > 0,
            Mutant::FrameTakesWhatIsBehindIt | Mutant::ChecksumIgnored | Mutant::RepeatedFieldsMerged => {
                scenario.streams
            }
            _ => true,
        }
    }
}

/// The faults after which nodes start again.
const RESTARTS: [Fault; 4] = [Fault::Crash, Fault::CrashAll, Fault::Middlemen, Fault::FailingDisk];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{ModelDisk, Registers, Simulation};

    /// What a run of a scenario comes to: two that differ in anything most likely differ in this.
    fn run(scenario: &Scenario, mutant: Option<Mutant>) -> (u64, u64) {
        Mutant::activate(mutant);
        let report = Simulation::<Registers, ModelDisk>::new(scenario.clone()).run();
        Mutant::activate(None);
        (report.events, report.slots)
    }

    #[test]
    fn a_scenario_in_which_a_mutant_does_not_matter_runs_as_without_it() {
        for (place, &mutant) in Mutant::ALL.iter().enumerate() {
            let scenarios = (place as u64 * 1000..).map(|seed| Scenario::drawn(seed, Some(3)));
            let mut scenario = scenarios.take(200).find(|scenario| !mutant.matters_in(scenario));
            if let Some(scenario) = &mut scenario {
                scenario.chaos_ticks = scenario.chaos_ticks.min(500);
                let seed = scenario.seed;
                assert_eq!(
                    run(scenario, None),
                    run(scenario, Some(mutant)),
                    "{} in seed {seed}",
                    mutant.name()
                );
            }
        }
    }
}
