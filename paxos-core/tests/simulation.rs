//! The simulator and its program, used as a user would.

use std::process::{Command, Output};

use paxos_core::sim::{ModelDisk, Mutant, Registers, Rule, Scenario, Simulation};

fn paxos_sim(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_paxos-sim");
    Command::new(program).args(arguments).output().expect("the program starts")
}

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

/// A seed whose messages go over streams, beside one whose messages do not.
const SEED_WITH_STREAMS: u64 = 14;
const SEED_WITHOUT: u64 = 11;
/// How many seeds are searched for one that shows a mistake.
const SEEDS_FOR_A_MISTAKE: u64 = 1_000;

#[test]
fn the_same_seed_is_the_same_run_in_every_process() {
    for seed in [SEED_WITHOUT, SEED_WITH_STREAMS] {
        assert_eq!(Scenario::drawn(seed, None).streams, seed == SEED_WITH_STREAMS, "seed {seed}");
        let run = || paxos_sim(&["replay", &seed.to_string()]);
        let (first, second) = (run(), run());
        assert!(first.status.success(), "paxos-sim replay {seed}: {}", last_line(&first));
        assert!(first.stdout.len() > 10_000, "the trace tells what happened");
        assert!(first.stdout == second.stdout, "two processes tell different stories of seed {seed}");
    }
}

#[test]
fn a_run_ends_with_its_result() {
    let run = paxos_sim(&["--events", "50k", "--seed", "1"]);
    let line = last_line(&run);
    assert!(run.status.success(), "paxos-sim --events 50k --seed 1: {line}");
    assert!(line.contains(" events, ") && line.ends_with(" events/s, 0 violations"), "{line}");
}

#[test]
fn wrong_calls_are_refused() {
    for arguments in [&["--events", "many"][..], &["--nodes", "4"], &["replay"], &["replay", "x"]] {
        assert_eq!(paxos_sim(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_run_begins_with_the_seeds_of_a_list_and_adds_a_row_to_a_ledger() {
    let path = |name: &str| std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (list, ledger) = (path("failed_seeds.txt"), path("ledger.md"));
    let _ = std::fs::remove_file(&ledger); // Of an earlier run of this test, if there was one.
    let [list_name, ledger_name] = [&list, &ledger].map(|path| path.to_str().expect("a path in UTF-8"));
    let options = ["--failed-seeds", list_name, "--ledger", ledger_name];
    let run = || paxos_sim(&[&["--events", "1", "--seed", "7", "--jobs", "1"][..], &options].concat());
    std::fs::write(&list, "11 # the first\n").expect("the list is written");
    for _ in 0..2 {
        assert!(run().status.success());
    }
    let told = std::fs::read_to_string(&ledger).expect("the ledger was written");
    let of_list = Simulation::<Registers, ModelDisk>::of_seed(11).run().events.to_string();
    let rows: Vec<&str> = told.lines().filter(|line| line.ends_with("| 1 from 7 on | 0 |  |")).collect();
    assert_eq!(rows.len(), 2, "{told}");
    assert!(rows[0].replace(' ', "").starts_with(&format!("|{of_list}|")), "{told}");
    assert_eq!(told.matches("| events |").count(), 1, "{told}");

    std::fs::write(&list, "eleven\n").expect("the list is written");
    let refused = run();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("line 1 is no seed"));
}

#[test]
fn a_brief_trace_tells_what_the_machine_sees_and_changes_nothing() {
    let simulation = || Simulation::<Registers, ModelDisk>::of_seed(SEED_WITHOUT);
    let (brief, quiet) = (simulation().traced_briefly().run(), simulation().run());
    assert_eq!((brief.events, brief.slots), (quiet.events, quiet.slots));
    let has = |part: &str| brief.trace.iter().any(|line| line.contains(part));
    for part in ["with an empty state", " leads", " asks node ", " applies slot ", " is answered: "] {
        assert!(has(part), "{part}");
    }
    assert!(!has(" sends: ") && !has(" receives ") && !has(" synced: "));
    let run = paxos_sim(&["replay", &SEED_WITHOUT.to_string(), "--brief"]);
    let told = String::from_utf8_lossy(&run.stdout);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[..lines.len() - 1], brief.trace);
}

#[test]
fn a_mutant_that_is_found_is_told_and_one_that_is_not_fails_the_run() {
    let found = paxos_sim(&["mutants", "--only", "SendBeforeSync"]);
    assert!(found.status.success());
    assert_eq!(last_line(&found), "1 of 1 killed");
    let given_up = paxos_sim(&["mutants", "--only", "SendBeforeSync", "--seeds", "0"]);
    assert_eq!((given_up.status.code(), last_line(&given_up).as_str()), (Some(1), "0 of 1 killed"));
}

#[test]
fn seeds_break_no_rule() {
    for seed in 1..=40 {
        let report = Simulation::<Registers, ModelDisk>::of_seed(seed).run();
        assert_eq!(report.violation, None, "paxos-sim replay {seed}");
    }
}

/// The rules can fail: each of these mistakes breaks the rule that is named with it. Which seed shows a
/// mistake first changes with every change of the protocol: most need fewer than ten, the rarest some
/// hundreds.
#[test]
fn mistakes_are_noticed_by_the_rules_they_break() {
    let mistakes = [
        (Mutant::SendBeforeSync, Rule::DurableBeforeSent),
        (Mutant::PrepareBeforeSync, Rule::DurableBeforeSent),
        (Mutant::OwnAcceptedIgnored, Rule::P2c),
        (Mutant::PrepareQuorumOffByOne, Rule::P2c),
        (Mutant::DuplicateApplied, Rule::AppliedOnce),
        (Mutant::OldBallotReused, Rule::BallotsUsedOnce),
        (Mutant::ChosenAnnouncedEarly, Rule::OnlyChosenLearned),
        (Mutant::PromiseForgottenAtRestart, Rule::NothingTakenBack),
        (Mutant::AcceptNeverResent, Rule::Progress),
        (Mutant::FrameTakesWhatIsBehindIt, Rule::ArrivesAsSent),
        (Mutant::ChecksumIgnored, Rule::ArrivesAsSent),
        (Mutant::RepeatedFieldsMerged, Rule::ArrivesAsSent),
        (Mutant::ChangeBeforeOwnValue, Rule::OwnValueFirst),
        (Mutant::TwoChangesAtOnce, Rule::OneChangeAtATime),
        (Mutant::ProposesBehindMembership, Rule::NothingBehindMembership),
        (Mutant::MembershipForgottenAtRestart, Rule::MembershipOfSlot),
        (Mutant::RemovedForgotten, Rule::IdsUsedOnce),
        (Mutant::LevelForgotten, Rule::LevelKept),
        (Mutant::AddressSharedByTwo, Rule::OneAddressEach),
        (Mutant::LearnerPromises, Rule::OnlyVotersVote),
        (Mutant::HandedOverToLaggard, Rule::SuccessorIsComplete),
        (Mutant::RemovedLeavesAtOnce, Rule::RemovedIsDispensable),
        (Mutant::PiecesAsTheyCome, Rule::PiecesInOrder),
        (Mutant::FetchedSnapshotDropped, Rule::FetchedIsKept),
        (Mutant::FetchedLogDropped, Rule::FetchedIsKept),
    ];
    for (mutant, rule) in mistakes {
        Mutant::activate(Some(mutant));
        let broken = |seed| Simulation::<Registers, ModelDisk>::of_seed(seed).run().violation;
        let is_noticed = (1..=SEEDS_FOR_A_MISTAKE).filter_map(broken).any(|violation| violation.rule == rule);
        Mutant::activate(None);
        assert!(
            is_noticed,
            "paxos-sim mutants --only {mutant:?}: not by {rule:?} within {SEEDS_FOR_A_MISTAKE} seeds"
        );
    }
}
