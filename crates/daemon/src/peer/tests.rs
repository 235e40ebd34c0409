//! Two ends of real streams on loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use super::listen;
use super::{Book, DialError, Dialer, Identity, Keyring, PeerStream, Purpose};
use crate::event::Event;
use crate::state::peers::Peer;

pub(super) struct Side {
    pub(super) keys: Keyring,
    pub(super) book: Book,
    pub(super) dialer: Dialer,
    _dir: tempfile::TempDir,
}

pub(super) fn side() -> Side {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keyring::new(Arc::new(Identity::load_or_make(dir.path()).unwrap()));
    let book = Book::default();
    Side { dialer: Dialer::new(keys.clone(), book.clone()), keys, book, _dir: dir }
}

pub(super) fn peer(name: &str, side: &Side, addresses: Vec<SocketAddr>) -> Peer {
    Peer::new(name.parse().unwrap(), side.keys.fingerprint(), addresses, 0)
}

/// A server that lets every data stream in that a peer opens, and hands it out.
fn serve(side: &Side) -> (SocketAddr, std::sync::mpsc::Receiver<PeerStream>) {
    let listener = listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (events, received) = sync_channel(16);
    listen::serve(listener, &side.keys, side.book.clone(), events).unwrap();
    let (streams, out) = sync_channel(16);
    thread::spawn(move || {
        for event in received {
            match event {
                Event::DataAsk { reply, .. } => drop(reply.send(Ok(()))),
                Event::DataStream { stream, .. } => drop(streams.send(*stream)),
                _ => {}
            }
        }
    });
    (address, out)
}

pub(super) fn data() -> Purpose {
    Purpose::Data { set: "notes".parse().unwrap() }
}

pub(super) fn pair() -> (PeerStream, PeerStream, Side, Side) {
    let (paris, lyon) = (side(), side());
    lyon.book.set(vec![peer("paris", &paris, vec![])]);
    let (address, streams) = serve(&lyon);
    paris.book.set(vec![peer("lyon", &lyon, vec![address])]);
    let near = paris.dialer.dial(&"lyon".parse().unwrap(), None, &data()).unwrap();
    let far = streams.recv_timeout(Duration::from_secs(5)).unwrap();
    (near, far, paris, lyon)
}

#[test]
fn both_directions_flow_at_the_same_time() {
    const BYTES: usize = 48 << 20;
    let (near, far, ..) = pair();
    let start = Instant::now();
    let pump = |stream: PeerStream| {
        let (mut reader, mut writer) = stream.split();
        let write = thread::spawn(move || {
            let piece: Vec<u8> = (0..1_000_003u32).map(|n| (n % 251) as u8).collect();
            let mut left = BYTES;
            while left > 0 {
                let now = left.min(piece.len());
                writer.write_all(&piece[..now]).unwrap();
                left -= now;
            }
            writer
        });
        let read = thread::spawn(move || {
            let mut buffer = vec![0; 300_001];
            let mut at = 0usize;
            while at < BYTES {
                let got = reader.read(&mut buffer).unwrap();
                assert!(got > 0);
                for (offset, byte) in buffer[..got].iter().enumerate().step_by(4093) {
                    assert_eq!(usize::from(*byte), (at + offset) % 1_000_003 % 251);
                }
                at += got;
            }
            reader
        });
        (write, read)
    };
    let (near, far) = (pump(near), pump(far));
    let kept = [near, far].map(|(write, read)| (write.join().unwrap(), read.join().unwrap()));
    let rate = (2 * BYTES) as f64 / start.elapsed().as_secs_f64() / 1e6;
    println!("{rate:.0} MB/s in both directions together");
    drop(kept);
}

#[test]
fn either_half_ends_both_and_wakes_the_reader() {
    let (near, far, ..) = pair();
    let (mut reader, writer) = near.split();
    let blocked = thread::spawn(move || reader.read(&mut [0; 16]));
    writer.shutdown();
    assert!(blocked.join().unwrap().is_err());
    let (mut reader, _writer) = far.split();
    assert!(reader.read(&mut [0; 16]).is_err());
}

#[test]
fn a_read_that_timed_out_can_be_tried_again() {
    let (near, far, ..) = pair();
    let (mut reader, _keep) = near.split();
    reader.set_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut byte = [0];
    let error = reader.read(&mut byte).unwrap_err();
    assert!(matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "{error}");
    let (_keep_too, mut writer) = far.split();
    writer.write_all(b"x").unwrap();
    reader.set_timeout(Some(Duration::from_secs(5))).unwrap();
    reader.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
}

#[test]
fn another_certificate_at_the_address_is_refused() {
    let (paris, lyon, other) = (side(), side(), side());
    let (address, _streams) = serve(&other);
    paris.book.set(vec![peer("lyon", &lyon, vec![address])]);
    let error = paris.dialer.dial(&"lyon".parse().unwrap(), None, &data()).err().unwrap();
    assert!(matches!(error, DialError::WrongCertificate { .. }), "{error}");
}

#[test]
fn a_stranger_is_refused_with_the_reason() {
    let (stranger, lyon) = (side(), side());
    let (address, _streams) = serve(&lyon);
    stranger.book.set(vec![peer("lyon", &lyon, vec![address])]);
    for purpose in [data(), Purpose::Prepare] {
        let error = stranger.dialer.dial(&"lyon".parse().unwrap(), None, &purpose).err().unwrap();
        assert!(error.to_string().contains("does not trust the certificate"), "{error}");
    }
}

#[test]
fn a_peer_of_another_protocol_version_is_refused_with_both_numbers() {
    let (paris, lyon) = (side(), side());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = super::tls::server(Arc::new(lyon.keys.clone())).unwrap();
    let later = thread::spawn(move || {
        let tls = rustls::ServerConnection::new(config).unwrap();
        let tcp = listener.accept().unwrap().0;
        let mut stream = PeerStream::handshake(tcp, rustls::Connection::Server(tls), Duration::from_secs(5)).unwrap();
        stream.write_all(b"STEAD\0\x04\0\x05\0").unwrap();
        stream.read_exact(&mut [0; 10]).unwrap();
    });
    paris.book.set(vec![peer("lyon", &lyon, vec![address])]);
    let error = paris.dialer.dial(&"lyon".parse().unwrap(), None, &data()).err().unwrap().to_string();
    assert!(error.contains("speaks protocol versions 4 to 5, and this build speaks 1 to 3"), "{error}");
    later.join().unwrap();
}

#[test]
fn something_that_is_no_node_is_told_apart_from_nothing() {
    let (paris, lyon) = (side(), side());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answering = thread::spawn(move || listener.accept().unwrap().0.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    paris.book.set(vec![peer("lyon", &lyon, vec![address])]);
    let dial = || paris.dialer.dial(&"lyon".parse().unwrap(), None, &data()).err().unwrap();
    assert!(matches!(dial(), DialError::Greeting { .. }));
    answering.join().unwrap().unwrap();
    assert!(matches!(dial(), DialError::Unreachable { .. }));
    assert!(matches!(
        paris.dialer.dial(&"rome".parse().unwrap(), None, &data()).err().unwrap(),
        DialError::UnknownNode(_)
    ));
}

#[test]
fn a_peer_that_hangs_is_given_up_in_time() {
    let (paris, lyon) = (side(), side());
    // It accepts (in the kernel) and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    paris.book.set(vec![peer("lyon", &lyon, vec![listener.local_addr().unwrap()])]);
    let start = Instant::now();
    let ping = super::messages::Ask::Ping;
    let failure = super::ask(&paris.dialer, &"lyon".parse().unwrap(), &ping, Duration::from_millis(300)).unwrap_err();
    assert!(failure.why.contains("lyon"), "{failure}");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}
