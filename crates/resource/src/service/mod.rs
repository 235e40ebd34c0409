//! Services: units of systemd, and plain commands.
//!
//! Both are started and stopped in one way: look, act, look again until it is so. A program's word that it has started or
//! stopped something is not evidence; its state afterwards is.

mod commands;
mod procedure;
mod systemctl;
mod unit;

pub use commands::Commands;
pub use systemctl::Systemctl;
pub use unit::{Active, Boot, Load, Manager, Standing, Unit, UnitName};
