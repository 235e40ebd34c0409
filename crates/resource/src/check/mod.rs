//! Looks from outside whether a service answers: beside its node's heartbeat, which says only that the node lives.

mod dialogue;
mod http;

use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::command::Command;
use crate::dns::Question;
use crate::{Failure, Outcome, Stop, Term};

/// What a service has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// It takes a connection.
    Tcp(SocketAddr),
    /// `http://ADDRESS:PORT/PATH` answers with a code from 200 to 399.
    Http {
        /// Where.
        url: String,
        /// What the page has to hold within its first 256 KiB.
        expect: Option<String>,
    },
    /// A mail server greets, answers `EHLO` and `QUIT` (RFC 5321).
    Smtp(SocketAddr),
    /// A server of mailboxes greets, answers `CAPABILITY` and `LOGOUT` (RFC 9051).
    Imap(SocketAddr),
    /// A name server answers, with what is expected.
    Dns(Question),
    /// The program ends with 0.
    Command(Command),
}

impl Check {
    /// Looks once, for no longer than that.
    ///
    /// # Errors
    /// In the outcome: what speaks against it.
    pub fn run(&self, limit: Duration) -> Outcome<Result<(), Failure>> {
        Outcome::with_output(|output| match self {
            Check::Tcp(address) => connect(*address, limit).map(drop),
            Check::Http { url, expect } => http::look(url, expect.as_deref(), Instant::now() + limit),
            Check::Smtp(address) => dialogue::smtp(*address, Instant::now() + limit),
            Check::Imap(address) => dialogue::imap(*address, Instant::now() + limit),
            Check::Dns(question) => question.ask(Term::new(limit, &Stop::never())),
            Check::Command(command) => {
                let ran = command.run(limit);
                output.append(ran.output);
                let failed = || Failure::Failed(format!("the check command {}", ran.end));
                if ran.end.is_success() { Ok(()) } else { Err(failed()) }
            }
        })
    }
}

fn connect(address: SocketAddr, limit: Duration) -> Result<TcpStream, Failure> {
    TcpStream::connect_timeout(&address, limit.max(Duration::from_millis(1)))
        .map_err(|e| Failure::Failed(format!("{address} takes no connection: {e}")))
}

/// Reads until it is enough, or nothing more comes; however slowly it comes.
fn read(stream: &mut TcpStream, most: usize, enough: impl Fn(&[u8]) -> bool, moment: Instant) -> io::Result<String> {
    let (mut all, mut bytes) = (Vec::new(), vec![0; most.min(16 << 10)]);
    while all.len() < most && !enough(&all) {
        stream.set_read_timeout(Some(left(moment)))?;
        match stream.read(&mut bytes)? {
            0 => break,
            len => all.extend_from_slice(&bytes[..len]),
        }
        if Instant::now() >= moment {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    Ok(String::from_utf8_lossy(&all).into_owned())
}

/// What is left until then; the kernel takes none for no limit.
fn left(moment: Instant) -> Duration {
    moment.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    /// Answers once, byte by byte with that pause.
    fn server(answer: &'static str, pause: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let _ = stream.read(&mut [0; 256]);
            for byte in answer.as_bytes() {
                let _ = stream.write_all(&[*byte]);
                thread::sleep(pause);
            }
        });
        address
    }

    fn asked(address: SocketAddr, limit: Duration) -> Result<(), Failure> {
        Check::Http { url: format!("http://{address}/health"), expect: None }.run(limit).value
    }

    #[test]
    fn a_page_has_to_hold_what_is_expected() {
        let page = "HTTP/1.1 200 OK\r\nX-Word: head\r\n\r\nall is well";
        let asked = |expect: &str| {
            let url = format!("http://{}/", server(page, Duration::ZERO));
            Check::Http { url, expect: Some(expect.into()) }.run(LIMIT).value
        };
        assert_eq!(asked("is well"), Ok(()));
        for missing in ["is ill", "head"] {
            assert!(asked(missing).unwrap_err().to_string().contains(missing));
        }
    }

    /// Answers each line with the next of these.
    fn mail(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            for answer in answers {
                let _ = stream.write_all(answer.as_bytes());
                let _ = stream.read(&mut [0; 256]);
            }
        });
        address
    }

    #[test]
    fn a_mail_server_has_to_speak() {
        let asked = |answers| Check::Smtp(mail(answers)).run(LIMIT).value;
        assert_eq!(asked(&["220-hello\r\n220 there\r\n", "250-SIZE\r\n250 HELP\r\n", "221 bye\r\n"]), Ok(()));
        let refused = |answers| asked(answers).unwrap_err().to_string();
        assert!(refused(&["421 too busy\r\n"]).contains("answers a connection with \"421 too busy\""));
        assert!(refused(&["220 hello\r\n", "502 no\r\n"]).contains("answers EHLO localhost with \"502 no\""));
        assert!(refused(&["220 hello\r\n", "250-more"]).contains("does not answer as a mail server"));
    }

    #[test]
    fn a_server_of_mailboxes_has_to_speak() {
        let asked = |answers| Check::Imap(mail(answers)).run(LIMIT).value;
        let well = &["* OK hello\r\n", "* CAPABILITY IMAP4rev1\r\na OK\r\n", "* BYE so long\r\nb OK\r\n"];
        assert_eq!(asked(well), Ok(()));
        let refused = |answers| asked(answers).unwrap_err().to_string();
        assert!(refused(&["* BYE too busy\r\n"]).contains("answers a connection with \"* BYE too busy\""));
        assert!(refused(&["* OK hello\r\n", "* x\r\na NO not now\r\n"]).contains("CAPABILITY with \"a NO not now\""));
        assert!(refused(&["* OK hello\r\n", "* CAPABILITY"]).contains("does not answer as a server of mailboxes"));
    }

    #[test]
    fn pages_are_judged_by_their_code() {
        assert_eq!(asked(server("HTTP/1.1 204 No Content\r\n\r\n", Duration::ZERO), LIMIT), Ok(()));
        let refused = asked(server("HTTP/1.1 503 Service Unavailable\r\n\r\n", Duration::ZERO), LIMIT).unwrap_err();
        assert!(refused.to_string().contains("503"), "{refused}");
        let secure = Check::Http { url: "https://x/".into(), expect: None };
        assert!(matches!(secure.run(LIMIT).value, Err(Failure::Unusable(_))));
    }

    #[test]
    fn a_server_that_drips_is_given_up_in_time() {
        let drips = server("HTTP/1.1 200 OK                                        \r\n", Duration::from_millis(100));
        let looked = Check::Http { url: format!("http://{drips}/"), expect: None }.run(Duration::from_millis(300));
        assert!(looked.value.is_err() && looked.took < Duration::from_secs(3), "{looked:?}");
    }

    #[test]
    fn commands_and_connections_say_why_they_fail() {
        let command = |argv: &[&str], limit| Check::Command(Command::new(argv)).run(limit).value;
        assert_eq!(command(&["/bin/true"], LIMIT), Ok(()));
        assert!(command(&["/bin/sh", "-c", "exit 3"], LIMIT).unwrap_err().to_string().contains("code 3"));
        assert!(command(&["/bin/sleep", "9"], Duration::from_millis(100)).is_err());
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(Check::Tcp(closed).run(LIMIT).value.unwrap_err().to_string().contains("takes no connection"));
    }
}
