use std::path::Path;

use stead_api::Request;

use super::{DONE, Ended};
use crate::client::ask_quietly;

pub fn run(state: &Path) -> Ended {
    ask_quietly(state, &Request::Shutdown)?;
    DONE
}
