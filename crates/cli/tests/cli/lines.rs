//! Bad lines between real daemons: another machine at the address, nobody there, releases of other versions.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::daemon::Daemon;
use crate::trust::{Pair, connection, json, until};

/// Somebody who accepts connections at that address, does that with them, and counts them.
fn somebody(address: &str, answer: fn(&mut std::net::TcpStream)) -> Arc<AtomicUsize> {
    let listener = TcpListener::bind(address).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || answer(&mut stream));
        }
    });
    count
}

#[test]
fn another_machine_at_the_address_is_named_and_asked_seldom() {
    let mut pair = Pair::protected();
    let address = pair.lyon.listen().to_string();
    pair.lyon.stop();
    let mut stranger = Daemon::start("stranger", &address);
    until("it is named", 30, || {
        let connection = connection(&pair.paris);
        connection["state"] == "disconnected"
            && connection["reason"].as_str().is_some_and(|why| why.contains("another certificate than lyon's"))
    });
    pair.paris.stead(&["node", "list"]).done();
    let knocks = || stranger.log().lines().filter(|line| line.contains("connection from")).count();
    let before = knocks();
    std::thread::sleep(Duration::from_secs(8));
    assert!(knocks() - before <= 2, "asked {} times in 8 s", knocks() - before);
    stranger.stop();
    pair.lyon.launch();
    until("it is connected again", 60, || connection(&pair.paris)["state"] == "replicating");
    pair.carries("from the right machine");
}

#[test]
fn a_target_that_closes_every_connection_is_not_stormed() {
    let mut pair = Pair::protected();
    let address = pair.lyon.listen().to_string();
    pair.lyon.stop();
    let count = somebody(&address, |stream| {
        let _ = stream.read(&mut [0; 64]);
    });
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs(6));
    // 100 ms, doubled each time and at least half of it: at most 8 attempts in 6 s.
    let attempts = count.load(Ordering::SeqCst);
    assert!((2..=10).contains(&attempts), "{attempts} attempts in {:?}", start.elapsed());
    assert_eq!(connection(&pair.paris)["state"], "disconnected");
}

#[test]
fn a_target_that_drips_bytes_is_given_up_in_bounded_time() {
    let mut pair = Pair::protected();
    let address = pair.lyon.listen().to_string();
    pair.lyon.stop();
    // The beginning of a TLS record of 16 KiB that never ends.
    somebody(&address, |stream| {
        let _ = stream.write_all(&[22, 3, 3, 0x40, 0]);
        while stream.write_all(&[2]).is_ok() {
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    let asked = Instant::now();
    assert_eq!(json(&pair.paris, &["status", "--json"])["unreachable"][0], "lyon");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    until("it is given up", 40, || {
        connection(&pair.paris)["reason"].as_str().is_some_and(|why| why.contains("in time"))
    });
}
