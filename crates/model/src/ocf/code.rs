//! The exit codes of an agent (OCF resource agent API 1.1, "Exit status codes").

use std::fmt;

/// An exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// 0: done; of a look: it runs.
    Success,
    /// 1: it failed.
    Generic,
    /// 2: it was not asked as it wants to be, or its parameters do not do on this node.
    Arguments,
    /// 3: it cannot do that.
    Unimplemented,
    /// 4: it may not.
    Permission,
    /// 5: what it needs is not installed on this node.
    NotInstalled,
    /// 6: its parameters can be meant nowhere.
    Misconfigured,
    /// 7: it does not run, and did not fail.
    NotRunning,
    /// 8: it runs in the promoted role.
    Promoted,
    /// 9: it failed in the promoted role.
    FailedPromoted,
    /// 190: it runs, and may fail soon.
    Degraded,
    /// 191: the same in the promoted role.
    DegradedPromoted,
    /// None that the standard knows.
    Other(i32),
}

/// How far a failure reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It may do once more, here.
    Now,
    /// It does not do on this node, until somebody mends it.
    Node,
    /// It does not do on any.
    Everywhere,
}

impl Code {
    /// What that code means.
    pub fn of(code: i32) -> Code {
        match code {
            0 => Code::Success,
            1 => Code::Generic,
            2 => Code::Arguments,
            3 => Code::Unimplemented,
            4 => Code::Permission,
            5 => Code::NotInstalled,
            6 => Code::Misconfigured,
            7 => Code::NotRunning,
            8 => Code::Promoted,
            9 => Code::FailedPromoted,
            190 => Code::Degraded,
            191 => Code::DegradedPromoted,
            other => Code::Other(other),
        }
    }

    /// How far it reaches as a failure.
    pub fn reach(self) -> Reach {
        match self {
            Code::Arguments | Code::Unimplemented | Code::Permission | Code::NotInstalled => Reach::Node,
            Code::Misconfigured => Reach::Everywhere,
            _ => Reach::Now,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Code::Success => "success (0)",
            Code::Generic => "a failure (1)",
            Code::Arguments => "parameters that do not do on this node (2)",
            Code::Unimplemented => "that it cannot do this (3)",
            Code::Permission => "that it may not do this (4)",
            Code::NotInstalled => "that what it needs is not installed here (5)",
            Code::Misconfigured => "parameters that do nowhere (6)",
            Code::NotRunning => "that it does not run (7)",
            Code::Promoted => "that it runs promoted (8)",
            Code::FailedPromoted => "a failure in the promoted role (9)",
            Code::Degraded => "that it runs degraded (190)",
            Code::DegradedPromoted => "that it runs promoted and degraded (191)",
            Code::Other(code) => return write!(f, "code {code}, which the standard does not know"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_do_once_more_is_tried_once_more() {
        let of = |reach| (0..=255).filter(|code| Code::of(*code).reach() == reach).collect::<Vec<_>>();
        assert_eq!((of(Reach::Node), of(Reach::Everywhere)), (vec![2, 3, 4, 5], vec![6]));
        assert_eq!(Code::of(42), Code::Other(42));
    }
}
