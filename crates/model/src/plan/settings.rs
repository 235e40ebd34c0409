//! How a connection is run: what the operator may set for all connections of a node (`[defaults]`), or for one.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::amount::{Bytes, Rate, Span};
use super::schedule::{Moments, RateWindow, Window};
use crate::status::Timestamp;

/// Backlog that is kept where the plan does not say.
const QUEUE_LIMIT: u64 = 256 << 20;
/// Backlog that goes to disk beyond that where the plan does not say.
const QUEUE_DISK: u64 = 0;
/// How long a synchronous connection waits for its target where the plan does not say.
const SYNC_TIMEOUT: Duration = Duration::from_secs(10);
/// Deletions within [`BRAKE_WINDOW`] that halt a connection where the plan does not say.
const BRAKE_DELETIONS: u64 = 10_000;
const BRAKE_WINDOW: Duration = Duration::from_secs(60);
/// Windows that follow each other without a break are told as one, up to so many.
const ADJOINING_MAX: usize = 64;

/// Settings as the operator writes them: what is not said comes from the defaults of the plan, and from there from
/// Stead. An empty list is said, and means none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct SettingsSpec {
    /// How many bytes each second it may send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Limit>,
    /// Other limits at certain times; of those that hold the first counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_schedule: Option<Vec<RateWindow>>,
    /// When it is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_schedule: Option<Vec<Window>>,
    /// When replica and source are compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify_schedule: Option<Vec<Moments>>,
    /// Whether what is sent is compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// Backlog that is kept in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_limit: Option<Bytes>,
    /// Backlog that goes to disk beyond it; beyond both only what changed is remembered, not how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_disk: Option<Bytes>,
    /// What a difference mirror does where there is no room to keep the image of before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_no_room: Option<OnNoRoom>,
    /// How long a synchronous write waits for the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync_timeout: Option<Span>,
    /// What happens after that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync_fallback: Option<SyncFallback>,
    /// What becomes of entries of the replica that have no equal in the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orphans: Option<Orphans>,
    /// When a connection halts and asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brake: Option<BrakeSpec>,
}

/// `"10MiB/s"` or `"unlimited"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Limit {
    /// As fast as the line is.
    Unlimited(Unlimited),
    /// At most that.
    Rate(Rate),
}

/// The word `unlimited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unlimited {
    /// The word.
    Unlimited,
}

/// Whether what is sent is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Never.
    Off,
    /// Where it makes the line faster, and only what becomes smaller.
    #[default]
    Adaptive,
}

/// What a difference mirror does where there is no room to keep the image of before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnNoRoom {
    /// Halts until there is room.
    #[default]
    Halt,
    /// Goes on: until it ends the replica is no image of one instant.
    Spoil,
}

/// What becomes of a synchronous connection whose target does not answer in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SyncFallback {
    /// It is asynchronous until the target has caught up.
    #[default]
    Async,
    /// The application waits.
    Block,
}

/// What becomes of entries of the replica that have no equal in the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Orphans {
    /// They are deleted.
    #[default]
    Delete,
    /// They are moved out of the way, into a directory beside the replica's state.
    Aside,
    /// They stay, and are told by verify.
    Keep,
}

/// The mass-change brake as the operator writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct BrakeSpec {
    /// Entries deleted within the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletions: Option<Count>,
    /// Files rewritten within the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrites: Option<Count>,
    /// The window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
}

/// A number, or `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Count {
    /// No number is too many.
    Off(Off),
    /// More than that is too many.
    Of(u64),
}

/// The word `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Off {
    /// The word.
    Off,
}

/// Settings with everything filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes each second where no window holds; none: as fast as the line is.
    pub bandwidth: Option<Rate>,
    /// Other limits at certain times.
    pub bandwidth_schedule: Vec<RateWindow>,
    /// When it is paused.
    pub pause_schedule: Vec<Window>,
    /// When replica and source are compared.
    pub verify_schedule: Vec<Moments>,
    /// Whether what is sent is compressed.
    pub compression: Compression,
    /// Backlog in bytes that is kept in memory.
    pub queue_limit: u64,
    /// Backlog in bytes that goes to disk beyond it; beyond both only what changed is remembered.
    pub queue_disk: u64,
    /// Without room for the image of before.
    pub on_no_room: OnNoRoom,
    /// How long a synchronous write waits for the target.
    pub sync_timeout: Duration,
    /// What happens after that.
    pub sync_fallback: SyncFallback,
    /// Entries that have no equal in the source.
    pub orphans: Orphans,
    /// When a connection halts and asks.
    pub brake: Brake,
}

/// The mass-change brake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brake {
    /// More deleted entries than that within the window halt the connection; none: any number passes.
    pub deletions: Option<u64>,
    /// More rewritten files than that; none: any number passes.
    pub rewrites: Option<u64>,
    /// The window.
    pub window: Duration,
}

/// What holds at some moment, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Current<T> {
    /// What holds.
    pub value: T,
    /// When that may change; none: never by itself.
    pub until: Option<Timestamp>,
}

impl SettingsSpec {
    /// These, and what they do not say from others.
    pub fn or(&self, defaults: &SettingsSpec) -> SettingsSpec {
        let d = defaults;
        SettingsSpec {
            bandwidth: self.bandwidth.or(d.bandwidth),
            bandwidth_schedule: self.bandwidth_schedule.clone().or_else(|| d.bandwidth_schedule.clone()),
            pause_schedule: self.pause_schedule.clone().or_else(|| d.pause_schedule.clone()),
            verify_schedule: self.verify_schedule.clone().or_else(|| d.verify_schedule.clone()),
            compression: self.compression.or(d.compression),
            queue_limit: self.queue_limit.or(d.queue_limit),
            queue_disk: self.queue_disk.or(d.queue_disk),
            on_no_room: self.on_no_room.or(d.on_no_room),
            sync_timeout: self.sync_timeout.or(d.sync_timeout),
            sync_fallback: self.sync_fallback.or(d.sync_fallback),
            orphans: self.orphans.or(d.orphans),
            brake: match (self.brake, d.brake) {
                (Some(own), Some(other)) => Some(own.or(other)),
                (own, other) => own.or(other),
            },
        }
    }

    /// What holds where nothing is said anywhere, said.
    pub(super) fn usual() -> SettingsSpec {
        let Settings { bandwidth, queue_limit, queue_disk, sync_timeout, brake, .. } = Settings::default();
        let count = |number: Option<u64>| Some(number.map_or(Count::Off(Off::Off), Count::Of));
        SettingsSpec {
            bandwidth: Some(Limit::of(bandwidth)),
            bandwidth_schedule: Some(Vec::new()),
            pause_schedule: Some(Vec::new()),
            verify_schedule: Some(Vec::new()),
            compression: Some(Compression::default()),
            queue_limit: Some(Bytes(queue_limit)),
            queue_disk: Some(Bytes(queue_disk)),
            on_no_room: Some(OnNoRoom::default()),
            sync_timeout: Some(Span(sync_timeout)),
            sync_fallback: Some(SyncFallback::default()),
            orphans: Some(Orphans::default()),
            brake: Some(BrakeSpec {
                deletions: count(brake.deletions),
                rewrites: count(brake.rewrites),
                window: Some(Span(brake.window)),
            }),
        }
    }

    /// With everything filled in.
    pub fn settings(&self) -> Settings {
        let brake = self.brake.unwrap_or_default();
        Settings {
            bandwidth: self.bandwidth.and_then(Limit::rate),
            bandwidth_schedule: self.bandwidth_schedule.clone().unwrap_or_default(),
            pause_schedule: self.pause_schedule.clone().unwrap_or_default(),
            verify_schedule: self.verify_schedule.clone().unwrap_or_default(),
            compression: self.compression.unwrap_or_default(),
            queue_limit: self.queue_limit.map_or(QUEUE_LIMIT, |limit| limit.0),
            queue_disk: self.queue_disk.map_or(QUEUE_DISK, |limit| limit.0),
            on_no_room: self.on_no_room.unwrap_or_default(),
            sync_timeout: self.sync_timeout.map_or(SYNC_TIMEOUT, |timeout| timeout.0),
            sync_fallback: self.sync_fallback.unwrap_or_default(),
            orphans: self.orphans.unwrap_or_default(),
            brake: Brake {
                deletions: brake.deletions.map_or(Some(BRAKE_DELETIONS), Count::number),
                rewrites: brake.rewrites.and_then(Count::number),
                window: brake.window.map_or(BRAKE_WINDOW, |window| window.0),
            },
        }
    }

    /// What cannot be meant.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let short = |span: Option<Span>| span.is_some_and(|span| span.0 < Duration::from_millis(100));
        let brake = self.brake.unwrap_or_default();
        if self.queue_limit.is_some_and(|limit| limit.0 < 1 << 20) {
            return Err("queue-limit is less than 1MiB, which one write may fill");
        }
        if short(self.sync_timeout) {
            return Err("sync-timeout is less than 100ms, which a healthy line may take");
        }
        if brake.window.is_some_and(|window| window.0 < Duration::from_secs(1)) {
            return Err("the brake's window is less than 1s");
        }
        if brake.deletions == Some(Count::Of(0)) || brake.rewrites == Some(Count::Of(0)) {
            return Err("the brake's limit is 0, which would halt at the first change; use \"off\" for no limit");
        }
        Ok(())
    }
}

impl Settings {
    /// What of these is the target's business: what only the source goes by is as if nothing had been said, so that a
    /// change of it changes nothing there.
    pub fn at_target(self) -> Settings {
        let Settings { on_no_room, sync_timeout, sync_fallback, orphans, brake, .. } = self;
        Settings { on_no_room, sync_timeout, sync_fallback, orphans, brake, ..Settings::default() }
    }

    /// How many bytes each second may be sent at that time.
    pub fn rate_at(&self, now: Timestamp) -> Current<Option<Rate>> {
        let mut until = None;
        for window in &self.bandwidth_schedule {
            if let Some(end) = window.window.open_until(now) {
                return Current { value: window.rate, until: earlier(until, Some(end)) };
            }
            until = earlier(until, window.window.next_start(now));
        }
        Current { value: self.bandwidth, until }
    }

    /// Is it a time of pause?
    pub fn is_paused_at(&self, now: Timestamp) -> Current<bool> {
        let end = |time| self.pause_schedule.iter().filter_map(|window| window.open_until(time)).max();
        let Some(mut until) = end(now) else {
            let starts = self.pause_schedule.iter().filter_map(|window| window.next_start(now));
            return Current { value: false, until: starts.min() };
        };
        for _ in 0..ADJOINING_MAX {
            match end(until) {
                Some(later) => until = later,
                None => break,
            }
        }
        Current { value: true, until: Some(until) }
    }

    /// When replica and source are compared next.
    pub fn next_verify(&self, now: Timestamp) -> Option<Timestamp> {
        self.verify_schedule.iter().filter_map(|moments| moments.after(now)).min()
    }

    /// Was there a moment to compare replica and source after `since`, up to `now`?
    pub fn is_verify_due(&self, since: Timestamp, now: Timestamp) -> bool {
        self.verify_schedule.iter().any(|moments| moments.is_due(since, now))
    }
}

impl Default for Settings {
    fn default() -> Settings {
        SettingsSpec::default().settings()
    }
}

impl Limit {
    /// The limit of that rate; none: as fast as the line is.
    pub fn of(rate: Option<Rate>) -> Limit {
        rate.map_or(Limit::Unlimited(Unlimited::Unlimited), Limit::Rate)
    }

    /// The rate; none: as fast as the line is.
    pub fn rate(self) -> Option<Rate> {
        match self {
            Limit::Rate(rate) => Some(rate),
            Limit::Unlimited(_) => None,
        }
    }
}

impl Count {
    fn number(self) -> Option<u64> {
        match self {
            Count::Of(number) => Some(number),
            Count::Off(_) => None,
        }
    }
}

impl BrakeSpec {
    fn or(self, other: BrakeSpec) -> BrakeSpec {
        BrakeSpec {
            deletions: self.deletions.or(other.deletions),
            rewrites: self.rewrites.or(other.rewrites),
            window: self.window.or(other.window),
        }
    }
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
