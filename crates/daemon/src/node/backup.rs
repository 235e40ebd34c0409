//! `stead state backup`: the loop owns what is copied, so the copy is of one moment.

use stead_api::{Answer, Failure};

use super::Node;
use crate::peer::to_hex;
use crate::state::backup;

impl Node {
    pub(super) fn back_up(&self) -> Result<Answer, Failure> {
        backup::take(&self.state).map(|bytes| Answer::Backup(to_hex(&bytes)))
    }
}
