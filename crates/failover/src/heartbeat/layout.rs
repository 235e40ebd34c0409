//! The bytes of a heartbeat.

use stead_model::Epoch;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{NOTES_MAX, Note};
use crate::ids::{ClusterId, GroupId, NodeId};

pub(super) const MAGIC: u32 = u32::from_le_bytes(*b"STHB");
pub(super) const VERSION: u8 = 1;
pub(super) const LEAVING: u8 = 1;
pub(super) const MAC_LEN: usize = 32;
pub(super) const HEAD_LEN: usize = size_of::<Head>();
pub(super) const NOTE_LEN: usize = size_of::<RawNote>();

/// Longest datagram, in bytes: fits into the smallest packet that IPv6 has to carry.
pub const DATAGRAM_LEN_MAX: usize = HEAD_LEN + NOTES_MAX * NOTE_LEN + MAC_LEN;
const _: () = assert!(DATAGRAM_LEN_MAX <= 1280 - 48);

/// What a datagram begins with.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Head {
    pub magic: u32,
    pub version: u8,
    pub flags: u8,
    pub notes: u16,
    pub cluster: ClusterId,
    pub from: NodeId,
    pub to: NodeId,
    pub run: u64,
    pub counter: u64,
    pub heard: u64,
    pub path: u32,
    pub zero: u32,
}

/// One note.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct RawNote {
    pub group: GroupId,
    pub kind: u8,
    pub detail: u8,
    pub zero: u16,
    pub millis: u32,
    pub number: u64,
    pub epoch: Epoch,
}

/// The notes behind a head whose count was checked; those of a kind that this build does not know are left out.
pub(super) fn notes(bytes: &[u8]) -> Vec<Note> {
    let raw = bytes.chunks_exact(NOTE_LEN).filter_map(|note| RawNote::read_from_bytes(note).ok());
    raw.filter_map(Note::from_raw).collect()
}
