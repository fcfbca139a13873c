//! Making the certificates of a cluster.
//!
//! | file | holds | goes to |
//! |---|---|---|
//! | `ca.pem` | the certificate of the cluster's CA | every node |
//! | `ca-key.pem` | its key: who has it can add nodes | nobody; keep it safe |
//! | `node-ID.pem` | the certificate of a node | that node |
//! | `node-ID-key.pem` | its key | that node |

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use paxos_core::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, DnsName, UnixTime};

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
    let authority = Authority::new(cluster, KeyPair::generate().map_err(tls_error)?)?;
    let nodes = nodes.iter().map(|node| {
        let (certificate, key) = authority.certify(*node, hosts)?;
        Ok((*node, certificate, key))
    });
    Ok(ClusterCerts {
        nodes: nodes.collect::<Result<_, Error>>()?,
        authority: authority.issuer.pem(),
        authority_key: authority.issuer.key().serialize_pem(),
    })
}

/// Sees to it that a directory holds a CA for `cluster`, and a certificate and key for each of `nodes`; those that
/// it makes also name `hosts`. Keys can be read by their owner only. Returns the files that it has written: what was
/// there already stays as it is.
///
/// # Errors
///
/// [`Error::Write`] if a file can't be written. [`Error::Certificate`] if what is there already is not the CA of this
/// cluster with its key and certificates by this CA with their keys; nothing is written then.
pub fn write_cluster(
    directory: &Path,
    cluster: &str,
    nodes: &[NodeId],
    hosts: &[String],
) -> Result<Vec<PathBuf>, Error> {
    std::fs::create_dir_all(directory)
        .map_err(|source| Error::Write { file: directory.to_owned(), source })?;
    let mut files = Vec::new();
    let pair = FilePair::new(directory, "ca");
    let authority = if let Some((certificate, key)) = pair.read()? {
        Authority::load(cluster, &pair, &certificate, &key)?
    } else {
        let authority = Authority::new(cluster, KeyPair::generate().map_err(tls_error)?)?;
        files.push((pair.certificate, authority.issuer.pem(), 0o644));
        files.push((pair.key, authority.issuer.key().serialize_pem(), 0o600));
        authority
    };
    for &node in nodes {
        let pair = FilePair::new(directory, &format!("node-{node}"));
        if let Some((certificate, _)) = pair.read()? {
            authority.check_issued(&pair.certificate, &certificate)?;
        } else {
            let (certificate, key) = authority.certify(node, hosts)?;
            files.push((pair.certificate, certificate, 0o644));
            files.push((pair.key, key, 0o600));
        }
    }
    let write = |(file, text, mode): (PathBuf, String, u32)| {
        write(&file, &text, mode)?;
        Ok(file)
    };
    files.into_iter().map(write).collect()
}

/// A CA that can sign.
struct Authority {
    cluster: String,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new(cluster: &str, key: KeyPair) -> Result<Authority, Error> {
        check_name(cluster)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("{cluster} cluster CA"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(tls_error)?;
        Ok(Authority { cluster: cluster.to_owned(), issuer })
    }

    /// The CA whose certificate and key these are.
    fn load(cluster: &str, files: &FilePair, certificate: &str, key: &str) -> Result<Authority, Error> {
        let key = KeyPair::from_pem(key).map_err(|error| wrong(&files.key, error))?;
        let authority = Authority::new(cluster, key)?;
        let stored = parse(&files.certificate, certificate)?;
        let stored =
            webpki::anchor_from_trusted_cert(&stored).map_err(|error| wrong(&files.certificate, error))?;
        let own = webpki::anchor_from_trusted_cert(authority.issuer.der());
        let own = own.map_err(|error| Error::Tls { problem: error.to_string() })?;
        // Signatures of this one hold for that one if both have the same name and key.
        if stored.subject_public_key_info != own.subject_public_key_info {
            return Err(wrong(&files.key, "does not fit the certificate beside it"));
        }
        if stored.subject != own.subject {
            return Err(wrong(
                &files.certificate,
                format!("not the CA of cluster {cluster}; name its cluster"),
            ));
        }
        Ok(authority)
    }

    /// A certificate for a node and its key.
    fn certify(&self, node: NodeId, hosts: &[String]) -> Result<(String, String), Error> {
        let name = format!("node-{node}.{}", self.cluster);
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
        let certificate = params.signed_by(&key, &self.issuer).map_err(tls_error)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Checks that this CA has signed a certificate.
    fn check_issued(&self, file: &Path, certificate: &str) -> Result<(), Error> {
        let parsed = parse(file, certificate)?;
        let anchor =
            webpki::anchor_from_trusted_cert(self.issuer.der()).map_err(|error| wrong(file, error))?;
        let node = webpki::EndEntityCert::try_from(&parsed).map_err(|error| wrong(file, error))?;
        let usage = webpki::KeyUsage::server_auth();
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        node.verify_for_usage(algorithms, &[anchor], &[], UnixTime::now(), usage, None, None)
            .map(drop)
            .map_err(|error| wrong(file, format!("not signed by the CA beside it ({error})")))
    }
}

/// A certificate and its key in files beside each other.
struct FilePair {
    certificate: PathBuf,
    key: PathBuf,
}

impl FilePair {
    fn new(directory: &Path, name: &str) -> FilePair {
        FilePair {
            certificate: directory.join(format!("{name}.pem")),
            key: directory.join(format!("{name}-key.pem")),
        }
    }

    /// What both hold; `None` if neither is there. One without the other is an error.
    fn read(&self) -> Result<Option<(String, String)>, Error> {
        let missing = |file: &Path, other: &Path| {
            let problem =
                format!("is missing, but {} is there: put it back, or remove both", other.display());
            Err(wrong(file, problem))
        };
        match (read(&self.certificate)?, read(&self.key)?) {
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (None, None) => Ok(None),
            (None, Some(_)) => missing(&self.certificate, &self.key),
            (Some(_), None) => missing(&self.key, &self.certificate),
        }
    }
}

fn read(file: &Path) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(file, error)),
    }
}

fn parse(file: &Path, pem: &str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| wrong(file, format!("not a certificate in PEM form: {error}")))
}

fn wrong(file: &Path, problem: impl Display) -> Error {
    Error::Certificate { file: file.display().to_string(), problem: problem.to_string() }
}

fn check_name(name: &str) -> Result<(), Error> {
    match DnsName::try_from(name) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::Name { name: name.to_owned() }),
    }
}

fn write(file: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    restrict(&mut options, mode);
    let written = options.open(file).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| Error::Write { file: file.to_owned(), source })
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
