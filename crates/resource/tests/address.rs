//! Addresses in real networks: taken, held, given up, crashed.

mod common;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Host, LONG, Net};
use stead_resource::address::{Address, Holder, Mode, Probe, restore, take_off};
use stead_resource::{Done, Failure, Resource, State};

const SIGABRT: i32 = 6;
const BOTH: [&str; 2] = ["10.9.0.100/24", "fd09::100/64"];

fn address(cidr: &str, dir: &Path) -> Address {
    let cidr = cidr.parse().unwrap();
    let saved = dir.join("saved");
    Address { cidr, interface: None, mode: Mode::Beside, holder: Holder::Possible(Probe::default()), saved }
}

fn bare(cidr: &str) -> &str {
    cidr.split('/').next().unwrap()
}

fn start(host: &Host, address: &Address) -> Result<Done, Failure> {
    host.inside(|| address.start(LONG)).value
}

fn stop(host: &Host, address: &Address) -> Result<Done, Failure> {
    host.inside(|| address.stop(LONG)).value
}

fn status(host: &Host, address: &Address) -> State {
    host.inside(|| address.status(LONG)).value
}

#[test]
fn a_client_follows_the_address_at_once_and_back() {
    for cidr in BOTH {
        let (net, dirs) = (Net::new(), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
        let [on_paris, on_lyon] = dirs.each_ref().map(|dir| address(cidr, dir.path()));
        for (from, to) in [(&net.paris, &net.lyon), (&net.lyon, &net.paris)] {
            let [giver, taker] =
                if std::ptr::eq(from, &net.paris) { [&on_paris, &on_lyon] } else { [&on_lyon, &on_paris] };
            let _ = start(from, giver).unwrap();
            assert!(net.client.reaches(bare(cidr)));
            assert_eq!(net.client.neighbour(bare(cidr)), Some(from.mac()));

            assert_eq!(stop(from, giver), Ok(Done::Changed));
            assert_eq!(start(to, taker), Ok(Done::Changed));
            let began = Instant::now();
            common::wait_for("the neighbour cache", || net.client.neighbour(bare(cidr)) == Some(to.mac()));
            assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
            assert!(net.client.reaches(bare(cidr)));
        }
    }
}

#[test]
fn a_held_address_is_not_taken_unless_the_holder_is_fenced() {
    for cidr in BOTH {
        let (net, dir) = (Net::new(), tempfile::tempdir().unwrap());
        net.paris.ip(&format!("addr add {cidr} dev eth0 nodad"));
        let before = net.lyon.tables();
        let mut taken = address(cidr, dir.path());
        let held = Failure::AddressHeld { address: bare(cidr).parse().unwrap(), holder: net.paris.mac() };
        assert_eq!(start(&net.lyon, &taken), Err(held.clone()));
        assert_eq!(held.word(), "address-held");
        assert_eq!(net.lyon.tables(), before);
        assert_eq!(status(&net.lyon, &taken), State::Stopped);

        taken.holder = Holder::Fenced;
        assert_eq!(start(&net.lyon, &taken), Ok(Done::Changed));
        assert_eq!(status(&net.lyon, &taken), State::Started);
    }
}

#[test]
fn done_already_is_done() {
    let (net, dir) = (Net::new(), tempfile::tempdir().unwrap());
    let before = net.lyon.tables();
    for cidr in BOTH {
        let taken = address(cidr, dir.path());
        assert_eq!(stop(&net.lyon, &taken), Ok(Done::Already));
        assert_eq!(start(&net.lyon, &taken), Ok(Done::Changed));
        assert_eq!(start(&net.lyon, &taken), Ok(Done::Already));
        assert_eq!(stop(&net.lyon, &taken), Ok(Done::Changed));
        assert_eq!(stop(&net.lyon, &taken), Ok(Done::Already));
        assert_eq!(net.lyon.tables(), before);
        assert!(!taken.saved.exists());
    }
}

#[test]
fn several_addresses_come_and_go_beside_each_other() {
    let (net, dirs) = (Net::new(), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    let before = net.lyon.tables();
    let one = address("10.9.0.100/24", dirs[0].path());
    let other = address("10.9.0.101/24", dirs[1].path());
    assert_eq!(start(&net.lyon, &one), Ok(Done::Changed));
    assert_eq!(start(&net.lyon, &other), Ok(Done::Changed));
    assert_eq!(stop(&net.lyon, &one), Ok(Done::Changed));
    assert_eq!(status(&net.lyon, &other), State::Started);
    assert!(net.client.reaches("10.9.0.101") && net.client.reaches("10.9.0.2"));
    assert_eq!(stop(&net.lyon, &other), Ok(Done::Changed));
    assert_eq!(net.lyon.tables(), before);
}

#[test]
fn an_address_beside_is_no_source_of_what_the_host_sends() {
    let (net, dirs) = (Net::new(), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    for (cidr, dir, own) in [(BOTH[0], &dirs[0], "src 10.9.0.2"), (BOTH[1], &dirs[1], "src fd09::2")] {
        start(&net.lyon, &address(cidr, dir.path())).unwrap();
        let client = if own.contains(':') { "fd09::3" } else { "10.9.0.3" };
        let route = net.lyon.ip(&format!("route get {client}"));
        assert!(route.contains(own), "{route}");
    }
}

/// Own addresses with everything that a kernel lets one say, and routes that hang on them.
fn furnish(host: &Host, promote: &str) {
    host.sysctl("ipv4/conf/eth0/promote_secondaries", promote);
    host.ip("addr change 10.9.0.2/24 brd + dev eth0 label eth0:own");
    host.ip("addr add 10.9.0.22/24 dev eth0 metric 77");
    host.ip("addr add 192.0.2.7/28 dev eth0 noprefixroute");
    host.ip("route add default via 10.9.0.1 dev eth0 metric 10");
    host.ip("route add 198.51.100.0/24 via 10.9.0.3 dev eth0 src 10.9.0.2");
    host.ip("-6 route add default via fd09::1 dev eth0 metric 10");
    host.ip("-6 route add 2001:db8::/32 via fd09::3 dev eth0 src fd09::2");
}

#[test]
fn replacing_keeps_the_routes_and_puts_everything_back_exactly() {
    for promote in ["0", "1"] {
        for (cidr, own, far) in [(BOTH[0], "10.9.0.2", "198.51.100.1"), (BOTH[1], "fd09::2", "2001:db8::1")] {
            let (net, dir) = (Net::new(), tempfile::tempdir().unwrap());
            furnish(&net.lyon, promote);
            let before = net.lyon.tables();
            let taken = Address { mode: Mode::Replacing { own: None }, ..address(cidr, dir.path()) };
            assert_eq!(start(&net.lyon, &taken), Ok(Done::Changed));
            let now = net.lyon.tables();
            assert!(!now.contains(&format!("{own}/")), "{now}");
            assert!(
                now.contains(if own.contains(':') { "default via fd09::1" } else { "default via 10.9.0.1" }),
                "{now}"
            );
            let route = net.lyon.ip(&format!("route get {far}"));
            assert!(route.contains(&format!("src {}", bare(cidr))), "{route}");
            assert!(net.client.reaches(bare(cidr)) && !net.client.reaches(own));

            assert_eq!(start(&net.lyon, &taken), Ok(Done::Already));
            assert_eq!(stop(&net.lyon, &taken), Ok(Done::Changed));
            assert_eq!(sorted(&net.lyon.tables()), sorted(&before), "promote_secondaries {promote}");
            assert!(net.client.reaches(own));
        }
    }
}

/// The order in which the kernel lists the networks of an interface says nothing; that within a network is compared by the
/// word "secondary".
fn sorted(tables: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = tables.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn another_process_puts_right_what_a_crash_left() {
    for mode in [Mode::Beside, Mode::Replacing { own: None }] {
        for cidr in BOTH {
            let (net, dir) = (Net::new(), tempfile::tempdir().unwrap());
            furnish(&net.lyon, "1");
            let before = net.lyon.tables();
            let mut process = Command::new(std::env::current_exe().unwrap());
            process
                .args(["--exact", "a_process_that_dies", "--ignored"])
                .env("STEAD_TAKE", cidr)
                .env("STEAD_DIR", dir.path());
            process.env("STEAD_REPLACING", (mode != Mode::Beside).to_string());
            let died = net.lyon.inside(|| process.output().unwrap());
            assert_eq!(died.status.signal(), Some(SIGABRT), "{died:?}");
            assert_ne!(sorted(&net.lyon.tables()), sorted(&before));
            let saved = dir.path().join("saved");

            let again = net.lyon.inside(|| restore(&saved)).value;
            assert_eq!(again, Ok(Done::Changed));
            assert_eq!(sorted(&net.lyon.tables()), sorted(&before));
            assert!(!saved.exists());
            assert_eq!(net.lyon.inside(|| restore(&saved)).value, Ok(Done::Already));
        }
    }
}

#[test]
#[ignore = "the process that another test starts and that dies after it took an address"]
fn a_process_that_dies() {
    let var = |name: &str| std::env::var(name).unwrap();
    let mode = if var("STEAD_REPLACING") == "true" { Mode::Replacing { own: None } } else { Mode::Beside };
    let taken = Address { mode, ..address(&var("STEAD_TAKE"), Path::new(&var("STEAD_DIR"))) };
    assert_eq!(taken.start(LONG).value, Ok(Done::Changed));
    std::process::abort();
}

#[test]
fn a_start_that_crashed_half_way_is_begun_anew() {
    let (net, dir) = (Net::new(), tempfile::tempdir().unwrap());
    let before = net.lyon.tables();
    let taken = Address { mode: Mode::Replacing { own: None }, ..address(BOTH[0], dir.path()) };
    start(&net.lyon, &taken).unwrap();
    // As if it had died before it removed the own address.
    net.lyon.ip("addr add 10.9.0.2/24 brd + dev eth0");
    assert_eq!(start(&net.lyon, &taken), Ok(Done::Changed));
    assert!(!net.lyon.tables().contains("10.9.0.2/"));
    assert_eq!(stop(&net.lyon, &taken), Ok(Done::Changed));
    assert_eq!(net.lyon.tables(), before);
}

#[test]
fn after_a_boot_only_the_address_itself_is_removed() {
    let (net, dir) = (Net::new(), tempfile::tempdir().unwrap());
    let taken = Address { mode: Mode::Replacing { own: None }, ..address(BOTH[0], dir.path()) };
    start(&net.lyon, &taken).unwrap();
    let text = std::fs::read_to_string(&taken.saved).unwrap();
    let body: String = text
        .lines()
        .filter(|line| !line.starts_with("end "))
        .map(|line| if line.starts_with("boot ") { "boot another\n".into() } else { format!("{line}\n") })
        .collect();
    std::fs::write(&taken.saved, format!("{body}end {:08x}\n", crc32fast::hash(body.as_bytes()))).unwrap();
    net.lyon.ip("addr add 10.9.0.9/24 dev eth0");
    assert_eq!(stop(&net.lyon, &taken), Ok(Done::Changed));
    let now = net.lyon.tables();
    assert!(now.contains("10.9.0.9/24") && !now.contains("10.9.0.100/") && !now.contains("10.9.0.2/"), "{now}");
}

#[test]
fn what_cannot_work_is_refused_and_changes_nothing() {
    let (net, dir) = (Net::new(), tempfile::tempdir().unwrap());
    let before = net.lyon.tables();
    let refused = |taken: Address, why: &str| match start(&net.lyon, &taken) {
        Err(Failure::Unusable(text)) => assert!(text.contains(why), "{text}"),
        other => panic!("{other:?} instead of {why}"),
    };
    refused(address("172.16.0.100/24", dir.path()), "no interface has a network");
    refused(Address { interface: Some("eth7".into()), ..address(BOTH[0], dir.path()) }, "no interface eth7");
    let own = Some("10.9.0.77".parse().unwrap());
    refused(Address { mode: Mode::Replacing { own }, ..address(BOTH[0], dir.path()) }, "has no 10.9.0.77");
    let short = net.lyon.inside(|| address(BOTH[0], dir.path()).start(Duration::from_millis(1))).value;
    assert!(matches!(short, Err(Failure::Unusable(_))), "{short:?}");
    assert_eq!(net.lyon.tables(), before);
}

#[test]
fn without_a_carrier_nobody_can_be_asked_and_nothing_is_known() {
    let (net, dir) = (Net::new(), tempfile::tempdir().unwrap());
    let taken = address(BOTH[0], dir.path());
    net.switch.ip("link set lyon down");
    common::wait_for("the carrier to go", || net.lyon.ip("link show dev eth0").contains("NO-CARRIER"));
    let refused = start(&net.lyon, &taken);
    assert!(matches!(refused, Err(Failure::Failed(_))), "{refused:?}");
    assert_eq!(status(&net.lyon, &taken), State::Stopped);
    net.lyon.ip("addr add 10.9.0.100/24 dev eth0");
    assert!(matches!(status(&net.lyon, &taken), State::Unknown(_)));
}

#[test]
fn a_damaged_file_stops_everything_and_stays() {
    let (net, dir) = (Net::new(), tempfile::tempdir().unwrap());
    let taken = address(BOTH[0], dir.path());
    std::fs::write(&taken.saved, "stead-addresses 1\nboot").unwrap();
    for result in [start(&net.lyon, &taken), stop(&net.lyon, &taken)] {
        assert!(matches!(&result, Err(Failure::Failed(why)) if why.contains("damaged")), "{result:?}");
    }
    assert!(taken.saved.exists());
}

#[test]
fn an_address_is_taken_off_without_its_file_and_brought_back_to_order_by_it() {
    for mode in [Mode::Beside, Mode::Replacing { own: None }] {
        for cidr in BOTH {
            let (net, dir) = (Net::new(), tempfile::tempdir().unwrap());
            furnish(&net.lyon, "0");
            let before = net.lyon.tables();
            let taken = Address { mode, ..address(cidr, dir.path()) };
            start(&net.lyon, &taken).unwrap();
            let off = || net.lyon.inside(|| take_off(cidr.parse().unwrap())).value;
            assert_eq!((off(), off()), (Ok(Done::Changed), Ok(Done::Already)));
            assert_eq!(status(&net.lyon, &taken), State::Stopped);
            assert_eq!(stop(&net.lyon, &taken), Ok(Done::Changed));
            assert_eq!(sorted(&net.lyon.tables()), sorted(&before));
        }
    }
}
