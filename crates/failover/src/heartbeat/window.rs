//! Which numbers of one sender came already.

/// How far behind the newest number one may come, on a slow path.
const WIDTH: u64 = 1024;

/// The numbers of a sender's newest run, each taken once.
#[derive(Clone, Debug)]
pub(super) struct Window {
    run: u64,
    newest: u64,
    seen: [u64; (WIDTH / 64) as usize],
}

impl Window {
    /// Takes no run before `run`.
    pub fn new(run: u64) -> Window {
        Window { run, newest: 0, seen: [0; (WIDTH / 64) as usize] }
    }

    /// The newest run.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// Is it new? Then it is not any more. Number 0 never is.
    pub fn take(&mut self, run: u64, number: u64) -> bool {
        if run < self.run || number == 0 {
            return false;
        }
        if run > self.run {
            *self = Window::new(run);
        }
        if number > self.newest {
            self.advance(number);
        } else if self.newest - number >= WIDTH || self.is_seen(number) {
            return false;
        }
        self.seen[Self::word(number)] |= 1 << (number % 64);
        true
    }

    fn advance(&mut self, number: u64) {
        if number - self.newest >= WIDTH {
            self.seen.fill(0);
        } else {
            (self.newest + 1..=number).for_each(|skipped| self.seen[Self::word(skipped)] &= !(1 << (skipped % 64)));
        }
        self.newest = number;
    }

    fn is_seen(&self, number: u64) -> bool {
        self.seen[Self::word(number)] & (1 << (number % 64)) != 0
    }

    fn word(number: u64) -> usize {
        (number % WIDTH / 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_of_the_newest_run_is_taken_once() {
        let mut window = Window::new(3);
        let takes = [
            (2, 1, false),
            (3, 5, true),
            (3, 5, false),
            (3, 4, true),
            (3, 1028, true),
            (3, 4, false),
            (3, 5, false),
            (3, 6, true),
            (3, 1029, true),
            (3, 0, false),
            (4, 1, true),
            (3, 2000, false),
            (4, u64::MAX, true),
            (4, u64::MAX - 1023, true),
            (4, u64::MAX - 1024, false),
        ];
        for (run, number, taken) in takes {
            assert_eq!(window.take(run, number), taken, "{run}.{number}");
        }
    }

    #[test]
    fn in_any_order_within_its_width() {
        let mut window = Window::new(0);
        for block in 0..20 {
            for at in 0..512 {
                assert!(window.take(1, block * 512 + (at * 37) % 512 + 1));
            }
            for at in 0..512 {
                assert!(!window.take(1, block * 512 + at + 1));
            }
        }
    }
}
