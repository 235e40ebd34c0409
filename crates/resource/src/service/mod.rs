//! Services: units of systemd, and plain commands.
//!
//! Both are started and stopped in one way: look, act, look again until it is so. A program's word that it has started or
//! stopped something is not evidence; its state afterwards is.

mod commands;
#[cfg(feature = "dbus")]
mod dbus;
mod files;
mod systemctl;
mod unit;

pub use commands::Commands;
#[cfg(feature = "dbus")]
pub use dbus::Dbus;
pub use files::unit_files;
pub use systemctl::Systemctl;
pub use unit::{Active, Boot, Load, Manager, Standing, Unit, UnitName};

/// The way to ask systemd on this machine: over D-Bus where it runs and this was built with it, otherwise by `systemctl`.
pub fn manager() -> Box<dyn Manager> {
    #[cfg(feature = "dbus")]
    if std::path::Path::new("/run/systemd/system").exists() {
        return Box::new(Dbus::system());
    }
    Box::new(Systemctl::default())
}
