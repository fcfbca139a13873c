//! Making the certificates of a cluster.
//!
//! | file | holds | goes to |
//! |---|---|---|
//! | `ca.pem` | the certificate of the cluster's CA | every node |
//! | `ca-key.pem` | its key: who has it can add nodes | nobody; keep it safe |
//! | `node-ID.pem` | the certificate of a node | that node |
//! | `node-ID-key.pem` | its key | that node |

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use paxos_core::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::DnsName;

use crate::Error;

/// Certificates and keys of a cluster, in PEM form.
#[derive(Debug)]
pub struct ClusterCerts {
    /// The CA's certificate.
    pub authority: String,
    /// The CA's key.
    pub authority_key: String,
    /// For each node its certificate and key.
    pub nodes: Vec<(NodeId, String, String)>,
}

/// Makes a CA for `cluster` and a certificate for each of `nodes`, which also names `hosts` (names or addresses).
///
/// # Errors
///
/// [`Error::Name`] if the name of the cluster or a host can't stand in a certificate.
pub fn make_cluster(cluster: &str, nodes: &[NodeId], hosts: &[String]) -> Result<ClusterCerts, Error> {
    check_name(cluster)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("{cluster} cluster CA"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().map_err(tls_error)?;
    let authority_key = key.serialize_pem();
    let authority = CertifiedIssuer::self_signed(params, key).map_err(tls_error)?;
    let mut certificates = Vec::new();
    for &node in nodes {
        let name = format!("node-{node}.{cluster}");
        let mut names = vec![name.clone()];
        for host in hosts.iter().filter(|host| !host.is_empty()) {
            if host.parse::<IpAddr>().is_err() {
                check_name(host)?;
            }
            names.push(host.clone());
        }
        let mut params = CertificateParams::new(names).map_err(tls_error)?;
        params.use_authority_key_identifier_extension = true;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().map_err(tls_error)?;
        let certificate = params.signed_by(&key, &authority).map_err(tls_error)?;
        certificates.push((node, certificate.pem(), key.serialize_pem()));
    }
    Ok(ClusterCerts { authority: authority.pem(), authority_key, nodes: certificates })
}

/// [Makes](make_cluster) them and writes them into a directory. Keys can be read by their owner only.
///
/// # Errors
///
/// [`Error::Write`] if the directory can't be made, or one of the files is there already.
pub fn write_cluster(
    directory: &Path,
    cluster: &str,
    nodes: &[NodeId],
    hosts: &[String],
) -> Result<(), Error> {
    let made = make_cluster(cluster, nodes, hosts)?;
    std::fs::create_dir_all(directory)
        .map_err(|source| Error::Write { file: directory.to_owned(), source })?;
    let mut files = vec![
        (directory.join("ca.pem"), &made.authority, 0o644),
        (directory.join("ca-key.pem"), &made.authority_key, 0o600),
    ];
    for (node, certificate, key) in &made.nodes {
        files.push((directory.join(format!("node-{node}.pem")), certificate, 0o644));
        files.push((directory.join(format!("node-{node}-key.pem")), key, 0o600));
    }
    // All or none: half of a new cluster's files beside half of an old one's would be hard to tell apart.
    if let Some((file, ..)) = files.iter().find(|(file, ..)| file.exists()) {
        return Err(Error::Write { file: file.clone(), source: ErrorKind::AlreadyExists.into() });
    }
    files.into_iter().try_for_each(|(file, text, mode)| write(file, text, mode))
}

fn check_name(name: &str) -> Result<(), Error> {
    match DnsName::try_from(name) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::Name { name: name.to_owned() }),
    }
}

fn write(file: PathBuf, text: &str, mode: u32) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    restrict(&mut options, mode);
    let written = options.open(&file).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| Error::Write { file, source })
}

#[cfg(unix)]
fn restrict(options: &mut OpenOptions, mode: u32) {
    std::os::unix::fs::OpenOptionsExt::mode(options, mode);
}

#[cfg(not(unix))]
fn restrict(_: &mut OpenOptions, _: u32) {}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn tls_error(error: rcgen::Error) -> Error {
    Error::Tls { problem: error.to_string() }
}
