//! A start, a stop or a look, in a thread of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::Sender;
use stead_failover::resources::{Ended, Goal, Input, Reach, Seen};
use stead_resource::service::Manager;
use stead_resource::{Call, Deadline, Done, Failure, Output};

use super::kind::Kind;

/// What came of one.
pub(super) struct End {
    /// In which life of the mind it was begun.
    pub(super) life: u64,
    pub(super) id: u64,
    pub(super) resource: usize,
    /// For the mind.
    pub(super) input: Input,
    pub(super) changed: bool,
    pub(super) output: Output,
}

/// One that is to be done.
pub(super) struct Act<M> {
    pub(super) life: u64,
    pub(super) id: u64,
    pub(super) resource: usize,
    pub(super) what: What,
    pub(super) limit: Duration,
    pub(super) kinds: Arc<Vec<Kind<M>>>,
    pub(super) lease: Deadline,
    pub(super) ended: Sender<End>,
}

#[derive(Clone, Copy)]
pub(super) enum What {
    Become(Goal),
    Look(usize),
}

impl<M: Manager + 'static> Act<M> {
    /// Begins it; the call ends it.
    pub(super) fn begin(self) -> Option<Call> {
        let (ended, fault) = (self.ended.clone(), self.fault());
        let call = Call::new().ok();
        let begun = call.clone().and_then(|call| {
            let body = move || {
                let fault = self.fault();
                let done = catch_unwind(AssertUnwindSafe(|| self.run(&call))).unwrap_or(fault);
                let _ = self.ended.send(done);
            };
            thread::Builder::new().name("hands-act".into()).spawn(body).ok()
        });
        if begun.is_none() {
            let _ = ended.send(fault);
        }
        call
    }

    fn run(&self, call: &Call) -> End {
        let kind = &self.kinds[self.resource];
        match self.what {
            What::Look(look) => {
                let _shared = kind.busy.read().unwrap_or_else(PoisonError::into_inner);
                let looked = kind.look(look, self.limit, &call.stop());
                self.end(Input::Looked { id: self.id, seen: looked.value }, false, looked.output)
            }
            What::Become(goal) => {
                let _alone = kind.busy.write().unwrap_or_else(PoisonError::into_inner);
                // Nothing is brought up past the lease.
                let stop = if goal == Goal::Up { call.stop().or(&self.lease.stop()) } else { call.stop() };
                let switched = kind.switch(goal, self.limit, &stop);
                let changed = matches!(switched.value, Ok(Done::Changed));
                self.end(Input::Done { id: self.id, ended: switched.value.into() }, changed, switched.output)
            }
        }
    }

    fn end(&self, input: Input, changed: bool, output: Output) -> End {
        End { life: self.life, id: self.id, resource: self.resource, input, changed, output }
    }

    /// It cannot be begun, or ran into a fault of this program.
    fn fault(&self) -> End {
        let why =
            Failure::Unknown("the daemon has no thread for it, or ran into a fault of its own".into()).to_string();
        let input = match self.what {
            What::Look(_) => Input::Looked { id: self.id, seen: Seen::Unknown(why) },
            What::Become(_) => Input::Done { id: self.id, ended: Ended::Bad(why, Reach::Now) },
        };
        self.end(input, false, Output::default())
    }
}
