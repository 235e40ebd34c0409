//! Services of the group: units of systemd, or three commands each.

use std::time::Duration;

use stead_failover::machine::Turn;
use stead_resource::service::{Commands, Manager, Unit};
use stead_resource::{Done, Failure, Resource, Stop};

use super::scripts::bounded;
use super::worker::{Did, Worker, missing};

pub(super) enum Service<M> {
    Unit { unit: Unit<M>, timeout: Duration },
    Commands { commands: Box<Commands>, timeout: Duration },
}

/// How a service is called for people.
const COMMANDS: &str = "the service";

impl<M: Manager> Worker<M> {
    pub(super) fn switch(&self, at: usize, turn: Turn, limit: Duration, stop: &Stop) -> Did {
        match self.kit.services.get(at) {
            None => missing("service", at).into(),
            Some(Service::Commands { commands, timeout }) => {
                let switched = switch(commands.as_ref(), turn, bounded(*timeout, limit), stop);
                Did { outcome: self.outcome(COMMANDS, switched.value), output: switched.output }
            }
            Some(Service::Unit { unit, timeout }) => self.switch_unit(unit, turn, bounded(*timeout, limit), stop),
        }
    }

    fn switch_unit(&self, unit: &Unit<M>, turn: Turn, limit: Duration, stop: &Stop) -> Did {
        let name = unit.name.as_str();
        if turn == Turn::Undo && unit.is_absent(limit, stop) {
            (self.tell)(format!("there is no unit {name} on this node: it cannot be started here"));
            return self.outcome(name, Ok(Done::Already)).into();
        }
        let switched = switch(unit, turn, limit, stop);
        if switched.value.is_ok() {
            self.keep_from_boot(unit, limit.saturating_sub(switched.took), stop);
        }
        Did { outcome: self.outcome(name, switched.value), output: switched.output }
    }

    /// On either node: after a boot nobody knows whose turn it is. That it did not work holds nothing up.
    fn keep_from_boot(&self, unit: &Unit<M>, limit: Duration, stop: &Stop) {
        match unit.keep_from_boot_until(limit, stop).value {
            Ok(Done::Changed) => (self.tell)(format!("{} is disabled now: Stead starts it", unit.name)),
            Ok(Done::Already) => {}
            Err(why) if stop.is_called() => drop(why),
            Err(why) => (self.tell)(format!("{} may start at boot by itself: {why}", unit.name)),
        }
    }
}

fn switch(
    resource: &impl Resource,
    turn: Turn,
    limit: Duration,
    stop: &Stop,
) -> stead_resource::Outcome<Result<Done, Failure>> {
    match turn {
        Turn::Do => resource.start_until(limit, stop),
        Turn::Undo => resource.stop_until(limit, stop),
    }
}
