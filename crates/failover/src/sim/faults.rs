//! What goes wrong, and how it is put right.

use super::agent::Agent;
use super::clock::Micros;
use super::net::{Net, PATHS};
use super::node::{Node, Pause};
use super::world::{Event, MS, World};
use crate::machine::{Input, Step, Want};
use crate::resources::Reach;

impl World {
    /// One fault, and when the next one comes.
    pub fn fault(&mut self) {
        if self.now >= self.faults_until {
            return;
        }
        self.checker.report.faults += 1;
        if self.setup.calm {
            self.strike_and_wait();
            return self.after(25_000 * MS, Event::Fault);
        }
        if self.setup.murky {
            lines().for_each(|(from, to, path)| self.net.worsen(from, to, path, 50, 3_000 * MS));
        }
        if self.setup.resources && self.rng.one_in(3) {
            self.fail_resources();
        }
        if self.kit.is_some() && self.dice.one_in(2) {
            self.strike_agent();
        }
        let nodes = self.all_nodes().end as u64;
        let at = self.rng.below(nodes) as usize;
        match self.rng.below(16) {
            0 => self.kill(at, false),
            1 => self.kill_in_order(at),
            2 => self.kill(at, true),
            3 | 4 => self.pause_for_a_while(at),
            5 | 6 => self.cut_one(at),
            7 => self.isolate(at),
            8 => self.worsen_all(),
            9 => self.unfit(at.min(1)),
            10 | 11 => self.worsen_one(at),
            12 | 13 => self.strike_whoever_serves(),
            _ => self.someone_wants(at.min(1)),
        }
        let next = 50 * MS + self.rng.below(3_000 * MS);
        self.after(next, Event::Fault);
    }

    /// Those of whoever serves are down, and it is told so.
    pub fn fail_resources(&mut self) {
        if self.kit.is_some() {
            return;
        }
        let has_them = |node: &Node| node.is_running() && node.up.contains(&Step::Resources);
        let Some(at) = (0..2).find(|at| has_them(&self.nodes[*at])) else { return };
        self.nodes[at].up.retain(|step| *step != Step::Resources);
        self.hand_in(at, Input::ResourcesFailed(Reach::Now));
    }

    fn kill_in_order(&mut self, at: usize) {
        self.leave(at);
        self.after(600 * MS, Event::Kill { node: at });
    }

    pub fn kill(&mut self, at: usize, of_host: bool) {
        if self.nodes[at].mind.is_some() {
            let sleeps = matches!(self.nodes[at].pause, Some(Pause::Host | Pause::Frozen));
            self.crash(at, of_host || sleeps);
            let delay = 10 * MS + self.rng.below(8_000 * MS);
            self.start_again(at, delay);
        }
    }

    fn pause_for_a_while(&mut self, at: usize) {
        let pause = [Pause::Daemon, Pause::Host, Pause::Frozen][self.rng.below(3) as usize];
        self.pause(at, pause);
        let delay = 100 * MS + self.rng.below(7_000 * MS);
        self.after(delay, Event::Resume { node: at });
    }

    fn cut_one(&mut self, at: usize) {
        let other = (at + 1 + self.rng.below(2) as usize) % 3;
        let (both, all) = (self.rng.one_in(2), self.rng.one_in(2));
        for path in (0..Net::paths(at, other)).take(if all { PATHS } else { 1 }) {
            self.net.cut(at, other, path, true);
            if both {
                self.net.cut(other, at, path, true);
            }
        }
        self.mend_later(at, other);
    }

    pub fn isolate(&mut self, at: usize) {
        for other in (0..3).filter(|other| *other != at) {
            for path in 0..PATHS {
                self.net.cut(at, other, path, true);
                self.net.cut(other, at, path, true);
            }
            self.mend_later(at, other);
        }
    }

    fn mend_later(&mut self, from: usize, to: usize) {
        let delay = 200 * MS + self.rng.below(9_000 * MS);
        self.after(delay, Event::Mend { from, to });
    }

    pub fn mend(&mut self, from: usize, to: usize) {
        for path in 0..PATHS {
            self.net.cut(from, to, path, false);
            self.net.cut(to, from, path, false);
        }
    }

    fn worsen_all(&mut self) {
        let delay_max: Micros = [5, 50, 800, 3_000][self.rng.below(4) as usize] * MS;
        let loss = self.rng.below(500);
        for (from, to, path) in lines() {
            self.net.worsen(from, to, path, loss, delay_max);
        }
        let doubled = self.rng.below(300);
        self.net.double(doubled);
    }

    fn worsen_one(&mut self, at: usize) {
        let other = (at + 1 + self.rng.below(2) as usize) % 3;
        let (loss, delay_max) = (self.rng.below(300), self.rng.below(2_500 * MS) + 1);
        (0..PATHS).for_each(|path| self.net.worsen(at, other, path, loss, delay_max));
    }

    fn strike_whoever_serves(&mut self) {
        let Some(at) = (0..2).find(|at| self.nodes[*at].serves()) else { return };
        match self.rng.below(6) {
            0 => self.kill(at, true),
            1 => self.pause_for_a_while(at),
            2 | 3 => self.slow_answers_and_then_none(at),
            _ => self.isolate(at),
        }
    }

    fn strike_and_wait(&mut self) {
        let Some(at) = (0..2).find(|at| self.nodes[*at].serves()) else { return };
        match self.rng.below(5) {
            0 => self.kill(at, true),
            1 => self.kill(at, false),
            2 => self.pause_for_a_while(at),
            3 => self.isolate(at),
            _ => self.kill(2, true),
        }
    }

    fn slow_answers_and_then_none(&mut self, at: usize) {
        let delay_max = self.rng.below(2_500 * MS) + 1;
        for other in (0..3).filter(|other| *other != at) {
            (0..PATHS).for_each(|path| self.net.worsen(other, at, path, 0, delay_max));
        }
        let delay = self.rng.below(4_000 * MS);
        self.after(delay, Event::Isolate { at });
    }

    fn unfit(&mut self, at: usize) {
        self.nodes[at].unfit_until = self.now + self.rng.below(5_000 * MS);
        self.tell_fitness(at);
    }

    fn someone_wants(&mut self, at: usize) {
        let wants = [
            Want::Failover { force: false },
            Want::Switchover,
            Want::Failback,
            Want::Switchover,
            Want::Suspend,
            Want::Resume,
        ];
        let times = 1 + self.rng.below(2);
        for _ in 0..times {
            let insists = self.setup.forces && self.rng.one_in(2);
            if self.setup.resources && self.rng.one_in(3) {
                let holds = [Want::Offline, Want::Online, Want::Maintain(true), Want::Maintain(false)];
                let want = holds[self.rng.below(4) as usize];
                self.want(at, want);
                continue;
            }
            let want = if insists { Want::Failover { force: true } } else { wants[self.rng.below(6) as usize] };
            self.want(at, want);
        }
    }

    /// Everything is put right.
    pub fn heal(&mut self) {
        self.net = Net::new();
        for at in self.all_nodes() {
            self.nodes[at].unfit_until = 0;
            self.nodes[at].agents.iter_mut().for_each(Agent::heal);
            self.resume(at);
            self.start_again(at, 100 * MS);
            if at < 2 {
                self.tell_fitness(at);
            }
            if at < 2 && self.setup.resources {
                for later in [3_000, 12_000, 24_000] {
                    self.after(later * MS, Event::Person { node: at, want: Want::Online });
                    self.after((later + 100) * MS, Event::Person { node: at, want: Want::Maintain(false) });
                }
            }
        }
        self.log("all", format_args!("# everything is put right"));
    }
}

fn lines() -> impl Iterator<Item = (usize, usize, usize)> {
    (0..3).flat_map(|from| (0..3).flat_map(move |to| (0..PATHS).map(move |path| (from, to, path))))
}
