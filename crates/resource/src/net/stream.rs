//! A connection that is given up when its term is over, whatever it waits for.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;

use rustix::event::PollFlags;
use socket2::{Domain, Protocol, Socket, Type};

use super::wait::ready;
use crate::Term;

/// Reads and writes end with `TimedOut` when the limit is over, and with `ConnectionAborted` when it was called off.
pub struct Stream<'a> {
    stream: TcpStream,
    term: Term<'a>,
}

impl<'a> Stream<'a> {
    pub fn connect(address: SocketAddr, term: Term<'a>) -> io::Result<Stream<'a>> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
        let begun = socket.connect(&address.into());
        let stream = Stream { stream: socket.into(), term };
        match begun {
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
                stream.wait(PollFlags::OUT)?;
                stream.stream.take_error()?.map_or(Ok(()), Err)?;
            }
            other => other?,
        }
        stream.stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn check(&self) -> io::Result<()> {
        match self.term.is_over() {
            true if self.term.stop.is_called() => Err(ErrorKind::ConnectionAborted.into()),
            true => Err(ErrorKind::TimedOut.into()),
            false => Ok(()),
        }
    }

    /// Until it can be read or written.
    fn wait(&self, flags: PollFlags) -> io::Result<()> {
        loop {
            self.check()?;
            if ready([(self.stream.as_fd(), flags)], self.term.stop, self.term.moment)?[0] {
                return Ok(());
            }
        }
    }

    fn again<T>(&self, flags: PollFlags, mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            self.check()?;
            match act() {
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.wait(flags)?,
                other => return other,
            }
        }
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.again(PollFlags::IN, || (&self.stream).read(into))
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.again(PollFlags::OUT, || (&self.stream).write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
