//! The part of a replica's state that decides how it goes on, apart from time.
//!
//! Two replicas that differ only in what is left out here are one state of the model. That it decides nothing
//! is checked: see [`Catalogue::compare_histories`](crate::catalogue::Catalogue::compare_histories).

/// Fields of a replica that are left out: they hold times, or counts, or belong to what does not happen in
/// this model (reads, answers to heartbeats, fetching chosen values unasked, trimming the log). Fields whose
/// names end in `_ticks` are left out, too.
const LEFT_OUT: [&str; 14] = [
    "settings",
    "has_answered",
    "random",
    "reads",
    "lost_duels",
    "heartbeats",
    "rounds",
    "announced",
    "stands_at",
    "known_chosen",
    "source",
    "kept",
    "size_bytes",
    "in_flight_bytes",
];

/// The rendering `debug` of a replica without what is left out, and without its writes unless they matter:
/// where each is synced or lost at once, none ever waits.
pub(crate) fn protocol_state(debug: &str, writes_matter: bool) -> String {
    let mut kept = String::new();
    let mut rest = debug;
    while let Some(colon) = rest.find(": ") {
        let (before, after) = rest.split_at(colon + 2);
        let name = before[..colon].rsplit([' ', '{', '(']).next().unwrap_or_default();
        let is_left_out =
            name.ends_with("_ticks") || LEFT_OUT.contains(&name) || (name == "writes" && !writes_matter);
        kept.push_str(before);
        rest = if is_left_out { &after[value_bytes(after)..] } else { after };
    }
    kept + rest
}

/// The length of the value with which `text` begins.
fn value_bytes(text: &str) -> usize {
    let mut open = 0;
    for (position, byte) in text.bytes().enumerate() {
        match byte {
            b'{' | b'(' | b'[' => open += 1,
            b'}' | b')' | b']' | b',' if open == 0 => return position,
            b'}' | b')' | b']' => open -= 1,
            _ => {}
        }
    }
    text.len()
}

#[test]
fn two_replicas_are_one_state_if_only_time_tells_them_apart() {
    let early = "Replica { config: Config { node: NodeId(1) }, now_ticks: 3, promised: Ballot { round: 1 }, \
        contact: Some(Contact { ballot: Ballot { round: 1 }, heard_at_ticks: 2 }), \
        stands_at: (Slot(0), 2), applied: Slot(0) }";
    let late = early
        .replace("now_ticks: 3", "now_ticks: 30")
        .replace("_ticks: 2", "_ticks: 29")
        .replace(", 2)", ", 7)");
    assert_eq!(protocol_state(early, true), protocol_state(&late, true));
    for (here, there) in [
        ("round: 1 }, contact", "round: 2 }, contact"),
        ("round: 1 }, heard", "round: 2 }, heard"),
        ("Slot(0) }", "Slot(1) }"),
    ] {
        let other = early.replace(here, there);
        assert_ne!(protocol_state(early, true), protocol_state(&other, true), "{here} is part of the state");
    }
}
