//! An address whose card has died moves to another card of the same machine.

use std::time::{Duration, Instant};

use stead_resource::address::{Address, Card, card, card_of, take_off};
use stead_resource::{Resource, Stop};

/// So long a card has to be without carrier: a switch that starts again is no dead card.
const DEAD_AFTER: Duration = Duration::from_secs(2);
/// Between two looks at it.
const EVERY: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(5);

/// The cards on which an address may be.
pub(super) struct Cards {
    address: Address,
    /// That of the plan, and the backup.
    names: [String; 2],
    looked: Instant,
    dead_since: Option<Instant>,
}

impl Cards {
    /// None: it has no backup. The address is taken, or will be on the card that it names.
    pub(super) fn of(address: &Address, backup: Option<&String>) -> Option<Cards> {
        let there = card_of(address.cidr).ok().flatten().map(|card| card.name);
        let first = address.interface.clone().or(there)?;
        let names = [first, backup?.clone()];
        Some(Cards { address: address.clone(), names, looked: Instant::now(), dead_since: None })
    }

    /// Where it is to be taken now: on the card that it is on already, else on the first that works.
    pub(super) fn place(address: &Address, backup: Option<&String>) -> Address {
        let Some(backup) = backup else { return address.clone() };
        let works = |name: &String| card(name).is_ok_and(|card| card.is_some_and(|card| card.is_running));
        let is_there = card_of(address.cidr).is_ok_and(|there| there.is_some_and(|card| card.name == *backup));
        let first_works = address.interface.as_ref().is_none_or(works);
        let interface =
            if is_there || !first_works && works(backup) { Some(backup.clone()) } else { address.interface.clone() };
        Address { interface, ..address.clone() }
    }

    /// Moves it where its card was dead for long enough and the other one works; says so.
    pub(super) fn look(&mut self, stop: &Stop) -> Option<String> {
        let now = Instant::now();
        if now.duration_since(self.looked) < EVERY {
            return None;
        }
        self.looked = now;
        let here = card_of(self.address.cidr).ok()?;
        let dead = self.dead(here)?;
        let since = *self.dead_since.get_or_insert(now);
        let other = self.names.iter().find(|name| **name != dead)?.clone();
        let works = card(&other).ok()??.is_running;
        (works && now.duration_since(since) >= DEAD_AFTER).then(|| self.moved(&dead, other, stop))
    }

    /// The name of its card, where that is dead: without carrier, or gone.
    fn dead(&mut self, here: Option<Card>) -> Option<String> {
        let dead = match here {
            Some(card) => Some(card).filter(|card| !card.is_running).map(|card| card.name),
            None => self.names.iter().find(|name| card(name).is_ok_and(|card| card.is_none())).cloned(),
        };
        if dead.is_none() {
            self.dead_since = None;
        }
        dead
    }

    fn moved(&mut self, from: &str, to: String, stop: &Stop) -> String {
        self.dead_since = None;
        let cidr = self.address.cidr;
        // What cannot be put back on a dead card does not hold it up.
        if self.address.stop(LIMIT).value.is_err() {
            let _ = take_off(cidr);
            let _ = std::fs::remove_file(&self.address.saved);
        }
        let there = Address { interface: Some(to.clone()), ..self.address.clone() };
        match there.start_until(LIMIT, stop).value {
            Ok(_) => {
                self.address = there;
                format!("{cidr} moved to {to}: {from} has no carrier")
            }
            Err(why) => format!("{from} has no carrier, and {cidr} could not move to {to}: {why}"),
        }
    }
}
