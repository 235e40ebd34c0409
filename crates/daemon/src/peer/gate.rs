//! One attempt for each target at a time, and slow ones where only a person can help.
//!
//! Several sets may have the same target. Whoever wants to dial it while another does waits for that attempt's end and
//! shares its failure. An answer that no repetition changes (another certificate, a refusal of the certificate) is
//! given again for half a minute without asking the network.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use stead_model::NodeName;

use super::DialError;

/// How long an answer holds that only a person changes.
pub(super) const SLOW: Duration = Duration::from_secs(30);

/// The gates of all targets. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Gates(Arc<Mutex<BTreeMap<NodeName, Arc<Gate>>>>);

#[derive(Default)]
struct Gate {
    /// Held by whoever dials.
    turn: Mutex<()>,
    /// The last attempt, where it failed.
    past: Mutex<Option<Failed>>,
}

struct Failed {
    /// What was dialed: another certificate or address is another attempt.
    what: String,
    ended: Instant,
    error: DialError,
}

impl Gates {
    /// Dials, or tells what an attempt found that ended after this call began.
    pub(super) fn pass<T>(
        &self,
        node: &NodeName,
        what: String,
        dial: impl FnOnce() -> Result<T, DialError>,
    ) -> Result<T, DialError> {
        let asked = Instant::now();
        let gate = lock(&self.0).entry(node.clone()).or_default().clone();
        let _turn = lock(&gate.turn);
        if let Some(error) = gate.still_holds(&what, asked) {
            return Err(error);
        }
        let dialed = dial();
        let failed = |error: &DialError| Failed { what, ended: Instant::now(), error: error.clone() };
        *lock(&gate.past) = dialed.as_ref().err().map(failed);
        dialed
    }
}

impl Gates {
    /// Why the last attempt failed; none where it did not.
    pub(super) fn trouble(&self, node: &NodeName) -> Option<String> {
        let gate = lock(&self.0).get(node)?.clone();
        lock(&gate.past).as_ref().map(|failed| failed.error.to_string())
    }
}

impl Gate {
    fn still_holds(&self, what: &str, asked: Instant) -> Option<DialError> {
        let past = lock(&self.past);
        let failed = past.as_ref().filter(|failed| failed.what == what)?;
        let shared = failed.ended > asked && failed.error.is_of_the_line();
        let lasting = failed.error.is_lasting() && failed.ended.elapsed() < SLOW;
        (shared || lasting).then(|| failed.error.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn wrong() -> DialError {
        DialError::WrongCertificate { name: "lyon".into(), address: "10.0.0.2:7130".parse().unwrap() }
    }

    fn away() -> DialError {
        DialError::Unreachable { name: "lyon".into(), reasons: "refused".into() }
    }

    #[test]
    fn what_only_a_person_changes_is_not_asked_again_soon() {
        let (gates, lyon) = (Gates::default(), "lyon".parse().unwrap());
        let dials = Cell::new(0);
        let dial = |what: &str, error: fn() -> DialError| {
            let attempt = || {
                dials.set(dials.get() + 1);
                Err::<(), _>(error())
            };
            gates.pass(&lyon, what.into(), attempt).unwrap_err()
        };
        dial("here", wrong);
        assert!(matches!(dial("here", wrong), DialError::WrongCertificate { .. }));
        assert_eq!(dials.get(), 1);
        dial("at another address", away);
        dial("at another address", away);
        assert_eq!(dials.get(), 3);
    }

    #[test]
    fn who_waited_shares_the_failure() {
        let (gates, lyon) = (Gates::default(), NodeName::try_from("lyon".to_string()).unwrap());
        let (begun, wait) = std::sync::mpsc::channel();
        let (go, going) = std::sync::mpsc::channel::<()>();
        let (first_gates, first_lyon) = (gates.clone(), lyon.clone());
        let first = std::thread::spawn(move || {
            first_gates.pass(&first_lyon, "here".into(), || {
                begun.send(()).unwrap();
                going.recv().unwrap();
                Err::<(), _>(away())
            })
        });
        wait.recv().unwrap();
        let asked = Instant::now();
        go.send(()).unwrap();
        first.join().unwrap().unwrap_err();
        let gate = lock(&gates.0).get(&lyon).unwrap().clone();
        assert!(gate.still_holds("here", asked).is_some(), "it began before that attempt ended");
        assert!(gate.still_holds("here", Instant::now()).is_none());
    }
}
