//! What is proven of a node's resources by the answers of their agents, read from the standard alone, and what may follow
//! from it. Nothing of this uses what the engine or its hands conclude.

use std::collections::VecDeque;

use stead_model::End;

use super::clock::Micros;
use crate::resources::{Goal, Output, Reach, ResourcesConfig};

/// What an answer says of a resource, as far as something follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Well,
    Warned,
    Bad(Reach),
    Unknown,
}

#[derive(Clone, Debug)]
pub(super) struct Proofs {
    config: ResourcesConfig,
    /// What the looks of its last start or stop said that it is.
    is: Vec<Option<Goal>>,
    /// What it was last told to be.
    told: Vec<Option<Goal>>,
    /// What was said of it last.
    word: Vec<Word>,
    restarts: Vec<VecDeque<Micros>>,
    gave_up: bool,
    /// Was it said by a look, and is what those say left alone?
    by_look: Vec<bool>,
    maintained: bool,
}

impl Proofs {
    pub fn new(config: &ResourcesConfig) -> Proofs {
        let count = config.resources.len();
        Proofs {
            config: config.clone(),
            is: vec![None; count],
            told: vec![None; count],
            word: vec![Word::Unknown; count],
            restarts: vec![VecDeque::new(); count],
            gave_up: false,
            by_look: vec![false; count],
            maintained: false,
        }
    }

    /// The look of a start or a stop.
    pub fn shown(&mut self, resource: usize, end: &End) {
        self.is[resource] = match end {
            End::Exited(0 | 8 | 190 | 191) => Some(Goal::Up),
            End::Exited(5 | 7) => Some(Goal::Down),
            _ => None,
        };
    }

    pub fn said(&mut self, resource: usize, word: Word, by_look: bool) {
        (self.word[resource], self.by_look[resource]) = (word, by_look);
    }

    pub fn maintain(&mut self, maintained: bool) {
        self.maintained = maintained;
    }

    /// Once one was given up all go down: none stays up that could. `stops`: one is being stopped.
    pub fn is_undone(&self, stops: bool) -> Result<(), String> {
        let requires = |other: usize, at: usize| self.config.resources[other].requires.contains(&at);
        let all = 0..self.is.len();
        let was_stopped = |at: usize| (self.is[at], self.told[at]) == (Some(Goal::Down), Some(Goal::Down));
        let is_free = |at: usize| !all.clone().any(|other| requires(other, at) && !was_stopped(other));
        let stays = |at: &usize| self.is[*at] == Some(Goal::Up) && self.told[*at] == Some(Goal::Up) && is_free(*at);
        match all.clone().find(stays).filter(|_| self.gave_up && !stops) {
            Some(at) => Err(format!("resource {at} stays up after one was given up")),
            None => Ok(()),
        }
    }

    pub fn word(&self, resource: usize) -> Word {
        self.word[resource]
    }

    pub fn wanted(&mut self, goal: Goal) {
        self.gave_up &= goal == Goal::Down;
    }

    /// A start or a stop begins: what is required is up, and what requires it is down.
    pub fn begins(&mut self, at: usize, goal: Goal) -> Result<(), String> {
        (self.is[at], self.told[at]) = (None, Some(goal));
        if self.gave_up && goal == Goal::Up {
            return Err(format!("resource {at} is started after one was given up"));
        }
        let requires = |other: usize, at: usize| self.config.resources[other].requires.contains(&at);
        let mut others = 0..self.is.len();
        let unfit = match goal {
            Goal::Up => others.find(|other| requires(at, *other) && self.is[*other] != Some(Goal::Up)),
            Goal::Down => others.find(|other| requires(*other, at) && self.is[*other] != Some(Goal::Down)),
        };
        unfit.map_or(Ok(()), |other| Err(format!("resource {at} goes {goal:?}, and {other} is {:?}", self.is[other])))
    }

    /// The engine says something.
    pub fn engine_says(&mut self, output: &Output, now: Micros) -> Result<(), String> {
        match output {
            Output::Reached(goal) => {
                let unproven = self.is.iter().position(|is| *is != Some(*goal));
                unproven.map_or(Ok(()), |at| Err(format!("{goal:?} is told, and resource {at} is {:?}", self.is[at])))
            }
            Output::Restarts { resource, .. } | Output::GivesUp { resource, .. }
                if self.maintained && self.by_look[*resource] =>
            {
                Err(format!("resource {resource} is not left alone in maintenance"))
            }
            Output::Restarts { resource, .. } => self.restarts(*resource, now),
            Output::GivesUp { resource, reach, .. } => {
                self.gave_up = true;
                let word = self.word[*resource];
                if word == Word::Bad(*reach) {
                    return Ok(());
                }
                Err(format!("resource {resource} is given up ({reach:?}) after {word:?}"))
            }
            _ => Ok(()),
        }
    }

    fn restarts(&mut self, at: usize, now: Micros) -> Result<(), String> {
        if self.word[at] != Word::Bad(Reach::Now) {
            return Err(format!("resource {at} is restarted after {:?}", self.word[at]));
        }
        let config = &self.config.resources[at];
        let (within, restarts) = (config.within.as_micros() as Micros, &mut self.restarts[at]);
        // The node's clock may be wrong by 1 %, and what it does late comes closer together.
        restarts.retain(|then| now - then < within * 9 / 10);
        restarts.push_back(now);
        if restarts.len() > config.restarts as usize {
            return Err(format!("resource {at} is restarted {} times within {:?}", restarts.len(), config.within));
        }
        Ok(())
    }
}

/// What an agent says of a resource when it is looked at; `None`: it did not answer in time.
pub(super) fn of_look(end: Option<&End>) -> Word {
    match end {
        Some(End::Exited(0 | 8)) => Word::Well,
        Some(End::Exited(190 | 191)) => Word::Warned,
        Some(End::Exited(code)) => of_code(*code),
        Some(End::Killed(_) | End::NotStarted(_) | End::Cancelled { .. }) => Word::Unknown,
        None | Some(End::TimedOut { .. }) => Word::Bad(Reach::Now),
    }
}

/// What a start says that did not bring it up.
pub(super) fn of_start(end: Option<&End>) -> Word {
    match end {
        Some(End::Exited(code)) => of_code(*code),
        // Nothing can be run here.
        Some(End::NotStarted(_)) => Word::Bad(Reach::Node),
        _ => Word::Bad(Reach::Now),
    }
}

fn of_code(code: i32) -> Word {
    Word::Bad(match code {
        2..=5 => Reach::Node,
        6 => Reach::Everywhere,
        _ => Reach::Now,
    })
}
