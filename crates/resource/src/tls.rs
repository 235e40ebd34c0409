//! Encryption as a client: a server has to be vouched for.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::Failure;

/// Where Linux distributions keep the certificates that a machine trusts.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// For a server of that name or address, vouched for by whom the file names, else by whom the machine trusts.
///
/// # Errors
/// Where the file cannot be read, or nobody is trusted.
pub fn client(host: &str, ca: Option<&Path>) -> Result<ClientConnection, Failure> {
    let name = host.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(name).map_err(Failure::at(format_args!("expect {host}")))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(Failure::at("begin TLS"))?.with_root_certificates(authorities(ca)?);
    ClientConnection::new(Arc::new(config.with_no_client_auth()), name).map_err(Failure::at("begin TLS"))
}

fn authorities(ca: Option<&Path>) -> Result<RootCertStore, Failure> {
    let missing = || Failure::Unusable("this machine trusts no certificates; name a ca-file in the plan".into());
    let usual = || BUNDLES.iter().map(Path::new).find(|path| path.exists());
    let path = ca.or_else(usual).ok_or_else(missing)?;
    let unread = |why: String| Failure::Unusable(format!("{} cannot be read: {why}", path.display()));
    let certificates = CertificateDer::pem_file_iter(path).map_err(|e| unread(e.to_string()))?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(|e| unread(e.to_string()))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() { Err(unread("it holds no certificates".into())) } else { Ok(roots) }
}
