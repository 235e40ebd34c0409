//! Which server is the primary of a zone, where nobody says it: as the SOA of the zone says, by the machine's resolvers.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use hickory_proto::rr::{Name, RData, RecordType};

use super::problem::Problem;
use super::server::Server;
use super::value::name;
use crate::Term;

const RESOLVERS: &str = "/etc/resolv.conf";
const PORT: u16 = 53;

/// The addresses of the primary of a zone.
pub(super) fn primary(zone: &str, term: Term) -> Result<Vec<SocketAddr>, Problem> {
    let zone = name(zone)?;
    let mut why = Problem::Unusable(format!("{RESOLVERS} names no server; name the primary with servers"));
    for resolver in resolvers(&fs::read_to_string(RESOLVERS).unwrap_or_default()) {
        let server = Server { address: SocketAddr::new(resolver, PORT), signer: None, term };
        match primary_by(&server, &zone) {
            Ok(found) => return Ok(found),
            Err(problem) => why = problem,
        }
    }
    Err(why)
}

fn primary_by(resolver: &Server, zone: &Name) -> Result<Vec<SocketAddr>, Problem> {
    let unknown = |what: &str| Problem::Senseless(format!("{} knows no {what}", resolver.address));
    let reply = resolver.ask(zone, RecordType::SOA, true)?;
    let mut soas = reply.message.answers.iter().filter_map(|record| match &record.data {
        RData::SOA(soa) if record.name == *zone => Some(soa.mname.clone()),
        _ => None,
    });
    let primary = soas.next().ok_or_else(|| unknown(&format!("zone {zone}")))?;
    let mut found = Vec::new();
    for kind in [RecordType::A, RecordType::AAAA] {
        let reply = resolver.ask(&primary, kind, true)?;
        found.extend(reply.message.answers.iter().filter_map(|record| ip(&record.data)));
    }
    match found.is_empty() {
        true => Err(unknown(&format!("address of {primary}, the primary of zone {zone}"))),
        false => Ok(found.into_iter().map(|ip| SocketAddr::new(ip, PORT)).collect()),
    }
}

fn ip(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(a.0.into()),
        RData::AAAA(aaaa) => Some(aaaa.0.into()),
        _ => None,
    }
}

fn resolvers(text: &str) -> Vec<IpAddr> {
    let named = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok());
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_those_of_the_file() {
        let text = "# nameserver 10.0.0.9\nsearch x\nnameserver 10.0.0.1\nnameserver\tfd00::1\nnameserver x\n";
        assert_eq!(resolvers(text), ["10.0.0.1", "fd00::1"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    }
}
