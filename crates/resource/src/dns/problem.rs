//! What servers of the DNS say against a question or a change, in words that tell what to do.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use hickory_proto::op::ResponseCode;

use crate::{Failure, Term};

/// Why an exchange came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("{0} does not answer: {1}")]
    Silent(SocketAddr, io::Error),
    #[error("{server} does not know key {key} (BADKEY); give it the same key, and name it the same")]
    BadKey { server: SocketAddr, key: String },
    #[error("{server} has another secret for key {key} (BADSIG); copy the key file anew")]
    BadSignature { server: SocketAddr, key: String },
    #[error("the clock of {server} is {} (BADTIME); set both clocks by NTP", apart(*.ahead_s))]
    BadTime { server: SocketAddr, ahead_s: i64 },
    #[error("{server} does not know the signature (TSIG error {code})")]
    OtherSignature { server: SocketAddr, code: u16 },
    #[error("what came from {server} is not signed by it: {why}")]
    Unproven { server: SocketAddr, why: String },
    #[error(
        "{server} refuses (REFUSED): it is not the primary, or does not permit the key: allow-update or update-policy of the zone"
    )]
    Refused { server: SocketAddr },
    #[error("{server} is not the primary of zone {zone} (NOTAUTH); name the primary with servers")]
    NotPrimary { server: SocketAddr, zone: String },
    #[error("{server} says that {name} is not in zone {zone} (NOTZONE)")]
    NotZone { server: SocketAddr, name: String, zone: String },
    #[error(
        "{record} is {stands}, and not {wanted} (NXRRSET): somebody else changed it; set it by hand, or correct the plan"
    )]
    Changed { record: String, stands: String, wanted: String },
    #[error("{server} took the change of {record}, and tells {stands} afterwards")]
    NotThere { server: SocketAddr, record: String, stands: String },
    #[error("{server} answers {code}")]
    Code { server: SocketAddr, code: ResponseCode },
    #[error("{0}")]
    Senseless(String),
    #[error("{0}")]
    Unusable(String),
}

impl Problem {
    /// Is it of one server, so that another may do?
    pub(super) fn is_of_server(&self) -> bool {
        !matches!(self, Problem::Changed { .. } | Problem::NotThere { .. } | Problem::Unusable(_))
    }

    /// As the caller is told.
    pub(super) fn failure(self, term: Term) -> Failure {
        match self {
            _ if term.stop.is_called() => Failure::Cancelled,
            Problem::Unusable(why) => Failure::Unusable(why),
            Problem::Silent(server, e) if e.kind() == ErrorKind::TimedOut => {
                Failure::Failed(format!("{server} does not answer within {:.1} s", term.limit.as_secs_f64()))
            }
            other => Failure::Failed(other.to_string()),
        }
    }
}

fn apart(ahead_s: i64) -> String {
    let way = if ahead_s > 0 { "ahead" } else { "behind" };
    format!("{} s {way}", ahead_s.unsigned_abs())
}
