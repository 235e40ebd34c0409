//! The resources of a group that depend on each other: kept up or down by a thread of their own, which runs the mind that
//! knows their order and has each start, stop and look done by another thread.
//!
//! ```text
//!   worker ─ want ─▸ keeper ─ start, stop, look ─▸ acts     one thread each, ended at its call or with the lease
//!     ▴               │  ▴                           │
//!     └─── reached ───┘  └────────── outcomes ───────┘
//! ```

mod act;
mod keeper;
mod kind;

use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use stead_failover::machine::Outcome;
use stead_failover::resources::Goal;
use stead_resource::service::Manager;
use stead_resource::{Deadline, Done, Output, Stop};

use super::Tell;
pub(super) use kind::{Kind, Runs};
pub(crate) use kind::{check_of, instance_name};

/// How often it is looked whether a wait was called off.
const LOOK: Duration = Duration::from_millis(20);

/// All of them are what they shall be, or what came of it.
pub(super) type Reached = Result<Done, Outcome>;

/// What the keeper is told.
pub(super) enum Order {
    Want(Goal, Sender<(Reached, Output)>),
    /// Nobody waits any more: what is being done is called off, and nothing is known.
    Halt,
    Maintain(bool),
    End,
}

/// Whom the hands tell something between the ends of jobs.
#[derive(Clone)]
pub(crate) struct Listeners {
    pub(crate) tell: Tell,
    /// The resources were up, and cannot be kept up.
    pub(crate) failed: super::Failed,
}

/// The way to the keeper. When it goes, nothing is looked at or restarted any more, and what is up stays up.
pub(super) struct Resources {
    orders: Sender<Order>,
}

impl Resources {
    /// None: the plan has none.
    ///
    /// # Errors
    /// Where there are too many threads.
    pub(super) fn start<M: Manager + 'static>(
        kinds: Vec<Kind<M>>,
        requires: Vec<Vec<usize>>,
        lease: Deadline,
        listeners: Listeners,
    ) -> std::io::Result<Option<Resources>> {
        if kinds.is_empty() {
            return Ok(None);
        }
        let (orders, inbox): (_, Receiver<Order>) = unbounded();
        let body = move || keeper::keep(kinds, requires, lease, listeners, &inbox);
        thread::Builder::new().name("hands-keep".into()).spawn(body)?;
        Ok(Some(Resources { orders }))
    }

    /// Has them all up or down, until it is called off; and what programs wrote, where they do not become so.
    pub(super) fn want(&self, goal: Goal, stop: &Stop) -> (Reached, Output) {
        let (sender, answer) = bounded(1);
        let _ = self.orders.send(Order::Want(goal, sender));
        loop {
            match answer.recv_timeout(LOOK) {
                Ok(reached) => return reached,
                Err(e) if e.is_disconnected() => {
                    return (Err(Outcome::Failed("nobody keeps them".into())), Output::default());
                }
                Err(_) if stop.is_called() => break,
                Err(_) => {}
            }
        }
        let _ = self.orders.send(Order::Halt);
        (Err(Outcome::Unknown("called off while they changed".into())), Output::default())
    }

    /// They are watched, and nothing is done about what is seen; or no longer.
    pub(super) fn maintain(&self, maintained: bool) {
        let _ = self.orders.send(Order::Maintain(maintained));
    }
}

impl Drop for Resources {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::End);
    }
}
