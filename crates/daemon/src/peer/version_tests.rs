//! Peers of other versions, changes of keys, and the end of trust, over real streams.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::messages::{Ask, Tell};
use super::stream::PeerStream;
use super::tests::{Side, data, pair, peer, side};
use super::{Fingerprint, Identity, ask, listen, tls};
use crate::event::Event;

const SECONDS: Duration = Duration::from_secs(5);

/// A node at an address that does what the script says with the first connection.
fn scripted(node: &Side, script: impl FnOnce(PeerStream) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = tls::server(Arc::new(node.keys.clone())).unwrap();
    let thread = thread::spawn(move || {
        let server = rustls::ServerConnection::new(config).unwrap();
        let tcp = listener.accept().unwrap().0;
        script(PeerStream::handshake(tcp, rustls::Connection::Server(server), SECONDS).unwrap());
    });
    (address, thread)
}

fn frame(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

fn expect(stream: &mut PeerStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(bytes));
}

#[test]
fn a_node_of_version_1_is_asked_what_it_knows_and_nothing_else() {
    for knows in [true, false] {
        let (paris, lyon) = (side(), side());
        let (address, thread) = scripted(&lyon, move |mut stream| {
            expect(&mut stream, b"STEAD\0\x01\0\x03\0");
            expect(&mut stream, &frame("\"Prepare\""));
            stream.write_all(b"STEAD\0\x01\0\x01\0").unwrap();
            stream.write_all(&frame("{\"Ok\":null}")).unwrap();
            if knows {
                expect(&mut stream, &frame("\"Ping\""));
                stream.write_all(&frame("{\"Ok\":\"Done\"}")).unwrap();
            } else {
                assert_eq!(stream.read(&mut [0; 1]).map_err(|e| e.kind()).unwrap_or(0), 0, "it was asked nothing");
            }
        });
        paris.book.set(vec![peer("lyon", &lyon, vec![address])]);
        let name = "lyon".parse().unwrap();
        if knows {
            assert!(matches!(ask(&paris.dialer, &name, &Ask::Ping, SECONDS), Ok(Tell::Done)));
            assert_eq!(paris.book.contact(&name).unwrap().version, 1);
        } else {
            let failure = ask(&paris.dialer, &name, &Ask::Forget, SECONDS).unwrap_err();
            assert!(failure.why.contains("older and speaks version 1"), "{failure}");
            assert!(failure.remedy.contains("Upgrade Stead on lyon"), "{failure}");
        }
        thread.join().unwrap();
    }
}

/// A real listener, and a client that speaks as the script says.
fn served(version: &[u8; 4]) -> (PeerStream, std::sync::mpsc::Receiver<Event>, Side) {
    let (paris, lyon) = (side(), side());
    lyon.book.set(vec![peer("paris", &paris, vec![])]);
    let listener = listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (events, received) = sync_channel(16);
    listen::serve(listener, &lyon.keys, lyon.book.clone(), events).unwrap();
    // Version 1 names no server.
    let config = tls::client(&paris.keys.now(), lyon.keys.fingerprint()).unwrap();
    let client = rustls::ClientConnection::new(config, address.ip().into()).unwrap();
    let tcp = TcpStream::connect(address).unwrap();
    let mut stream = PeerStream::handshake(tcp, rustls::Connection::Client(client), SECONDS).unwrap();
    stream.write_all(&[b"STEAD\0".as_slice(), version].concat()).unwrap();
    (stream, received, lyon)
}

#[test]
fn a_node_of_version_1_is_answered() {
    let (mut stream, events, lyon) = served(b"\x01\0\x01\0");
    stream.write_all(&frame("\"Prepare\"")).unwrap();
    expect(&mut stream, b"STEAD\0\x01\0\x03\0");
    expect(&mut stream, &frame("{\"Ok\":null}"));
    stream.write_all(&frame("{\"Have\":{\"set\":\"notes\"}}")).unwrap();
    let Event::Peer(asked) = events.recv_timeout(SECONDS).unwrap() else { panic!("another event") };
    assert!(matches!(&asked.ask, Ask::Have { set } if set.as_str() == "notes"));
    asked.reply.send(Ok(Tell::Have(true))).unwrap();
    expect(&mut stream, &frame("{\"Ok\":{\"Have\":true}}"));
    assert_eq!(lyon.book.contact(&"paris".parse().unwrap()).unwrap().version, 1);
}

#[test]
fn a_node_of_a_later_version_learns_both_ranges_and_gets_nothing() {
    let (mut stream, events, _lyon) = served(b"\x04\0\x05\0");
    expect(&mut stream, b"STEAD\0\x01\0\x03\0");
    assert!(stream.read_exact(&mut [0; 1]).is_err(), "the connection ends");
    assert!(events.try_recv().is_err());
}

#[test]
fn streams_end_with_the_trust() {
    let (near, far, paris, lyon) = pair();
    let name = "paris".parse().unwrap();
    assert_eq!(lyon.book.streams(&name), 1);
    let (mut reader, _writer) = near.split();
    let blocked = thread::spawn(move || reader.read(&mut [0; 16]));
    lyon.book.set(Vec::new());
    lyon.book.end(&name);
    assert!(blocked.join().unwrap().is_err(), "the other side notices at once");
    drop(far);
    assert_eq!(lyon.book.streams(&name), 0);
    let error = paris.dialer.dial(&"lyon".parse().unwrap(), None, &data()).err().unwrap().to_string();
    assert!(error.contains("does not trust the certificate"), "{error}");
}

#[test]
fn both_keys_are_good_while_a_peer_has_to_be_told() {
    let (near, _far, paris, lyon) = pair();
    let (name, next) = ("lyon".parse().unwrap(), Arc::new(Identity::make().unwrap()));
    let dial = || paris.dialer.dial(&name, None, &data()).map(drop);
    let older = lyon.keys.now();
    lyon.keys.set(next.clone(), Some(older.clone()), BTreeSet::from(["paris".parse().unwrap()]));
    dial().unwrap();
    // It was told.
    let address = near.peer_address().unwrap();
    let with = |fingerprint: Fingerprint| {
        let mut known = peer("lyon", &lyon, vec![address]);
        known.fingerprint = fingerprint;
        paris.book.set(vec![known]);
    };
    with(next.fingerprint);
    dial().unwrap();
    // The overlap is over.
    lyon.keys.set(next, None, BTreeSet::new());
    dial().unwrap();
    with(older.fingerprint);
    assert!(dial().unwrap_err().to_string().contains("another certificate"));
}

#[test]
fn a_peer_that_drips_is_given_up_in_time() {
    let (paris, lyon) = (side(), side());
    let (address, thread) = scripted(&lyon, |mut stream| {
        // A greeting that comes byte by byte, and an answer that never ends.
        let text = [b"STEAD\0\x01\0\x03\0".as_slice(), &100u32.to_le_bytes(), &[b' '; 100]].concat();
        for byte in text {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    });
    paris.book.set(vec![peer("lyon", &lyon, vec![address])]);
    let start = Instant::now();
    let failure = ask(&paris.dialer, &"lyon".parse().unwrap(), &Ask::Ping, Duration::from_millis(700)).unwrap_err();
    assert!(failure.why.contains("in time"), "{failure}");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    thread.join().unwrap();
}

#[test]
fn the_next_address_is_tried_where_another_machine_answers_at_the_first() {
    let (_near, _far, paris, lyon) = pair();
    let (stranger, good) = (side(), paris.book.by_name(&"lyon".parse().unwrap()).unwrap().addresses[0]);
    let listener = listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let taken = listener.local_addr().unwrap();
    let (events, _received) = sync_channel(16);
    listen::serve(listener, &stranger.keys, stranger.book.clone(), events).unwrap();
    paris.book.set(vec![peer("lyon", &lyon, vec![taken, good])]);
    paris.dialer.dial(&"lyon".parse().unwrap(), None, &data()).unwrap();
}
