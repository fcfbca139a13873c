//! The QUIC endpoints of a node: the one that it listens on, and others for peers that can't be reached from
//! there, because their addresses are of the other family (IPv4 or IPv6) or the node listens on a loopback
//! address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use quinn::{Endpoint, VarInt};

use super::paths::SendErrors;
use super::setup;
use crate::lock::lock;
use crate::network::transport::Farewell;
use crate::{NetworkConfig, Unreachable};

/// How long closing waits until peers have acknowledged it.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(200);
/// The code with which a node closes its connections when it stops.
pub(super) const STOPPED: VarInt = VarInt::from_u32(0);

/// All endpoints of a node.
#[derive(Debug)]
pub(super) struct Endpoints {
    listening: Endpoint,
    local_address: SocketAddr,
    /// Errors of sending, if the system sends. `None` on a simulated network, which has a single socket.
    send_errors: Option<Arc<SendErrors>>,
    /// Opened when first needed; the key is the address that they are bound to.
    dialing: Mutex<BTreeMap<IpAddr, Endpoint>>,
}

impl Endpoints {
    pub(super) fn new(
        listening: Endpoint,
        local_address: SocketAddr,
        send_errors: Option<Arc<SendErrors>>,
    ) -> Endpoints {
        Endpoints { listening, local_address, send_errors, dialing: Mutex::default() }
    }

    pub(super) fn listening(&self) -> &Endpoint {
        &self.listening
    }

    pub(super) fn send_errors(&self) -> Option<&SendErrors> {
        self.send_errors.as_deref()
    }

    /// The endpoint that can reach `address`.
    pub(super) fn towards(
        &self,
        address: SocketAddr,
        config: &NetworkConfig,
    ) -> Result<Endpoint, Unreachable> {
        let Some(send_errors) = self.send_errors.as_ref().filter(|_| !reaches(self.local_address, address))
        else {
            return Ok(self.listening.clone());
        };
        let any = match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let mut dialing = lock(&self.dialing);
        if let Some(endpoint) = dialing.get(&any) {
            return Ok(endpoint.clone());
        }
        let opened = setup::system_socket((any, 0).into(), Arc::clone(send_errors))
            .and_then(|socket| setup::endpoint(config, None, socket, None));
        let endpoint =
            opened.map_err(|error| Unreachable::NoRoute { address, problem: error.to_string() })?;
        dialing.insert(any, endpoint.clone());
        Ok(endpoint)
    }

    fn all(&self) -> Vec<Endpoint> {
        let dialing = lock(&self.dialing);
        std::iter::once(&self.listening).chain(dialing.values()).cloned().collect()
    }
}

/// Whether a socket that is bound to `local` can send to `address`.
fn reaches(local: SocketAddr, address: SocketAddr) -> bool {
    let (local, address) = (local.ip(), address.ip());
    if local.is_unspecified() {
        return local.is_ipv6() || address.is_ipv4(); // An IPv6 socket serves both, see `setup::system_socket`.
    }
    local.is_ipv4() == address.is_ipv4() && (address.is_loopback() || !local.is_loopback())
}

#[async_trait]
impl Farewell for Arc<Endpoints> {
    fn begin(&self) {
        self.all().iter().for_each(|endpoint| endpoint.close(STOPPED, b"stopped"));
    }

    async fn finish(&self) {
        self.begin();
        let all = self.all();
        let idle = async {
            for endpoint in &all {
                endpoint.wait_idle().await;
            }
        };
        // Peers that miss the message notice by themselves.
        let _ = tokio::time::timeout(FAREWELL_TIMEOUT, idle).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_reaches_what_its_address_lets_it() {
        let is_reached = |local: &str, address: &str| {
            let parse = |ip: &str| SocketAddr::new(ip.parse().expect("it is an address"), 1);
            reaches(parse(local), parse(address))
        };
        for (local, address) in [
            ("0.0.0.0", "10.0.0.1"),
            ("::", "10.0.0.1"),
            ("::", "::1"),
            ("10.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
        ] {
            assert!(is_reached(local, address), "{local} {address}");
        }
        for (local, address) in
            [("0.0.0.0", "::1"), ("::1", "127.0.0.1"), ("127.0.0.1", "10.0.0.1"), ("::1", "fd00::1")]
        {
            assert!(!is_reached(local, address), "{local} {address}");
        }
    }
}
