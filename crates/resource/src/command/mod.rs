//! Programs that others wrote: started, bounded in time and output, and ended with everything that they started.

mod cgroup;
mod family;
mod run;

use std::ffi::OsString;
use std::time::Duration;

use crate::{Output, Stop};

pub use cgroup::end_orphans;
pub use family::end_kept;
pub use stead_model::End;

/// Code of what starts a program under something, where it cannot: `chroot(1)` and `env(1)` have the same.
pub const NOT_STARTED: u8 = 125;

/// A program to be run.
///
/// It gets a session of its own, `/` to work in, standard input from memory, and one pipe for standard output and standard
/// error. What it leaves running when it ends by itself goes on (a start command leaves its service), without the pipe: a
/// service has to turn its output elsewhere, or writing to it fails. What runs beyond the time limit, or when it is called
/// off, is ended whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments; the program with its path, or found in `PATH`. No shell reads it.
    pub argv: Vec<OsString>,
    /// What starts it, with arguments of its own: `stead as paris --`. It ends with [`NOT_STARTED`] where it cannot; empty:
    /// nothing has to.
    pub under: Vec<OsString>,
    /// Variables beside those of this process.
    pub env: Vec<(String, OsString)>,
    /// What it reads; never shown.
    pub input: Secret,
    /// Time between the polite signal and the end of what did not heed it.
    pub grace: Duration,
    /// Whether a cgroup keeps together what it starts, where this process may make one. Without one, what has left the
    /// program's session and lost its parent before the time is over may escape.
    pub use_cgroup: bool,
    /// Whether what it leaves running when it ends by itself is ended too: all of it where a cgroup keeps it together, else
    /// what stayed in its first process group. A program that only looks has nothing to leave.
    pub ends_rest: bool,
    /// The name under which what it leaves running is kept together, for [`end_kept`]: unique on this machine, and what a
    /// file may be called; none: nothing keeps it.
    pub keeps: Option<String>,
}

/// Bytes that are never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "({} bytes)", self.0.len())
    }
}

/// What became of a program.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub end: End,
    /// From its start to its end.
    pub took: Duration,
    /// What it wrote.
    pub output: Output,
    /// Processes of it that went on when it had ended by itself, and were ended where the command says so; 0 where no
    /// cgroup kept them together.
    pub left: usize,
}

impl Command {
    /// Without more variables, input or arguments.
    pub fn new<S: Into<OsString>>(argv: impl IntoIterator<Item = S>) -> Command {
        let argv = argv.into_iter().map(Into::into).collect();
        let (under, env, input) = (Vec::new(), Vec::new(), Secret::default());
        Command {
            argv,
            under,
            env,
            input,
            grace: Duration::from_secs(2),
            use_cgroup: true,
            ends_rest: false,
            keeps: None,
        }
    }

    /// Runs it to its end; at the limit it is told to end (SIGTERM), after the grace it is made to (SIGKILL).
    pub fn run(&self, limit: Duration) -> Ran {
        self.run_until(limit, &Stop::never())
    }

    /// Runs it to its end, to the limit, or until it is called off: then it is made to end at once, without grace.
    pub fn run_until(&self, limit: Duration, stop: &Stop) -> Ran {
        run::run(self, limit, stop)
    }
}
