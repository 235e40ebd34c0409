//! Asking whether something is meant, before it is done.

use std::io::IsTerminal;

use stead_api::{Failure, FailureKind};

/// Asks on the terminal, unless `yes` was said already.
///
/// # Errors
/// Where the answer is not yes, or there is nobody to ask.
pub fn agree(yes: bool, what: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        let why = format!("this will {what}, and there is no terminal to ask on whether that is meant");
        return Err(Failure::new("nothing was done", why, "Say so with --yes").kind(FailureKind::Usage));
    }
    if is_yes(&format!("this will {what}; go on?")) {
        return Ok(());
    }
    Err(Failure::new("nothing was done", "the answer was not yes", "").kind(FailureKind::No))
}

/// Puts a question to whoever sits there; only a yes is one.
pub fn is_yes(question: &str) -> bool {
    eprint!("{question} [y/N] ");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).is_ok() && matches!(line.trim(), "y" | "Y" | "yes")
}
