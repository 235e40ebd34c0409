//! Scans that are wanted and have not begun.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::connection::TargetMask;

/// Verifies that may wait.
const VERIFIES_MAX: usize = 16;
/// First and longest time that a scan is put off when changes are lost in every one.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// A verify that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct VerifyRequest {
    pub(super) id: u64,
    pub(super) repair: bool,
    pub(super) content: bool,
    /// How often it was broken off.
    pub(super) attempt: u32,
}

/// What is wanted.
#[derive(Debug, Default)]
pub(super) struct Requests {
    mirror: TargetMask,
    difference: TargetMask,
    /// Of both: for whom there is no good image yet.
    first: TargetMask,
    verifies: VecDeque<VerifyRequest>,
    refused: Vec<u64>,
    not_before: Option<Instant>,
    streak: u32,
}

/// What is begun next.
#[derive(Debug)]
pub(super) enum Next {
    Mirror(TargetMask),
    Difference(TargetMask),
    Parts(TargetMask),
    Verify(VerifyRequest),
}

impl Requests {
    pub(super) fn mirror(&mut self, target: TargetMask) {
        self.mirror |= target;
        self.first |= target;
    }

    pub(super) fn difference(&mut self, targets: TargetMask) {
        self.difference |= targets & !self.mirror;
    }

    pub(super) fn first(&mut self, target: TargetMask) {
        self.first |= target;
        self.difference(target);
    }

    pub(super) fn verify(&mut self, id: u64, repair: bool, content: bool) {
        self.retry_verify(VerifyRequest { id, repair, content, attempt: 0 });
    }

    pub(super) fn retry_verify(&mut self, request: VerifyRequest) {
        if self.verifies.len() < VERIFIES_MAX {
            self.verifies.push_back(request);
        } else {
            self.refused.push(request.id);
        }
    }

    /// Verifies that there was no room for.
    pub(super) fn refused(&mut self) -> Option<u64> {
        self.refused.pop()
    }

    /// The target begins anew or is gone.
    pub(super) fn forget(&mut self, target: TargetMask) {
        for mask in [&mut self.mirror, &mut self.difference, &mut self.first] {
            *mask &= !target;
        }
    }

    /// For whom a scan of the whole set is wanted.
    pub(super) fn whole_for(&self) -> TargetMask {
        self.mirror | self.difference
    }

    /// For whom a scan of everything is wanted that is not a comparison.
    pub(super) fn blocked(&self) -> TargetMask {
        self.whole_for()
    }

    /// For whom what comes is part of a first mirror.
    pub(super) fn first_mirror(&self) -> TargetMask {
        self.first
    }

    pub(super) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// A scan ended; in it changes were lost, or not. A scan that only makes up for losses and loses again is put off.
    pub(super) fn scan_ended(&mut self, lost: bool, now: Instant) {
        if !lost {
            (self.streak, self.not_before) = (0, None);
            return;
        }
        self.streak = (self.streak + 1).min(16);
        self.not_before = Some(now + (BACK_OFF.0 * (1 << self.streak.min(10))).min(BACK_OFF.1));
    }

    /// Takes what is to be begun, for targets that are `up`; for those that are `dirty`, parts have to be looked at. A
    /// verify is begun where it `compares` what can be compared.
    pub(super) fn take(&mut self, up: TargetMask, dirty: TargetMask, compares: bool, now: Instant) -> Option<Next> {
        if self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        self.not_before = None;
        if self.mirror & up != 0 {
            let targets = self.mirror & up;
            self.mirror &= !targets;
            return Some(Next::Mirror(targets));
        }
        if self.difference & up != 0 {
            let targets = self.difference & up;
            self.difference &= !targets;
            return Some(Next::Difference(targets));
        }
        if dirty & up != 0 {
            return Some(Next::Parts(dirty & up));
        }
        if up != 0 && compares { self.verifies.pop_front().map(Next::Verify) } else { None }
    }

    /// The first mirror of these targets ended.
    pub(super) fn first_ended(&mut self, targets: TargetMask) {
        self.first &= !targets;
    }
}
