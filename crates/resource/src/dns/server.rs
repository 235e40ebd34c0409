//! One server: a question or a change is sent there, signed, and the signature of what comes back is looked at.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE64;
use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::rdata::tsig::{TSIG, TsigAlgorithm, TsigError};
use hickory_proto::rr::{Name, RecordType, TSigner};

use super::key::{Algorithm, Key};
use super::problem::Problem;
use super::value::name;
use crate::Term;
use crate::net::Stream;

/// Clocks may differ by that many seconds, as RFC 8945 recommends.
const FUDGE_S: u16 = 300;

pub(super) struct Server<'a> {
    pub(super) address: SocketAddr,
    /// None: nothing is signed.
    pub(super) signer: Option<&'a TSigner>,
    pub(super) term: Term<'a>,
}

/// What came back.
pub(super) struct Reply {
    pub(super) message: Message,
    /// The server's clock, in seconds before or after this one's; 0 where nothing is signed.
    pub(super) clock_ahead_s: i64,
}

pub(super) fn signer(key: &Key) -> Result<TSigner, Problem> {
    let unusable = |e: &dyn std::fmt::Display| Problem::Unusable(format!("key {} cannot be used: {e}", key.name));
    let secret = BASE64.decode(key.secret.as_bytes()).map_err(|e| unusable(&e))?;
    let algorithm = match key.algorithm {
        Algorithm::Sha256 => TsigAlgorithm::HmacSha256,
        Algorithm::Sha384 => TsigAlgorithm::HmacSha384,
        Algorithm::Sha512 => TsigAlgorithm::HmacSha512,
    };
    TSigner::new(secret, algorithm, name(&key.name)?, FUDGE_S).map_err(|e| unusable(&e))
}

impl Server<'_> {
    /// What it says of a name.
    pub(super) fn ask(&self, name: &Name, kind: RecordType, recursive: bool) -> Result<Reply, Problem> {
        let mut question = Message::query();
        question.metadata.recursion_desired = recursive;
        question.add_query(Query::query(name.clone(), kind));
        self.exchange(question)
    }

    pub(super) fn exchange(&self, mut message: Message) -> Result<Reply, Problem> {
        let senseless = |what: &str, e: &dyn std::fmt::Display| Problem::Senseless(format!("{what}: {e}"));
        if let Some(signer) = self.signer {
            message.finalize(signer, now_s()).map_err(|e| senseless("it cannot be signed", &e))?;
        }
        let bytes = message.to_vec().map_err(|e| senseless("it cannot be written", &e))?;
        let answer = self.send(&bytes).map_err(|e| Problem::Silent(self.address, e))?;
        let from = format!("{} answers what cannot be read", self.address);
        let reply = Message::from_vec(&answer).map_err(|e| senseless(&from, &e))?;
        if reply.id != message.id || reply.message_type != MessageType::Response {
            return Err(senseless(&from, &"it answers something else"));
        }
        let clock_ahead_s = match (self.signer, message.signature()) {
            (Some(signer), Some(ours)) => self.verify(signer, &ours.data.mac, &answer, &reply)?,
            _ => 0,
        };
        Ok(Reply { message: reply, clock_ahead_s })
    }

    fn send(&self, message: &[u8]) -> io::Result<Vec<u8>> {
        let len = u16::try_from(message.len()).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
        let mut stream = Stream::connect(self.address, self.term)?;
        stream.write_all(&[&len.to_be_bytes(), message].concat())?;
        let mut len = [0; 2];
        stream.read_exact(&mut len)?;
        let mut answer = vec![0; u16::from_be_bytes(len).into()];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }

    /// Is it signed by who has the key, now? Returns by how much the other clock is ahead.
    fn verify(&self, signer: &TSigner, ours: &[u8], answer: &[u8], reply: &Message) -> Result<i64, Problem> {
        let (server, now) = (self.address, now_s());
        let unproven = |why: String| Problem::Unproven { server, why };
        let Some(signature) = reply.signature() else {
            return Err(self.unsigned(reply.response_code));
        };
        self.no_error(signer, &signature.data, now)?;
        let verified = signer.verify_message_byte(answer, Some(ours), true);
        let (_, at, range) = verified.map_err(|e| unproven(e.to_string()))?;
        if !range.contains(&now) {
            return Err(Problem::BadTime { server, ahead_s: ahead(at, now) });
        }
        Ok(ahead(at, now))
    }

    /// Who does not know the key cannot sign that.
    fn unsigned(&self, code: ResponseCode) -> Problem {
        let server = self.address;
        match code {
            ResponseCode::NoError => Problem::Unproven { server, why: "it has no signature".into() },
            ResponseCode::Refused => Problem::Refused { server },
            code => Problem::Code { server, code },
        }
    }

    fn no_error(&self, signer: &TSigner, theirs: &TSIG, now: u64) -> Result<(), Problem> {
        let (server, key) = (self.address, signer.signer_name().to_ascii());
        match theirs.error {
            None => Ok(()),
            Some(TsigError::BadKey) => Err(Problem::BadKey { server, key }),
            Some(TsigError::BadSig) => Err(Problem::BadSignature { server, key }),
            Some(TsigError::BadTime) => Err(Problem::BadTime { server, ahead_s: ahead(clock(theirs), now) }),
            Some(other) => Err(Problem::OtherSignature { server, code: other.into() }),
        }
    }
}

/// The server's clock, as it tells it with BADTIME.
fn clock(signature: &TSIG) -> u64 {
    match <[u8; 6]>::try_from(signature.other.as_slice()) {
        Ok(bytes) => bytes.iter().fold(0, |time, byte| time << 8 | u64::from(*byte)),
        Err(_) => signature.time,
    }
}

fn ahead(theirs: u64, ours: u64) -> i64 {
    theirs as i64 - ours as i64
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
