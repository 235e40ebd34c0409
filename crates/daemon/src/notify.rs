//! Tells systemd how it stands (`sd_notify(3)`), where systemd started the daemon.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

pub(crate) fn ready() {
    send("READY=1");
}

pub(crate) fn stopping() {
    send("STOPPING=1");
}

/// To be told regularly, where [`is_watched`].
pub(crate) fn alive() {
    send("WATCHDOG=1");
}

/// Does systemd wait for signs of life of this process (`WatchdogSec=`)?
pub(crate) fn is_watched() -> bool {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    number("WATCHDOG_USEC").is_some() && number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()))
}

/// Does systemd run this process?
pub(crate) fn is_run() -> bool {
    ["NOTIFY_SOCKET", "INVOCATION_ID"].iter().any(|name| std::env::var_os(name).is_some())
}

fn send(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|to| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &to));
    if let Err(e) = sent {
        tracing::warn!("systemd was not told {state}: {e}");
    }
}
