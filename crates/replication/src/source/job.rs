//! Jobs: the content or the hashes of one file, read in pieces of which each takes its own place in the stream.

use std::collections::{HashSet, VecDeque};

use stead_model::FileId;
use stead_model::record::Purpose;

use super::connection::{STREAM, TargetMask};
use super::files::OpenId;
use super::stream::ReadFor;
use crate::frame::Range;
use crate::read::ReadRequest;

/// Number of a job.
pub(super) type JobId = u64;

/// How often a hash is read again because the file changed meanwhile.
pub(super) const REPEATS_MAX: u32 = 8;
/// Queued jobs among which one is looked for whose targets have room.
const LOOK_AHEAD: usize = 4096;
/// Bytes of one read of hashes.
const HASH_READ_BYTES: u64 = 4 << 20;

/// What a job is to bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Work {
    /// Chunks and a NodeEnd.
    Content,
    /// The same, after the node itself.
    Repair,
    /// Hashes for a difference mirror.
    DifferenceHashes,
    /// Hashes for a verify.
    VerifyHashes,
    /// The node, for a verify.
    VerifyNode,
}

/// One file's work.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) id: JobId,
    pub(super) file: FileId,
    pub(super) work: Work,
    pub(super) targets: TargetMask,
    pub(super) purpose: Purpose,
    pub(super) ranges: VecDeque<Range>,
    pub(super) repeats: u32,
    /// The file's attributes follow the stream under this number; 0: they do not yet.
    pub(super) open: OpenId,
    /// Its size when it was opened.
    pub(super) size: Option<u64>,
    /// Nobody needs it any more, or the file is gone.
    pub(super) dead: bool,
    at: Option<u64>,
    asked: bool,
    ended: bool,
}

/// What a job does next.
#[derive(Debug)]
pub(super) enum Step {
    Read(ReadFor, ReadRequest),
    End,
    Wait,
}

impl Job {
    pub(super) fn new(file: FileId, work: Work, targets: TargetMask, purpose: Purpose, ranges: Vec<Range>) -> Job {
        Job {
            id: 0,
            file,
            work,
            targets,
            purpose,
            ranges: ranges.into(),
            repeats: 0,
            open: 0,
            size: None,
            dead: false,
            at: None,
            asked: false,
            ended: false,
        }
    }

    pub(super) fn is_verify(&self) -> bool {
        matches!(self.work, Work::VerifyHashes | Work::VerifyNode)
    }

    fn is_hashes(&self) -> bool {
        matches!(self.work, Work::VerifyHashes | Work::DifferenceHashes)
    }

    /// `chunk`: bytes of a read of content; `block`: of a hash.
    fn step(&mut self, chunk: u64, block: u32) -> Step {
        if self.ended {
            return Step::Wait;
        }
        if self.dead {
            self.ended = true;
            return Step::End;
        }
        let Some(size) = self.size else {
            if self.asked {
                return Step::Wait;
            }
            self.asked = true;
            return Step::Read(
                ReadFor::JobNode { job: self.id, compares: self.is_verify() },
                ReadRequest::Node { file: self.file },
            );
        };
        while let Some(range) = self.ranges.front() {
            let end = range.end().min(size);
            let at = self.at.unwrap_or(range.offset);
            if at >= end {
                self.ranges.pop_front();
                self.at = None;
                continue;
            }
            return self.read(at, end, chunk, block);
        }
        self.ended = true;
        Step::End
    }

    fn read(&mut self, at: u64, end: u64, chunk: u64, block: u32) -> Step {
        let (job, file) = (self.id, self.file);
        if !self.is_hashes() {
            let len = (end - at).min(chunk);
            self.at = Some(at + len);
            return Step::Read(ReadFor::JobContent { job }, ReadRequest::Content { file, offset: at, len });
        }
        let offset = at - at % u64::from(block);
        let len = (end - offset).next_multiple_of(block.into()).min(HASH_READ_BYTES.max(block.into()));
        self.at = Some(offset + len);
        Step::Read(
            ReadFor::JobHashes { job, offset, len, compares: self.is_verify() },
            ReadRequest::Hashes { file, offset, len, block },
        )
    }

    /// A read of content brought everything up to there.
    pub(super) fn covered(&mut self, end: u64) {
        if let (Some(range), Some(at)) = (self.ranges.front(), self.at)
            && end > at
            && end > range.offset
        {
            self.at = Some(end);
        }
    }
}

/// All jobs: some at work, the others in order.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    queued: VecDeque<Job>,
    active: Vec<Job>,
    next: JobId,
    /// Of what was queued by [`Jobs::push_once`].
    keys: HashSet<(FileId, TargetMask, Work)>,
}

impl Jobs {
    pub(super) fn push(&mut self, mut job: Job) {
        self.next += 1;
        job.id = self.next;
        self.queued.push_back(job);
    }

    /// As [`Jobs::push`], unless the same is queued already.
    pub(super) fn push_once(&mut self, job: Job) {
        if self.keys.insert((job.file, job.targets, job.work)) {
            self.push(job);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queued.len() + self.active.len()
    }

    /// For whom something other than a comparison is not finished.
    pub(super) fn blocked(&self) -> TargetMask {
        self.all().filter(|job| !job.is_verify() && !job.dead).fold(0, |mask, job| mask | job.targets)
    }

    pub(super) fn get(&mut self, id: JobId) -> Option<&mut Job> {
        self.active.iter_mut().find(|job| job.id == id)
    }

    /// Changes were lost: what was compared before them has to be compared again before ranges of it can be sent.
    pub(super) fn lose(&mut self, scope: Option<(FileId, bool)>) {
        let concerns = |job: &Job| match scope {
            Some((file, false)) => job.file == file,
            Some((_, true)) | None => true,
        };
        for job in self.active.iter_mut().chain(&mut self.queued) {
            if job.work == Work::Content && job.open == 0 && concerns(job) {
                self.keys.remove(&(job.file, job.targets, job.work));
                (job.work, job.ranges) = (Work::DifferenceHashes, [Range::ALL].into());
            }
        }
    }

    /// The file left the set.
    pub(super) fn give_up(&mut self, id: JobId) {
        if let Some(job) = self.get(id) {
            job.dead = true;
        }
    }

    /// These files are not announced any more.
    pub(super) fn give_up_where(&mut self, which: impl Fn(FileId) -> bool) {
        for job in self.active.iter_mut().chain(&mut self.queued).filter(|job| !job.is_verify() && which(job.file)) {
            self.keys.remove(&(job.file, job.targets, job.work));
            job.dead = true;
        }
    }

    /// Takes a job whose end has come.
    pub(super) fn take(&mut self, id: JobId) -> Option<Job> {
        let at = self.active.iter().position(|job| job.id == id)?;
        Some(self.active.remove(at))
    }

    /// The next thing to do for targets with room, by up to `active_max` jobs at once; End comes with the job's number.
    pub(super) fn step(
        &mut self,
        room: TargetMask,
        active_max: usize,
        chunk: u64,
        blocks: (u32, u32),
    ) -> Option<(JobId, Step)> {
        let may = |job: &Job| job.dead || job.targets & room != 0;
        loop {
            for job in self.active.iter_mut().filter(|job| may(job)) {
                let block = if job.work == Work::VerifyHashes { blocks.1 } else { blocks.0 };
                match job.step(chunk, block) {
                    Step::Wait => {}
                    step => return Some((job.id, step)),
                }
            }
            let at_work = self.active.iter().filter(|job| may(job)).count();
            if at_work >= active_max || self.active.len() >= 4 * active_max {
                return None;
            }
            let next = self.queued.iter().take(LOOK_AHEAD).position(may)?;
            let job = self.queued.remove(next)?;
            self.keys.remove(&(job.file, job.targets, job.work));
            self.active.push(job);
        }
    }

    /// These targets need nothing any more.
    pub(super) fn drop_targets(&mut self, targets: TargetMask) {
        self.drop_where(|_| true, targets);
    }

    /// These targets get nothing of the stream any more; what was to be read of it for them.
    pub(super) fn drop_of_stream(&mut self, targets: TargetMask) -> Vec<FileId> {
        let mut files = Vec::new();
        let of_stream = |job: &&mut Job| job.targets & STREAM != 0;
        for job in self.active.iter_mut().chain(&mut self.queued).filter(of_stream) {
            if job.targets & targets != 0 {
                files.push(job.file);
            }
            job.targets &= !targets;
            job.dead |= job.targets & !STREAM == 0;
        }
        files
    }

    /// No comparison is needed any more.
    pub(super) fn drop_verify(&mut self) {
        self.drop_where(Job::is_verify, TargetMask::MAX);
    }

    fn drop_where(&mut self, which: impl Fn(&Job) -> bool, targets: TargetMask) {
        for job in self.active.iter_mut().chain(&mut self.queued).filter(|job| which(job)) {
            self.keys.remove(&(job.file, job.targets, job.work));
            job.targets &= !targets;
            job.dead |= job.targets & !STREAM == 0;
        }
    }

    fn all(&self) -> impl Iterator<Item = &Job> {
        self.active.iter().chain(&self.queued)
    }
}
