use std::path::Path;

use stead_api::Request;

use super::{DONE, Ended};
use crate::args::SetArg;
use crate::client::ask_quietly;

pub fn pause(state: &Path, args: SetArg) -> Ended {
    ask_quietly(state, &Request::Pause { set: args.set })?;
    DONE
}

pub fn resume(state: &Path, args: SetArg) -> Ended {
    ask_quietly(state, &Request::Resume { set: args.set })?;
    DONE
}
