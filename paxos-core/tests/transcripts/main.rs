//! Golden transcripts: short scripts for a small cluster, and what its replicas do at each step.
//!
//! The files beside this one, in the order of their numbers, are an introduction to the protocol. Each begins
//! with what it shows and with the section of *Paxos Made Simple* it illustrates. A script is a list of
//! commands ([`script::Command`] documents them; one in parentheses shows nothing); below each `---` stands
//! what the replicas did: what they received, wrote, sent and applied. Indented lines follow from the line
//! above them.
//!
//! Nothing runs by itself here: a clock ticks, a disk syncs and a message arrives only when the script says
//! so. So a change of the protocol shows as a difference of these files. Look at the difference; if it is
//! what you wanted, accept it:
//!
//! ```sh
//! UPDATE_GOLDENFILES=1 cargo test -p paxos-core --test transcripts
//! ```
//!
//! To add a transcript, write a file with commands and an empty line after each `---`, and run the same.

mod cluster;
mod driver;
mod node;
mod script;
mod text;

use std::path::{Path, PathBuf};

use script::Script;

fn transcripts() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let entries = std::fs::read_dir(directory).expect("the transcripts lie beside this file");
    let paths = entries.map(|entry| entry.expect("a directory that can be opened can be read").path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "txt")).collect();
    paths.sort();
    paths
}

#[test]
fn replicas_do_what_the_transcripts_say() {
    let transcripts = transcripts();
    assert!(!transcripts.is_empty(), "no transcripts were found");
    for path in transcripts {
        println!("{}", path.display()); // The test harness shows it if the transcript differs.
        goldenscript::run(&mut Script::default(), &path).expect("a transcript can be read and parsed");
    }
}

#[test]
fn each_transcript_says_what_it_shows_and_where_the_paper_says_it() {
    for (number, path) in (1..).zip(transcripts()) {
        let text = std::fs::read_to_string(&path).expect("a transcript can be read");
        let introduction: String = text.lines().take_while(|line| line.starts_with('#')).collect();
        assert!(text.starts_with(&format!("# {number}. ")), "{} begins with its number", path.display());
        assert!(introduction.contains("Paxos Made Simple"), "{} names the paper", path.display());
    }
}
