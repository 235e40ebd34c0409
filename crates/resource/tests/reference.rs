//! Is this node cut off?

mod common;

use std::time::{Duration, Instant};

use common::Net;
use stead_resource::reference::{Presence, Reference, Way};

const SOON: Duration = Duration::from_millis(500);

/// Both ways, to an address of each family.
fn questions(addresses: [&str; 2]) -> Vec<Reference> {
    let ways = [Way::Echo, Way::Neighbour { interface: "eth0".into() }];
    let all = addresses
        .iter()
        .flat_map(|address| ways.iter().map(|way| Reference { address: address.parse().unwrap(), way: way.clone() }));
    all.collect()
}

#[test]
fn a_neighbour_is_present_and_nobody_is_absent() {
    let net = Net::new();
    net.lyon.inside(|| {
        for question in questions(["10.9.0.1", "fd09::1"]) {
            let began = Instant::now();
            assert_eq!(question.ask(common::LONG).value, Presence::Present, "{question:?}");
            assert!(began.elapsed() < SOON);
        }
        for question in questions(["10.9.0.77", "fd09::77"]) {
            let asked = question.ask(SOON);
            assert_eq!(asked.value, Presence::Absent, "{question:?}");
            assert!(asked.took >= SOON && asked.took < SOON * 2, "{:?}", asked.took);
        }
    });
}

#[test]
fn a_neighbour_behind_a_cut_line_is_absent_and_comes_back() {
    let net = Net::new();
    net.switch.ip("link set paris down");
    for question in questions(["10.9.0.1", "fd09::1"]) {
        assert_eq!(net.lyon.inside(|| question.ask(SOON)).value, Presence::Absent, "{question:?}");
    }
    net.switch.ip("link set paris up");
    for question in questions(["10.9.0.1", "fd09::1"]) {
        assert_eq!(net.lyon.inside(|| question.ask(common::LONG)).value, Presence::Present, "{question:?}");
    }
}

#[test]
fn who_cannot_ask_does_not_know() {
    let net = Net::new();
    let far = questions(["192.0.2.1", "2001:db8::1"]);
    let mut nobody = far.iter().filter(|question| question.way == Way::Echo);
    assert!(nobody.all(|question| matches!(net.lyon.inside(|| question.ask(SOON)).value, Presence::Unknown(_))));
    net.lyon.ip("link set eth0 down");
    for question in questions(["10.9.0.1", "fd09::1"]) {
        let asked = net.lyon.inside(|| question.ask(SOON)).value;
        assert!(matches!(asked, Presence::Unknown(_)), "{question:?}: {asked:?}");
    }
    let strange = Reference { address: "10.9.0.1".parse().unwrap(), way: Way::Neighbour { interface: "eth7".into() } };
    assert!(matches!(strange.ask(SOON).value, Presence::Unknown(_)));
}
