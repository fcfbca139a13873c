//! `paxos-node check`: reads all that `serve` would read before it starts, and starts nothing.

#[cfg(feature = "file")]
use paxos_node::backends::StorageKind;

use super::Failure;
use super::options::Serve;
use super::reread::Source;
use super::terminal::say;

/// Checks options, certificates, users and the data directory, which a running node may have open.
pub(crate) fn run(serve: &Serve) -> Result<(), Failure> {
    let id = serve.settings.node;
    let cluster = cluster(serve)?;
    Source::of_node(&serve.certs, id, &cluster)?;
    if let Some((_, files)) = &serve.client_tls {
        Source::of_clients(files)?;
    }
    if let Some(file) = &serve.users {
        let (users, _) = Source::of_users(file)?;
        if users.is_empty() {
            tracing::warn!(file = %file.display(), "there are no users, so no client can do anything");
        }
    }
    if !serve.peers.is_empty() {
        let config = serve
            .settings
            .membership()
            .and_then(|members| paxos_core::Config::new(id, members, serve.settings.protocol.clone()));
        config.map_err(Failure::usage)?;
    }
    say!("the configuration of node {id} of cluster {cluster} is in order: nothing was started");
    Ok(())
}

/// The name of the cluster, by which the data directory and the options must agree.
fn cluster(serve: &Serve) -> Result<String, Failure> {
    #[cfg(feature = "file")]
    if let Some(data) = serve.data.as_ref().filter(|_| serve.storage == StorageKind::File) {
        let identity = paxos_storage::file::identity(data)?;
        super::serve::check_identity(serve, data, &identity)?;
        return Ok(identity.cluster().to_owned());
    }
    Ok(serve.cluster.clone().unwrap_or_else(|| String::from("paxos")))
}
