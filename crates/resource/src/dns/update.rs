//! A record is looked at and changed, in the order in which that is safe.

use std::net::SocketAddr;

use hickory_proto::op::{Message, OpCode, Query, ResponseCode, UpdateMessage, update_message};
use hickory_proto::rr::{Name, RData, Record as Resource, RecordSet, RecordType};

use super::problem::Problem;
use super::server::{Reply, Server, signer};
use super::value::{name, record_type, value};
use super::{Key, Record, Seen, resolve};
use crate::{Done, Failure, Term};

/// What is there, as the server tells it.
struct Standing {
    values: Vec<RData>,
    ttl_s: Option<u32>,
    clock_ahead_s: i64,
}

/// A record with the server that is asked.
struct Talk<'a> {
    record: &'a Record,
    server: Server<'a>,
    zone: Name,
    name: Name,
}

impl Record {
    pub(super) fn set(&self, new: &str, old: &[String], term: Term) -> Result<Done, Failure> {
        let of = |text: &String| value(self.kind, text);
        let values =
            value(self.kind, new).and_then(|new| Ok((new, old.iter().map(of).collect::<Result<Vec<_>, _>>()?)));
        let (new, old) = values.map_err(|problem| problem.failure(term))?;
        self.with_server(term, |talk| talk.set(&new, &old))
    }

    pub(super) fn look(&self, term: Term) -> Result<Seen, Failure> {
        self.with_server(term, |talk| talk.standing().map(|standing| talk.seen(standing)))
    }

    pub(super) fn try_out(&self, term: Term) -> Result<Seen, Failure> {
        self.with_server(term, |talk| talk.try_out())
    }

    /// The servers are asked in their order; each has its part of what is left of the time.
    fn with_server<T>(&self, term: Term, act: impl Fn(&Talk<'_>) -> Result<T, Problem>) -> Result<T, Failure> {
        let failure = |problem: Problem| problem.failure(term);
        let key = Key::read(&self.key_file)?;
        let signer = signer(&key).map_err(failure)?;
        let (zone, name) = (name(&self.zone).map_err(failure)?, name(&self.name).map_err(failure)?);
        let servers = self.servers(term).map_err(failure)?;
        let mut why = None;
        for (at, address) in servers.iter().enumerate() {
            let left = u32::try_from(servers.len() - at).unwrap_or(u32::MAX);
            let server = Server { address: *address, signer: Some(&signer), term: term.begin(term.left() / left) };
            let own = server.term;
            match act(&Talk { record: self, server, zone: zone.clone(), name: name.clone() }) {
                Ok(done) => return Ok(done),
                Err(problem) if !problem.is_of_server() => return Err(failure(problem)),
                Err(problem) => why = why.or(Some(problem.failure(own))),
            }
        }
        Err(why.unwrap_or_else(|| Failure::Unusable(format!("zone {} has no server", self.zone))))
    }

    fn servers(&self, term: Term) -> Result<Vec<SocketAddr>, Problem> {
        if self.servers.is_empty() { resolve::primary(&self.zone, term) } else { Ok(self.servers.clone()) }
    }
}

impl Talk<'_> {
    fn set(&self, new: &RData, old: &[RData]) -> Result<Done, Problem> {
        let standing = self.standing()?;
        if standing.values == [new.clone()] {
            return self.repeat(&standing).map(|()| Done::Already);
        }
        let Some(before) = old.iter().find(|old| standing.values == [(*old).clone()]) else {
            return Err(self.changed(standing, old));
        };
        self.server.term.stop.check().map_err(|e| Problem::Unusable(e.to_string()))?;
        let change = update_message::compare_and_swap(self.set_of(before), self.set_of(new), self.zone.clone(), false);
        match self.code(&self.server.exchange(change)?) {
            ResponseCode::NXRRSet => return Err(self.changed(self.standing()?, old)),
            code => self.accept(code)?,
        }
        let after = self.standing()?;
        match after.values == [new.clone()] {
            true => Ok(Done::Changed),
            false => Err(self.not_there(after)),
        }
    }

    fn try_out(&self) -> Result<Seen, Problem> {
        let standing = self.standing()?;
        self.repeat(&standing).map(|()| self.seen(standing))
    }

    /// To put there what is there changes nothing, not even the zone's number, and needs the same permission. A secondary,
    /// which may have an old copy, takes no change.
    fn repeat(&self, standing: &Standing) -> Result<(), Problem> {
        let Some(value) = standing.values.first() else { return Ok(()) };
        let ttl = standing.ttl_s.unwrap_or(self.record.ttl_s);
        let mut change = Message::query();
        (change.metadata.op_code, change.metadata.recursion_desired) = (OpCode::Update, false);
        change.add_zone(Query::query(self.zone.clone(), RecordType::SOA));
        change.add_update(Resource::from_rdata(self.name.clone(), ttl, value.clone()));
        self.accept(self.code(&self.server.exchange(change)?))
    }

    fn standing(&self) -> Result<Standing, Problem> {
        let kind = record_type(self.record.kind);
        let reply = self.server.ask(&self.name, kind, false)?;
        match self.code(&reply) {
            ResponseCode::NXDomain => {}
            code => self.accept(code)?,
        }
        if !reply.message.authoritative {
            return Err(self.not_primary());
        }
        let of_it = |record: &&Resource| record.record_type() == kind && record.name == self.name;
        let records: Vec<_> = reply.message.answers.iter().filter(of_it).collect();
        Ok(Standing {
            ttl_s: records.first().map(|record| record.ttl),
            values: records.into_iter().map(|record| record.data.clone()).collect(),
            clock_ahead_s: reply.clock_ahead_s,
        })
    }

    fn set_of(&self, value: &RData) -> RecordSet {
        RecordSet::from(Resource::from_rdata(self.name.clone(), self.record.ttl_s, value.clone()))
    }

    fn code(&self, reply: &Reply) -> ResponseCode {
        reply.message.response_code
    }

    fn accept(&self, code: ResponseCode) -> Result<(), Problem> {
        let server = self.server.address;
        Err(match code {
            ResponseCode::NoError => return Ok(()),
            ResponseCode::Refused => Problem::Refused { server },
            ResponseCode::NotAuth | ResponseCode::NotImp => self.not_primary(),
            ResponseCode::NotZone => {
                Problem::NotZone { server, name: self.record.name.clone(), zone: self.record.zone.clone() }
            }
            code => Problem::Code { server, code },
        })
    }

    fn seen(&self, standing: Standing) -> Seen {
        Seen {
            server: self.server.address,
            values: standing.values.iter().map(RData::to_string).collect(),
            ttl_s: standing.ttl_s,
            clock_ahead_s: standing.clock_ahead_s,
        }
    }

    fn not_primary(&self) -> Problem {
        Problem::NotPrimary { server: self.server.address, zone: self.record.zone.clone() }
    }

    fn changed(&self, standing: Standing, old: &[RData]) -> Problem {
        let wanted = listed(old);
        Problem::Changed { record: self.record.to_string(), stands: listed(&standing.values), wanted }
    }

    fn not_there(&self, after: Standing) -> Problem {
        let (server, record) = (self.server.address, self.record.to_string());
        Problem::NotThere { server, record, stands: listed(&after.values) }
    }
}

fn listed(values: &[RData]) -> String {
    match values {
        [] => "not there".into(),
        values => values.iter().map(RData::to_string).collect::<Vec<_>>().join(", "),
    }
}
