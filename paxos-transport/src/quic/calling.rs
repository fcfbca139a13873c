//! Calls over QUIC: a connection each, on which the node that is called opens one stream in both directions.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{ClientConfig, Connection, Endpoint, ReadError, RecvStream, SendStream, WriteError};
use tokio::io::Join;
use tokio::time::{sleep, timeout};

use super::endpoints::STOPPED;
use super::{NOT_ADMITTED, chain, ended, paths, setup};
use crate::calls::{self, CallDialer, CallError, CallIdentity, CallProblem};
use crate::network::link::Ended;
use crate::network::peers::Network;
use crate::network::tls::problems::printable;
use crate::{Error, Unreachable};

/// After this time without an answer, an address is probed.
const PROBE_AFTER: Duration = Duration::from_millis(200);
/// How long the side that is called waits until the caller has everything.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

/// Asks the nodes at these addresses (`HOST:PORT`) in turn, until one has taken the request, and returns its
/// answer. See [`calls`].
///
/// # Errors
///
/// [`CallError`], which names each address and why it did not do.
pub async fn call(addresses: &[String], identity: &CallIdentity, request: Bytes) -> Result<Bytes, CallError> {
    let caller = QuicCaller::new(identity).map_err(|error| CallError::Tls { problem: error.to_string() })?;
    calls::call(&caller, addresses, &request).await
}

pub(crate) struct QuicCaller {
    config: ClientConfig,
    name: String,
}

/// Closes the connection of a call.
pub(crate) struct Hangup {
    connection: Connection,
    _endpoint: Endpoint,
}

impl Drop for Hangup {
    fn drop(&mut self) {
        self.connection.close(STOPPED, b"");
    }
}

impl QuicCaller {
    pub(crate) fn new(identity: &CallIdentity) -> Result<QuicCaller, Error> {
        let name = identity.any_name()?.to_str().into_owned();
        Ok(QuicCaller { config: setup::calling_config(identity)?, name })
    }
}

impl CallDialer for QuicCaller {
    type Guard = Hangup;
    type Stream = Join<RecvStream, SendStream>;

    async fn dial(&self, address: SocketAddr) -> Result<(Self::Stream, Hangup), CallProblem> {
        let not_connected = |problem: String| CallProblem::NotConnected { problem };
        let endpoint = setup::calling_endpoint(address).map_err(|error| not_connected(error.to_string()))?;
        let connecting = endpoint.connect_with(self.config.clone(), address, &self.name);
        let connecting = connecting.map_err(|error| not_connected(printable(&error.to_string())))?;
        let connection = tokio::select! {
            connected = connecting => connected.map_err(|error| problem(&error))?,
            reason = not_reached(address) => return Err(reason.into()),
        };
        let (writer, reader) = connection.accept_bi().await.map_err(|error| problem(&error))?;
        Ok((tokio::io::join(reader, writer), Hangup { connection, _endpoint: endpoint }))
    }

    fn explain(&self, error: &io::Error, _: SocketAddr) -> CallProblem {
        let inner = error.get_ref();
        let read = inner.and_then(|inner| inner.downcast_ref::<ReadError>());
        let written = inner.and_then(|inner| inner.downcast_ref::<WriteError>());
        match (read, written) {
            (Some(ReadError::ConnectionLost(error)), _) | (_, Some(WriteError::ConnectionLost(error))) => {
                problem(error)
            }
            _ => CallProblem::Lost { problem: error.to_string() },
        }
    }
}

/// Finds out that nothing can answer at an address, long before the attempt to connect has ended; otherwise
/// waits forever.
async fn not_reached(address: SocketAddr) -> Unreachable {
    sleep(PROBE_AFTER).await;
    match paths::probe(address).await {
        reason @ (Unreachable::Refused { .. }
        | Unreachable::NoRoute { .. }
        | Unreachable::NarrowPath { .. }) => reason,
        _ => std::future::pending().await,
    }
}

fn problem(error: &quinn::ConnectionError) -> CallProblem {
    match ended(error) {
        Ended::Because(Unreachable::Lost { problem }) if *error == quinn::ConnectionError::TimedOut => {
            CallProblem::NotConnected { problem }
        }
        Ended::Because(reason) => reason.into(),
        Ended::Closed => CallProblem::Lost { problem: String::from("the caller has closed it") },
    }
}

/// Serves a call, unless the caller is refused or all places are taken.
pub(super) async fn admit(network: &Arc<Network>, connection: Connection, address: SocketAddr) {
    let caller = match network.admit_caller(&chain(&connection)) {
        Ok(caller) => caller,
        Err(refusal) => {
            connection.close(NOT_ADMITTED, refusal.problem.as_bytes());
            network.on_refused(address.ip(), &refusal);
            return;
        }
    };
    let place = network.calls.enter();
    let opened = timeout(network.config.handshake_timeout, connection.open_bi()).await;
    let Ok(Ok((mut writer, reader))) = opened else { return };
    let place = match place {
        Ok(place) => place,
        Err(declined) => {
            if declined.tell(&mut writer).await.is_ok() {
                say_goodbye(writer).await;
            }
            return;
        }
    };
    let request_timeout = network.config.handshake_timeout;
    network.spawn_until_closing(async move {
        let mut stream = tokio::io::join(reader, writer);
        match place.serve(caller, &mut stream, request_timeout).await {
            Ok(()) => tracing::debug!(%address, %caller, "call served"),
            Err(error) => tracing::debug!(%address, %caller, %error, "a call has broken"),
        }
        drop(place);
        say_goodbye(stream.into_inner().1).await;
        connection.close(STOPPED, b"");
    });
}

/// Ends a stream, and waits a short time until the caller has read it.
async fn say_goodbye(mut writer: SendStream) {
    if writer.finish().is_ok() {
        let _ = timeout(GOODBYE_TIMEOUT, writer.stopped()).await;
    }
}
