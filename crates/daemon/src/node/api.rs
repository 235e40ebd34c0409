//! Requests of the operator.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use stead_api::{Answer, Request};
use stead_model::SetName;

use super::Node;
use super::ops::Op;
use crate::api_server::Responder;
use crate::check;
use crate::gather::{self, Gathering};
use crate::job::{self, Rest};
use crate::seam::Command;

impl Node {
    pub(super) fn on_request(&mut self, request: Request, responder: Responder) -> ControlFlow<()> {
        match request {
            Request::Invite => responder.end(self.invite()),
            Request::Join { line } => self.join(&line, responder),
            Request::Nodes => self.nodes(responder),
            Request::NodeRemove { node, force } => self.remove_node(node, force, responder),
            Request::NodeAddress { node, addresses } => responder.end(self.move_node(&node, &addresses)),
            Request::NodeReplace { old, new, seeded } => self.replace_node(old, &new, seeded, responder),
            Request::RotateKey => self.rotate_key(responder),
            Request::StateBackup => responder.end(self.back_up()),
            Request::Log => responder.done(Answer::Log(crate::log::last_lines())),
            Request::Protect(options) => self.protect(Rest { sets: vec![*options], plan: None }, responder),
            Request::Unprotect { set, force } => self.unprotect(&set, force, responder),
            Request::Wait { set, timeout_ms } => {
                let what = format!("what was written to {set} is not applied everywhere");
                self.command(&set, Command::Wait, timeout_ms.map(Duration::from_millis), what, responder);
            }
            Request::Status { watch, local } => self.status(watch, local, responder),
            Request::Mirror { set } => {
                let what = format!("set {set} was not mirrored");
                self.command(&set, Command::Mirror, None, what, responder);
            }
            Request::Verify { set, repair } => {
                let what = format!("set {set} was not verified");
                self.command(&set, Command::Verify { repair, content: true }, None, what, responder);
            }
            Request::Pause { set, on } => self.pause(&set, on.as_ref(), true, responder),
            Request::Resume { set, on } => self.pause(&set, on.as_ref(), false, responder),
            Request::Limit { set, on, to } => responder.end(self.limit(&set, on.as_ref(), to)),
            Request::AnswerBrake { set, on, accept } => self.answer_brake(&set, on.as_ref(), accept, responder),
            Request::LastVerify { set } => responder.end(self.last_verify(&set)),
            Request::Alerts => responder.done(Answer::Alerts(self.pulse.alerts.list().to_vec())),
            Request::AlertTest { receiver } => self.test_receivers(receiver.as_deref(), responder),
            Request::PlanShow => responder.done(Answer::Plan(self.plan.at_home().to_toml())),
            Request::PlanCheck => self.plan_check(responder),
            Request::Checklist { group } => self.checklist(group.as_ref(), responder),
            Request::PlanCompare { text } => self.plan_compare(text, responder),
            Request::PlanApply { text, over } => self.plan_apply(text, over, responder),
            Request::Monitor(options) => self.monitor(*options, responder),
            Request::Unmonitor { group } => self.unmonitor(&group, responder),
            Request::Move { group, want, expires_ms } => self.move_group(&group, want, expires_ms, responder),
            Request::Restore(options) => self.restore(*options, responder),
            Request::RestorePreview { group, sets } => self.preview_restore(&group, &sets, responder),
            Request::Failback(options) => self.failback(options, responder),
            Request::Explain { group } => self.explain_groups(group, responder),
            Request::WhatIf { group, heartbeat_ms, timeout_ms } => {
                self.what_if(&group, heartbeat_ms, timeout_ms, responder);
            }
            Request::Forks => responder.done(Answer::Forks(self.forks.list())),
            Request::Fork { set, epoch, from } => self.show_fork((set, epoch), from, responder),
            Request::ForkExport { set, epoch, to } => self.export_fork((set, epoch), to, responder),
            Request::ForkDrop { set, epoch } => self.drop_fork((set, epoch), responder),
            Request::Shutdown => {
                responder.done(Answer::Done);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn command(
        &mut self,
        set: &SetName,
        command: Command,
        timeout: Option<Duration>,
        what: String,
        responder: Responder,
    ) {
        match self.as_source(set, &what) {
            Ok(()) => self.begin(set, command, timeout, what, responder),
            Err(failure) => responder.failed(failure),
        }
    }

    fn status(&mut self, watch: bool, local: bool, responder: Responder) {
        if watch {
            let busy = Arc::new(AtomicBool::new(false));
            return self.ops.push(Op::Watch { next: Instant::now(), local, busy, responder });
        }
        if local {
            return responder.done(Answer::Status(self.local_status()));
        }
        let gathering = self.gathering(false);
        job::spawn(&self.events, move || {
            responder.done(Answer::Status(gather::everywhere(gathering)));
            None
        });
    }

    /// What is needed to ask everyone; `local`: nobody.
    pub(super) fn gathering(&self, local: bool) -> Gathering {
        let peers = self.peers.list().iter().filter(|_| !local).map(|peer| peer.name.clone()).collect();
        Gathering { local: self.local_status(), peers, dialer: self.dialer.clone() }
    }

    fn plan_check(&self, responder: Responder) {
        let (plan, node, dialer) = (self.plan.clone(), self.name.clone(), self.dialer.clone());
        let groups = self.local_groups();
        job::spawn(&self.events, move || {
            let mut findings = check::findings(&plan, &node, &dialer);
            findings.extend(check::group_findings(&groups, &dialer));
            responder.done(Answer::Checked(findings));
            None
        });
    }
}
