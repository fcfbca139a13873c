//! The links between all nodes: one for all, by region, or pair by pair.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use paxos_core::NodeId;

use super::link::Link;
use super::profiles::{self, Profile};
use super::text::{self, LinkError};

/// The links between all nodes, for each direction.
///
/// As text it is a named profile, with an argument and changed settings or without (`wan:3-regions,loss=1%`),
/// or the settings of a single link for all (`delay=10ms,loss=1%,rate=100mbit`); times are those of one way.
/// [`PROFILES`](Network::PROFILES) lists the profiles.
///
/// ```
/// use paxos_core::NodeId;
/// use paxos_transport::emulator::{Link, Network};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let across_regions: Network = "wan:3-regions".parse()?;
/// let slow_uplink = Network::uniform("delay=2ms".parse()?)
///     .with_link(NodeId(1), NodeId(2), "delay=2ms,rate=1mbit".parse()?);
/// assert_ne!(slow_uplink.link(NodeId(1), NodeId(2)), slow_uplink.link(NodeId(2), NodeId(1)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Network {
    /// How it is printed.
    text: String,
    /// The link from each region to each; one region if all links are equal.
    regions: Vec<Vec<Link>>,
    /// Pairs of sender and receiver with a link of their own.
    pairs: BTreeMap<(NodeId, NodeId), Link>,
}

/// Why there is no such [`Network`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// There is no such profile, and the text is no list of settings.
    #[error(
        "there is no network {name:?}; there are {}, and settings such as delay=10ms,loss=1%,rate=100mbit",
        profiles::names()
    )]
    UnknownProfile {
        /// The name.
        name: String,
    },
    /// The profile does not take this argument.
    #[error("{profile} does not take {argument:?}; {}", arguments_of(profile))]
    Argument {
        /// The profile.
        profile: &'static str,
        /// The argument.
        argument: String,
    },
    /// A setting is wrong.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The links between regions are not as many for each region as there are regions, or there are none.
    #[error("{regions} regions need a link to each of {regions}, and at least one region is needed")]
    NotSquare {
        /// How many regions there are.
        regions: usize,
    },
}

fn arguments_of(profile: &str) -> String {
    match profiles::PROFILES.iter().find(|known| known.name == profile).map(|known| known.arguments) {
        Some(arguments) if !arguments.is_empty() => format!("it takes {}", arguments.join(", ")),
        _ => "it takes no argument".to_owned(),
    }
}

impl Network {
    /// The named networks, for a list of them in a program's help.
    pub const PROFILES: &[Profile] = profiles::PROFILES;

    /// The same link between all nodes.
    #[must_use]
    pub fn uniform(link: Link) -> Network {
        Network { text: link.to_string(), regions: vec![vec![link]], pairs: BTreeMap::new() }
    }

    /// Nodes in regions. They are dealt to the regions in turn, by their ids: node 1 to the first region,
    /// node 2 to the second one. `links[a][b]` is the link from a node of region `a` to one of region `b`,
    /// and `links[a][a]` that within a region.
    ///
    /// # Errors
    ///
    /// [`NetworkError::NotSquare`].
    pub fn regions(links: Vec<Vec<Link>>) -> Result<Network, NetworkError> {
        let regions = links.len();
        if regions == 0 || links.iter().any(|row| row.len() != regions) {
            return Err(NetworkError::NotSquare { regions });
        }
        Ok(Network { text: format!("{regions} regions"), regions: links, pairs: BTreeMap::new() })
    }

    /// The same network with another link from one node to another. The way back stays as it is.
    #[must_use]
    pub fn with_link(mut self, from: NodeId, to: NodeId, link: Link) -> Network {
        self.text = format!("{}; {from} to {to}: {link}", self.text);
        self.pairs.insert((from, to), link);
        self
    }

    /// The link from one node to another.
    #[must_use]
    pub fn link(&self, from: NodeId, to: NodeId) -> &Link {
        self.pairs.get(&(from, to)).unwrap_or_else(|| &self.regions[self.region(from)][self.region(to)])
    }

    /// The index of the region of a node.
    #[must_use]
    pub fn region(&self, node: NodeId) -> usize {
        let turn = node.0.saturating_sub(1) % self.regions.len() as u64;
        usize::try_from(turn).unwrap_or_default() // Less than the number of regions, so it always fits.
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let (head, changes) = match text.split_once(',') {
            Some((head, changes)) => (head.trim(), Some(changes)),
            None => (text, None),
        };
        if head.contains('=') {
            return Ok(Network::uniform(text.parse()?));
        }
        let (name, argument) = match head.split_once(':') {
            Some((name, argument)) => (name.trim(), Some(argument.trim())),
            None => (head, None),
        };
        let profile = profiles::PROFILES
            .iter()
            .find(|profile| profile.name == name)
            .ok_or_else(|| NetworkError::UnknownProfile { name: name.to_owned() })?;
        let mut regions = profile.links(argument).ok_or_else(|| NetworkError::Argument {
            profile: profile.name,
            argument: argument.unwrap_or_default().to_owned(),
        })?;
        if let Some(changes) = changes {
            for link in regions.iter_mut().flatten() {
                text::change(link, changes)?;
            }
        }
        let text = text.chars().filter(|letter| !letter.is_whitespace()).collect();
        Ok(Network { text, regions, pairs: BTreeMap::new() })
    }
}

/// Writes what [`FromStr`] reads, for a named network and for equal links. Others are described.
impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.text)
    }
}

#[cfg(test)]
mod tests;
