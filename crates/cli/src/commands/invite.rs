use std::path::Path;

use stead_api::{Answer, Request};

use super::{DONE, Ended};
use crate::client::{ask_quietly, misunderstood};
use crate::show::say;

pub fn run(state: &Path) -> Ended {
    match ask_quietly(state, &Request::Invite)? {
        Answer::Invite(line) => say(format_args!("{line}\n")),
        other => return Err(misunderstood(&other)),
    }
    DONE
}
