//! The network namespace: made by `unshare`, set up by `ip` and `nft` from within.

use std::io::Write;
use std::process::{Command, Stdio};

use benches::loss::{LossRate, Packets, SETUP};

/// What the program is told to know that it runs in the namespace.
pub(crate) const INSIDE: &str = "--inside";

/// Runs this program once for each loss rate, each time in a namespace of its own.
pub(crate) fn run_for_each(percents: &[&str]) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| format!("can't find this program: {error}"))?;
    if let Err(problem) = run("unshare", &["--net", "nft", "list", "tables"], "") {
        println!("skipped: losing packets takes Linux, root, unshare and nft ({problem})");
        return Ok(());
    }
    for percent in percents {
        let _: LossRate = percent.parse().map_err(|error| format!("{error}"))?;
        let status = Command::new("unshare").arg("--net").arg(&program).args([INSIDE, percent]).status();
        let status = status.map_err(|error| format!("can't run unshare: {error}"))?;
        if !status.success() {
            return Err(format!("measuring at {percent} % has failed"));
        }
    }
    Ok(())
}

/// Has this namespace's loopback lose packets.
pub(crate) fn lose(rate: LossRate) -> Result<(), String> {
    for line in SETUP {
        run(line[0], &line[1..], "")?;
    }
    run("nft", &["-f", "-"], &rate.rules()).map(drop)
}

/// What was sent and lost in this namespace until now.
pub(crate) fn packets() -> Result<Packets, String> {
    let text = run("nft", &["list", "counters"], "")?;
    Packets::parse(&text).map_err(|error| error.to_string())
}

/// Runs a program with `input` until it ends, and returns what it prints.
fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, String> {
    let attempt = || {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        // Dropped at the end of the line, which tells the program that this is all.
        child.stdin.take().expect("it was asked for").write_all(input.as_bytes())?;
        child.wait_with_output()
    };
    let output = attempt().map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
