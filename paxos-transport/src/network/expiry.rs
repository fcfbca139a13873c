//! Reads the validity of certificates, and warns of those that expire soon.
//!
//! Nothing else watches the CA's certificate: webpki 0.103.17 ignores its dates, so nodes trust each other
//! after it has expired, while OpenSSL 3 refuses certificates of an expired CA.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use paxos_core::NodeId;
use rustls::pki_types::{CertificateDer, UnixTime};

use crate::{CertificateOwner, CertificateStatus};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A certificate that expires within this many days causes a warning each day.
const NEAR_END_DAYS: u64 = 30;
/// Later than any certificate ends: the last second of the year 9999.
const END_OF_TIME: Duration = Duration::from_secs(253_402_300_799);

/// Reads the validity of a certificate; `None` if it is malformed.
///
/// webpki has no call for that. But verifying a certificate at a time outside its validity fails with an
/// error that holds the bound, before webpki checks anything else.
pub(crate) fn of_certificate(
    owner: CertificateOwner,
    certificate: &CertificateDer<'_>,
) -> Option<CertificateStatus> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    let problem_at = |time: Duration| {
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        let (time, usage) = (UnixTime::since_unix_epoch(time), webpki::KeyUsage::server_auth());
        parsed.verify_for_usage(algorithms, &[], &[], time, usage, None, None).err()
    };
    let since_epoch = |time: UnixTime| SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs());
    let not_before = match problem_at(Duration::ZERO) {
        Some(webpki::Error::CertNotValidYet { not_before, .. }) => since_epoch(not_before),
        _ => SystemTime::UNIX_EPOCH,
    };
    let not_after = match problem_at(END_OF_TIME) {
        Some(webpki::Error::CertExpired { not_after, .. }) => since_epoch(not_after),
        _ => SystemTime::UNIX_EPOCH + END_OF_TIME,
    };
    Some(CertificateStatus { owner, not_before, not_after })
}

/// Tells of certificates that expire soon or are not valid, each once a day. Transports watch those of nodes
/// and their CA by themselves.
#[derive(Debug, Default)]
pub struct ExpiryWatch {
    /// The last report of each certificate, and the days in it.
    told: BTreeMap<CertificateOwner, (Stage, u64)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    NotYet,
    NearEnd,
    Over,
}

/// A line for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Notice {
    /// Something will stop working soon.
    Warning(String),
    /// Something does not work.
    Error(String),
}

impl ExpiryWatch {
    /// Logs the lines that are due now; `own` is this node.
    pub fn log(&mut self, own: NodeId, certificates: &[CertificateStatus]) {
        for notice in self.look(SystemTime::now(), own, certificates) {
            match notice {
                Notice::Warning(line) => tracing::warn!(node = own.0, "{line}"),
                Notice::Error(line) => tracing::error!(node = own.0, "{line}"),
            }
        }
    }

    /// The lines that are due at `now`.
    fn look(&mut self, now: SystemTime, own: NodeId, certificates: &[CertificateStatus]) -> Vec<Notice> {
        certificates.iter().filter_map(|certificate| self.look_at(now, own, certificate)).collect()
    }

    fn look_at(&mut self, now: SystemTime, own: NodeId, certificate: &CertificateStatus) -> Option<Notice> {
        let days = |duration: Duration| duration.as_secs() / DAY.as_secs();
        let (stage, days) = if let Ok(until) = certificate.not_before.duration_since(now)
            && !until.is_zero()
        {
            (Stage::NotYet, days(until))
        } else {
            match certificate.not_after.duration_since(now) {
                Ok(left) if days(left) < NEAR_END_DAYS => (Stage::NearEnd, days(left)),
                Ok(_) => {
                    self.told.remove(&certificate.owner);
                    return None;
                }
                Err(over) => (Stage::Over, days(over.duration())),
            }
        };
        if self.told.insert(certificate.owner, (stage, days)) == Some((stage, days)) {
            return None;
        }
        let whose = match certificate.owner {
            CertificateOwner::Node(node) if node == own => String::from("this node"),
            owner => owner.to_string(),
        };
        let renew = match certificate.owner {
            CertificateOwner::Authority => "renew it, and give it to all nodes",
            CertificateOwner::Node(_) | CertificateOwner::Clients => "renew it, or others will refuse it",
        };
        Some(match stage {
            Stage::NotYet => Notice::Error(format!(
                "the certificate of {whose} is not valid yet, for {days} days: is the clock of this machine right?"
            )),
            Stage::NearEnd => {
                Notice::Warning(format!("the certificate of {whose} expires in {days} days: {renew}"))
            }
            Stage::Over => {
                Notice::Error(format!("the certificate of {whose} has expired {days} days ago: {renew}"))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: NodeId = NodeId(1);

    fn certificate(owner: CertificateOwner, not_after_days: u32) -> CertificateStatus {
        let at = |days: u32| SystemTime::UNIX_EPOCH + DAY * days;
        CertificateStatus { owner, not_before: at(100), not_after: at(not_after_days) }
    }

    /// The notices of these days, each with its day, from a check every hour.
    fn told(watch: &mut ExpiryWatch, days: std::ops::Range<u32>, end: u32) -> Vec<(u32, Notice)> {
        let certificates = [certificate(CertificateOwner::Node(OWN), end)];
        let look = |hour: u32| {
            let now = SystemTime::UNIX_EPOCH + DAY / 24 * hour + Duration::from_secs(1);
            let notices = watch.look(now, OWN, &certificates);
            notices.into_iter().map(move |notice| (hour / 24, notice))
        };
        (days.start * 24..days.end * 24).flat_map(look).collect()
    }

    #[test]
    fn a_certificate_near_its_end_is_told_of_daily_and_one_beyond_it_is_an_error() {
        let mut watch = ExpiryWatch::default();
        assert_eq!(told(&mut watch, 101..170, 200), [], "there are 30 days left");
        let near = told(&mut watch, 170..200, 200);
        assert_eq!(near.len(), 30, "once a day: {near:?}");
        let text = "the certificate of this node expires in 29 days: renew it, or others will refuse it";
        assert_eq!(near[0], (170, Notice::Warning(text.to_owned())));
        let over = told(&mut watch, 200..203, 200);
        assert_eq!(over.len(), 3, "{over:?}");
        assert!(
            matches!(&over[1].1, Notice::Error(text) if text.contains("has expired 1 days ago")),
            "{over:?}"
        );
        assert_eq!(told(&mut watch, 203..300, 1000), [], "it was renewed");
    }

    #[test]
    fn a_certificate_of_the_future_makes_one_doubt_the_clock() {
        let notices = told(&mut ExpiryWatch::default(), 99..100, 200);
        assert!(matches!(&notices[..], [(99, Notice::Error(text))] if text.contains("clock")), "{notices:?}");
    }

    #[cfg(feature = "certs")]
    #[test]
    fn the_bounds_of_a_certificate_are_read_to_the_second() {
        let mut params = rcgen::CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(2020, 2, 29);
        params.not_after = rcgen::date_time_ymd(2071, 1, 1);
        let key = rcgen::KeyPair::generate().expect("a key is made");
        let made = params.self_signed(&key).expect("a certificate is made");
        let owner = CertificateOwner::Authority;
        let read = of_certificate(owner, made.der()).expect("it is one");
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(read.not_before, at(1_582_934_400));
        assert_eq!(read.not_after, at(3_187_296_000));
        assert_eq!(of_certificate(owner, &CertificateDer::from(vec![1, 2, 3])), None);
    }
}
