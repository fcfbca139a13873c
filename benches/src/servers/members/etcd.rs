//! Members of etcd, changed through its v3 interface: the calls that its command-line client makes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::super::etcd::{name, serve};
use super::super::failure::Failure;
use super::super::grpc::{ask, member_and_leader};
use super::super::node::NODES;
use super::super::process::free_ports;
use super::arguments::Arguments;
use super::cluster::{Cluster, Done, Nodes};
use super::round::MOST_NODES;

const MEMBER_ADD: &str = "/etcdserverpb.Cluster/MemberAdd";
const MEMBER_PROMOTE: &str = "/etcdserverpb.Cluster/MemberPromote";
const MEMBER_REMOVE: &str = "/etcdserverpb.Cluster/MemberRemove";
const MOVE_LEADER: &str = "/etcdserverpb.Maintenance/MoveLeader";

/// What etcd says while it does not dare to make a change yet: for five seconds after a member was first
/// reached, and until a learner has caught up.
const NOT_YET: [&str; 3] = ["unhealthy cluster", "in sync with leader", "not enough started members"];
/// How long a change is asked for.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, PartialEq, prost::Message)]
struct MemberAddRequest {
    #[prost(string, repeated, tag = "1")]
    peer_urls: Vec<String>,
    #[prost(bool, tag = "2")]
    is_learner: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MemberAddResponse {
    #[prost(message, tag = "2")]
    member: Option<Member>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Member {
    #[prost(uint64, tag = "1")]
    id: u64,
}

/// To promote or remove a member, or to make it the leader.
#[derive(Clone, PartialEq, prost::Message)]
struct MemberRequest {
    #[prost(uint64, tag = "1")]
    id: u64,
}

/// An answer of which nothing is read.
#[derive(Clone, PartialEq, prost::Message)]
struct Answer {}

pub(super) struct EtcdCluster {
    program: PathBuf,
    directory: PathBuf,
    /// Those for peers and clients, of each member that there may be.
    ports: Vec<[u16; 2]>,
    nodes: Nodes,
    /// Who etcd's members are, by their numbers here.
    ids: BTreeMap<u64, u64>,
}

impl EtcdCluster {
    pub(super) async fn start(arguments: &Arguments, directory: PathBuf) -> Result<EtcdCluster, Failure> {
        let ports = free_ports(2 * MOST_NODES);
        let mut cluster = EtcdCluster {
            program: arguments.etcd.clone(),
            directory,
            ports: ports.chunks_exact(2).map(|ports| [ports[0], ports[1]]).collect(),
            nodes: Nodes::new(),
            ids: BTreeMap::new(),
        };
        let founders: Vec<u64> = (1..=NODES as u64).collect();
        let all = cluster.cluster_of(&founders);
        for number in founders {
            cluster.start_node(number, ["new", &all])?;
        }
        cluster.settle().await?;
        for (number, node) in &cluster.nodes {
            let (id, _) = member_and_leader(node.clients).await.map_err(Failure::new)?;
            cluster.ids.insert(*number, id);
        }
        Ok(cluster)
    }

    fn start_node(&mut self, number: u64, cluster: [&str; 2]) -> Result<(), Failure> {
        let [_, clients] = self.ports_of(number);
        let peer = (&*self.peer_url(number), clients);
        let node = serve(&self.program, &self.directory, number, peer, cluster)?;
        self.nodes.insert(number, node);
        Ok(())
    }

    fn ports_of(&self, number: u64) -> [u16; 2] {
        let place = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        let ports = place.and_then(|place| self.ports.get(place));
        *ports.expect("there are ports for all numbers that a round uses")
    }

    fn peer_url(&self, number: u64) -> String {
        format!("http://127.0.0.1:{}", self.ports_of(number)[0])
    }

    /// These members, as etcd wants to be told of them.
    fn cluster_of(&self, numbers: &[u64]) -> String {
        let members: Vec<String> =
            numbers.iter().map(|number| format!("{}={}", name(*number), self.peer_url(*number))).collect();
        members.join(",")
    }

    fn id(&self, number: u64) -> Result<u64, Failure> {
        let id = self.ids.get(&number).copied();
        id.ok_or_else(|| Failure::new(format!("{} is not known to be a member", name(number))))
    }

    /// Where a member takes clients that stays when this one goes.
    fn other_than(&self, number: u64) -> Result<SocketAddr, Failure> {
        let other = self.clients_without(Some(number)).first().copied();
        other.ok_or_else(|| Failure::new(format!("there is no member beside {}", name(number))))
    }

    async fn change(&self, path: &'static str, number: u64) -> Result<Done, Failure> {
        let request = MemberRequest { id: self.id(number)? };
        made::<_, Answer>(self.other_than(number)?, path, request).await.map(|(done, _)| done)
    }
}

/// Asks until etcd makes the change. What it has refused first takes no time here.
async fn made<Q, A>(address: SocketAddr, path: &'static str, request: Q) -> Result<(Done, A), Failure>
where
    Q: prost::Message + Clone + 'static,
    A: prost::Message + Default + 'static,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        let began = Instant::now();
        match ask(address, path, request.clone()).await {
            Ok(answer) => return Ok((Done::since(began), answer)),
            Err(error) => {
                let may_ask_again = NOT_YET.iter().any(|known| error.contains(known)) && began < deadline;
                if !may_ask_again {
                    return Err(Failure::new(format!("etcd, {path}: {error}")));
                }
            }
        }
        sleep(PAUSE).await;
    }
}

impl Cluster for EtcdCluster {
    fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    fn nodes_mut(&mut self) -> &mut Nodes {
        &mut self.nodes
    }

    async fn leader(&self) -> Option<u64> {
        let (mut leaders, mut numbers) = (Vec::new(), BTreeMap::new());
        for (number, node) in &self.nodes {
            let (id, leader) = member_and_leader(node.clients).await.ok()?;
            numbers.insert(id, *number);
            leaders.push(leader?);
        }
        let first = *leaders.first()?;
        let all_agree = leaders.iter().all(|leader| *leader == first);
        numbers.get(&first).copied().filter(|_| all_agree)
    }

    async fn add(&mut self, new: u64) -> Result<Done, Failure> {
        let request = MemberAddRequest { peer_urls: vec![self.peer_url(new)], is_learner: true };
        let (done, answer) = made::<_, MemberAddResponse>(self.other_than(new)?, MEMBER_ADD, request).await?;
        let member = answer.member.ok_or_else(|| Failure::new("etcd does not tell whom it has added"))?;
        self.ids.insert(new, member.id);
        let mut members: Vec<u64> = self.nodes.keys().copied().collect();
        members.push(new);
        let all = self.cluster_of(&members);
        self.start_node(new, ["existing", &all])?;
        Ok(done)
    }

    async fn promote(&mut self, node: u64) -> Result<Done, Failure> {
        self.change(MEMBER_PROMOTE, node).await
    }

    async fn remove(&mut self, node: u64) -> Result<Done, Failure> {
        self.change(MEMBER_REMOVE, node).await
    }

    /// Only the leader does that.
    async fn transfer(&mut self, to: u64) -> Result<Done, Failure> {
        let leader = self.leader().await.and_then(|leader| self.nodes.get(&leader));
        let leader = leader.ok_or_else(|| Failure::new("etcd has no leader"))?.clients;
        made::<_, Answer>(leader, MOVE_LEADER, MemberRequest { id: self.id(to)? }).await.map(|(done, _)| done)
    }

    /// By the three changes that an operator has to make; when etcd refuses one for now, that takes time.
    async fn replace(&mut self, old: u64, new: u64) -> Result<Done, Failure> {
        let Done { began, .. } = self.add(new).await?;
        self.promote(new).await?;
        self.remove(old).await?;
        Ok(Done::since(began))
    }

    fn start_again(&mut self, node: u64) -> Result<(), Failure> {
        self.start_node(node, ["existing", &self.cluster_of(&[node])]) // Its directory knows the members.
    }

    fn check(&self) -> Result<(), Failure> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn changes_are_laid_out_as_etcd_reads_and_writes_them() {
        let add = MemberAddRequest { peer_urls: vec![String::from("u")], is_learner: true };
        assert_eq!(add.encode_to_vec(), [0x0a, 1, b'u', 0x10, 1]);
        assert_eq!(MemberRequest { id: 300 }.encode_to_vec(), [0x08, 0xac, 2]);
        // What etcd 3.4 answers: a header, the new member, and all members, which are not read here.
        let (header, member) = ([0x0a, 2, 0x10, 7], [0x12, 5, 0x08, 9, 0x1a, 1, b'u']);
        let added = MemberAddResponse::decode(&[&header[..], &member[..], &[0x1a, 2, 0x08, 9]].concat()[..]);
        assert_eq!(added.expect("well formed").member, Some(Member { id: 9 }));
    }
}
