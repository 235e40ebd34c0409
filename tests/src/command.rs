//! Running programs: what failed is told with the command line and what it printed.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Runs a command to its end; its output is kept.
///
/// # Errors
/// Where it cannot be started or exits with anything but 0; names the command, the status and what it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        bail!("{} ended with {}: {}{}", shown(command), output.status, text(&output.stdout), text(&output.stderr));
    }
    Ok(text(&output.stdout))
}

/// Runs a command to its end, whatever its exit code.
///
/// # Errors
/// Where it cannot be started.
pub fn output(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", shown(command)))
}

/// Runs a command line split at blanks: for fixed texts without special characters.
///
/// # Errors
/// As [`run`].
pub fn words(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    run(Command::new(words.next().context("an empty command line")?).args(words))
}

/// The command as a person would type it.
pub fn shown(command: &Command) -> String {
    let parts = std::iter::once(command.get_program()).chain(command.get_args());
    parts.map(|part| part.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Bytes of a program's output as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Asks until the answer is yes. The way to wait for another process without a fixed sleep.
///
/// # Errors
/// After `limit`; names what was waited for.
pub fn until(what: &str, limit: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        if ready()? {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("waited {limit:?} in vain: {what}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
