//! Synchronous targets: an fsync of the application is answered when all that are level have what came before it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use stead_capture::{MountCapture, SyncPolicy, boot_ns};
use stead_model::plan::{Mode, SyncFallback};
use stead_model::status::{State, SyncState, SyncStatus};
use stead_replication::Source;
use stead_replication::source::TargetId;
use stead_replication::sync::{SyncConfig, SyncInput, SyncMessage, SyncOutput, SyncSource};

use crate::clock::wall_clock;
use crate::seam::TargetLink;

/// Between two looks at what does not tell of itself.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The synchronous targets of a set.
#[derive(Default)]
pub(super) struct Levels {
    each: BTreeMap<TargetId, Level>,
    /// The longest time-out of them.
    timeout: Duration,
    looked: Option<Instant>,
    confirmed: u64,
    /// Up to which number of capture the targets were asked to hurry.
    wanted: u64,
}

struct Level {
    source: SyncSource,
    blocks: bool,
    status: SyncStatus,
}

impl Levels {
    /// Those of the targets that are synchronous; who was so before stays as it stands.
    pub(super) fn take<'a>(&mut self, targets: impl Iterator<Item = (TargetId, &'a TargetLink)>) {
        let mut before = std::mem::take(&mut self.each);
        for (target, link) in targets.filter(|(_, link)| link.mode == Mode::Sync) {
            let config = config(link);
            let mut level = before.remove(&target).unwrap_or_else(|| Level::new(config));
            level.source.handle(SyncInput::Configure(config), Instant::now());
            level.blocks = config.blocks;
            self.each.insert(target, level);
            self.timeout = self.timeout.max(config.timeout);
        }
    }

    /// Tells capture whether the set is synchronous.
    pub(super) fn begin(&self, mount: &MountCapture) -> Result<(), String> {
        let blocks = self.each.values().any(|level| level.blocks);
        let policy = if blocks { SyncPolicy::Block } else { SyncPolicy::Async };
        mount.set_sync((!self.each.is_empty()).then_some(policy)).map_err(|e| e.to_string())
    }

    /// When to call [`Levels::turn`] at the latest.
    pub(super) fn due(&self) -> Option<Instant> {
        let looked = self.looked.filter(|_| !self.each.is_empty())?;
        let timeouts = self.each.values().filter_map(|level| level.source.poll_timeout());
        timeouts.chain([looked + LOOK_EVERY]).min()
    }

    /// Lets go of the fsyncs whose changes all level targets have, looks at where each of them stands, and returns what
    /// is to be told to them. `captured`: what the source has been handed.
    pub(super) fn turn(
        &mut self,
        source: &Source,
        mount: &MountCapture,
        captured: u64,
    ) -> Vec<(TargetId, SyncMessage)> {
        if self.each.is_empty() {
            return Vec::new();
        }
        let now = Instant::now();
        self.confirm(source, mount);
        if self.looked.is_none_or(|at| now >= at + LOOK_EVERY) {
            self.looked = Some(now);
            self.look(source, mount, now);
        }
        self.each.values_mut().for_each(|level| level.source.handle_timeout(now));
        let mut messages = self.outputs(mount, now);
        messages.extend(self.want(mount, captured));
        messages
    }

    /// A target says something.
    pub(super) fn received(&mut self, target: TargetId, message: SyncMessage) {
        let Some(level) = self.each.get_mut(&target) else { return };
        let input = match message {
            SyncMessage::Ask { number, held } => SyncInput::Asked { number, held },
            SyncMessage::Revoked { number } => SyncInput::Revoked(number),
            SyncMessage::Grant { .. } | SyncMessage::Revoke { .. } | SyncMessage::Want { .. } => return,
        };
        level.source.handle(input, Instant::now());
    }

    /// As `status` shows it; `None`: the target is not synchronous.
    pub(super) fn status(&self, target: TargetId) -> Option<SyncStatus> {
        self.each.get(&target).map(|level| level.status)
    }

    /// An fsync began to wait for what the source has sent by now.
    fn want(&mut self, mount: &MountCapture, captured: u64) -> Vec<(TargetId, SyncMessage)> {
        let wanted = mount.wanted();
        if wanted <= self.wanted || captured < wanted {
            return Vec::new();
        }
        self.wanted = wanted;
        let level = self.each.iter().filter(|(_, level)| level.source.holds_back());
        level.map(|(target, _)| (*target, SyncMessage::Want { captured: wanted })).collect()
    }

    fn confirm(&mut self, source: &Source, mount: &MountCapture) {
        let level = self.each.iter().filter(|(_, level)| level.source.holds_back());
        let Some(durable) = level.map(|(target, _)| source.durable(*target)).min() else { return };
        if durable > self.confirmed {
            self.confirmed = durable;
            mount.confirm(durable);
        }
    }

    fn look(&mut self, source: &Source, mount: &MountCapture, now: Instant) {
        let fell_back = self.holds_back() && mount.extend(self.deadline()) != stead_capture::SyncState::InSync;
        let waiting_since = mount.sync_status().filter(|status| status.waiting > 0).map(|status| {
            let waited = Duration::from_nanos(boot_ns().saturating_sub(status.waiting_since));
            now.checked_sub(waited).unwrap_or(now)
        });
        let captured = stead_capture::Capture::captured(mount);
        for (target, level) in &mut self.each {
            let state = source.view(*target).map(|view| view.state);
            if fell_back {
                level.source.handle(SyncInput::FellBack, now);
            }
            level.source.handle(SyncInput::Replicating(state == Some(State::Replicating)), now);
            let durable = source.durable(*target);
            level.source.handle(SyncInput::Progress { captured, durable, waiting_since }, now);
            level.show(waiting_since.is_some_and(|since| now > since + Duration::from_secs(1)));
        }
    }

    fn outputs(&mut self, mount: &MountCapture, now: Instant) -> Vec<(TargetId, SyncMessage)> {
        let mut messages = Vec::new();
        let deadline = self.deadline();
        for (target, level) in &mut self.each {
            while let Some(output) = level.source.poll_output() {
                match output {
                    SyncOutput::Enter => {
                        mount.in_sync_again(deadline);
                        // The first look after it finds what was answered before.
                        self.looked = Some(now);
                    }
                    SyncOutput::Leave => {}
                    SyncOutput::Grant { number, lease } => {
                        // What the deadline promises has to outlast what the target may claim.
                        if mount.extend(deadline) == stead_capture::SyncState::InSync {
                            let lease_ms = lease.as_millis() as u64;
                            messages.push((*target, SyncMessage::Grant { number, lease_ms }));
                        }
                    }
                    SyncOutput::Revoke { number } => messages.push((*target, SyncMessage::Revoke { number })),
                    SyncOutput::InSync => tracing::info!(target, "in sync"),
                    SyncOutput::FallenBack(reason) => {
                        tracing::warn!(target, ?reason, "fallen back: fsync does not wait for the target");
                    }
                }
                level.show(false);
            }
        }
        if !self.holds_back() {
            mount.fall_back();
        }
        messages
    }

    fn holds_back(&self) -> bool {
        self.each.values().any(|level| level.source.holds_back())
    }

    fn deadline(&self) -> u64 {
        boot_ns() + self.timeout.max(Duration::from_secs(1)).as_nanos() as u64
    }
}

impl Level {
    fn new(config: SyncConfig) -> Level {
        let status = SyncStatus { state: SyncState::FallenBack, since: wall_clock() };
        Level { source: SyncSource::new(config), blocks: config.blocks, status }
    }

    fn show(&mut self, waits_long: bool) {
        let state = match (self.source.is_in_sync(), self.source.holds_back()) {
            (_, true) if waits_long && self.blocks => SyncState::Blocked,
            (true, _) => SyncState::InSync,
            _ => SyncState::FallenBack,
        };
        if state != self.status.state {
            self.status = SyncStatus { state, since: wall_clock() };
        }
    }
}

fn config(link: &TargetLink) -> SyncConfig {
    let blocks = link.settings.sync_fallback == SyncFallback::Block;
    SyncConfig { timeout: link.settings.sync_timeout, blocks }
}
