//! When: cron expressions with a time zone. Values in, values out: nothing here reads a clock or a file; the rules of
//! the time zones are compiled in.
//!
//! ```text
//!   0 3 * * Sun Europe/Paris                          at these moments
//!   0 8 * * Mon-Fri Europe/Paris for 10h              from each of them, so long
//!   0 18 * * Fri Europe/Paris until 0 8 * * Mon       from one to the next of the other
//!   0 8 * * Mon-Fri Europe/Paris for 10h at 2MiB/s    the same, with a rate
//! ```
//! Without a zone it is UTC. A local time that a change to summer time leaves out counts at the end of the gap; one
//! that comes twice counts once. `for` is elapsed time, `until` is a time on the wall.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp as Instant, Zoned};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::amount::{Rate, Span};
use crate::status::Timestamp;

/// Text that says no such time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} says no time: {why}; write it like {example:?}")]
pub struct BadSchedule {
    text: String,
    why: String,
    example: &'static str,
}

/// Recurring moments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Moments {
    text: String,
    cron: Cron,
    zone: TimeZone,
}

/// A recurring stretch of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    text: String,
    start: Moments,
    end: End,
}

/// A rate that holds in a recurring stretch of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct RateWindow {
    /// When.
    pub window: Window,
    /// How fast; none: as fast as the line is.
    pub rate: Option<Rate>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    After(Duration),
    At(Box<Moments>),
}

impl Moments {
    /// The first of them after that time.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        self.cron.find_next_occurrence(&self.zoned(time)?, false).ok().and_then(|found| from_zoned(&found))
    }

    /// The last of them up to that time.
    pub fn up_to(&self, time: Timestamp) -> Option<Timestamp> {
        self.cron.find_previous_occurrence(&self.zoned(time)?, true).ok().and_then(|found| from_zoned(&found))
    }

    /// Is there one after `since`, up to `now`? Where the clock was set back in between, nothing is.
    pub fn is_due(&self, since: Timestamp, now: Timestamp) -> bool {
        since < now && self.after(since).is_some_and(|next| next <= now)
    }

    fn zoned(&self, time: Timestamp) -> Option<Zoned> {
        Instant::from_nanosecond(i128::from(time.0)).ok().map(|time| time.to_zoned(self.zone.clone()))
    }
}

impl Window {
    /// Until when it lasts, where that time is in it.
    pub fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        let start = self.start.up_to(now)?;
        let end = match &self.end {
            End::After(length) => Timestamp(start.0.saturating_add(length.as_nanos() as u64)),
            End::At(moments) => moments.after(start)?,
        };
        (now < end).then_some(end)
    }

    /// When it begins next.
    pub fn next_start(&self, now: Timestamp) -> Option<Timestamp> {
        self.start.after(now)
    }
}

impl FromStr for Moments {
    type Err = BadSchedule;
    fn from_str(text: &str) -> Result<Self, BadSchedule> {
        const EXAMPLE: &str = "0 3 * * Sun Europe/Paris";
        moments(text.trim()).map_err(|why| BadSchedule { text: text.into(), why, example: EXAMPLE })
    }
}

impl FromStr for Window {
    type Err = BadSchedule;
    fn from_str(text: &str) -> Result<Self, BadSchedule> {
        const EXAMPLE: &str = "0 8 * * Mon-Fri Europe/Paris for 10h";
        window(text.trim()).map_err(|why| BadSchedule { text: text.into(), why, example: EXAMPLE })
    }
}

impl FromStr for RateWindow {
    type Err = BadSchedule;
    fn from_str(text: &str) -> Result<Self, BadSchedule> {
        const EXAMPLE: &str = "0 8 * * Mon-Fri Europe/Paris for 10h at 2MiB/s";
        rate_window(text.trim()).map_err(|why| BadSchedule { text: text.into(), why, example: EXAMPLE })
    }
}

impl fmt::Display for Moments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for RateWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rate {
            Some(rate) => write!(f, "{} at {rate}", self.window),
            None => write!(f, "{} at unlimited", self.window),
        }
    }
}

macro_rules! as_text {
    ($($type:ident)*) => {$(
        impl TryFrom<String> for $type {
            type Error = BadSchedule;
            fn try_from(text: String) -> Result<Self, BadSchedule> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(schedule: $type) -> String {
                schedule.to_string()
            }
        }
    )*};
}
as_text!(Moments Window RateWindow);

fn moments(text: &str) -> Result<Moments, String> {
    let words: Vec<_> = text.split_whitespace().collect();
    let zone = match words.get(5) {
        _ if words.len() < 5 => return Err("a cron expression has five fields: minute hour day month weekday".into()),
        _ if words.len() > 6 => return Err("there is more than five fields and a time zone".into()),
        Some(name) => zone(name)?,
        None => TimeZone::UTC,
    };
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let cron = parser.parse(&words[..5].join(" ")).map_err(|e| plain(&e.to_string()))?;
    let moments = Moments { text: words.join(" "), cron, zone };
    match moments.after(Timestamp(0)) {
        Some(_) => Ok(moments),
        None => Err("there is no such day".into()),
    }
}

fn zone(name: &str) -> Result<TimeZone, String> {
    let zones = jiff::tz::TimeZoneDatabase::bundled();
    zones.get(name).map_err(|_| format!("{name} is not a time zone, as Europe/Paris or UTC"))
}

fn window(text: &str) -> Result<Window, String> {
    if let Some((start, length)) = text.split_once(" for ") {
        let Span(length) = length.trim().parse::<Span>().map_err(|e| e.to_string())?;
        if length.is_zero() {
            return Err("it would last no time".into());
        }
        return Ok(Window { text: text.into(), start: moments(start)?, end: End::After(length) });
    }
    let Some((start, end)) = text.split_once(" until ") else {
        return Err("it does not say for how long".into());
    };
    let start = moments(start)?;
    let mut end = moments(end)?;
    if end.text.split(' ').count() == 5 {
        end.zone = start.zone.clone();
    }
    Ok(Window { text: text.into(), start, end: End::At(Box::new(end)) })
}

fn rate_window(text: &str) -> Result<RateWindow, String> {
    let (when, rate) = text.rsplit_once(" at ").ok_or("it names no rate")?;
    let rate = match rate.trim() {
        "unlimited" => None,
        rate => Some(rate.parse::<Rate>().map_err(|e| e.to_string())?),
    };
    Ok(RateWindow { window: window(when.trim())?, rate })
}

fn plain(error: &str) -> String {
    error.trim_start_matches("Component error: ").trim_end_matches('.').to_string()
}

fn from_zoned(time: &Zoned) -> Option<Timestamp> {
    u64::try_from(time.timestamp().as_nanosecond()).ok().map(Timestamp)
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
