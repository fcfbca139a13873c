//! One append at a time: on the calling thread, and through a writer thread.

use std::path::Path;
use std::sync::mpsc::channel;

use paxos_storage::Storage;

use super::figures::{Goal, Table, Times, ratio, timed};
use super::raw::RawFile;
use super::writer::{Client, Writer};
use super::{Outcome, Scale, log};

/// The bare disk and both ways to append take turns, each append in every place of the order.
pub(crate) fn measure(directory: &Path, scale: Scale, table: &mut Table) -> Outcome<()> {
    let mut raw = RawFile::create(&directory.join("raw"))?;
    let mut inline = log::create(&directory.join("inline"), log::FileSettings::default())?;
    let (writer, ending) =
        Writer::start(log::create(&directory.join("thread"), log::FileSettings::default())?, None)?;
    let value = log::value(log::VALUE_BYTES);
    let (done, finished) = channel();
    let client = Client::new(done);
    let mut number = 0;
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..scale.lone_rounds {
        for turn in 0..times.len() {
            let kind = (round + turn) % times.len();
            let (time, result): (_, Outcome<()>) = match kind {
                0 => timed(|| Ok(raw.write()?)),
                1 => {
                    number += 1;
                    let write = log::write(number, 1, &value);
                    timed(|| inline.persist(write).map(drop).map_err(Into::into))
                }
                _ => timed(|| {
                    writer.submit(&value, &client);
                    Ok(finished.recv().map(drop)?)
                }),
            };
            result?;
            times[kind].push(time);
        }
    }
    ending.wait(writer);
    let [raw, inline, thread] = times.map(Times::of);
    for (name, times, goal) in [
        ("lone append inline / raw, medians", inline, Goal::AtMost(1.05)),
        ("lone append through the thread / raw, medians", thread, Goal::AtMost(1.25)),
    ] {
        let detail = format!(
            "{:.1?} / {:.1?}; p99 {:.1?} / {:.1?}; {} each",
            times.median(),
            raw.median(),
            times.p99(),
            raw.p99(),
            times.count()
        );
        table.add(name, detail, ratio(times.median(), raw.median()), goal);
    }
    Ok(())
}
