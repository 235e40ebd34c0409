//! A resource by an agent of the standard: what of it is there in truth, and what the agent answers, as the dice say.

use std::time::Duration;

use stead_model::End;

use super::clock::Micros;
use super::rng::Rng;
use super::world::MS;

/// What an agent is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Start,
    Stop,
    Quick,
    Deep,
}

/// What of a resource is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    Down,
    Up,
    /// It does not serve, and some of its processes were left behind.
    Broken,
}

/// What is wrong with it until it is put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ill {
    /// What it needs is not installed here.
    Lacks,
    /// Its parameters can be meant nowhere.
    Misconfigured,
    /// It ignores that it is to stop.
    Stubborn,
    /// It serves, and says that it may fail soon.
    Weak,
}

#[derive(Clone, Debug)]
pub(super) struct Agent {
    pub truth: Truth,
    ill: Option<Ill>,
    /// Its agent lied that nothing of it is there, or the watchdog could not end it: only a fence can help.
    pub excused: bool,
    /// Stops that failed, one after the other.
    pub failed_stops: u32,
}

/// How an agent plays what it was asked for.
#[derive(Clone, Debug)]
pub(super) struct Play {
    /// `None`: it never ends by itself.
    pub end: Option<End>,
    pub takes: Micros,
    /// What it leaves.
    pub truth: Truth,
}

const CODES: [i32; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 190, 191, 42, 255, 127, 3];
const SIGNALS: [i32; 3] = [9, 11, 15];

impl Agent {
    pub fn new() -> Agent {
        Agent { truth: Truth::Down, ill: None, excused: false, failed_stops: 0 }
    }

    /// Something begins to be wrong with it. `everywhere`: what is wrong with the plan is wrong on both nodes.
    pub fn sicken(&mut self, dice: &mut Rng, everywhere: bool) {
        let ills = [Ill::Lacks, Ill::Stubborn, Ill::Weak];
        self.ill = Some(if everywhere { Ill::Misconfigured } else { ills[dice.below(3) as usize] });
    }

    /// It dies by itself.
    pub fn die(&mut self, dice: &mut Rng) {
        if self.truth == Truth::Up {
            self.truth = if dice.one_in(3) { Truth::Broken } else { Truth::Down };
        }
    }

    /// A person puts it right, and ends what nobody knows of.
    pub fn heal(&mut self) {
        self.ill = None;
        if self.excused {
            self.end();
        }
    }

    /// Nothing of it is left.
    pub fn end(&mut self) {
        (self.truth, self.excused) = (Truth::Down, false);
    }

    /// The watchdog ends it by its agent.
    pub fn strike(&mut self) {
        if self.ill == Some(Ill::Stubborn) && self.is_there() {
            self.excused = true;
        } else {
            self.end();
        }
    }

    pub fn is_there(&self) -> bool {
        self.truth != Truth::Down
    }

    pub fn become_(&mut self, truth: Truth) {
        self.truth = truth;
        self.excused &= self.is_there();
    }

    /// `one_in`: so seldom it is at fault; 0: never.
    pub fn play(&self, ask: Ask, limit: Micros, one_in: u64, dice: &mut Rng) -> Play {
        let takes = 1 + dice.below(40 * MS);
        let proper = Play { end: Some(End::Exited(self.proper(ask))), takes, truth: self.becomes(ask) };
        if one_in == 0 || !dice.one_in(one_in) {
            return proper;
        }
        let truth = self.may_become(ask, dice);
        let by = |end| Play { end: Some(end), takes, truth };
        match dice.below(12) {
            0 => Play { takes: dice.below(limit * 3 / 2), ..proper },
            1 => Play { end: None, takes, truth },
            2 => Play { takes: limit, ..by(End::TimedOut { limit: Duration::from_micros(limit), unkillable: 0 }) },
            3 => by(End::Killed(SIGNALS[dice.below(3) as usize])),
            4 => Play { truth: self.truth, ..by(End::NotStarted("there is no memory".into())) },
            5 => Play { truth: self.truth, ..by(End::Exited(self.lie(ask))) },
            _ => by(End::Exited(CODES[dice.below(16) as usize])),
        }
    }

    fn proper(&self, ask: Ask) -> i32 {
        match (ask, self.ill, self.truth) {
            (_, Some(Ill::Misconfigured), _) => 6,
            (Ask::Stop, Some(Ill::Stubborn), Truth::Up | Truth::Broken) => 1,
            (Ask::Start, Some(Ill::Lacks), _) | (Ask::Quick | Ask::Deep, Some(Ill::Lacks), Truth::Down) => 5,
            (Ask::Start | Ask::Stop, ..) => 0,
            (_, Some(Ill::Weak), Truth::Up) => 190,
            (_, _, Truth::Up) => 0,
            (_, _, Truth::Down) => 7,
            (_, _, Truth::Broken) => 1,
        }
    }

    fn becomes(&self, ask: Ask) -> Truth {
        match (ask, self.proper(ask)) {
            (Ask::Start, 0) => Truth::Up,
            (Ask::Stop, 0) => Truth::Down,
            _ => self.truth,
        }
    }

    fn may_become(&self, ask: Ask, dice: &mut Rng) -> Truth {
        match ask {
            Ask::Quick | Ask::Deep => self.truth,
            Ask::Start => [self.truth, Truth::Up, Truth::Broken][dice.below(3) as usize],
            Ask::Stop if self.truth == Truth::Down => Truth::Down,
            Ask::Stop => [self.truth, Truth::Down, Truth::Broken][dice.below(3) as usize],
        }
    }

    fn lie(&self, ask: Ask) -> i32 {
        let is_look = matches!(ask, Ask::Quick | Ask::Deep);
        if is_look && self.is_there() { 7 } else { 0 }
    }
}

impl Ask {
    /// A bit for each pair of what was asked and how it ended.
    pub fn bit(self, end: Option<&End>) -> u64 {
        let kind = match end {
            Some(End::Exited(code @ 0..=9)) => *code as u32,
            Some(End::Exited(code @ 190..=191)) => (code - 180) as u32,
            Some(End::Exited(_)) => 12,
            Some(End::Killed(_)) => 13,
            Some(End::NotStarted(_)) => 14,
            Some(End::TimedOut { .. } | End::Cancelled { .. }) | None => 15,
        };
        1 << (16 * self as u32 + kind)
    }
}
