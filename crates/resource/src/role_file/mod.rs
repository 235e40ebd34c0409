//! Files that are others while a node serves: put in place at one instant, put back at one, and never at the cost of what
//! somebody wrote into them by hand.
//!
//! What is known of a file is kept in a directory of its own:
//!
//! ```text
//! next          what is being put in place; there after a crash alone
//! put-active    what was put in place last, and for which role: what differs from it was changed by hand
//! put-standby
//! before        what was there before the node served, where no copy says what is there while it does not
//! absent        nothing was there
//! ```

mod image;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use stead_model::plan::substituted_bytes;

use crate::files::write_durably;
use crate::{Done, Failure};
use image::{Image, Links, made, moved, removed};

/// Changes by hand that are kept beside a file until somebody takes them away.
const KEPT_MAX: usize = 100;

/// A file, and what is there when.
#[derive(Clone, Debug)]
pub struct RoleFile {
    /// Its absolute path.
    pub path: PathBuf,
    /// What is there while the node serves.
    pub active: Active,
    /// What is there while it does not; none: what was there before.
    pub standby: Option<PathBuf>,
    /// What is known of it; made where it is needed, and this file's alone.
    pub dir: PathBuf,
}

/// What is there while the node serves.
#[derive(Clone, Debug)]
pub enum Active {
    /// This file's copy.
    Copy(PathBuf),
    /// Made from a file, with these paths in the place of others.
    Made {
        /// Which file.
        from: PathBuf,
        /// Each with what stands in its place.
        paths: Vec<(String, String)>,
    },
}

/// Does the node serve?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It does.
    Active,
    /// It does not.
    Standby,
}

/// What came of a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switched {
    /// Was anything changed?
    pub done: Done,
    /// For people: what was changed by hand, and where it is kept.
    pub told: Option<String>,
}

/// What is to be there.
enum Wanted {
    Is(Image),
    Absent,
    /// What is there, whatever it is.
    Anything,
}

/// Can that file be a copy of a role file?
///
/// # Errors
/// Why not.
pub fn is_usable(copy: &Path) -> Result<(), String> {
    match Image::read(copy, Links::Followed) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(format!("its copy {} is not there", copy.display())),
        Err(why) => Err(format!("its copy {} cannot be read: {why}", copy.display())),
    }
}

impl RoleFile {
    /// Has what is of the role be there. What was changed by hand since the last switch to the same role stays and is told;
    /// what else is neither copy is kept beside the file. Whatever a crash left is finished by the next call.
    ///
    /// # Errors
    /// Where a copy is missing, and what the file system refuses; the file is the old one or the new one then.
    pub fn switch(&self, role: Role) -> Result<Switched, Failure> {
        let now = self.now()?;
        match self.wanted(role)? {
            Wanted::Anything => Ok(Switched { done: Done::Already, told: None }),
            wanted => self.turn(role, now, &wanted).map_err(Failure::at(format!("switch {}", self.path.display()))),
        }
    }

    /// What stands against a switch, and what of the file is not as it was put there: one line each.
    pub fn look(&self, role: Role) -> Vec<String> {
        let copies = [Some(self.wanted(Role::Active)), self.standby.as_ref().map(|_| self.wanted(Role::Standby))];
        let mut found: Vec<_> = copies.into_iter().flatten().filter_map(|copy| Some(copy.err()?.to_string())).collect();
        match self.now() {
            Ok(now) => found.extend(self.drift(role, now.as_ref())),
            Err(why) => found.push(why.to_string()),
        }
        found.extend(self.kept().iter().map(|kept| {
            let (kept, path) = (kept.display(), self.path.display());
            format!("{kept} holds what {path} was by hand before a switch; take over what is to stay, and remove it")
        }));
        found
    }

    /// What of the file is not as it was put there for the role; a copy that was changed since is not of the file.
    pub fn drifted(&self, role: Role) -> Option<String> {
        let now = self.now().ok()?;
        let put = self.state(put_for(role)).ok().flatten()?;
        let is_as_put = now.as_ref().is_some_and(|now| now.is_like(&put));
        if is_as_put { None } else { self.drift(role, now.as_ref()) }
    }

    /// Nobody switches it any more: what was there before is kept beside it. Returns where.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn release(&self) -> Result<Option<PathBuf>, Failure> {
        let Some(before) = self.state("before").map_err(self.unread())? else { return Ok(None) };
        let is_there = self.now()?.is_some_and(|now| now.bytes == before.bytes);
        let kept = if is_there { Ok(None) } else { self.keep(&before).map(Some) };
        let forgotten = kept.and_then(|kept| self.forget().map(|()| kept));
        forgotten.map_err(self.unread())
    }

    fn turn(&self, role: Role, now: Option<Image>, wanted: &Wanted) -> io::Result<Switched> {
        if let Some(now) = now.as_ref().filter(|now| !wanted.is(Some(now)))
            && self.is_edited(role, now)?
        {
            let told = format!("{} was changed by hand since it was put there, and stays so", self.path.display());
            return Ok(Switched { done: Done::Already, told: Some(told) });
        }
        if wanted.is(now.as_ref()) {
            self.settle(role, wanted)?;
            return Ok(Switched { done: Done::Already, told: None });
        }
        let told = self.save(role, now.as_ref())?;
        self.put(role, now.as_ref(), wanted)?;
        Ok(Switched { done: Done::Changed, told })
    }

    /// Was it changed by hand since it was put there for the same role?
    fn is_edited(&self, role: Role, now: &Image) -> io::Result<bool> {
        // A switch that did not come to its end may have put nothing there.
        let is_ended = self.state("next")?.is_none() && self.state(put_for(role))?.is_some();
        Ok(is_ended && !self.is_known(now)?)
    }

    /// Nothing is lost that nobody else has.
    fn save(&self, role: Role, now: Option<&Image>) -> io::Result<Option<String>> {
        let is_first = role == Role::Active && self.standby.is_none() && !self.has_before();
        match now {
            _ if is_first => {
                made(&self.dir)?;
                let put = |image: &Image| image.put(&self.dir.join("before"), None);
                now.map_or_else(|| write_durably(&self.dir.join("absent"), b""), put).map(|()| None)
            }
            Some(now) if !self.is_known(now)? => {
                let kept = self.keep(now)?;
                let (path, kept) = (self.path.display(), kept.display());
                Ok(Some(format!("{path} was changed by hand: what it was is kept in {kept}")))
            }
            _ => Ok(None),
        }
    }

    fn put(&self, role: Role, now: Option<&Image>, wanted: &Wanted) -> io::Result<()> {
        match wanted {
            Wanted::Is(image) if self.standby.is_some() || role == Role::Active => {
                made(&self.dir)?;
                image.put(&self.dir.join("next"), None)?;
                image.put(&self.path, now)?;
            }
            Wanted::Is(image) => image.put(&self.path, now)?,
            Wanted::Absent => removed(&self.path)?,
            Wanted::Anything => {}
        }
        self.settle(role, wanted)
    }

    /// The file is what is wanted: what is known of it says so.
    fn settle(&self, role: Role, wanted: &Wanted) -> io::Result<()> {
        let at = |name: &str| self.dir.join(name);
        if role == Role::Standby && self.standby.is_none() {
            return self.forget();
        }
        let Wanted::Is(image) = wanted else { return Ok(()) };
        if self.state(put_for(role))?.is_none_or(|put| !put.is_like(image)) {
            made(&self.dir)?;
            match self.state("next")?.filter(|next| next.is_like(image)) {
                Some(_) => moved(&at("next"), &at(put_for(role)))?,
                None => image.put(&at(put_for(role)), None)?,
            }
        }
        removed(&at("next"))?;
        removed(&at(put_for(role.other())))
    }

    /// What was there before goes last: while it is there, it is put back.
    fn forget(&self) -> io::Result<()> {
        let names = ["next", "put-active", "put-standby", "before", "absent"];
        names.into_iter().try_for_each(|name| removed(&self.dir.join(name)))
    }

    fn drift(&self, role: Role, now: Option<&Image>) -> Option<String> {
        let path = self.path.display();
        let wanted = self.wanted(role).ok().filter(|wanted| !wanted.is(now))?;
        let put = self.state(put_for(role)).ok().flatten();
        match (now, wanted) {
            (Some(now), _) if put.as_ref().is_some_and(|put| put.bytes != now.bytes) => Some(format!(
                "{path} was changed by hand since it was put there; take that over into {}, from where it comes",
                self.origin(role)
            )),
            (None, Wanted::Is(_)) => Some(format!("{path} is not there; it comes from {}", self.origin(role))),
            (Some(now), Wanted::Is(copy)) if now.bytes == copy.bytes => Some(format!(
                "{path} belongs to {}:{} with mode {:04o} or has other attributes than {}, of {}:{} with mode {:04o}",
                now.uid,
                now.gid,
                now.mode,
                self.origin(role),
                copy.uid,
                copy.gid,
                copy.mode
            )),
            // What is made follows the file it is made from when it is switched.
            (Some(_), Wanted::Is(_))
                if put.is_some() && matches!((role, &self.active), (Role::Active, Active::Made { .. })) =>
            {
                None
            }
            (Some(_), Wanted::Is(_)) if put.is_some() => {
                Some(format!("{} was changed; {path} follows at the next switch", self.origin(role)))
            }
            (Some(now), Wanted::Is(_)) if !self.is_known(now).unwrap_or(true) => {
                Some(format!("{path} is neither of its copies; at the next switch it is kept beside it"))
            }
            _ => None,
        }
    }

    fn origin(&self, role: Role) -> String {
        match (role, &self.standby, &self.active) {
            (Role::Standby, Some(copy), _) | (Role::Active, _, Active::Copy(copy)) => copy.display().to_string(),
            (Role::Active, _, Active::Made { from, .. }) => from.display().to_string(),
            (Role::Standby, None, _) => "what was there before".into(),
        }
    }

    fn now(&self) -> Result<Option<Image>, Failure> {
        Image::read(&self.path, Links::Refused).map_err(self.unread())
    }

    fn wanted(&self, role: Role) -> Result<Wanted, Failure> {
        match (role, &self.standby, &self.active) {
            (Role::Standby, Some(copy), _) | (Role::Active, _, Active::Copy(copy)) => {
                self.copy(copy, Links::Followed).map(Wanted::Is)
            }
            (Role::Active, _, Active::Made { from, paths }) => {
                // Whoever writes into the set does not choose other files of this machine.
                let image = self.copy(from, Links::Refused)?;
                let bytes = substituted_bytes(&image.bytes, paths);
                Ok(Wanted::Is(image.with(bytes)))
            }
            (Role::Standby, None, _) => match self.state("before").map_err(self.unread())? {
                Some(before) => Ok(Wanted::Is(before)),
                None if self.has_before() => Ok(Wanted::Absent),
                None => Ok(Wanted::Anything),
            },
        }
    }

    fn copy(&self, path: &Path, links: Links) -> Result<Image, Failure> {
        let (copy, of) = (path.display(), self.path.display());
        match Image::read(path, links) {
            Ok(Some(image)) => Ok(image),
            Ok(None) => Err(Failure::Unusable(format!("{copy}, from which {of} is to come, is not there"))),
            Err(why) => Err(Failure::Unusable(format!("{copy}, from which {of} is to come, cannot be read: {why}"))),
        }
    }

    /// Does anybody else have it?
    fn is_known(&self, now: &Image) -> io::Result<bool> {
        for name in ["before", "next", "put-active", "put-standby"] {
            if self.state(name)?.is_some_and(|image| image.bytes == now.bytes) {
                return Ok(true);
            }
        }
        let is = |role| matches!(self.wanted(role), Ok(Wanted::Is(image)) if image.bytes == now.bytes);
        Ok(is(Role::Active) || is(Role::Standby))
    }

    /// Keeps it beside the file, once.
    fn keep(&self, image: &Image) -> io::Result<PathBuf> {
        for number in 1..=KEPT_MAX {
            let place = self.kept_as(number);
            match Image::read(&place, Links::Refused)? {
                None => return image.put(&place, None).map(|()| place),
                Some(kept) if kept.bytes == image.bytes => return Ok(place),
                Some(_) => {}
            }
        }
        Err(io::Error::other(format!("{KEPT_MAX} changes by hand are kept beside it already; remove them")))
    }

    fn kept(&self) -> Vec<PathBuf> {
        let is_there = |place: &PathBuf| fs::symlink_metadata(place).is_ok();
        (1..=KEPT_MAX).map(|number| self.kept_as(number)).filter(is_there).collect()
    }

    fn kept_as(&self, number: usize) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".stead-kept-{number}"));
        self.path.with_file_name(name)
    }

    fn has_before(&self) -> bool {
        ["before", "absent"].iter().any(|name| fs::symlink_metadata(self.dir.join(name)).is_ok())
    }

    fn state(&self, name: &str) -> io::Result<Option<Image>> {
        match Image::read(&self.dir.join(name), Links::Refused) {
            Err(e) if e.kind() == ErrorKind::NotADirectory => Ok(None),
            other => other,
        }
    }

    fn unread(&self) -> impl FnOnce(io::Error) -> Failure {
        Failure::at(format!("read {}", self.path.display()))
    }
}

impl Role {
    fn other(self) -> Role {
        if self == Role::Active { Role::Standby } else { Role::Active }
    }
}

impl Wanted {
    fn is(&self, now: Option<&Image>) -> bool {
        match (self, now) {
            (Wanted::Is(image), Some(now)) => now.is_like(image),
            (Wanted::Absent, None) | (Wanted::Anything, _) => true,
            _ => false,
        }
    }
}

fn put_for(role: Role) -> &'static str {
    if role == Role::Active { "put-active" } else { "put-standby" }
}
