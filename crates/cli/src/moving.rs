//! Having a group move.

use std::path::Path;
use std::time::Duration;

use stead_api::{Failure, Request, Want};
use stead_model::GroupName;

use crate::client::ask_quietly;

/// A request that is not begun by then is not begun any more: nobody is surprised by one that was forgotten.
pub const BEGUN_WITHIN: Duration = Duration::from_secs(60);

/// Asks for it, and waits until it has come about.
///
/// # Errors
/// Why it has not.
pub fn have_moved(state: &Path, group: &GroupName, want: Want) -> Result<(), Failure> {
    want_for(state, group, want, BEGUN_WITHIN)
}

/// As [`have_moved`], with an end of the request's own.
///
/// # Errors
/// Why it has not.
pub fn want_for(state: &Path, group: &GroupName, want: Want, lasts: Duration) -> Result<(), Failure> {
    let expires_ms = lasts.as_millis().try_into().unwrap_or(u64::MAX);
    ask_quietly(state, &Request::Move { group: group.clone(), want, expires_ms }).map(|_| ())
}
