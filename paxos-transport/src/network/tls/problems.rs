//! Translates errors of TLS into reasons for the operator.
//!
//! The side that refuses a certificate knows the reason. The other side learns only the alert that it sends.

#[cfg(feature = "tcp")]
use std::net::SocketAddr;

use rustls::AlertDescription;
#[cfg(feature = "tcp")]
use rustls::{CertificateError, Error};

use crate::{CertificateProblem, Unreachable};

/// How many characters of another program's text are repeated.
const MAX_TEXT: usize = 200;

/// Why a handshake with the peer at `address` has failed.
#[cfg(feature = "tcp")]
pub(crate) fn of_error(error: &Error, address: SocketAddr) -> Unreachable {
    match error {
        Error::InvalidCertificate(problem) => refused(of_certificate(problem)),
        Error::NoCertificatesPresented => refused(CertificateProblem::Missing),
        Error::NoApplicationProtocol => Unreachable::OtherVersion,
        Error::AlertReceived(alert) => of_received_alert(*alert),
        other => Unreachable::OtherProgram { address, problem: printable(&other.to_string()) },
    }
}

/// Why this node has refused a certificate, from the alert that it has sent and its text.
#[cfg(feature = "quic")]
pub(crate) fn of_sent_alert(alert: u8, text: &str) -> Unreachable {
    let is_not_yet = text.contains("not valid yet");
    match AlertDescription::from(alert) {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            refused(CertificateProblem::OtherAuthority)
        }
        AlertDescription::CertificateExpired if is_not_yet => refused(CertificateProblem::NotYetValid),
        AlertDescription::CertificateExpired => refused(CertificateProblem::Expired),
        AlertDescription::CertificateRequired => refused(CertificateProblem::Missing),
        AlertDescription::BadCertificate if text.contains("not valid for") => {
            let names = text.split_once("only valid for").map_or("", |(_, names)| names.trim());
            refused(CertificateProblem::OtherName { names: printable(names) })
        }
        AlertDescription::NoApplicationProtocol => Unreachable::OtherVersion,
        _ => refused(CertificateProblem::Invalid { problem: printable(text) }),
    }
}

/// Why a peer has refused this node's certificate, from the alert that it has sent.
pub(crate) fn of_received_alert(alert: AlertDescription) -> Unreachable {
    let problem = match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => CertificateProblem::OtherAuthority,
        AlertDescription::CertificateExpired => CertificateProblem::OutOfTime,
        AlertDescription::BadCertificate => CertificateProblem::OtherName { names: String::new() },
        AlertDescription::CertificateRequired => CertificateProblem::Missing,
        AlertDescription::NoApplicationProtocol => return Unreachable::OtherVersion,
        other => CertificateProblem::Invalid { problem: format!("it sends the alert {other:?}") },
    };
    Unreachable::OwnCertificate { problem }
}

fn refused(problem: CertificateProblem) -> Unreachable {
    Unreachable::Certificate { problem, from: None }
}

#[cfg(feature = "tcp")]
fn of_certificate(error: &CertificateError) -> CertificateProblem {
    match error {
        // A CA of the same name with another key leaves a signature that does not hold.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            CertificateProblem::OtherAuthority
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => CertificateProblem::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            CertificateProblem::NotYetValid
        }
        CertificateError::NotValidForName => CertificateProblem::OtherName { names: String::new() },
        CertificateError::NotValidForNameContext { presented, .. } => {
            CertificateProblem::OtherName { names: printable(&presented.join(", ")) }
        }
        other => CertificateProblem::Invalid { problem: printable(&other.to_string()) },
    }
}

/// Makes text of another program fit for one line of a log.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_stays_one_line_of_bounded_length() {
        assert_eq!(printable("a\nb\x1b[31mc"), "ab[31mc");
        assert_eq!(printable(&"x".repeat(5000)).len(), MAX_TEXT);
    }
}
