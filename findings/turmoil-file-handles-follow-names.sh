#!/usr/bin/env bash
# turmoil 0.7.2 with its simulated file system (feature `unstable-fs`, meant to stand in for `std::fs`): what
# a program sees that keeps a file open while the file is renamed or removed, as write-ahead logs do with
# their segments.
#
# Guessed: as on Linux. A handle belongs to its file, under whatever name: what is written and synced through
#          it is in the renamed file, and a removed file stays readable. A file that shrinks and grows again
#          has zeros behind the old end. Writes through a handle that was opened with O_DSYNC survive a crash
#          (`custom_flags` takes the flag, and O_DIRECT is simulated).
# Seen:    A handle belongs to a *name*. After a rename, write and seek through it succeed, sync_all and
#          sync_data fail with "No such file or directory", the handle reads back what it wrote, and the
#          renamed file never gets it. If a new file has the old name by then, the write lands in that one,
#          and sync_all is Ok. A removed file can't be synced, and once another has its name, its handle reads
#          nothing. After set_len(2) and set_len(6) the old bytes are back until the next sync, which makes
#          them zeros; so what a program reads changes by syncing. O_DSYNC and O_SYNC are taken and ignored:
#          the bytes are gone after a crash.
#
# What follows: a log that prepares segments under another name, recycles or removes them while they are open,
# or relies on O_DSYNC, fails in this simulation for reasons that no disk has - and one that writes through a
# stale handle may pass. Open a file again after each rename there, and sync explicitly.
#
# Needs cargo and Linux. Runs the same steps on std::fs and on the simulated one. Prints what it saw; exits 1
# if any of it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "handles"
version = "0.1.0"
edition = "2021"

[dependencies]
libc = "0.2"
turmoil = { version = "=0.7.2", default-features = false, features = ["unstable-fs"] }
tokio = { version = "1.48", features = ["rt", "time"] }
TOML
cat > src/main.rs <<'RUST'
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;
use turmoil::fs::shim::std::fs as simulated;

/// The same steps on another file system; `$sync_folder` makes the names in a folder durable.
macro_rules! steps {
    ($module:ident, $fs:path, $sync_folder:expr) => {
        mod $module {
            use super::*;
            use $fs as fs;

            fn file(path: &str, content: &[u8]) -> fs::File {
                let mut file = fs::OpenOptions::new().create(true).read(true).append(true).open(path).unwrap();
                file.write_all(content).unwrap();
                file.sync_all().unwrap();
                let sync_folder: fn(&str) = $sync_folder;
                sync_folder(path.rsplit_once('/').unwrap().0);
                file
            }

            fn text(path: &str) -> String {
                format!("{:?}", fs::read_to_string(path).unwrap())
            }

            fn outcome(result: std::io::Result<()>) -> String {
                result.map_or_else(|error| format!("fails ({error})"), |()| "ok".to_owned())
            }

            fn reread(handle: &mut fs::File) -> String {
                let mut text = String::new();
                handle.seek(SeekFrom::Start(0)).unwrap();
                handle.read_to_string(&mut text).unwrap();
                text
            }

            pub fn run(folder: &str) {
                let name = stringify!($module);
                let path = |name: &str| format!("{folder}/{name}");
                let sync_folder: fn(&str) = $sync_folder;

                let mut handle = file(&path("a"), b"one");
                fs::rename(path("a"), path("b")).unwrap();
                sync_folder(folder);
                let (write, sync) = (outcome(handle.write_all(b"two")), outcome(handle.sync_all()));
                println!("{name}, renamed: write {write}, sync {sync}, the renamed file has {}", text(&path("b")));

                let mut handle = file(&path("c"), b"one");
                fs::rename(path("c"), path("d")).unwrap();
                sync_folder(folder);
                file(&path("c"), b"new");
                let (write, sync) = (outcome(handle.write_all(b"two")), outcome(handle.sync_all()));
                let (old, new) = (text(&path("d")), text(&path("c")));
                println!(
                    "{name}, renamed, and the name reused: write {write}, sync {sync}, \
                     the renamed file has {old}, the new one {new}"
                );

                let mut handle = file(&path("e"), b"one");
                fs::remove_file(path("e")).unwrap();
                let sync = outcome(handle.sync_all());
                file(&path("e"), b"new");
                let read = reread(&mut handle);
                println!("{name}, removed: sync {sync}; once the name is reused, its handle reads {read:?}");

                let handle = file(&path("f"), b"onetwo");
                handle.set_len(2).unwrap();
                handle.set_len(6).unwrap();
                let before = text(&path("f"));
                handle.sync_all().unwrap();
                println!("{name}, shrunk and grown: {before}, after a sync {}", text(&path("f")));
            }
        }
    };
}
steps!(linux, std::fs, |folder| std::fs::File::open(folder).unwrap().sync_all().unwrap());
steps!(turmoil_fs, simulated, |folder| simulated::sync_dir(folder).unwrap());

/// Appends to a synced file, through a handle with these flags.
fn append(path: &str, flags: i32) {
    let mut file = simulated::File::create(path).unwrap();
    file.write_all(b"one").unwrap();
    file.sync_all().unwrap();
    simulated::sync_dir("/log").unwrap();
    let mut handle = simulated::OpenOptions::new().append(true).custom_flags(flags).open(path).unwrap();
    handle.write_all(b"two").unwrap();
}

fn main() {
    let folder = std::env::current_dir().unwrap().join("real");
    std::fs::create_dir(&folder).unwrap();
    linux::run(folder.to_str().unwrap());

    let mut simulation = turmoil::Builder::new().build();
    simulation.host("host", || async {
        if simulated::metadata("/log").is_err() {
            simulated::create_dir("/log").unwrap();
            simulated::sync_dir("/").unwrap();
            turmoil_fs::run("/log");
            append("/log/dsync", libc::O_DSYNC);
            append("/log/sync", libc::O_SYNC);
        } else {
            for (flag, path) in [("O_DSYNC", "/log/dsync"), ("O_SYNC", "/log/sync")] {
                let left = simulated::read_to_string(path).unwrap();
                println!("turmoil_fs, written with {flag}, then a crash: {left:?}");
            }
        }
        std::future::pending().await
    });
    simulation.client("clock", async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        Ok(())
    });
    let mut has_crashed = false;
    while !simulation.step().expect("the simulation runs") {
        if !has_crashed && simulation.elapsed() > Duration::from_secs(1) {
            simulation.crash("host");
            simulation.bounce("host");
            has_crashed = true;
        }
    }
}
RUST
cargo run --quiet 2>errors > seen.txt || { cat errors; exit 1; }
cat seen.txt
diff - seen.txt <<'EXPECTED' || { echo "turmoil behaves otherwise now"; exit 1; }
linux, renamed: write ok, sync ok, the renamed file has "onetwo"
linux, renamed, and the name reused: write ok, sync ok, the renamed file has "onetwo", the new one "new"
linux, removed: sync ok; once the name is reused, its handle reads "one"
linux, shrunk and grown: "on\0\0\0\0", after a sync "on\0\0\0\0"
turmoil_fs, renamed: write ok, sync fails (No such file or directory), the renamed file has "one"
turmoil_fs, renamed, and the name reused: write ok, sync ok, the renamed file has "one", the new one "newtwo"
turmoil_fs, removed: sync fails (No such file or directory); once the name is reused, its handle reads ""
turmoil_fs, shrunk and grown: "onetwo", after a sync "on\0\0\0\0"
turmoil_fs, written with O_DSYNC, then a crash: "one"
turmoil_fs, written with O_SYNC, then a crash: "one"
EXPECTED
