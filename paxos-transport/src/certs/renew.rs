//! New certificates in place of old ones, by the same CA and with the same names.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use paxos_core::NodeId;
use rcgen::KeyPair;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{
    Authority, FilePair, MODE_OF_CERTIFICATES, MODE_OF_KEYS, parse, read, restricted, tls_error, wrong,
};
use crate::Error;

/// Which keys new certificates are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RenewedKeys {
    /// The keys of the old certificates.
    Same,
    /// New ones: the old keys can't be used any more once all nodes have the new files.
    New,
}

/// Replaces the certificates of all nodes in a directory, and of the operators, by new ones of the same CA
/// and names, whose serial numbers are random. Expired certificates are renewed, too. Each file is replaced
/// as a whole. Returns the files that were written.
///
/// # Errors
///
/// [`Error::Certificate`] if the CA of `cluster` or its key is missing, or existing files are not
/// certificates by this CA or lack their keys; nothing is written then. [`Error::Replace`] if a file can't be
/// written; those before it are new then. [`Error::Tls`] as in [`make_cluster`](super::make_cluster).
pub fn renew(directory: &Path, cluster: &str, keys: RenewedKeys) -> Result<Vec<PathBuf>, Error> {
    let authority =
        Authority::read(directory, cluster, "certificates are renewed only by the CA that made them")?;
    let mut new = Vec::new();
    for node in nodes(directory)? {
        let pair = FilePair::new(directory, &format!("node-{node}"));
        let Some((certificate, key)) = pair.read()? else { continue };
        let names = names_by(&authority, &pair, &certificate, webpki::KeyUsage::server_auth())?;
        let name = authority.node_name(node);
        if !names.contains(&name) {
            return Err(wrong(&pair.certificate, format!("is for {}, not for {name}", names.join(", "))));
        }
        let hosts: Vec<String> = names.into_iter().filter(|host| *host != name).collect();
        new.push((authority.certify(node, &hosts, &key_for(&pair, &key, keys)?)?, pair));
    }
    let pair = FilePair::new(directory, "admin");
    if let Some((certificate, key)) = pair.read()? {
        names_by(&authority, &pair, &certificate, webpki::KeyUsage::client_auth())?;
        new.push((authority.certify_operator(&key_for(&pair, &key, keys)?)?, pair));
    }
    let mut written = Vec::new();
    for ((certificate, key), pair) in new {
        if keys == RenewedKeys::New {
            replace(&pair.key, &key, MODE_OF_KEYS)?;
            written.push(pair.key);
        }
        replace(&pair.certificate, &certificate, MODE_OF_CERTIFICATES)?;
        written.push(pair.certificate);
    }
    Ok(written)
}

/// The nodes that have a certificate in a directory, in order.
fn nodes(directory: &Path) -> Result<Vec<NodeId>, Error> {
    let mut nodes = Vec::new();
    for entry in directory.read_dir().map_err(|error| wrong(directory, error))? {
        let name = entry.map_err(|error| wrong(directory, error))?.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix("node-")?.strip_suffix(".pem"));
        nodes.extend(id.and_then(|id| id.parse().ok()).map(NodeId));
    }
    nodes.sort_unstable();
    Ok(nodes)
}

fn key_for(pair: &FilePair, key: &str, keys: RenewedKeys) -> Result<KeyPair, Error> {
    match keys {
        RenewedKeys::Same => KeyPair::from_pem(key).map_err(|error| wrong(&pair.key, error)),
        RenewedKeys::New => KeyPair::generate().map_err(tls_error),
    }
}

/// The names and addresses in a certificate, which this CA must have signed.
fn names_by(
    authority: &Authority,
    pair: &FilePair,
    certificate: &str,
    usage: webpki::KeyUsage,
) -> Result<Vec<String>, Error> {
    let der = parse(&pair.certificate, certificate)?;
    let parsed = webpki::EndEntityCert::try_from(&der).map_err(|error| wrong(&pair.certificate, error))?;
    authority.check_issued_at(&pair.certificate, &parsed, usage, UnixTime::now(), true)?;
    let mut names: Vec<String> = parsed.valid_dns_names().map(str::to_owned).collect();
    let is_in =
        |address: &IpAddr| parsed.verify_is_valid_for_subject_name(&ServerName::from(*address)).is_ok();
    names.extend(addresses(&der).into_iter().filter(is_in).map(|address| address.to_string()));
    Ok(names)
}

/// What may be addresses in the extension of a certificate for names: webpki tells whether a certificate
/// holds an address, but not which ones it holds, so that each result must be checked.
fn addresses(certificate: &CertificateDer<'_>) -> Vec<IpAddr> {
    /// The object identifier of the extension, 2.5.29.17, encoded.
    const ALTERNATIVE_NAMES: &[u8] = &[0x06, 0x03, 0x55, 0x1d, 0x11];
    /// The tag of an address, and its two possible lengths.
    const ADDRESS: u8 = 0x87;
    let Some(start) =
        certificate.windows(ALTERNATIVE_NAMES.len()).position(|bytes| bytes == ALTERNATIVE_NAMES)
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for place in start..certificate.len() {
        let [ADDRESS, length, rest @ ..] = &certificate[place..] else { continue };
        let address = match length {
            4 => rest.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
            16 => rest.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)),
            _ => None,
        };
        found.extend(address.filter(|address| !found.contains(address)));
    }
    found
}

/// Replaces a file as a whole: readers see the old or the new one.
fn replace(file: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let written = || {
        // One that an earlier attempt has left behind.
        if read(&new).is_ok_and(|found| found.is_some()) {
            std::fs::remove_file(&new)?;
        }
        let mut target = restricted(mode).open(&new)?;
        std::io::Write::write_all(&mut target, text.as_bytes())?;
        target.sync_all()?;
        std::fs::rename(&new, file)
    };
    written().map_err(|source| Error::Replace { file: file.to_owned(), source })
}
