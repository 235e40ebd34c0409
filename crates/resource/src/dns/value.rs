//! What a record holds, between text and the wire.

use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR};
use hickory_proto::rr::{Name, RData, RecordType};

use super::Kind;
use super::problem::Problem;

/// A name as one from the root.
pub(super) fn name(text: &str) -> Result<Name, Problem> {
    let parsed = Name::from_ascii(text).map_err(|e| Problem::Unusable(format!("{text:?} is not a name: {e}")));
    parsed.map(|mut name| {
        name.set_fqdn(true);
        name
    })
}

/// What that kind of record holds, from its text.
pub(super) fn value(kind: Kind, text: &str) -> Result<RData, Problem> {
    let unfit = || Problem::Unusable(format!("{text:?} is not what a record {kind} holds"));
    Ok(match kind {
        Kind::A => RData::A(A(text.parse().map_err(|_| unfit())?)),
        Kind::Aaaa => RData::AAAA(AAAA(text.parse().map_err(|_| unfit())?)),
        Kind::Cname => RData::CNAME(CNAME(name(text)?)),
        Kind::Ptr => RData::PTR(PTR(name(text)?)),
    })
}

pub(super) fn record_type(kind: Kind) -> RecordType {
    match kind {
        Kind::A => RecordType::A,
        Kind::Aaaa => RecordType::AAAA,
        Kind::Cname => RecordType::CNAME,
        Kind::Ptr => RecordType::PTR,
    }
}
