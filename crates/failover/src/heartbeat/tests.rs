//! Golden bytes, what is dropped, and bytes of any kind.

use proptest::prelude::*;
use stead_model::Epoch;

use super::layout::{HEAD_LEN, NOTE_LEN};
use super::*;
use crate::ids::GroupId;

const CLUSTER: ClusterId = ClusterId([0xc1; 16]);
const PARIS: NodeId = NodeId([0xaa; 16]);
const LYON: NodeId = NodeId([0xbb; 16]);
const GOLDEN: &[u8] = include_bytes!("../../tests/golden/heartbeat-1.bin");

fn key() -> Key {
    Key::derive(b"a secret", CLUSTER, PARIS, LYON)
}

fn sender() -> Sender {
    let mut sender = Sender::new(CLUSTER, PARIS, 7);
    sender.add(LYON, key());
    sender
}

fn receiver() -> Receiver {
    let mut receiver = Receiver::new(CLUSTER, LYON);
    receiver.add(PARIS, key(), 7);
    receiver
}

fn all_notes() -> Vec<Note> {
    let says = [
        Say::Role(Role::Active, Hold::None),
        Say::Ask { serves: true },
        Say::Grant(1_700),
        Say::Refuse(No::Other),
        Say::AskVote { planned: true },
        Say::Vote(1_700),
        Say::NoVote(No::Seen),
        Say::Yield,
        Say::Standby,
        Say::AskYield(Event::Failback),
        Say::Yielded,
        Say::NotYielded(No::Unable),
    ];
    let epoch = Epoch { number: 3, writer: PARIS.0, random: 0x0102_0304_0506_0708 };
    let numbered = says.into_iter().zip(1..);
    numbered.map(|(say, number)| Note { group: GroupId::of("notes"), number: 7 << 32 | number, epoch, say }).collect()
}

#[test]
fn the_bytes_stay_as_they_are() {
    let mut sender = sender();
    sender.datagram(LYON, 0, 0, &[]).unwrap();
    sender.leave();
    let bytes = sender.datagram(LYON, 1, 41, &all_notes()).unwrap();
    assert_eq!(bytes, GOLDEN);
    let expected = Heartbeat { from: PARIS, run: 7, counter: 2, heard: 41, path: 1, leaving: true, notes: all_notes() };
    assert_eq!(receiver().receive(GOLDEN), Ok(expected));
    assert_eq!((HEAD_LEN, NOTE_LEN, DATAGRAM_LEN_MAX), (88, 64, 1144));
}

#[test]
fn what_is_wrong_is_dropped_and_named() {
    let mut receiver = receiver();
    let changed = |at: usize, to: u8| {
        let mut bytes = GOLDEN.to_vec();
        bytes[at] = to;
        bytes
    };
    let cases = [
        (GOLDEN[1..].to_vec(), Refused::Malformed),
        (GOLDEN[..GOLDEN.len() - 1].to_vec(), Refused::Malformed),
        (GOLDEN[..HEAD_LEN].to_vec(), Refused::Malformed),
        (changed(6, 17), Refused::Malformed),
        (changed(4, 2), Refused::Version(2)),
        (changed(8, 0), Refused::OtherCluster),
        (changed(40, 0), Refused::OtherNode),
        (changed(24, 0), Refused::Unknown),
        (changed(64, 9), Refused::Forged),
        (changed(GOLDEN.len() - 1, GOLDEN[GOLDEN.len() - 1] ^ 1), Refused::Forged),
    ];
    for (bytes, why) in cases {
        assert_eq!(receiver.receive(&bytes), Err(why));
    }
    assert!(receiver.receive(GOLDEN).is_ok());
    assert_eq!(receiver.receive(GOLDEN), Err(Refused::Replayed));
}

#[test]
fn an_earlier_run_of_the_sender_is_a_replay() {
    let (mut receiver, mut later) = (receiver(), Sender::new(CLUSTER, PARIS, 8));
    later.add(LYON, key());
    assert!(receiver.receive(&later.datagram(LYON, 0, 0, &[]).unwrap()).is_ok());
    assert_eq!(receiver.receive(GOLDEN), Err(Refused::Replayed));
    assert_eq!(receiver.run_of(PARIS), Some(8));
    let mut restarted = Receiver::new(CLUSTER, LYON);
    restarted.add(PARIS, key(), 8);
    assert_eq!(restarted.receive(GOLDEN), Err(Refused::Replayed));
}

#[test]
fn another_secret_or_pair_gives_another_key() {
    let other = NodeId([0xcc; 16]);
    let keys = [
        key(),
        Key::derive(b"a secret", CLUSTER, PARIS, other),
        Key::derive(b"another", CLUSTER, PARIS, LYON),
        Key::derive(b"a secret", ClusterId([0; 16]), PARIS, LYON),
    ];
    for (at, one) in keys.iter().enumerate() {
        assert!(keys[..at].iter().all(|other| other.0 != one.0));
    }
    assert_eq!(Key::derive(b"a secret", CLUSTER, LYON, PARIS).0, key().0);
}

#[test]
fn a_kind_of_note_that_is_not_known_is_left_out() {
    let raw = layout::RawNote { kind: 99, ..all_notes()[1].to_raw() };
    assert_eq!(Note::from_raw(raw), None);
    let role = layout::RawNote { detail: 99, ..all_notes()[0].to_raw() };
    assert_eq!(Note::from_raw(role), None);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..1300)) {
        prop_assert!(receiver().receive(&bytes).is_err());
    }

    #[test]
    fn no_damage_passes(at in 0..GOLDEN.len(), bit in 0u8..8, cut in 0..GOLDEN.len()) {
        let mut bytes = GOLDEN.to_vec();
        bytes[at] ^= 1 << bit;
        prop_assert!(receiver().receive(&bytes).is_err());
        prop_assert!(receiver().receive(&GOLDEN[..cut]).is_err());
    }

    #[test]
    fn whatever_is_signed_can_be_read(bytes in prop::collection::vec(any::<u8>(), NOTE_LEN * NOTES_MAX)) {
        prop_assert!(layout::notes(&bytes).len() <= NOTES_MAX);
    }
}
