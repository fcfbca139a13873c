//! What the protocol costs in a time of its own: `cargo bench -p benches --bench model [-- --plots DIR]`.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    // The flag is given by cargo to each bench.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let plots = match &words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => None,
        ["--plots", directory] => Some(Path::new(*directory)),
        _ => {
            eprintln!("model: it takes nothing but --plots DIR, to write phases.svg to DIR");
            return ExitCode::FAILURE;
        }
    };
    print!("{}", benches::report::report());
    let Some(file) = plots.map(|plots| plots.join("phases.svg")) else { return ExitCode::SUCCESS };
    let svg = benches::report::phases().unwrap_or_default();
    match std::fs::write(&file, svg) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("model: {}: {error}", file.display());
            ExitCode::FAILURE
        }
    }
}
