//! The bad line is as bad as it says.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use stead_tests::command::until;
use stead_tests::host::{Host, Hosts};
use stead_tests::relay::{Flow, Relay};

/// A relay in front of a server that begins with its name and then sends back what it gets.
fn relay(hosts: &Hosts) -> Relay {
    serve(&hosts.lyon, 9001, b'l');
    Relay::start(&hosts.lyon, 9000, &format!("{}:9001", hosts.lyon.address())).unwrap()
}

fn serve(host: &Host, port: u16, name: u8) {
    let address = format!("{}:{port}", host.address());
    let listen = move || {
        let listener = TcpListener::bind(address).unwrap();
        std::thread::spawn(move || {
            // As many as a test makes; the threads end with their connections.
            for mut connection in listener.incoming().take(8).flatten() {
                std::thread::spawn(move || {
                    connection.write_all(&[name])?;
                    std::io::copy(&mut connection.try_clone()?, &mut connection)
                });
            }
        });
    };
    host.inside(listen).unwrap();
}

fn connect(hosts: &Hosts, relay: &Relay) -> (TcpStream, u8) {
    let address = relay.address();
    let mut stream = hosts.paris.inside(move || TcpStream::connect(address)).unwrap().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut name = [0];
    stream.read_exact(&mut name).unwrap();
    (stream, name[0])
}

fn send_back(stream: &mut TcpStream, bytes: &[u8]) -> Duration {
    let begin = Instant::now();
    stream.write_all(bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, bytes);
    begin.elapsed()
}

fn is_silent(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
    let silent = matches!(stream.read(&mut [0; 8]), Err(e) if e.kind() == ErrorKind::WouldBlock);
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    silent
}

#[test]
fn it_delays_and_limits_the_rate() {
    let hosts = Hosts::new().unwrap();
    let relay = relay(&hosts);
    let (mut stream, _) = connect(&hosts, &relay);
    relay.delay(Duration::from_millis(100));
    let trip = send_back(&mut stream, b"x");
    assert!((200..5_000).contains(&trip.as_millis()), "{trip:?}");
    relay.delay(Duration::ZERO);
    relay.rate(Some(250_000));
    let took = send_back(&mut stream, &[7; 125_000]);
    assert!((450..10_000).contains(&took.as_millis()), "{took:?}");
    // Back comes the name, too; the last piece is counted just after it was handed on.
    let all = (125_001, 125_002);
    until("all is counted", Duration::from_secs(5), || Ok(relay.carried() == all)).unwrap();
}

#[test]
fn it_holds_up_what_is_half_open_and_goes_on_afterwards() {
    let hosts = Hosts::new().unwrap();
    let relay = relay(&hosts);
    let (mut stream, _) = connect(&hosts, &relay);
    for flow in [Flow::HalfOpen, Flow::LoseForward, Flow::LoseBack] {
        relay.flow(flow);
        stream.write_all(b"held up").unwrap();
        assert!(is_silent(&mut stream), "{flow:?}");
        relay.flow(Flow::Through);
        let mut back = [0; 7];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"held up");
    }
}

#[test]
fn it_cuts_and_leads_elsewhere() {
    let hosts = Hosts::new().unwrap();
    let relay = relay(&hosts);
    let (mut stream, name) = connect(&hosts, &relay);
    assert_eq!(name, b'l');
    relay.flow(Flow::Cut);
    assert!(matches!(stream.read(&mut [0; 8]), Ok(0) | Err(_)) && !is_silent(&mut stream));
    relay.flow(Flow::Through);
    serve(&hosts.lyon, 9002, b'o');
    relay.lead_to(&format!("{}:9002", hosts.lyon.address())).unwrap();
    assert_eq!(connect(&hosts, &relay).1, b'o');
}
