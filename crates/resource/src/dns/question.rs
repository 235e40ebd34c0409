//! A question to one server, as its clients ask.

use std::net::SocketAddr;

use crate::{Failure, Term};

/// What a name server has to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whom.
    pub server: SocketAddr,
    /// The whole name.
    pub name: String,
    /// The kind of record: `A`, `AAAA`, `CNAME`, `MX`, `NS`, `PTR`, `SOA`, `SRV` or `TXT`.
    pub kind: String,
    /// What one record of the answer has to hold, as text; none: anything.
    pub expect: Option<String>,
}

#[cfg(not(feature = "dns"))]
impl Question {
    pub(crate) fn ask(&self, _: Term) -> Result<(), Failure> {
        Err(super::absent())
    }
}

#[cfg(feature = "dns")]
impl Question {
    /// # Errors
    /// What speaks against the server's answer.
    pub(crate) fn ask(&self, term: Term) -> Result<(), Failure> {
        self.asked(term).map_err(|problem| problem.failure(term))
    }

    fn asked(&self, term: Term) -> Result<(), super::problem::Problem> {
        use hickory_proto::op::ResponseCode;
        use hickory_proto::rr::RecordType;

        use super::problem::Problem;
        use super::server::Server;
        use super::value::name;

        let Question { server, kind, expect, .. } = self;
        let record_type: RecordType =
            kind.parse().map_err(|_| Problem::Unusable(format!("{kind:?} is no kind of record")))?;
        let asked = Server { address: *server, signer: None, term }.ask(&name(&self.name)?, record_type, false)?;
        if asked.message.response_code != ResponseCode::NoError {
            return Err(Problem::Code { server: *server, code: asked.message.response_code });
        }
        let records = asked.message.answers.iter().filter(|record| record.record_type() == record_type);
        let told: Vec<String> = records.map(|record| record.data.to_string()).collect();
        let is_expected = |told: &String| expect.as_ref().is_none_or(|expect| told.contains(expect.as_str()));
        match told.iter().any(is_expected) {
            true => Ok(()),
            false => Err(Problem::Senseless(format!("{server} answers {} {kind} with {told:?}", self.name))),
        }
    }
}
