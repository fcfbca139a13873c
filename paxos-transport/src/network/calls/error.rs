//! Why a call has failed.

use std::fmt;

use super::{CALL_TIMEOUT, MAX_ANSWER_BYTES, MAX_REQUEST_BYTES};
use crate::{CertificateProblem, Unreachable};

/// Why a call has failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The request is longer than [`MAX_REQUEST_BYTES`]. Nothing was sent.
    #[error("the request has {bytes} bytes, and at most {MAX_REQUEST_BYTES} are allowed")]
    RequestTooLarge {
        /// Its length, in bytes.
        bytes: usize,
    },
    /// There is no address to call. Nothing was sent.
    #[error("there is no address to call")]
    NoAddress,
    /// TLS refuses the certificates or keys of the caller. Nothing was sent.
    #[error("TLS can't be set up: {problem}")]
    Tls {
        /// The text of the TLS library.
        problem: String,
    },
    /// No node has taken the request, so it can be repeated without harm.
    #[error("no node takes the call: {}", list(attempts))]
    NotTaken {
        /// Why, for each address, in the order in which they were tried.
        attempts: Vec<FailedAttempt>,
    },
    /// A node has got the request, but its answer has not come. The node may have carried out what was asked.
    #[error("the call was sent, and may have had its effect, but there is no answer: {last}")]
    NotAnswered {
        /// The node that has got the request, and why there is no answer.
        last: FailedAttempt,
    },
}

/// Why one of the addresses of a call did not do.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct FailedAttempt {
    /// The address, as it was given.
    pub address: String,
    /// Why it did not do.
    pub problem: CallProblem,
}

impl fmt::Display for FailedAttempt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.address, self.problem)
    }
}

fn list(attempts: &[FailedAttempt]) -> String {
    let texts: Vec<String> = attempts.iter().map(FailedAttempt::to_string).collect();
    texts.join("; ")
}

/// Why one node has not answered a call.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallProblem {
    /// Its name can't be looked up.
    #[error("the name can't be looked up: {problem}")]
    NameUnknown {
        /// The resolver's error.
        problem: String,
    },
    /// No connection could be made.
    #[error("can't connect: {problem}")]
    NotConnected {
        /// Why not.
        problem: String,
    },
    /// The caller refuses the certificate of what answers there.
    #[error("its certificate is refused: {problem}")]
    Certificate {
        /// What is wrong with it.
        problem: CertificateProblem,
    },
    /// The node refuses the caller's certificate.
    #[error("it refuses the caller's certificate: {problem}")]
    OwnCertificate {
        /// What is wrong with it.
        problem: CertificateProblem,
    },
    /// The node does not let the caller in, although its certificate is by the right CA.
    #[error("it does not let the caller in: {problem}")]
    NotAdmitted {
        /// The reason that it gives.
        problem: String,
    },
    /// It serves as many calls as it can.
    #[error("it is busy with other calls; try again later")]
    Busy,
    /// Nobody in it answers calls.
    #[error("it takes no calls")]
    NotServed,
    /// The connection has broken.
    #[error("the connection was lost: {problem}")]
    Lost {
        /// How it ended.
        problem: String,
    },
    /// It does not answer in time.
    #[error("no answer within {} s", CALL_TIMEOUT.as_secs())]
    TimedOut,
    /// It has dropped the call.
    #[error("it has dropped the call, as it may when it stops")]
    Dropped,
    /// Its answer is longer than [`MAX_ANSWER_BYTES`].
    #[error("its answer is longer than {MAX_ANSWER_BYTES} bytes")]
    AnswerTooLarge,
    /// It does not follow the protocol of calls.
    #[error("it speaks another version of the protocol of calls")]
    OtherVersion,
}

impl From<Unreachable> for CallProblem {
    fn from(reason: Unreachable) -> CallProblem {
        match reason {
            Unreachable::Certificate { problem, .. } => CallProblem::Certificate { problem },
            Unreachable::OwnCertificate { problem } => CallProblem::OwnCertificate { problem },
            Unreachable::NotAdmitted { problem } => CallProblem::NotAdmitted { problem },
            Unreachable::Lost { problem } => CallProblem::Lost { problem },
            Unreachable::OtherVersion => CallProblem::OtherVersion,
            other => CallProblem::NotConnected { problem: other.to_string() },
        }
    }
}
