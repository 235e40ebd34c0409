//! This node's key and self-signed certificate, and how certificates are named.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
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
        let bytes = from_hex(text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Fingerprint).ok_or_else(|| BadFingerprint(text.into()))
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

/// Bytes as hexadecimal digits.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads what [`to_hex`] wrote.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Key and certificate of a node.
pub(crate) struct Identity {
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) fingerprint: Fingerprint,
    pub(super) certified: Arc<CertifiedKey>,
}

impl Identity {
    /// Reads them, or makes them where the state directory holds none yet.
    pub(crate) fn load_or_make(state: &Path) -> Result<Identity, Failure> {
        let (key, certificate) = (state.join(KEY), state.join(CERTIFICATE));
        // The certificate comes last: where it is missing, nobody has ever seen it.
        if !certificate.exists() {
            let made = Identity::make()?;
            files::write(&key, made.key.secret_der(), 0o600)?;
            files::write(&certificate, &made.certificate, 0o644)?;
        }
        let unusable = |why: String| {
            let remedy = "Restore both files from a backup of the state (stead state restore)";
            Failure::new(format!("{} and {} cannot be used", key.display(), certificate.display()), why, remedy)
        };
        Identity::from_der(files::read(&key)?, files::read(&certificate)?).map_err(unusable)
    }

    /// Makes the state directory's key and certificate this one.
    pub(crate) fn save(&self, state: &Path) -> Result<(), Failure> {
        files::write(&state.join(KEY), self.key.secret_der(), 0o600)?;
        files::write(&state.join(CERTIFICATE), &self.certificate, 0o644)
    }

    /// A new key with its certificate.
    pub(crate) fn make() -> Result<Identity, Failure> {
        let failed = |why: String| Failure::new("the node's key could not be made", why, "");
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(|e| failed(e.to_string()))?;
        let mut params = rcgen::CertificateParams::new(vec!["stead".to_string()]).map_err(|e| failed(e.to_string()))?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "stead");
        let certificate = params.self_signed(&key).map_err(|e| failed(e.to_string()))?;
        Identity::from_der(key.serialize_der(), certificate.der().to_vec()).map_err(failed)
    }

    /// From a PKCS#8 key and a certificate that belong together.
    pub(crate) fn from_der(key: Vec<u8>, certificate: Vec<u8>) -> Result<Identity, String> {
        let certificate = CertificateDer::from(certificate);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let certified = CertifiedKey::from_der(vec![certificate.clone()], key.clone_key(), &provider);
        let certified = Arc::new(certified.map_err(|e| e.to_string())?);
        Ok(Identity { key, fingerprint: Fingerprint::of(&certificate), certificate, certified })
    }
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
