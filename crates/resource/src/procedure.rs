//! Look, act, look again.

use std::time::{Duration, Instant};

pub use stead_model::outcome::To;
use stead_model::outcome::conclude;

use crate::{Done, Failure, Outcome, Output, Resource, State, Stop, Term};

/// Between the first two looks at what is on its way; each pause is longer than the one before, up to a limit.
const FIRST_PAUSE: Duration = Duration::from_millis(4);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

const FIRST_LOOK_BEFORE_STOP: Duration = Duration::from_secs(1);

/// What can be looked at and told to change.
pub trait Switch {
    /// Looks what it is.
    fn look(&self, term: Term<'_>, output: &mut Output) -> State;

    /// The same, no closer than it takes to tell whether it is that.
    fn look_for(&self, _: To, term: Term<'_>, output: &mut Output) -> State {
        self.look(term, output)
    }

    /// Tells it to be so.
    fn tell(&self, to: To, term: Term<'_>, output: &mut Output) -> Result<(), Failure>;

    /// Once it was told, can it still come from that state to another by itself?
    fn may_change(&self, state: &State) -> bool;
}

impl<T: Switch> Resource for T {
    fn start_until(&self, limit: Duration, stop: &Stop) -> Outcome<Result<Done, Failure>> {
        Outcome::with_output(|output| switch(self, To::Start, Term::new(limit, stop), output))
    }

    fn stop_until(&self, limit: Duration, stop: &Stop) -> Outcome<Result<Done, Failure>> {
        Outcome::with_output(|output| switch(self, To::Stop, Term::new(limit, stop), output))
    }

    fn status(&self, limit: Duration) -> Outcome<State> {
        Outcome::with_output(|output| self.look(Term::new(limit, &Stop::never()), output))
    }
}

/// Has it so. What is not known is told all the same: to be what it shall be changes nothing.
fn switch(it: &impl Switch, to: To, term: Term<'_>, output: &mut Output) -> Result<Done, Failure> {
    term.stop.check()?;
    if to.is(&it.look_for(to, first_look(to, &term), output)) {
        return Ok(Done::Already);
    }
    term.stop.check()?;
    let told = it.tell(to, term, output);
    // What failed may be so all the same, and a look after the time is over still tells the truth.
    let pause = if told.is_ok() { term.moment } else { Instant::now() };
    let is = look_until(it, to, Term { moment: pause, ..term }, output);
    conclude(to, &is, told, term.limit, term.stop.is_called())
}

/// A stop has no time for what hangs, as a status may that connects through an address which is gone: without an answer, it
/// is told to stop.
fn first_look<'a>(to: To, term: &Term<'a>) -> Term<'a> {
    let share = if to == To::Stop { (term.left() / 4).min(FIRST_LOOK_BEFORE_STOP) } else { term.left() };
    term.begin(share)
}

/// What it is in the end.
pub fn look_until(it: &impl Switch, to: To, term: Term<'_>, output: &mut Output) -> State {
    let mut pause = FIRST_PAUSE;
    loop {
        let state = it.look_for(to, term.begin(term.left().max(LAST_LOOK)), output);
        if to.is(&state) || term.is_over() || !it.may_change(&state) || term.stop.wait(Instant::now() + pause) {
            return state;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A look takes that long at most when the time is over.
const LAST_LOOK: Duration = Duration::from_secs(1);
