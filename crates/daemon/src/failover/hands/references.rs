//! The reference addresses: is this node cut off?

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use stead_failover::machine::Outcome;
use stead_resource::reference::{Presence, Reference, Way};
use stead_resource::{Call, Stop};

/// Asks all of them at once; the first answer is enough.
pub(super) fn ask(addresses: &[IpAddr], limit: Duration, stop: &Stop) -> Outcome {
    let Ok(enough) = Call::new() else { return Outcome::Unknown("there are too many descriptors".into()) };
    let (stop, enough) = (&stop.or(&enough.stop()), &enough);
    let told = thread::scope(|scope| {
        let ask = |address: &IpAddr| {
            let address = *address;
            scope.spawn(move || ask_one(address, limit, stop, enough))
        };
        let asked: Vec<_> = addresses.iter().map(ask).collect();
        asked.into_iter().filter_map(|asked| asked.join().ok()).collect::<Vec<_>>()
    });
    conclude(addresses, &told)
}

fn ask_one(address: IpAddr, limit: Duration, stop: &Stop, enough: &Call) -> Presence {
    let told = Reference { address, way: Way::Echo }.ask_until(limit, stop).value;
    if told == Presence::Present {
        enough.off();
    }
    told
}

/// That this node is cut off is known only where every one of them was asked.
fn conclude(addresses: &[IpAddr], told: &[Presence]) -> Outcome {
    if told.contains(&Presence::Present) {
        return Outcome::Done;
    }
    let unknown = told.iter().find_map(|presence| match presence {
        Presence::Unknown(why) => Some(why.clone()),
        _ => None,
    });
    if unknown.is_some() || told.len() < addresses.len() || told.is_empty() {
        return Outcome::Unknown(unknown.unwrap_or_else(|| "nobody was asked".into()));
    }
    let names: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
    Outcome::Failed(format!("no answer from {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_only_of_all() {
        let addresses: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let unknown = Presence::Unknown("unreachable".into());
        let is = |told: &[Presence]| conclude(&addresses, told);
        assert_eq!(is(&[Presence::Absent, Presence::Present]), Outcome::Done);
        assert_eq!(is(&[unknown.clone(), Presence::Present]), Outcome::Done);
        assert_eq!(
            is(&[Presence::Absent, Presence::Absent]),
            Outcome::Failed("no answer from 10.0.0.1, 10.0.0.2".into())
        );
        assert_eq!(is(&[Presence::Absent, unknown.clone()]), Outcome::Unknown("unreachable".into()));
        assert_eq!(is(&[Presence::Absent]), Outcome::Unknown("nobody was asked".into()));
    }
}
