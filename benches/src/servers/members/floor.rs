//! The least that a client waits here: three bare processes, which copy and sync and can do nothing else,
//! under the same clients. What a goal asks of a server can't be less than what they take while nothing is
//! done.

use std::path::Path;
use std::time::Instant;

use tokio::time::sleep;

use super::super::bare;
use super::super::failure::Failure;
use super::super::process::Stolen;
use super::action::Action;
use super::arguments::{Arguments, Server};
use super::figures::Sample;
use super::round::{WARM_UP, WINDOW, sample};
use super::waits::Window;
use super::writers::{Noted, Writers};

/// As many windows as the other servers have in a round, each on connections of its own.
pub(super) async fn measure(
    arguments: &Arguments,
    directory: &Path,
) -> Result<Vec<(Action, Sample)>, Failure> {
    let nodes = bare::start(arguments.bare(), directory)?;
    let leader = nodes.first().map(|node| node.clients);
    let leader = leader.ok_or_else(|| Failure::new("there is no bare process"))?;
    let writers = Writers::start(Server::Bare, arguments, vec![leader])?;
    let mut samples = Vec::new();
    for _ in Action::ALL {
        writers.write_through(vec![leader]);
        sleep(WARM_UP).await;
        let stolen = Stolen::until_now();
        let quiet = watch(&writers).await?;
        let noted = watch(&writers).await?;
        let sample = sample(&quiet, &noted, None, Stolen::until_now().part_since(stolen));
        eprintln!("  {:<24}{}", Action::Nothing.name(), sample.line());
        samples.push((Action::Nothing, sample));
    }
    Ok(samples)
}

/// What is noted in a window from now on.
pub(super) async fn watch(writers: &Writers) -> Result<Noted, Failure> {
    writers.forget();
    let began = Instant::now();
    sleep(WINDOW).await;
    writers.take(Window { began, ended: Instant::now() }).await
}
