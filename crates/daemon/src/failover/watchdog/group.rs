//! A group that is watched.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::Sender;
use stead_model::lease::{NONE, UNLIMITED};
use stead_resource::Call;

use super::orders::Orders;
use crate::failover::lease::LeaseView;

pub(super) struct Group {
    pub(super) dir: PathBuf,
    pub(super) lease: LeaseView,
    /// Ends its guard.
    pub(super) call: Call,
    orders: Mutex<Arc<Orders>>,
    /// Wakes its guard, with a deadline that has come.
    wake: Sender<u64>,
    /// The last one that it was woken for.
    woken_for: AtomicU64,
    beats: AtomicU64,
    /// When they were seen to rise, by CLOCK_BOOTTIME; 0: not yet.
    beat_at: AtomicU64,
}

impl Group {
    pub(super) fn new(dir: PathBuf, lease: LeaseView, call: Call, orders: Orders, wake: Sender<u64>) -> Group {
        let (woken_for, beats, beat_at) = (AtomicU64::new(NONE), AtomicU64::new(lease.beats()), AtomicU64::new(0));
        Group { dir, lease, call, orders: Mutex::new(Arc::new(orders)), wake, woken_for, beats, beat_at }
    }

    /// Has its guard woken where its deadline has come, once; else says when it comes.
    pub(super) fn look(&self, now: u64) -> Option<u64> {
        self.look_at_beats(now);
        match self.lease.deadline() {
            NONE | UNLIMITED => None,
            deadline if deadline > now => Some(deadline),
            deadline => {
                if self.woken_for.load(Relaxed) != deadline && self.wake.try_send(deadline).is_ok() {
                    self.woken_for.store(deadline, Relaxed);
                }
                None
            }
        }
    }

    /// How long ago the daemon was seen to live.
    pub(super) fn silence(&self, now: u64) -> Option<Duration> {
        let at = self.beat_at.load(Relaxed);
        (at > 0).then(|| Duration::from_nanos(now.saturating_sub(at)))
    }

    pub(super) fn orders(&self) -> Arc<Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_orders(&self, orders: Orders) {
        *self.orders.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(orders);
    }

    fn look_at_beats(&self, now: u64) {
        let beats = self.lease.beats();
        if self.beats.swap(beats, Relaxed) != beats {
            self.beat_at.store(now, Relaxed);
        }
    }
}
