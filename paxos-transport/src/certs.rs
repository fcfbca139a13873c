//! Makes the certificates of a cluster.
//!
//! | file | holds | goes to |
//! |---|---|---|
//! | `ca.pem` | the certificate of the cluster's CA | every node |
//! | `ca-key.pem` | the CA's key, with which anybody could add nodes | no node; keep it safe |
//! | `node-ID.pem` | the certificate of a node | that node |
//! | `node-ID-key.pem` | its key | that node |
//! | `admin.pem` | the certificate of the cluster's operators | operators |
//! | `admin-key.pem` | its key, with which anybody could operate the cluster | operators; no node |

mod renew;

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use paxos_core::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, DnsName, UnixTime};

pub use self::renew::{RenewedKeys, renew};
use crate::Error;

const MODE_OF_CERTIFICATES: u32 = 0o644;
const MODE_OF_KEYS: u32 = 0o600;
/// How long serial numbers are. The standard allows 20 bytes.
const SERIAL_BYTES: usize = 16;

/// Certificates and keys of a cluster, in PEM form.
#[derive(Debug)]
#[non_exhaustive]
pub struct ClusterCerts {
    /// The CA's certificate.
    pub authority: String,
    /// The CA's key.
    pub authority_key: String,
    /// The certificate and key of each node.
    pub nodes: Vec<(NodeId, String, String)>,
    /// The certificate and key of the operators.
    pub operator: (String, String),
}

/// Makes a CA for `cluster`, a certificate for its operators, and one for each of `nodes`, which also names
/// `hosts` (names or addresses).
///
/// # Errors
///
/// [`Error::Name`] if the name of the cluster or of a host is not valid in a certificate. [`Error::Tls`] if
/// keys or certificates can't be made.
pub fn make_cluster(cluster: &str, nodes: &[NodeId], hosts: &[String]) -> Result<ClusterCerts, Error> {
    let authority = Authority::new(cluster, new_key()?)?;
    let nodes = nodes.iter().map(|node| {
        let (certificate, key) = authority.certify(*node, hosts, &new_key()?)?;
        Ok((*node, certificate, key))
    });
    Ok(ClusterCerts {
        nodes: nodes.collect::<Result<_, Error>>()?,
        operator: authority.certify_operator(&new_key()?)?,
        authority: authority.issuer.pem(),
        authority_key: authority.issuer.key().serialize_pem(),
    })
}

/// Adds what is missing to a directory: a CA for `cluster`, and a certificate and key for its operators and
/// for each of `nodes`. New certificates of nodes also name `hosts`. Only the owner can read the keys.
/// Existing files are not changed. Returns the files that were written.
///
/// # Errors
///
/// [`Error::Write`] if a file can't be written. [`Error::Certificate`] if existing files are not the CA of
/// this cluster, or not certificates by this CA, or lack their keys; nothing is written then. [`Error::Name`]
/// and [`Error::Tls`] as in [`make_cluster`].
pub fn write_cluster(
    directory: &Path,
    cluster: &str,
    nodes: &[NodeId],
    hosts: &[String],
) -> Result<Vec<PathBuf>, Error> {
    std::fs::create_dir_all(directory)
        .map_err(|source| Error::Write { file: directory.to_owned(), source })?;
    let mut missing = MissingFiles::default();
    let pair = FilePair::new(directory, "ca");
    let authority = if let Some((certificate, key)) = pair.read()? {
        Authority::load(cluster, &pair, &certificate, &key)?
    } else {
        let authority = Authority::new(cluster, new_key()?)?;
        missing.push(pair, (authority.issuer.pem(), authority.issuer.key().serialize_pem()));
        authority
    };
    missing.add_nodes(directory, &authority, nodes, hosts)?;
    let pair = FilePair::new(directory, "admin");
    if let Some((certificate, _)) = pair.read()? {
        authority.check_issued(&pair.certificate, &certificate, webpki::KeyUsage::client_auth())?;
    } else {
        missing.push(pair, authority.certify_operator(&new_key()?)?);
    }
    missing.write()
}

/// Adds a certificate and key for each of `nodes` to a directory that has the CA of `cluster` with its key,
/// as [`write_cluster`] does. Returns the files that were written.
///
/// # Errors
///
/// [`Error::Certificate`] if there is no such CA, and otherwise as [`write_cluster`].
pub fn add_nodes(
    directory: &Path,
    cluster: &str,
    nodes: &[NodeId],
    hosts: &[String],
) -> Result<Vec<PathBuf>, Error> {
    let authority = Authority::read(directory, cluster, "nodes can be added only to a CA made before")?;
    let mut missing = MissingFiles::default();
    missing.add_nodes(directory, &authority, nodes, hosts)?;
    missing.write()
}

/// Files to write, each with its text and mode.
#[derive(Default)]
struct MissingFiles(Vec<(PathBuf, String, u32)>);

impl MissingFiles {
    fn push(&mut self, pair: FilePair, (certificate, key): (String, String)) {
        self.0.push((pair.certificate, certificate, MODE_OF_CERTIFICATES));
        self.0.push((pair.key, key, MODE_OF_KEYS));
    }

    /// Adds the files of those of `nodes` that have none.
    fn add_nodes(
        &mut self,
        directory: &Path,
        authority: &Authority,
        nodes: &[NodeId],
        hosts: &[String],
    ) -> Result<(), Error> {
        for &node in nodes {
            let pair = FilePair::new(directory, &format!("node-{node}"));
            if let Some((certificate, _)) = pair.read()? {
                authority.check_issued(&pair.certificate, &certificate, webpki::KeyUsage::server_auth())?;
            } else {
                self.push(pair, authority.certify(node, hosts, &new_key()?)?);
            }
        }
        Ok(())
    }

    fn write(self) -> Result<Vec<PathBuf>, Error> {
        let write = |(file, text, mode): (PathBuf, String, u32)| {
            write(&file, &text, mode)?;
            Ok(file)
        };
        self.0.into_iter().map(write).collect()
    }
}

/// The CA of a cluster with its key, which can sign certificates.
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
        params.serial_number = Some(serial_number()?);
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(tls_error)?;
        Ok(Authority { cluster: cluster.to_owned(), issuer })
    }

    /// Reads the CA from a directory, where its key must be, too. `why` tells why there must be one.
    fn read(directory: &Path, cluster: &str, why: &str) -> Result<Authority, Error> {
        let pair = FilePair::new(directory, "ca");
        match (read(&pair.certificate)?, read(&pair.key)?) {
            (Some(certificate), Some(key)) => Authority::load(cluster, &pair, &certificate, &key),
            (None, None) => Err(wrong(&pair.certificate, format!("is missing: {why}"))),
            (None, Some(_)) => Err(wrong(&pair.certificate, "is missing: put it back beside its key")),
            (Some(_), None) => Err(wrong(
                &pair.key,
                "is missing: the key of the CA is needed to sign certificates; put it back",
            )),
        }
    }

    /// Reads an existing CA, and checks that it belongs to `cluster` and that its key fits.
    fn load(cluster: &str, files: &FilePair, certificate: &str, key: &str) -> Result<Authority, Error> {
        let key = KeyPair::from_pem(key).map_err(|error| wrong(&files.key, error))?;
        let authority = Authority::new(cluster, key)?;
        let stored = parse(&files.certificate, certificate)?;
        let stored =
            webpki::anchor_from_trusted_cert(&stored).map_err(|error| wrong(&files.certificate, error))?;
        let own = webpki::anchor_from_trusted_cert(authority.issuer.der());
        let own = own.map_err(|error| Error::Tls { problem: error.to_string() })?;
        // A certificate that this CA signs is valid under the stored one if both have the same name and key.
        if stored.subject_public_key_info != own.subject_public_key_info {
            return Err(wrong(&files.key, "does not fit the certificate beside it"));
        }
        if stored.subject != own.subject {
            return Err(wrong(
                &files.certificate,
                format!("not the CA of cluster {cluster}: use the name of the cluster that it was made for"),
            ));
        }
        Ok(authority)
    }

    fn node_name(&self, node: NodeId) -> String {
        format!("node-{node}.{}", self.cluster)
    }

    /// Makes a certificate for a node with this key; returns both as text.
    fn certify(&self, node: NodeId, hosts: &[String], key: &KeyPair) -> Result<(String, String), Error> {
        let name = self.node_name(node);
        let mut names = vec![name.clone()];
        for host in hosts.iter().filter(|host| !host.is_empty()) {
            if host.parse::<IpAddr>().is_err() {
                check_name(host)?;
            }
            names.push(host.clone());
        }
        let params = CertificateParams::new(names).map_err(tls_error)?;
        let usages = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, name, &usages, key)
    }

    /// Makes a certificate for operators with this key; returns both as text. It can't be that of a node: its
    /// name is of another kind, and it is not for servers.
    fn certify_operator(&self, key: &KeyPair) -> Result<(String, String), Error> {
        let mut params = CertificateParams::default();
        let name = format!("paxos://{}/operator", self.cluster);
        params.subject_alt_names.push(SanType::URI(name.try_into().map_err(tls_error)?));
        let common_name = format!("{} cluster operator", self.cluster);
        self.sign(params, common_name, &[ExtendedKeyUsagePurpose::ClientAuth], key)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        common_name: String,
        usages: &[ExtendedKeyUsagePurpose],
        key: &KeyPair,
    ) -> Result<(String, String), Error> {
        params.use_authority_key_identifier_extension = true;
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        // rcgen would take it from the key, and some stores of certificates refuse a second one of an issuer
        // with the same serial number.
        params.serial_number = Some(serial_number()?);
        let certificate = params.signed_by(key, &self.issuer).map_err(tls_error)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Checks that this CA has signed an existing certificate.
    fn check_issued(&self, file: &Path, certificate: &str, usage: webpki::KeyUsage) -> Result<(), Error> {
        let parsed = parse(file, certificate)?;
        let parsed = webpki::EndEntityCert::try_from(&parsed).map_err(|error| wrong(file, error))?;
        self.check_issued_at(file, &parsed, usage, UnixTime::now(), false)
    }

    /// Does the same as of some time. With `at_any_time` the certificate may be valid at another time only.
    fn check_issued_at(
        &self,
        file: &Path,
        certificate: &webpki::EndEntityCert<'_>,
        usage: webpki::KeyUsage,
        now: UnixTime,
        at_any_time: bool,
    ) -> Result<(), Error> {
        let anchor =
            webpki::anchor_from_trusted_cert(self.issuer.der()).map_err(|error| wrong(file, error))?;
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        let verified =
            certificate.verify_for_usage(algorithms, &[anchor], &[], now, usage, None, None).map(drop);
        match verified {
            Err(
                webpki::Error::CertExpired { not_after: valid_at, .. }
                | webpki::Error::CertNotValidYet { not_before: valid_at, .. },
            ) if at_any_time => self.check_issued_at(file, certificate, usage, valid_at, false),
            Err(error) => Err(wrong(file, format!("not signed by the CA beside it ({error})"))),
            Ok(()) => Ok(()),
        }
    }
}

/// The files of a certificate and of its key.
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

    /// Reads both; `None` if neither exists. One without the other is an error.
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

fn new_key() -> Result<KeyPair, Error> {
    KeyPair::generate().map_err(tls_error)
}

/// A random number that no other certificate has: positive, and without zeros in front.
fn serial_number() -> Result<SerialNumber, Error> {
    let mut bytes = [0; SERIAL_BYTES];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Error::Tls { problem: String::from("the system has no random numbers") })?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn write(file: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let written = restricted(mode).open(file).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| Error::Write { file: file.to_owned(), source })
}

/// How a new file is made.
fn restricted(mode: u32) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    restrict(&mut options, mode);
    options
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
