//! The same over TLS; the server has to be vouched for.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::Url;
use crate::net;

/// Where distributions keep the authorities that the machine trusts.
const AUTHORITIES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

pub(super) struct Stream<'a>(StreamOwned<ClientConnection, net::Stream<'a>>);

impl<'a> Stream<'a> {
    pub(super) fn new(url: &Url, ca_file: Option<&Path>, stream: net::Stream<'a>) -> Result<Stream<'a>, String> {
        let name = url.host.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name).map_err(|e| format!("{}: {e}", url.host))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|e| e.to_string())?.with_root_certificates(authorities(ca_file)?);
        let connection = ClientConnection::new(Arc::new(config.with_no_client_auth()), name);
        Ok(Stream(StreamOwned::new(connection.map_err(|e| e.to_string())?, stream)))
    }
}

fn authorities(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let usual = || AUTHORITIES.iter().map(PathBuf::from).find(|file| file.exists());
    let file = ca_file.map(PathBuf::from).or_else(usual).ok_or("this machine trusts no authorities: name a ca-file")?;
    let unread = |e: &dyn std::fmt::Display| format!("{} cannot be read: {e}", file.display());
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&file).map_err(|e| unread(&e))? {
        let certificate = certificate.map_err(|e| unread(&e))?;
        store.add_parsable_certificates([certificate]);
    }
    if store.is_empty() { Err(unread(&"it holds no certificates")) } else { Ok(store) }
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
