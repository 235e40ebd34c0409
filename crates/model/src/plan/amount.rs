//! Amounts as the operator writes them: `10MiB`, `8Mbit/s`, `30s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Text that is not such an amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}")]
pub struct BadAmount {
    text: String,
    what: &'static str,
}

const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Line speeds are given in bits.
const BITS: [(&str, u64); 3] = [("Gbit", 125_000_000), ("Mbit", 125_000), ("kbit", 125)];

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[0-9]+([TGM]iB|KiB|[TGM]B|kB|B)$"))]
pub struct Bytes(pub u64);

/// Bytes each second; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[0-9]+([TGM]iB|KiB|[TGM]B|kB|B|[GMk]bit)(/s)?$"))]
pub struct Rate(pub u64);

/// A length of time, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[0-9]+(ms|s|m|h|d)$"))]
pub struct Span(pub Duration);

impl FromStr for Bytes {
    type Err = BadAmount;
    fn from_str(text: &str) -> Result<Self, BadAmount> {
        let bad = || BadAmount { text: text.into(), what: "a size like 512KiB, 256MiB or 4GiB" };
        scaled(text, &[&UNITS]).map(Bytes).ok_or_else(bad)
    }
}

impl FromStr for Rate {
    type Err = BadAmount;
    fn from_str(text: &str) -> Result<Self, BadAmount> {
        let bad = || BadAmount { text: text.into(), what: "a rate like 64KiB/s, 10MiB/s or 8Mbit/s" };
        let number = scaled(text.strip_suffix("/s").unwrap_or(text), &[&UNITS, &BITS]);
        number.filter(|number| *number > 0).map(Rate).ok_or_else(bad)
    }
}

impl FromStr for Span {
    type Err = BadAmount;
    fn from_str(text: &str) -> Result<Self, BadAmount> {
        let bad = || BadAmount { text: text.into(), what: "a length of time like 500ms, 30s, 5m, 10h or 7d" };
        let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
        scaled(text, &[&units]).map(|ms| Span(Duration::from_millis(ms))).ok_or_else(bad)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        largest(self.0, &UNITS, f)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", Bytes(self.0))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
        largest(self.0.as_millis() as u64, &units, f)
    }
}

macro_rules! as_text {
    ($($type:ident)*) => {$(
        impl TryFrom<String> for $type {
            type Error = BadAmount;
            fn try_from(text: String) -> Result<Self, BadAmount> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(amount: $type) -> String {
                amount.to_string()
            }
        }
    )*};
}
as_text!(Bytes Rate Span);

/// A whole number and one of the units.
fn scaled(text: &str, tables: &[&[(&str, u64)]]) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let each = tables.iter().flat_map(|table| table.iter()).find(|(name, _)| *name == unit)?.1;
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|_| plain)?.checked_mul(each)
}

/// In the largest unit that needs no fraction.
fn largest(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let fits = |(_, each): &&(&str, u64)| value >= *each && value.is_multiple_of(*each);
    let (name, each) = units.iter().find(fits).or(units.last()).copied().unwrap_or(("", 1));
    write!(f, "{}{name}", value / each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_back() {
        for (text, bytes) in [("0B", 0), ("1500B", 1500), ("64KiB", 65_536), ("3MB", 3_000_000), ("2GiB", 2 << 30)] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)));
            assert_eq!(Bytes(bytes).to_string().parse(), Ok(Bytes(bytes)));
        }
        for (text, rate) in [("8Mbit/s", 1_000_000), ("2Mbit", 250_000), ("10MiB/s", 10 << 20), ("1B/s", 1)] {
            assert_eq!(text.parse(), Ok(Rate(rate)));
            assert_eq!(Rate(rate).to_string().parse(), Ok(Rate(rate)));
        }
        for (text, ms) in [("500ms", 500), ("90s", 90_000), ("2m", 120_000), ("10h", 36_000_000), ("7d", 604_800_000)] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(ms))));
            assert_eq!(Span(Duration::from_millis(ms)).to_string(), text);
        }
    }

    #[test]
    fn other_text_is_refused() {
        for bad in ["", "10", "MiB", "-1MiB", "1.5MiB", "+3B", "10 MiB", "10mib", "99999999999999999999B", "ä"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
        assert!("0B/s".parse::<Rate>().unwrap_err().to_string().contains("10MiB/s"));
        assert!("99999999999999TiB".parse::<Bytes>().is_err());
    }
}
