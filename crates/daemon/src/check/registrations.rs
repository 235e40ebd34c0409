//! Would others learn of a takeover by this machine? Asked of the servers that would be told, without changing anything.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use stead_model::plan::{DnsPlan, GroupPlan, HookPlan};
use stead_resource::Stop;
use stead_resource::dns::{Record, Seen};

use crate::failover::outside::record;

/// All records together, as the other node waits for the answer.
const LIMIT: Duration = Duration::from_secs(6);
/// Longer than that clients should not go to the dead node.
const TTL_S_MAX: u32 = 60;
/// Clocks that differ by more are told of; by 300 s, changes are refused.
const CLOCKS_APART_S: u64 = 10;

pub(super) fn findings(group: &GroupPlan) -> Vec<String> {
    let moment = Instant::now() + LIMIT;
    let records = group.dns.iter().flat_map(|dns| {
        let left = moment.saturating_duration_since(Instant::now());
        let record = record(dns);
        let found = match record.try_until(left, &Stop::never()).value {
            Ok(seen) => of_record(dns, &record, &seen),
            Err(why) => vec![why.to_string()],
        };
        found.into_iter().map(move |text| format!("dns {record}: {text}"))
    });
    records.chain(group.hooks.iter().flat_map(of_hook)).collect()
}

fn of_record(dns: &DnsPlan, record: &Record, seen: &Seen) -> Vec<String> {
    let mut found = Vec::new();
    let ttl = seen.ttl_s.unwrap_or(0).max(record.ttl_s);
    if ttl > TTL_S_MAX {
        found.push(format!(
            "its TTL is {ttl} s: for so long clients go to the old address; make it {TTL_S_MAX} s at most"
        ));
    }
    if seen.clock_ahead_s.unsigned_abs() > CLOCKS_APART_S {
        let apart = seen.clock_ahead_s.unsigned_abs();
        found.push(format!(
            "the clock of {} is {apart} s apart; beyond 300 s it takes no change: set both by NTP",
            seen.server
        ));
    }
    let plain = |value: &str| value.trim_end_matches('.').to_ascii_lowercase();
    let is_known = |value: &String| dns.values.values().any(|planned| plain(planned) == plain(value));
    match seen.values.as_slice() {
        [] => found.push(format!("{} has no such record; add it, with the value of the node that serves", seen.server)),
        [value] if is_known(value) => {}
        values => found
            .push(format!("it is {}, which is none of its values here; a takeover would leave it", values.join(", "))),
    }
    found
}

fn of_hook(hook: &HookPlan) -> Vec<String> {
    let files = [&hook.secret_file, &hook.ca_file].into_iter().flatten();
    let unread = |file: &Path| {
        fs::read(file).err().map(|e| format!("hook {}: {} cannot be read: {e}", hook.url, file.display()))
    };
    files.filter_map(|file| unread(file)).collect()
}
