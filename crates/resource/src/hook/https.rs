//! The same over TLS.

use std::io::{self, Read, Write};
use std::path::Path;

use rustls::{ClientConnection, StreamOwned};

use super::Url;
use crate::{Failure, net, tls};

pub(super) struct Stream<'a>(StreamOwned<ClientConnection, net::Stream<'a>>);

impl<'a> Stream<'a> {
    pub(super) fn new(url: &Url, ca_file: Option<&Path>, stream: net::Stream<'a>) -> Result<Stream<'a>, Failure> {
        Ok(Stream(StreamOwned::new(tls::client(&url.host, ca_file)?, stream)))
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
