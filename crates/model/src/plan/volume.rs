//! How a volume is written in the plan: `UUID`, or `UUID/SUBVOLUME`.

use std::fmt;
use std::str::FromStr;

use super::PathPlan;
use crate::VolumeId;

/// Text that names no volume.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a volume like 0b1f0a4e-8f3c-4a57-9d2b-6f1f6a2f9c11, with /SUBVOLUME where there are subvolumes")]
pub struct BadVolume(String);

impl BadVolume {
    /// What was written.
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

impl PathPlan {
    /// The volume, parsed.
    ///
    /// # Errors
    /// Where it is malformed.
    pub fn volume_id(&self) -> Result<VolumeId, BadVolume> {
        self.volume.parse()
    }
}

/// Is that a volume?
pub(super) fn check(text: &str) -> Result<(), BadVolume> {
    text.parse::<VolumeId>().map(|_| ())
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.uuid.iter().enumerate() {
            let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        if self.subvolume == 0 { Ok(()) } else { write!(f, "/{}", self.subvolume) }
    }
}

impl FromStr for VolumeId {
    type Err = BadVolume;
    fn from_str(text: &str) -> Result<Self, BadVolume> {
        parse(text).ok_or_else(|| BadVolume(text.into()))
    }
}

fn parse(text: &str) -> Option<VolumeId> {
    let (uuid, subvolume) = text.split_once('/').unwrap_or((text, "0"));
    let digits: Vec<u8> = uuid.bytes().filter(|b| *b != b'-').collect();
    if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let digits = std::str::from_utf8(&digits).ok()?;
    let uuid = u128::from_str_radix(digits, 16).ok()?.to_be_bytes();
    Some(VolumeId { uuid, subvolume: subvolume.parse().ok()? })
}
