//! Notifications as STEAD-MIB has them (`docs/reference/STEAD-MIB.txt`).

use async_snmp::{Oid, Value, VarBind};
use stead_model::NodeName;
use stead_model::alert::{Edge, Severity};
use stead_model::delivery::{Message, Notice};
use stead_model::status::Timestamp;

/// `steadMIB`, in Net-SNMP's playground for private use.
const ROOT: [u32; 10] = [1, 3, 6, 1, 4, 1, 8072, 9999, 9999, 7130];
/// Longest `SteadText`.
const TEXT_BYTES_MAX: usize = 255;

/// Which notification, and what it carries.
pub(super) struct Notification {
    pub(super) oid: Oid,
    pub(super) varbinds: Vec<VarBind>,
}

/// One for each event; one for what was held back alone.
pub(super) fn notifications(message: &Message, node: &NodeName) -> Vec<Notification> {
    let held_back = || object(12, Value::Gauge32(u32::try_from(message.held_back).unwrap_or(u32::MAX)));
    if message.notices.is_empty() {
        return vec![Notification {
            oid: notification(3),
            varbinds: vec![object(5, text(node.as_str())), held_back()],
        }];
    }
    message.notices.iter().map(|notice| one(notice, held_back())).collect()
}

fn one(notice: &Notice, held_back: VarBind) -> Notification {
    let alert = &notice.alert;
    let severity = match notice.severity() {
        Severity::Info => 1,
        Severity::Warning => 2,
        Severity::Critical => 3,
    };
    let values = [
        text(&notice.id()),
        Value::Gauge32(notice.number as u32),
        text(alert.wrong.as_str()),
        Value::Integer(severity),
        text(notice.node.as_str()),
        text(alert.set.as_str()),
        text(alert.source.as_str()),
        text(alert.target.as_str()),
        Value::OctetString(date_and_time(alert.since).into()),
        Value::OctetString(date_and_time(notice.at).into()),
        text(&alert.text),
    ];
    let varbinds = values.into_iter().zip(1..).map(|(value, number)| object(number, value)).chain([held_back]);
    let number = if notice.event == Edge::Raise { 1 } else { 2 };
    Notification { oid: notification(number), varbinds: varbinds.collect() }
}

fn notification(number: u32) -> Oid {
    Oid::new(ROOT.into_iter().chain([0, number]))
}

/// A scalar object of that number, and its value.
fn object(number: u32, value: Value) -> VarBind {
    VarBind::new(Oid::new(ROOT.into_iter().chain([1, number, 0])), value)
}

fn text(text: &str) -> Value {
    let end = (0..=text.len().min(TEXT_BYTES_MAX)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    Value::from(&text[..end])
}

/// `DateAndTime` of SNMPv2-TC, in UTC.
fn date_and_time(time: Timestamp) -> Vec<u8> {
    let shown = time.to_string();
    let number = |from: usize, len: usize| shown.get(from..from + len).and_then(|digits| digits.parse::<u16>().ok());
    let [year, rest @ ..] = [(0, 4), (5, 2), (8, 2), (11, 2), (14, 2), (17, 2), (20, 1)]
        .map(|(from, len)| number(from, len).unwrap_or_default());
    let mut bytes = year.to_be_bytes().to_vec();
    bytes.extend(rest.map(|number| number as u8));
    bytes.extend([b'+', 0, 0]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_eleven_octets() {
        let bytes = date_and_time("2026-11-20T07:15:30.250Z".parse().unwrap());
        assert_eq!(bytes, [0x07, 0xea, 11, 20, 7, 15, 30, 2, b'+', 0, 0]);
    }

    #[test]
    fn long_texts_end_between_characters() {
        let Value::OctetString(bytes) = text(&"→".repeat(100)) else { panic!("no text") };
        assert_eq!(bytes.len(), 255);
        assert!(std::str::from_utf8(&bytes).is_ok());
    }
}
