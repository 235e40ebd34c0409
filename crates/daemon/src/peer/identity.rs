//! This node's key and self-signed certificate, and how certificates are named.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use stead_api::Failure;

use crate::state::files;

const KEY: &str = "node.key";
const CERTIFICATE: &str = "node.crt";

/// SHA-256 of a certificate; written as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(pub [u8; 32]);

/// Text that is not a fingerprint.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a fingerprint of 64 hexadecimal digits")]
pub struct BadFingerprint(String);

impl Fingerprint {
    /// That of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Fingerprint {
        Fingerprint(digest(&SHA256, certificate).as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// Its first half, as epochs name their writer.
    pub fn half(&self) -> [u8; 16] {
        self.0[..16].try_into().expect("16 of 32 bytes")
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Fingerprint {
    type Err = BadFingerprint;
    fn from_str(text: &str) -> Result<Self, BadFingerprint> {
        from_hex(text).map(Fingerprint).ok_or_else(|| BadFingerprint(text.into()))
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = BadFingerprint;
    fn try_from(text: String) -> Result<Self, BadFingerprint> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> String {
        fingerprint.to_string()
    }
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Key and certificate of this node.
pub(crate) struct Identity {
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) fingerprint: Fingerprint,
}

impl Identity {
    /// Reads them, or makes them where the state directory holds none yet.
    pub(crate) fn load_or_make(state: &Path) -> Result<Identity, Failure> {
        let (key, certificate) = (state.join(KEY), state.join(CERTIFICATE));
        if !key.exists() && !certificate.exists() {
            let (made_key, made_certificate) = make()?;
            files::write(&certificate, &made_certificate, 0o644)?;
            files::write(&key, &made_key, 0o600)?;
        }
        let certificate = CertificateDer::from(files::read(&certificate)?);
        let fingerprint = Fingerprint::of(&certificate);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(files::read(&key)?));
        Ok(Identity { key, certificate, fingerprint })
    }
}

fn make() -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let failed = |e: rcgen::Error| Failure::new("the node's key could not be made", e.to_string(), "");
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(failed)?;
    let mut params = rcgen::CertificateParams::new(vec!["stead".to_string()]).map_err(failed)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "stead");
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok((key.serialize_der(), certificate.der().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::load_or_make(dir.path()).unwrap();
        let second = Identity::load_or_make(dir.path()).unwrap();
        assert_eq!(first.fingerprint, second.fingerprint);
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(dir.path().join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn fingerprints_read_back() {
        let fingerprint = Fingerprint([0xab; 32]);
        assert_eq!(fingerprint.to_string().parse::<Fingerprint>().unwrap(), fingerprint);
        assert!("ab".parse::<Fingerprint>().is_err());
        assert!("é".repeat(32).parse::<Fingerprint>().is_err());
    }
}
