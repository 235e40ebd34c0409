//! What happens to an address after it was taken.

mod common;

use std::time::{Duration, Instant};

use common::{Host, Net, wait_for};
use stead_resource::address::{Address, Answer, Conflict, Holder, Lease, Mode, Seen, Watch};
use stead_resource::{Cidr, Resource};

const BOTH: [&str; 2] = ["10.9.0.100/24", "fd09::100/64"];
const SOON: Duration = Duration::from_secs(3);

fn take(host: &Host, cidr: Cidr, saved: &std::path::Path) -> Address {
    let saved = saved.join(cidr.address().to_string());
    let address = Address { cidr, interface: None, mode: Mode::Beside, holder: Holder::Fenced, saved };
    host.inside(|| address.start(common::LONG)).value.unwrap();
    address
}

#[test]
fn the_lease_holder_defends_once_in_ten_seconds() {
    for cidr in BOTH.map(|text| text.parse::<Cidr>().unwrap()) {
        let (net, dirs) = (Net::new(), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
        take(&net.lyon, cidr, dirs[0].path());
        let mut watch = net.lyon.inside(|| Watch::new(cidr)).unwrap();
        assert_eq!(net.lyon.inside(|| watch.next(Duration::from_millis(50), Lease::Held)), Ok(None));

        let text = cidr.address().to_string();
        let [by, own] = [net.paris.mac(), net.lyon.mac()];
        let is_told_of = |mac| wait_for("the neighbour cache", || net.client.neighbour(&text) == Some(mac));
        assert!(net.client.reaches(&text));
        let rival = take(&net.paris, cidr, dirs[1].path());
        is_told_of(by);
        let mut seen = || net.lyon.inside(|| watch.next(SOON, Lease::Held)).unwrap();
        assert_eq!(seen(), Some(Seen::Conflict(Conflict { by, answer: Answer::Defended })));
        is_told_of(own);

        net.paris.inside(|| rival.start(common::LONG)).value.unwrap();
        assert_eq!(seen(), Some(Seen::Conflict(Conflict { by, answer: Answer::Waited })));
        is_told_of(by);
    }
}

#[test]
fn anyone_else_drops_the_address_at_once() {
    for cidr in BOTH.map(|text| text.parse::<Cidr>().unwrap()) {
        let (net, dirs) = (Net::new(), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
        let before = net.lyon.tables();
        let taken = take(&net.lyon, cidr, dirs[0].path());
        let mut watch = net.lyon.inside(|| Watch::new(cidr)).unwrap();
        take(&net.paris, cidr, dirs[1].path());
        let by = net.paris.mac();
        let seen = net.lyon.inside(|| watch.next(SOON, Lease::NotHeld)).unwrap();
        assert_eq!(seen, Some(Seen::Conflict(Conflict { by, answer: Answer::Dropped })));
        assert_eq!(net.lyon.tables(), before);
        net.lyon.inside(|| taken.stop(common::LONG)).value.unwrap();
        assert_eq!(net.lyon.tables(), before);
    }
}

#[test]
fn an_address_that_others_remove_is_gone() {
    let (net, dir) = (Net::new(), tempfile::tempdir().unwrap());
    let cidr = BOTH[0].parse().unwrap();
    take(&net.lyon, cidr, dir.path());
    let mut watch = net.lyon.inside(|| Watch::new(cidr)).unwrap();
    net.lyon.ip(&format!("addr del {cidr} dev eth0"));
    assert_eq!(net.lyon.inside(|| watch.next(SOON, Lease::Held)), Ok(Some(Seen::Gone)));
}

#[test]
fn neighbours_that_missed_the_first_announcement_hear_it_again() {
    for cidr in BOTH.map(|text| text.parse::<Cidr>().unwrap()) {
        let (net, dirs) = (Net::new(), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
        let text = cidr.address().to_string();
        take(&net.paris, cidr, dirs[0].path());
        assert!(net.client.reaches(&text));
        net.paris.ip("link set eth0 down");

        net.switch.ip("link set client type bridge_slave state 0");
        take(&net.lyon, cidr, dirs[1].path());
        let mut watch = net.lyon.inside(|| Watch::new(cidr)).unwrap();
        net.switch.ip("link set client type bridge_slave state 3");
        let began = Instant::now();
        while net.client.neighbour(&text) != Some(net.lyon.mac()) {
            net.lyon.inside(|| watch.next(Duration::from_millis(100), Lease::Held)).unwrap();
            assert!(began.elapsed() < SOON, "not told again");
        }
        assert!(net.client.reaches(&text));
    }
}

#[test]
fn an_interface_that_comes_up_again_is_announced() {
    let (net, dir) = (Net::new(), tempfile::tempdir().unwrap());
    let cidr = BOTH[0].parse().unwrap();
    take(&net.lyon, cidr, dir.path());
    let mut watch = net.lyon.inside(|| Watch::new(cidr)).unwrap();
    net.switch.ip("link set lyon down");
    wait_for("the carrier to go", || net.lyon.ip("link show dev eth0").contains("NO-CARRIER"));
    assert_eq!(net.lyon.inside(|| watch.next(Duration::from_millis(200), Lease::Held)), Ok(None));
    net.switch.ip("link set lyon up");
    assert_eq!(net.lyon.inside(|| watch.next(SOON, Lease::Held)), Ok(Some(Seen::LinkUp)));
}
