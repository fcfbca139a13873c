//! TLS for clients: the certificate that a front shows, which can be replaced, and handshakes.
//!
//! A handshake takes up to some milliseconds of computing, with an RSA key of 4096 bits. So all are made by a
//! thread of their own: a node that many clients connect to at once still hears its peers.
//!
//! Sessions are not resumed. A resumed handshake shows no certificates: neither side would notice that the
//! other's has expired, or is by a CA that is trusted no longer.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::stream::{Socket, Stream};
use crate::lock::lock;

/// How many connections may be in their handshake at once; further ones are closed.
const MAX_HANDSHAKES: usize = 1024;
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How many bytes of a connection wait, encrypted, until the system takes them.
const BUFFER_BYTES: usize = 16 << 10;
/// The longest file of certificates or a key.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The certificate and key of a front, and the CA of its clients if they need certificates, too. Clones share
/// them: keep one, and [`replace`](ClientTls::replace) them when there are new files.
#[derive(Clone, Debug)]
pub struct ClientTls(Arc<Mutex<Arc<ServerConfig>>>);

/// Why certificates or a key can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientTlsError {
    /// A file can't be read, or is not what it should be.
    #[error("{file}: {problem}")]
    File {
        /// The file, or the name that was given to the bytes.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The library for TLS refuses them, for example because the key is not that of the certificate.
    #[error("{file}: {source}")]
    Tls {
        /// The file.
        file: String,
        /// The error of the library.
        source: rustls::Error,
    },
}

impl ClientTls {
    /// Reads files in PEM form: the certificate of the front with those that link it to a CA, its key, and
    /// the CA's certificate if clients must show certificates of it.
    ///
    /// # Errors
    ///
    /// [`ClientTlsError`] if one is missing, is not what it should be, or does not fit the others.
    pub fn load(
        certificate: &Path,
        key: &Path,
        client_authority: Option<&Path>,
    ) -> Result<ClientTls, ClientTlsError> {
        let authority = client_authority.map(Pem::read).transpose()?;
        let config = config(&Pem::read(certificate)?, &Pem::read(key)?, authority.as_ref())?;
        Ok(ClientTls(Arc::new(Mutex::new(Arc::new(config)))))
    }

    /// Has all handshakes from now on use what `new` has. Connections go on as they are.
    pub fn replace(&self, new: &ClientTls) {
        *lock(&self.0) = new.current();
    }

    fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&lock(&self.0))
    }
}

/// The contents of a file.
struct Pem {
    file: String,
    bytes: Vec<u8>,
}

impl Pem {
    fn read(file: &Path) -> Result<Pem, ClientTlsError> {
        let name = file.display().to_string();
        let mut bytes = Vec::new();
        let read = std::fs::File::open(file)
            .and_then(|file| io::Read::read_to_end(&mut io::Read::take(file, MAX_FILE_BYTES), &mut bytes));
        match read {
            Ok(_) => Ok(Pem { file: name, bytes }),
            Err(error) => Err(ClientTlsError::File { file: name, problem: error.to_string() }),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, ClientTlsError> {
        let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        let parsed = parsed.map_err(|error| self.wrong(format!("not a certificate in PEM form: {error}")))?;
        if parsed.is_empty() {
            Err(self.wrong("there is no certificate in PEM form in it"))
        } else {
            Ok(parsed)
        }
    }

    fn wrong(&self, problem: impl std::fmt::Display) -> ClientTlsError {
        ClientTlsError::File { file: self.file.clone(), problem: problem.to_string() }
    }

    fn refused(&self) -> impl FnOnce(rustls::Error) -> ClientTlsError {
        let file = self.file.clone();
        move |source| ClientTlsError::Tls { file, source }
    }
}

fn config(certificate: &Pem, key: &Pem, authority: Option<&Pem>) -> Result<ServerConfig, ClientTlsError> {
    let private = PrivateKeyDer::from_pem_slice(&key.bytes)
        .map_err(|error| key.wrong(format!("not a private key in PEM form: {error}")))?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(certificate.refused())?;
    let builder = match authority {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            for root in authority.certificates()? {
                roots.add(root).map_err(authority.refused())?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| authority.wrong(error))?)
        }
    };
    let mut config =
        builder.with_single_cert(certificate.certificates()?, private).map_err(certificate.refused())?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Given to each configuration: a library must not choose the provider for the whole process.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Makes handshakes on a thread of its own, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Handshakes {
    tls: ClientTls,
    places: Semaphore,
    jobs: mpsc::Sender<Job>,
}

struct Job {
    socket: std::net::TcpStream,
    config: Arc<ServerConfig>,
    done: oneshot::Sender<io::Result<TlsStream<Socket>>>,
}

impl Handshakes {
    pub(super) fn start(tls: ClientTls) -> io::Result<Handshakes> {
        let (jobs, inbox) = mpsc::channel(MAX_HANDSHAKES);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name(String::from("client handshakes"))
            .spawn(move || runtime.block_on(run(inbox)))?;
        Ok(Handshakes { tls, places: Semaphore::new(MAX_HANDSHAKES), jobs })
    }

    /// Makes the handshake of an accepted connection.
    ///
    /// # Errors
    ///
    /// Why it has failed: [`io::ErrorKind::ResourceBusy`] if too many are being made,
    /// [`io::ErrorKind::TimedOut`] if it took too long.
    pub(super) async fn make(&self, socket: TcpStream) -> io::Result<Stream> {
        let busy =
            |_| io::Error::new(io::ErrorKind::ResourceBusy, "too many clients are in their handshakes");
        let _place = self.places.try_acquire().map_err(busy)?;
        let (done, answer) = oneshot::channel();
        let job = Job { socket: socket.into_std()?, config: self.tls.current(), done };
        // There is room, as each has a place.
        let gone = || io::Error::other("the thread for handshakes has ended");
        self.jobs.try_send(job).map_err(|_| gone())?;
        let mut stream = answer.await.map_err(|_| gone())??;
        stream.get_mut().0.arrive()?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

async fn run(mut inbox: mpsc::Receiver<Job>) {
    while let Some(job) = inbox.recv().await {
        tokio::spawn(async move {
            let Job { socket, config, done } = job;
            let made = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(socket, config)).await;
            let too_long = || io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long");
            // Whoever waited may be gone.
            let _ = done.send(made.unwrap_or_else(|_| Err(too_long())));
        });
    }
}

async fn handshake(socket: std::net::TcpStream, config: Arc<ServerConfig>) -> io::Result<TlsStream<Socket>> {
    let socket = Socket::Here(TcpStream::from_std(socket)?);
    let acceptor = TlsAcceptor::from(config);
    let mut stream =
        acceptor.accept_with(socket, |session| session.set_buffer_limit(Some(BUFFER_BYTES))).await?;
    stream.get_mut().0.leave()?;
    Ok(stream)
}
