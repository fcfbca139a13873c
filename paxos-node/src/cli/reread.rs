//! Files that a running node takes up when they change: certificates, users, and what the log has.
//!
//! A thread for blocking work looks every few seconds when they were changed last. Files are read once two
//! looks in a row have found them alike, so that files which belong together are all there; on SIGHUP they
//! are read at once. New files that are broken, or do not fit each other, are told, and what was read before
//! stays in force.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use paxos_core::NodeId;
use paxos_node::fronts::resp::ClientTls;
use paxos_node::fronts::resp::users::{SharedUsers, Users};
use paxos_transport::{CertificateOwner, CertificateStatus, ExpiryWatch, SharedIdentity, TlsIdentity};
use tokio::signal::unix::Signal;

use super::options::{ClientTlsFiles, log_in_file};
use super::{Failure, logging};
use crate::cli::terminal::say;
use crate::runtime::metrics;

/// How often to look.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Files that belong together, and how they are taken up.
pub(super) struct Source {
    /// What they are, for people.
    what: String,
    files: Vec<PathBuf>,
    take_up: Box<dyn Fn() -> Result<(), String> + Send>,
    /// When they were changed last: as found by the last look, and when they were read.
    seen: Vec<Stamp>,
    read: Vec<Stamp>,
}

/// What changes with a file; `None` if it is not there.
type Stamp = Option<(SystemTime, u64, u64)>;

impl Source {
    /// Reads files for the first time, and returns what is in them with the source of newer ones.
    fn new<T: Clone + Send + 'static, N>(
        what: String,
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<N, String> + Send + 'static,
        share: impl FnOnce(N) -> T,
        replace: impl Fn(&T, N) -> Result<(), String> + Send + 'static,
    ) -> Result<(T, Source), String> {
        let read = stamps(&files);
        let shared = share(load()?);
        let kept = shared.clone();
        let take_up = Box::new(move || replace(&kept, load()?));
        Ok((shared, Source { what, files, take_up, seen: read.clone(), read }))
    }

    /// The certificates of a node, in its directory.
    pub(super) fn of_node(
        directory: &Path,
        node: NodeId,
        cluster: &str,
    ) -> Result<(SharedIdentity, Source), Failure> {
        let names = [String::from("ca.pem"), format!("node-{node}.pem"), format!("node-{node}-key.pem")];
        let files = names.iter().map(|name| directory.join(name)).collect();
        let what = format!("certificates for peers in {}", directory.display());
        let (directory, cluster) = (directory.to_owned(), cluster.to_owned());
        let load = move || {
            TlsIdentity::load(&directory, node, &cluster).map_err(|error| {
                format!(
                    "{error}; make certificates with 'paxos-node certs', or name their directory with --certs"
                )
            })
        };
        let replace = |shared: &SharedIdentity, new| shared.replace(new).map_err(|error| error.to_string());
        Source::new(what, files, load, SharedIdentity::from, replace).map_err(Failure::usage)
    }

    /// The certificates of the port for clients.
    pub(super) fn of_clients(files: &ClientTlsFiles) -> Result<(ClientTls, Source), Failure> {
        let ClientTlsFiles { certificate, key, authority } = files.clone();
        let all = [Some(&certificate), Some(&key), authority.as_ref()];
        let all = all.into_iter().flatten().cloned().collect();
        let what = format!("certificates for clients in {}", certificate.display());
        let load = move || {
            ClientTls::load(&certificate, &key, authority.as_deref()).map_err(|error| error.to_string())
        };
        let replace = |shared: &ClientTls, new| {
            shared.replace(&new);
            Ok(())
        };
        Source::new(what, all, load, |first| first, replace).map_err(Failure::usage)
    }

    /// A file of users.
    pub(super) fn of_users(file: &Path) -> Result<(SharedUsers, Source), Failure> {
        let (name, path) = (file.display().to_string(), file.to_owned());
        let load = move || Users::load(&path).map_err(|error| format!("{}: {error}", path.display()));
        let replace = |shared: &SharedUsers, new| {
            shared.replace(new);
            Ok(())
        };
        let source =
            Source::new(format!("users in {name}"), vec![file.to_owned()], load, SharedUsers::from, replace);
        source.map_err(|error| Failure::usage(format!("--users {error}")))
    }

    /// Takes the files up if they have changed, or if somebody asks for it.
    fn look(&mut self, is_asked_for: bool) -> Option<Result<(), String>> {
        let now = stamps(&self.files);
        let is_settled = now == std::mem::replace(&mut self.seen, now.clone());
        if !is_asked_for && (now == self.read || !is_settled) {
            return None;
        }
        self.read = now;
        Some((self.take_up)())
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    files.iter().map(|file| stamp(file)).collect()
}

fn stamp(file: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// Tells when the certificate for clients expires, if that is not the node's own, which the transport
/// watches.
#[derive(Default)]
pub(super) struct ClientExpiry {
    pub(super) file: Option<PathBuf>,
    watch: ExpiryWatch,
}

impl ClientExpiry {
    pub(super) fn new(file: Option<PathBuf>) -> ClientExpiry {
        ClientExpiry { file, ..ClientExpiry::default() }
    }

    fn look(&mut self, node: NodeId) {
        let pem = self.file.as_ref().and_then(|file| std::fs::read(file).ok());
        let status = pem.and_then(|pem| CertificateStatus::from_pem(CertificateOwner::Clients, &pem));
        if let Some(status) = status {
            self.watch.log(node, &[status]);
            metrics::show_certificate(&status);
        }
    }
}

/// Looks after the sources, forever. `log` is the file that says what the log has, if no flag does.
pub(super) async fn run(
    node: NodeId,
    mut sources: Vec<Source>,
    mut expiry: ClientExpiry,
    log: Option<PathBuf>,
    mut hangups: Signal,
) {
    let mut clock = tokio::time::interval(LOOK_INTERVAL);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let is_asked_for = tokio::select! {
            _ = clock.tick() => false,
            received = hangups.recv() => received.is_some(),
        };
        let log = log.clone().filter(|_| is_asked_for);
        let looked = tokio::task::spawn_blocking(move || {
            let looked: Vec<_> = sources.iter_mut().map(|source| source.look(is_asked_for)).collect();
            expiry.look(node);
            (sources, expiry, looked, log.map(|file| take_up_log(&file)))
        });
        // It fails only if the node ends.
        let Ok((returned, watched, looked, log)) = looked.await else { return };
        (sources, expiry) = (returned, watched);
        for (source, outcome) in sources.iter().zip(looked) {
            tell(node, &source.what, outcome);
        }
        tell(node, "what to log", log);
    }
}

fn take_up_log(file: &Path) -> Result<(), String> {
    let log = log_in_file(file).map_err(|failure| failure.line)?;
    logging::change_log(log.as_deref())
}

fn tell(node: NodeId, what: &str, outcome: Option<Result<(), String>>) {
    match outcome {
        None => {}
        Some(Ok(())) => say!("node {node} has taken up: {what}"),
        Some(Err(problem)) => {
            tracing::error!(problem, "what was there before stays in force, as these can't be used: {what}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn files_are_taken_up_once_they_have_settled_and_what_is_broken_changes_nothing() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("number");
        std::fs::write(&file, "1").expect("it is written");
        let load = {
            let file = file.clone();
            move || std::fs::read_to_string(&file).map_err(|error| error.to_string())
        };
        let parse = |text: &str| text.parse().map_err(|_| format!("'{text}' is no number"));
        let made = Source::new(
            String::from("a number"),
            vec![file.clone()],
            load,
            move |text| Arc::new(AtomicU32::new(parse(&text).expect("it is one"))),
            move |number: &Arc<AtomicU32>, text: String| {
                number.store(parse(&text)?, Ordering::Relaxed);
                Ok(())
            },
        );
        let (number, mut source) = made.expect("the file is there");
        let looks = |source: &mut Source| (0..3).map(|_| source.look(false)).collect::<Vec<_>>();
        assert_eq!(looks(&mut source), [None, None, None]);
        std::fs::write(&file, "22").expect("it is written");
        assert_eq!(looks(&mut source), [None, Some(Ok(())), None], "the second look finds it settled");
        assert_eq!(number.load(Ordering::Relaxed), 22);
        std::fs::write(&file, "two").expect("it is written");
        let broken = Some(Err(String::from("'two' is no number")));
        assert_eq!(looks(&mut source), [None, broken.clone(), None], "it is told once");
        assert_eq!(source.look(true), broken, "and whenever somebody asks");
        std::fs::remove_file(&file).expect("it is there");
        assert!(matches!(looks(&mut source)[..], [None, Some(Err(_)), None]));
        assert_eq!(number.load(Ordering::Relaxed), 22, "what was read last is in force");
        std::fs::write(&file, "333").expect("it is written");
        assert_eq!(source.look(true), Some(Ok(())), "at once");
        assert_eq!(number.load(Ordering::Relaxed), 333);
    }
}
