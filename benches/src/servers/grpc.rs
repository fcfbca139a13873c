//! A client of etcd: the few messages of its v3 interface that are needed here.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::work::{LEASE, VALUE_BYTES, Work, key};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a member may take to answer with its status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

/// Linearizable, as `serializable` (tag 7) is not set.
#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    pairs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LeaseGrantRequest {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LeaseGrantResponse {
    #[prost(int64, tag = "2")]
    lease: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LockRequest {
    #[prost(bytes = "bytes", tag = "1")]
    name: Bytes,
    #[prost(int64, tag = "2")]
    lease: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LockResponse {
    #[prost(bytes = "bytes", tag = "2")]
    key: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct UnlockRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct UnlockResponse {}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member: u64,
}

/// A client; several may share a connection.
pub(super) struct Caller {
    grpc: Grpc<Channel>,
    value: Bytes,
    /// What its locks end with; it asks for one when it takes the first.
    lease: Option<i64>,
}

impl Caller {
    /// `callers` clients that share `connections` connections.
    pub(super) async fn open(
        address: SocketAddr,
        callers: usize,
        connections: usize,
    ) -> Result<Vec<Caller>, String> {
        let mut channels = Vec::new();
        for _ in 0..connections.min(callers) {
            channels.push(connect(address).await?);
        }
        let value = Bytes::from(vec![b'x'; VALUE_BYTES]);
        let callers = channels.iter().cycle().take(callers);
        Ok(callers
            .map(|channel| Caller { grpc: Grpc::new(channel.clone()), value: value.clone(), lease: None })
            .collect())
    }

    /// Sends one request after the other, as etcd has no pipelines: more callers have more requests under
    /// way.
    pub(super) async fn ask(&mut self, work: Work, keys: &[u64]) -> Result<(), String> {
        for number in keys {
            let key = Bytes::copy_from_slice(&key(*number));
            match work {
                Work::Set => {
                    let put = PutRequest { key, value: self.value.clone() };
                    let _: PutResponse = call(&mut self.grpc, "/etcdserverpb.KV/Put", put).await?;
                }
                Work::Get => {
                    let range = RangeRequest { key };
                    let found: RangeResponse = call(&mut self.grpc, "/etcdserverpb.KV/Range", range).await?;
                    if !matches!(&found.pairs[..], [pair] if pair.value.len() == VALUE_BYTES) {
                        return Err(String::from("not the value that was set"));
                    }
                }
                Work::Lock => {
                    let lock = LockRequest { name: key, lease: self.lease().await? };
                    let taken: LockResponse = call(&mut self.grpc, "/v3lockpb.Lock/Lock", lock).await?;
                    let unlock = UnlockRequest { key: taken.key };
                    let _: UnlockResponse = call(&mut self.grpc, "/v3lockpb.Lock/Unlock", unlock).await?;
                }
            }
        }
        Ok(())
    }

    async fn lease(&mut self) -> Result<i64, String> {
        if let Some(lease) = self.lease {
            return Ok(lease);
        }
        let seconds = i64::try_from(LEASE.as_secs()).expect("it is short");
        let grant = LeaseGrantRequest { seconds };
        let granted: LeaseGrantResponse =
            call(&mut self.grpc, "/etcdserverpb.Lease/LeaseGrant", grant).await?;
        Ok(*self.lease.insert(granted.lease))
    }
}

/// A member's id, and that of the leader that it knows, if any.
pub(super) async fn member_and_leader(address: SocketAddr) -> Result<(u64, Option<u64>), String> {
    let asked = async {
        let mut grpc = Grpc::new(connect(address).await?);
        let status: StatusResponse =
            call(&mut grpc, "/etcdserverpb.Maintenance/Status", StatusRequest {}).await?;
        let header = status.header.ok_or("a status without a header")?;
        Ok((header.member, Some(status.leader).filter(|leader| *leader != 0)))
    };
    tokio::time::timeout(STATUS_TIMEOUT, asked).await.map_err(|_| String::from("no answer in time"))?
}

/// Asks a member of etcd for one thing.
pub(super) async fn ask<Q, A>(address: SocketAddr, path: &'static str, request: Q) -> Result<A, String>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    call(&mut Grpc::new(connect(address).await?), path, request).await
}

async fn connect(address: SocketAddr) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
    let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
    endpoint.connect().await.map_err(|error| error.to_string())
}

async fn call<Q, A>(grpc: &mut Grpc<Channel>, path: &'static str, request: Q) -> Result<A, String>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let failed = |status: Status| format!("{}: {}", status.code(), status.message());
    grpc.ready().await.map_err(|error| error.to_string())?;
    let codec = ProstCodec::<Q, A>::default();
    let answer = grpc.unary(Request::new(request), PathAndQuery::from_static(path), codec).await;
    Ok(answer.map_err(failed)?.into_inner())
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn messages_are_laid_out_as_etcd_reads_and_writes_them() {
        let put = PutRequest { key: Bytes::from_static(b"k"), value: Bytes::from_static(b"v") };
        assert_eq!(put.encode_to_vec(), [0x0a, 1, b'k', 0x12, 1, b'v']);
        assert_eq!(RangeRequest { key: Bytes::from_static(b"k") }.encode_to_vec(), [0x0a, 1, b'k']);
        // What etcd 3.4 answers to a range over one key, and to a status, without what is not read here.
        let header = [0x0a, 4, 0x08, 9, 0x10, 7];
        let pair = [0x12, 9, 0x0a, 1, b'k', 0x10, 2, 0x20, 1, 0x2a, 0];
        let range = RangeResponse::decode(&[&header[..], &pair[..], &[0x20, 1]].concat()[..]);
        assert_eq!(range.expect("well formed").pairs, [KeyValue { value: Bytes::new() }]);
        let status = StatusResponse::decode(&[&header[..], &[0x18, 5, 0x20, 7]].concat()[..]);
        let status = status.expect("well formed");
        assert_eq!((status.header.map(|header| header.member), status.leader), (Some(7), 7));
    }
}
