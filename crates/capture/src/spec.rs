//! What one capture process serves, as command line arguments.

use std::ffi::OsString;
use std::path::PathBuf;

use stead_model::plan::OnLeaseLost;

use crate::Order;

/// What one capture process serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSpec {
    /// Name of the set, for messages.
    pub set: String,
    /// Directories to mount over; all write into one stream.
    pub roots: Vec<PathBuf>,
    /// Order of writes.
    pub order: Order,
    /// Capacity of the ring; rounded up to a power of two, at least 4 MiB.
    pub ring_bytes: usize,
    /// Path of the Unix socket on which the daemon finds the process.
    pub socket: PathBuf,
    /// File that messages are appended to; none: they are dropped once serving.
    pub log: Option<PathBuf>,
    /// File with the lease of its group, and what becomes of changes past it; none: they are made.
    pub lease: Option<(PathBuf, OnLeaseLost)>,
    /// The process with which it ends, however that ends; none: it outlives the one that started it.
    pub parent: Option<u32>,
}

/// Arguments that do not make a [`MountSpec`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadSpec(String);

impl MountSpec {
    /// Capacity of the ring unless said otherwise.
    pub const RING_BYTES_DEFAULT: usize = 64 << 20;

    /// A spec of one set with the usual order and ring.
    pub fn new(set: &str, roots: Vec<PathBuf>, socket: PathBuf) -> MountSpec {
        let ring_bytes = Self::RING_BYTES_DEFAULT;
        MountSpec {
            set: set.into(),
            roots,
            order: Order::Strict,
            ring_bytes,
            socket,
            log: None,
            lease: None,
            parent: None,
        }
    }

    /// As arguments that [`MountSpec::from_args`] understands.
    pub fn to_args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["--set".into(), self.set.clone().into()];
        args.extend(["--order".into(), self.order.to_string().into()]);
        args.extend(["--ring-bytes".into(), self.ring_bytes.to_string().into()]);
        args.extend(["--socket".into(), self.socket.clone().into()]);
        if let Some(log) = &self.log {
            args.extend(["--log".into(), log.into()]);
        }
        if let Some((file, policy)) = &self.lease {
            args.extend([if *policy == OnLeaseLost::Stop { "--lease-or-stop" } else { "--lease" }.into(), file.into()]);
        }
        if let Some(parent) = self.parent {
            args.extend(["--parent".into(), parent.to_string().into()]);
        }
        args.extend(self.roots.iter().map(OsString::from));
        args
    }

    /// Reads what [`MountSpec::to_args`] wrote: options first, then the roots.
    ///
    /// # Errors
    /// Names the argument that is unknown, missing or malformed.
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<MountSpec, BadSpec> {
        let mut spec = MountSpec::new("", Vec::new(), PathBuf::new());
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let Some(option) = arg.to_str().filter(|arg| arg.starts_with("--")) else {
                spec.roots.push(arg.into());
                continue;
            };
            let value = args.next().ok_or_else(|| BadSpec(format!("{option} needs a value")))?;
            let text = || value.to_str().ok_or_else(|| BadSpec(format!("{option} needs text")));
            match option {
                "--set" => spec.set = text()?.into(),
                "--order" => spec.order = text()?.parse().map_err(BadSpec)?,
                "--ring-bytes" => {
                    let bytes = text()?.parse().map_err(|_| BadSpec(format!("{option} needs a number")));
                    spec.ring_bytes = bytes?;
                }
                "--socket" => spec.socket = value.into(),
                "--log" => spec.log = Some(value.into()),
                "--lease" => spec.lease = Some((value.into(), OnLeaseLost::SuspendIo)),
                "--lease-or-stop" => spec.lease = Some((value.into(), OnLeaseLost::Stop)),
                "--parent" => {
                    let parent = text()?.parse().map_err(|_| BadSpec(format!("{option} needs a number")));
                    spec.parent = Some(parent?);
                }
                _ => return Err(BadSpec(format!("{option} is not an option of capture"))),
            }
        }
        if spec.roots.is_empty() || spec.socket.as_os_str().is_empty() {
            return Err(BadSpec("capture needs --socket and at least one directory".into()));
        }
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_read_back() {
        let mut spec = MountSpec::new("notes", vec!["/srv/a b".into(), "/srv/c".into()], "/run/x.sock".into());
        spec.order = Order::Flush;
        spec.log = Some("/var/log/x".into());
        spec.parent = Some(77);
        for policy in [OnLeaseLost::SuspendIo, OnLeaseLost::Stop] {
            spec.lease = Some(("/run/lease".into(), policy));
            assert_eq!(MountSpec::from_args(spec.to_args()).unwrap(), spec);
        }
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let args = |list: &[&str]| MountSpec::from_args(list.iter().map(OsString::from)).unwrap_err().to_string();
        assert!(args(&["--socket", "/s"]).contains("directory"));
        assert!(args(&["--sock", "/s", "/d"]).contains("--sock"));
        assert!(args(&["--order", "loose", "/d"]).contains("loose"));
    }
}
