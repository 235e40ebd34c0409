//! A unit of systemd, whoever asks systemd.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::procedure::{Switch, To, look_until};
use crate::{Done, Failure, Outcome, Output, State, Stop, Term};

/// Between two looks at a unit whose processes were ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Name of a unit, with its kind: `notes.service`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnitName(String);

impl UnitName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for UnitName {
    type Err = String;

    /// A name without a kind is a service's, as for `systemctl`. Globs name several units and are refused.
    fn from_str(text: &str) -> Result<UnitName, String> {
        let name = if text.contains('.') { text.to_owned() } else { format!("{text}.service") };
        let is_usable = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        let (stem, kind) = name.rsplit_once('.').unwrap_or_default();
        let is_name = name.len() <= 255 && !stem.is_empty() && !stem.starts_with('-') && !kind.is_empty();
        if !is_name || !name.chars().all(is_usable) {
            return Err(format!("{text:?} is not the name of a unit; write it as notes.service"));
        }
        Ok(UnitName(name))
    }
}

/// Whoever asks systemd. Each call is done once; what follows from it is decided in one place, above.
pub trait Manager: Send + Sync {
    /// Looks what a unit is.
    ///
    /// # Errors
    /// Where systemd does not tell.
    fn look(&self, unit: &UnitName, term: Term<'_>, output: &mut Output) -> Result<Standing, Failure>;

    /// Has it started, and waits for the end of that. A unit that failed too often is given a new chance.
    ///
    /// # Errors
    /// Where systemd says that it did not work, or says nothing in time.
    fn start(&self, unit: &UnitName, term: Term<'_>, output: &mut Output) -> Result<(), Failure>;

    /// Has it stopped, and waits for the end of that.
    ///
    /// # Errors
    /// As [`Manager::start`].
    fn stop(&self, unit: &UnitName, term: Term<'_>, output: &mut Output) -> Result<(), Failure>;

    /// Ends all its processes at once (SIGKILL).
    ///
    /// # Errors
    /// As [`Manager::start`].
    fn kill(&self, unit: &UnitName, term: Term<'_>, output: &mut Output) -> Result<(), Failure>;

    /// Makes the links go that start it at boot.
    ///
    /// # Errors
    /// As [`Manager::start`].
    fn disable(&self, unit: &UnitName, term: Term<'_>, output: &mut Output) -> Result<(), Failure>;
}

impl Manager for Box<dyn Manager> {
    fn look(&self, unit: &UnitName, term: Term<'_>, output: &mut Output) -> Result<Standing, Failure> {
        (**self).look(unit, term, output)
    }

    fn start(&self, unit: &UnitName, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        (**self).start(unit, term, output)
    }

    fn stop(&self, unit: &UnitName, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        (**self).stop(unit, term, output)
    }

    fn kill(&self, unit: &UnitName, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        (**self).kill(unit, term, output)
    }

    fn disable(&self, unit: &UnitName, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        (**self).disable(unit, term, output)
    }
}

/// What systemd tells of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Is its definition there?
    pub load: Load,
    /// Does it run?
    pub active: Active,
    /// Does it start at boot?
    pub boot: Boot,
}

/// `LoadState`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "systemd's words")]
pub enum Load {
    Loaded,
    NotFound,
    Masked,
    Other(String),
}

/// `ActiveState`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "systemd's words")]
pub enum Active {
    Active,
    Inactive,
    Failed,
    Other(String),
}

/// `UnitFileState`, as far as it says whether a unit starts at boot by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// It does: `enabled`, and what is like it.
    Enabled,
    /// It does not: `disabled`, `masked`.
    Disabled,
    /// Something else may start it: `static`, `indirect`, `generated` and so on.
    Other(String),
}

impl Standing {
    /// From systemd's words.
    pub fn from_words(load: &str, active: &str, file: &str) -> Standing {
        let load = match load {
            "loaded" => Load::Loaded,
            "not-found" => Load::NotFound,
            "masked" => Load::Masked,
            other => Load::Other(other.into()),
        };
        let active = match active {
            "active" | "reloading" | "refreshing" => Active::Active,
            "inactive" => Active::Inactive,
            "failed" => Active::Failed,
            other => Active::Other(other.into()),
        };
        let boot = match file {
            "enabled" | "enabled-runtime" | "linked" | "linked-runtime" | "alias" => Boot::Enabled,
            "disabled" | "masked" | "masked-runtime" => Boot::Disabled,
            other => Boot::Other(other.into()),
        };
        Standing { load, active, boot }
    }

    /// A unit that is not there does not run, but nobody can say what runs in its place.
    fn state(&self) -> State {
        match (&self.active, &self.load) {
            (Active::Active, _) => State::Started,
            (Active::Inactive | Active::Failed, Load::Loaded | Load::Masked) => State::Stopped,
            (Active::Other(word), _) => State::Unknown(format!("it is {word}")),
            (_, Load::NotFound) => State::Unknown("there is no such unit on this node".into()),
            (_, load) => State::Unknown(format!("its definition is {load:?}")),
        }
    }
}

/// A unit that serves.
pub struct Unit<M> {
    /// Which.
    pub name: UnitName,
    /// Who asks systemd.
    pub manager: M,
}

impl<M: Manager> Unit<M> {
    /// Keeps it from starting at boot on this node, for good: it is disabled. That survives boots, which `mask --runtime`
    /// does not, and it can still be started for a takeover, which a masked unit cannot. Does not stop it.
    ///
    /// # Errors
    /// In the outcome: `Unusable` where something else may start it (another unit, a socket, a timer), which only a person
    /// can judge.
    pub fn keep_from_boot(&self, limit: Duration) -> Outcome<Result<Done, Failure>> {
        self.keep_from_boot_until(limit, &Stop::never())
    }

    /// The same, unless it is called off.
    ///
    /// # Errors
    /// As [`Unit::keep_from_boot`].
    pub fn keep_from_boot_until(&self, limit: Duration, stop: &Stop) -> Outcome<Result<Done, Failure>> {
        let term = Term::new(limit, stop);
        Outcome::with_output(|output| match self.boot(term, output)? {
            Boot::Disabled => Ok(Done::Already),
            Boot::Other(word) => Err(self.started_by_others(&word)),
            Boot::Enabled => self.disable(term, output),
        })
    }

    /// Ends all its processes at once, whatever they are doing. To be called when it was told to stop: else systemd may start
    /// it again.
    ///
    /// # Errors
    /// In the outcome: where it is not known to be stopped afterwards.
    pub fn kill(&self, limit: Duration) -> Outcome<Result<(), Failure>> {
        Outcome::with_output(|output| {
            let stop = Stop::never();
            let term = Term::new(limit, &stop);
            self.manager.kill(&self.name, term, output)?;
            match self.look_until_ended(term, output) {
                State::Stopped => Ok(()),
                State::Unknown(why) => Err(Failure::Unknown(why)),
                State::Started => Err(Failure::Failed("its processes were ended, but it is not stopped".into())),
            }
        })
    }

    /// systemd learns of the end of processes a moment after it.
    fn look_until_ended(&self, term: Term<'_>, output: &mut Output) -> State {
        loop {
            match look_until(self, To::Stop, term, output) {
                State::Started if !term.is_over() => _ = term.stop.wait(Instant::now() + LOOK_INTERVAL),
                state => return state,
            }
        }
    }

    /// Does systemd say that it knows of no such unit, and that none of the name runs?
    pub fn is_absent(&self, limit: Duration, stop: &Stop) -> bool {
        let standing = self.standing_until(limit, stop).value;
        standing.is_ok_and(|standing| (standing.load, standing.active) == (Load::NotFound, Active::Inactive))
    }

    /// What systemd tells of it.
    pub fn standing(&self, limit: Duration) -> Outcome<Result<Standing, Failure>> {
        self.standing_until(limit, &Stop::never())
    }

    /// The same, unless it is called off.
    pub fn standing_until(&self, limit: Duration, stop: &Stop) -> Outcome<Result<Standing, Failure>> {
        Outcome::with_output(|output| self.manager.look(&self.name, Term::new(limit, stop), output))
    }

    fn disable(&self, term: Term<'_>, output: &mut Output) -> Result<Done, Failure> {
        self.manager.disable(&self.name, term, output)?;
        match self.boot(term, output)? {
            Boot::Disabled => Ok(Done::Changed),
            Boot::Enabled => Err(Failure::Failed(format!("{} was disabled and is enabled", self.name))),
            Boot::Other(word) => Err(self.started_by_others(&word)),
        }
    }

    fn boot(&self, term: Term<'_>, output: &mut Output) -> Result<Boot, Failure> {
        let standing = self.manager.look(&self.name, term, output)?;
        match standing.load {
            Load::NotFound => Err(Failure::Unusable(format!("there is no unit {} on this node", self.name))),
            _ => Ok(standing.boot),
        }
    }

    fn started_by_others(&self, word: &str) -> Failure {
        let name = &self.name;
        Failure::Unusable(format!(
            "{name} is {word:?}: another unit may start it at boot, and that one has to be disabled"
        ))
    }
}

impl<M: Manager> Switch for Unit<M> {
    fn look(&self, term: Term<'_>, output: &mut Output) -> State {
        let standing = self.manager.look(&self.name, term, output);
        standing.map_or_else(|why| State::Unknown(why.to_string()), |standing| standing.state())
    }

    fn tell(&self, to: To, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        match to {
            To::Start => self.manager.start(&self.name, term, output),
            To::Stop => self.manager.stop(&self.name, term, output),
        }
    }

    /// The manager waits for the end of what it was told; only what is "activating" and the like is still on its way.
    fn may_change(&self, state: &State) -> bool {
        matches!(state, State::Unknown(_))
    }
}
