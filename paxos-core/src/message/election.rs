//! Finding out whether the leader is lost, before phase 1 uses up a ballot.

use std::fmt;

use super::Traffic;
use crate::id::Ballot;

/// "I have lost the leader and would prepare `ballot`. Have you lost it, too?"
///
/// Asked before any ballot is used, so that a node behind a bad link does not depose a leader that serves
/// everyone else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// A ballot that the sender might use.
    pub ballot: Ballot,
}

/// "I have lost the leader, too." Promises nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Consent {
    /// The ballot of the probe.
    pub ballot: Ballot,
    /// The highest ballot that the sender has promised: the prepare must go above it.
    pub promised: Ballot,
}

impl Probe {
    pub(super) const TRAFFIC: Traffic = Traffic::Control;
}

impl Consent {
    pub(super) const TRAFFIC: Traffic = Traffic::Control;
}

impl fmt::Display for Probe {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Probe {}", self.ballot)
    }
}

impl fmt::Display for Consent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Consent {}, promised {}", self.ballot, self.promised)
    }
}

#[cfg(feature = "wire")]
pub(crate) mod schema {
    use crate::wire::error::WireError;
    use crate::wire::fields::{Ballot, ballot, promised};
    use crate::wire::strict::{BALLOT, Shape, one_message, shape};

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct Probe {
        #[prost(message, optional, tag = "1")]
        ballot: Option<Ballot>,
    }

    pub(crate) static PROBE: Shape = shape(&[one_message("ballot", &BALLOT)]);

    impl From<&super::Probe> for Probe {
        fn from(probe: &super::Probe) -> Probe {
            Probe { ballot: Some(probe.ballot.into()) }
        }
    }

    impl TryFrom<Probe> for super::Probe {
        type Error = WireError;

        fn try_from(probe: Probe) -> Result<super::Probe, WireError> {
            Ok(super::Probe { ballot: ballot(probe.ballot)? })
        }
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct Consent {
        #[prost(message, optional, tag = "1")]
        ballot: Option<Ballot>,
        #[prost(message, optional, tag = "2")]
        promised: Option<Ballot>,
    }

    pub(crate) static CONSENT: Shape =
        shape(&[one_message("ballot", &BALLOT), one_message("promised", &BALLOT)]);

    impl From<&super::Consent> for Consent {
        fn from(consent: &super::Consent) -> Consent {
            Consent { ballot: Some(consent.ballot.into()), promised: Some(consent.promised.into()) }
        }
    }

    impl TryFrom<Consent> for super::Consent {
        type Error = WireError;

        fn try_from(consent: Consent) -> Result<super::Consent, WireError> {
            Ok(super::Consent { ballot: ballot(consent.ballot)?, promised: promised(consent.promised)? })
        }
    }
}
