use std::path::Path;

use stead_api::{Answer, Request};

use super::{DONE, Ended};
use crate::client::{ask_quietly, misunderstood};

pub fn run(state: &Path) -> Ended {
    match ask_quietly(state, &Request::Invite)? {
        Answer::Invite(line) => println!("{line}"),
        other => return Err(misunderstood(&other)),
    }
    DONE
}
