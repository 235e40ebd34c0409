//! The registrations of a group, made from its plan.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use stead_failover::heartbeat::Event;
use stead_failover::outside::Registration;
use stead_model::plan::{DnsKind, DnsPlan, GroupPlan, HookPlan};
use stead_model::{NodeName, template};
use stead_resource::dns::{Kind, Record};
use stead_resource::hook::Hook;
use stead_resource::{Failure, Stop};

/// Codes that are a success where the plan names none.
const CODES: std::ops::RangeInclusive<u16> = 200..=299;

pub(super) struct Kit {
    pub(super) plan: GroupPlan,
    me: NodeName,
    pub(super) items: Vec<Item>,
}

/// A registration of the plan.
pub(super) struct Item {
    pub(super) registration: Registration,
    /// What people call it.
    pub(super) name: String,
    what: What,
}

enum What {
    Dns { record: Record, value: String, others: Vec<String> },
    Hook(Box<HookPlan>),
}

impl Kit {
    pub(super) fn new(plan: &GroupPlan, me: &NodeName) -> Kit {
        let records = plan.dns.iter().filter_map(|dns| Item::record(dns, me));
        let items = records.chain(plan.hooks.iter().map(Item::hook)).collect();
        Kit { plan: plan.clone(), me: me.clone(), items }
    }

    pub(super) fn registrations(&self) -> Vec<Registration> {
        self.items.iter().map(|item| item.registration).collect()
    }

    /// Tells one of them; what comes of it is in words.
    pub(super) fn tell(
        &self,
        at: usize,
        epoch: u64,
        event: Option<Event>,
        limit: Duration,
        stop: &Stop,
    ) -> Result<String, Failure> {
        match &self.items[at].what {
            What::Dns { record, value, others } => {
                record.set_until(value, others, limit, stop).value.map(|_| format!("is {value}"))
            }
            What::Hook(hook) => {
                let request = self.request(hook, at, epoch, event).map_err(Failure::Unusable)?;
                request.call_until(limit, stop).value.map(|code| format!("answers {code}"))
            }
        }
    }

    fn request(&self, hook: &HookPlan, at: usize, epoch: u64, event: Option<Event>) -> Result<Hook, String> {
        let filled = |text: &str| template::filled(text, |name| self.value(name, epoch, event));
        // Whoever is told twice, as after a crash, sees that it is the same.
        let same = ("Idempotency-Key".to_owned(), format!("\"{}-{epoch}-{at}\"", self.plan.name));
        let headers = hook.headers.iter().map(|(name, value)| (name.clone(), filled(value)));
        Ok(Hook {
            url: filled(&hook.url).parse()?,
            method: hook.method().to_owned(),
            headers: headers.chain([same]).collect(),
            body: filled(&hook.body),
            secret: hook.secret(),
            ca_file: hook.ca_file.clone(),
            expect: match hook.expect.is_empty() {
                true => vec![CODES],
                false => hook.expect.iter().map(|code| *code..=*code).collect(),
            },
        })
    }

    fn value(&self, name: &str, epoch: u64, event: Option<Event>) -> String {
        let plan = &self.plan;
        match name {
            "group" => plan.name.to_string(),
            "node" => self.me.to_string(),
            "other" => plan.other(&self.me).map(ToString::to_string).unwrap_or_default(),
            "event" => event.map_or("move", Event::as_str).to_owned(),
            "epoch" => epoch.to_string(),
            "address" => {
                plan.addresses.first().and_then(|address| address.ip()).map(|ip| ip.to_string()).unwrap_or_default()
            }
            _ => String::new(),
        }
    }
}

impl Item {
    fn record(dns: &DnsPlan, me: &NodeName) -> Option<Item> {
        let (record, value) = (record(dns), dns.values.get(me)?.clone());
        let registration = Registration { key: key(&("dns", dns)), holds: true, limit: dns.timeout() };
        let (name, others) = (format!("dns {record}"), dns.values_of_others(me));
        Some(Item { registration, name, what: What::Dns { record, value, others } })
    }

    fn hook(hook: &HookPlan) -> Item {
        let registration = Registration { key: key(&("hook", hook)), holds: false, limit: hook.timeout() };
        let name = format!("hook {}", hook.url.split('?').next().unwrap_or_default());
        Item { registration, name, what: What::Hook(Box::new(hook.clone())) }
    }
}

/// A record of the plan as the hand changes it.
pub(crate) fn record(dns: &DnsPlan) -> Record {
    Record {
        zone: dns.zone.clone(),
        name: dns.name.clone(),
        kind: match dns.kind {
            DnsKind::A => Kind::A,
            DnsKind::Aaaa => Kind::Aaaa,
            DnsKind::Cname => Kind::Cname,
            DnsKind::Ptr => Kind::Ptr,
        },
        ttl_s: u32::try_from(dns.ttl().as_secs()).unwrap_or(u32::MAX),
        servers: dns.server_addresses(),
        key_file: dns.key_file.clone(),
    }
}

/// Of all that the plan says of it.
fn key(table: &impl Serialize) -> u64 {
    let hash = digest(&SHA256, &serde_json::to_vec(table).unwrap_or_default());
    u64::from_be_bytes(hash.as_ref()[..8].try_into().expect("a hash is longer"))
}
