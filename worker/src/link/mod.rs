//! The link to the coordinator: registers, then exchanges until the run is over.
//!
//! One call carries everything: progress renews leases, results go up, work comes down. An exchange that
//! failed is repeated as it was, under its number, until an answer comes; a coordinator that restarted asks
//! for a new registration, under which whatever is still held is handed in. Samples go up as they are finished:
//! after each batch at once, within a batch every half second. One is forgotten only once an exchange that held it was
//! answered, so none is lost while this process lives.

use crate::evaluator::{Control, EvaluateError, Stage};
use crate::keep::Keeper;
use crate::slot::{Done, Job, Workplace};
use common::digest::{Digest, Manifest};
use common::evaluation::{Evaluation, Timings};
use common::id::{LeaseId, WorkerId};
use proto::convert::{
    End, Exchange, ExchangeAnswer, FailureKind, Held, LeaseProgress, Outcome, Receipt, Registered,
    Registration, Report, RunState, Stage as WireStage,
};
use proto::status::Class;
use proto::{Channel, ClusterClient, wire};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{info, warn};

mod ending;
mod patience;
mod running;

pub use ending::{Ending, LinkError};
pub(crate) use patience::CallError;
pub use patience::{Patience, describe};

use running::Running;

/// How long an idle worker lets the coordinator hold an answer back.
const IDLE_WAIT: Duration = Duration::from_secs(10);
/// The same while other slots are busy, whose results should not wait long.
const BUSY_WAIT: Duration = Duration::from_millis(250);
/// How long a finished sample waits at most for others to go up with it, while its batch goes on.
const REPORT_EVERY: Duration = Duration::from_millis(500);
/// How long a busy worker is silent at most: whatever it should stop doing it learns by then.
const BEAT: Duration = Duration::from_secs(2);
/// Texts of samples that one exchange carries beyond the first of each lease, in bytes. The rest goes with the next.
const REPORT_BYTES: usize = 8 << 20;
/// A slot that was told to stop and has not for this long is stuck: a decode step takes seconds at most.
const STUCK_AFTER: Duration = Duration::from_secs(300);

/// What the worker says of itself.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Name that people see.
    pub name: String,
    /// The device in words.
    pub device: String,
    /// Candidates at once.
    pub slots: u32,
}

/// The worker's side of one run.
pub struct Link {
    client: ClusterClient<Channel>,
    patience: Patience,
    identity: Identity,
    plan: Digest,
    manifest: Manifest,
    worker: WorkerId,
    sequence: u64,
    running: BTreeMap<LeaseId, Running>,
    /// Computed and not yet acknowledged.
    outcomes: Vec<Outcome>,
    /// Finished samples of leases that ended otherwise.
    leftovers: Vec<Report>,
    renew: Duration,
    /// Woken by evaluations that have finished a batch.
    nudge: Arc<Notify>,
    /// When the last exchange was answered.
    spoke: Instant,
    /// Its operator or the coordinator's wants this worker to take nothing new, finish what it has and go.
    finishing: bool,
    /// Where reports stay that are not to leave this node.
    keeper: Arc<Keeper>,
    /// Cancelled, with a slot that has not come back yet, since when.
    ending: BTreeMap<LeaseId, Instant>,
}

impl Link {
    /// Registers. A worker whose files differ is turned away here, before it loads anything.
    pub async fn register(
        client: ClusterClient<Channel>,
        patience: Patience,
        identity: Identity,
        plan: &common::run::RunPlan,
        manifest: Manifest,
        keeper: Keeper,
    ) -> Result<Link, LinkError> {
        let mut link = Link {
            client,
            patience,
            identity,
            plan: plan.digest(),
            manifest,
            worker: WorkerId(0),
            sequence: 0,
            running: BTreeMap::new(),
            outcomes: Vec::new(),
            leftovers: Vec::new(),
            nudge: Arc::default(),
            spoke: Instant::now(),
            finishing: false,
            keeper: Arc::new(keeper),
            ending: BTreeMap::new(),
            renew: Duration::from_secs(plan.scheduling.lease_seconds) / 3,
        };
        link.register_anew().await?;
        Ok(link)
    }

    async fn register_anew(&mut self) -> Result<(), LinkError> {
        let held = self.running.iter().map(|(lease, r)| (*lease, r.candidate, r.recipe));
        let computed = self.outcomes.iter().map(|o| (o.lease, o.candidate, o.recipe));
        let held = held.chain(computed);
        let registration = Registration {
            name: self.identity.name.clone(),
            program_version: proto::PROGRAM_VERSION.into(),
            protocol_version: proto::PROTOCOL_VERSION,
            device: self.identity.device.clone(),
            slots: self.identity.slots,
            manifest: self.manifest.clone(),
            held: held.map(|(lease, candidate, recipe)| Held { lease, candidate, recipe }).collect(),
            plan: self.plan,
        };
        let request = wire::RegisterRequest::from(registration);
        let client = &self.client;
        let call = || {
            let (mut client, request) = (client.clone(), request.clone());
            async move { client.register(request).await }
        };
        let reply = match self.patience.call("register", call).await {
            Ok(reply) => Registered::try_from(reply)?,
            Err(CallError::Link(e)) => return Err(e),
            Err(CallError::Again) => return Err(LinkError::TurnedAway(Class::UnknownWorker)),
        };
        self.worker = reply.worker;
        self.sequence = 0;
        self.cancel(&reply.cancelled);
        info!(worker = self.worker.0, "registered");
        Ok(())
    }

    /// Exchanges until the run is over or `stop` turns true.
    pub async fn run(
        &mut self,
        slots: &dyn Workplace,
        done: &mut UnboundedReceiver<Done>,
        stop: &mut watch::Receiver<bool>,
        finish: &mut watch::Receiver<bool>,
    ) -> Result<Ending, LinkError> {
        loop {
            let told_to_finish = *finish.borrow();
            self.finishing |= told_to_finish;
            let done_all = self.finishing && self.holds_nothing();
            let stopping = *stop.borrow() || done_all;
            if stopping {
                self.hand_back();
            }
            self.check_stuck(slots)?;
            let exchanged = tokio::select! {
                biased;
                answer = self.exchange(slots, stopping) => Some(answer),
                // A wish to leave does not wait for an answer that may be held back; the number just used
                // is then simply skipped.
                _ = stop.wait_for(|s| *s), if !stopping => None,
                _ = finish.wait_for(|f| *f), if !self.finishing => None,
            };
            let answer = match exchanged {
                None => continue,
                Some(Ok(Some(answer))) => answer,
                Some(Ok(None)) => {
                    let description = describe(&self.client, self.patience).await?;
                    if description.plan.digest() != self.plan {
                        return Err(LinkError::OtherRun);
                    }
                    self.register_anew().await?;
                    continue;
                }
                // A coordinator that is gone too takes its leases back by itself.
                Some(Err(LinkError::GivenUp { .. })) if stopping => return Ok(Ending::Stopped),
                Some(Err(e)) => return Err(e),
            };
            if stopping {
                let drained = done_all && !told_to_finish;
                return Ok(if drained { Ending::Drained } else { Ending::Stopped });
            }
            if answer.drain && !self.finishing {
                info!("drained by the coordinator's operator: finishing what is begun");
                self.finishing = true;
            }
            self.take(answer.clone(), slots)?;
            // Leftovers of leases that were cancelled just now are nobody's concern any more: all candidates are final,
            // and a coordinator whose workers all know does not wait for another exchange.
            if answer.state == RunState::Finished && self.outcomes.is_empty() {
                self.running.values().for_each(|r| r.control.cancel());
                return Ok(Ending::Finished);
            }
            self.pause(slots, done, stop, finish).await;
        }
    }

    /// Waits for what makes the next exchange worth while: a result, finished samples, or a lease that wants renewal. A
    /// worker with free slots does not wait here: the coordinator holds its answer back instead.
    async fn pause(
        &mut self,
        slots: &dyn Workplace,
        done: &mut UnboundedReceiver<Done>,
        stop: &mut watch::Receiver<bool>,
        finish: &mut watch::Receiver<bool>,
    ) {
        loop {
            while let Ok(finished) = done.try_recv() {
                self.settle(finished);
            }
            let is_due = match self.finishing {
                true => self.holds_nothing(),
                false => self.free(slots) > 0,
            };
            if is_due || !self.outcomes.is_empty() || !self.leftovers.is_empty() {
                return;
            }
            let nudge = self.nudge.clone();
            tokio::select! {
                biased;
                finished = done.recv() => if let Some(finished) = finished { self.settle(finished) },
                _ = nudge.notified() => return,
                _ = tokio::time::sleep(REPORT_EVERY) => {
                    let finished = self.running.values().any(|r| r.control.has_finished());
                    if finished || self.spoke.elapsed() >= BEAT.min(self.renew) {
                        return;
                    }
                }
                _ = stop.wait_for(|s| *s) => return,
                _ = finish.wait_for(|f| *f), if !self.finishing => return,
            }
        }
    }

    /// Slots that could begin something at once.
    fn free(&self, slots: &dyn Workplace) -> usize {
        slots.count().saturating_sub(self.running.len() + self.ending.len())
    }

    fn holds_nothing(&self) -> bool {
        self.running.is_empty() && self.outcomes.is_empty() && self.leftovers.is_empty()
    }

    /// A thread that hangs in a device cannot be ended. While others work it is only left out; when all hang, whoever
    /// supervises this process has to start it again.
    fn check_stuck(&self, slots: &dyn Workplace) -> Result<(), LinkError> {
        let stuck = self.ending.values().filter(|since| since.elapsed() > STUCK_AFTER).count();
        match stuck >= slots.count() {
            true => Err(LinkError::Stuck { seconds: STUCK_AFTER.as_secs() }),
            false => Ok(()),
        }
    }

    /// What is finished and not yet known to be written down: leases that ended otherwise first.
    fn reports(&mut self) -> Vec<Report> {
        let mut reports = self.leftovers.clone();
        let mut room = REPORT_BYTES;
        for (lease, running) in &mut self.running {
            running.fetch();
            let mut some = Vec::new();
            for row in &running.unsent {
                if !some.is_empty() && row.text.len() > room {
                    break;
                }
                room = room.saturating_sub(row.text.len());
                some.push(row.clone());
            }
            if !some.is_empty() {
                reports.push(running.report(*lease, some));
            }
        }
        reports
    }

    /// Forgets samples that are written down.
    fn forget(&mut self, reported: &[(LeaseId, usize)]) {
        // Nothing else touches these while an exchange is under way.
        self.leftovers.clear();
        for (lease, count) in reported {
            if let Some(running) = self.running.get_mut(lease) {
                running.unsent.drain(..(*count).min(running.unsent.len()));
            }
        }
    }

    /// One exchange, repeated until it is answered. `None`: register again.
    async fn exchange(
        &mut self,
        slots: &dyn Workplace,
        leaving: bool,
    ) -> Result<Option<ExchangeAnswer>, LinkError> {
        self.sequence += 1;
        let free = if leaving || self.finishing { 0 } else { self.free(slots) };
        let wait = match (free, self.outcomes.is_empty(), self.running.is_empty()) {
            _ if leaving => Duration::ZERO,
            (0, ..) => Duration::ZERO,
            (_, _, true) => IDLE_WAIT.min(self.renew),
            _ => BUSY_WAIT,
        };
        let progress = |(lease, r): (&LeaseId, &Running)| LeaseProgress {
            lease: *lease,
            stage: match r.control.stage() {
                Stage::Merging => WireStage::Merging,
                Stage::Features => WireStage::Features,
                Stage::Generating => WireStage::Generating,
                Stage::Scoring => WireStage::Scoring,
            },
            samples_done: r.control.samples_done(),
            begun: r.control.begun(),
        };
        let reports = self.reports();
        let reported: Vec<(LeaseId, usize)> =
            reports.iter().map(|r| (r.lease, r.part.samples.len())).collect();
        let request = wire::ExchangeRequest::from(Exchange {
            worker: self.worker,
            sequence: self.sequence,
            free_slots: free as u32,
            running: self.running.iter().map(progress).collect(),
            outcomes: self.outcomes.clone(),
            wait_ms: wait.as_millis() as u32,
            leaving,
            reports,
        });
        let client = &self.client;
        let call = || {
            let (mut client, request) = (client.clone(), request.clone());
            async move { client.exchange(request).await }
        };
        // One who leaves does not wait for a coordinator that is gone.
        let patience = match leaving {
            true => Patience { give_up_after: Some(Duration::from_secs(2)), ..self.patience },
            false => self.patience,
        };
        match patience.call("exchange", call).await {
            Ok(reply) => {
                let answer = ExchangeAnswer::try_from(reply)?;
                self.forget(&reported);
                self.spoke = Instant::now();
                Ok(Some(answer))
            }
            Err(CallError::Again) => Ok(None),
            Err(CallError::Link(e)) => Err(e),
        }
    }

    fn take(&mut self, answer: ExchangeAnswer, slots: &dyn Workplace) -> Result<(), LinkError> {
        for ack in &answer.acknowledgements {
            self.outcomes.retain(|o| o.lease != ack.lease);
            match ack.receipt {
                Receipt::Recorded => {}
                Receipt::Duplicate => info!(lease = ack.lease.0, "another worker was first"),
                Receipt::Refused | Receipt::Unknown => {
                    warn!(lease = ack.lease.0, receipt = ?ack.receipt, reason = ack.message, "not recorded");
                }
            }
        }
        self.cancel(&answer.cancelled);
        for remainder in &answer.remainders {
            if let Some(running) = self.running.get(&remainder.lease) {
                running.control.keep(&remainder.samples);
            }
        }
        for grant in answer.grants {
            // A repeated answer may name a lease that is already running.
            if self.running.contains_key(&grant.lease) {
                continue;
            }
            let samples = grant.samples.len();
            info!(candidate = grant.candidate.0, attempt = grant.attempt, samples, "begins");
            let control = Arc::new(Control::new(grant.samples, self.nudge.clone()));
            let recipe = grant.recipe.digest();
            let running = Running {
                candidate: grant.candidate,
                recipe,
                control: control.clone(),
                keeper: self.keeper.clone(),
                unsent: Vec::new(),
                timings: Timings::default(),
            };
            self.running.insert(grant.lease, running);
            self.renew = Duration::from_millis(grant.renew_within_ms) / 3;
            if !slots.submit(Job { lease: grant.lease.0, recipe: grant.recipe, control }) {
                return Err(LinkError::NoSlots);
            }
        }
        Ok(())
    }

    /// Turns a finished job into an outcome to hand in.
    fn settle(&mut self, done: Done) {
        let lease = LeaseId(done.lease);
        self.ending.remove(&lease);
        // A lease that is no longer here was cancelled: nobody waits for its result.
        let Some(mut running) = self.running.remove(&lease) else { return };
        let samples = running.control.samples_done();
        let end = match done.result {
            Ok(timings) => {
                info!(candidate = running.candidate.0, samples, ms = timings.total_ms(), "done");
                running.fetch();
                End::Evaluated(Evaluation { samples: std::mem::take(&mut running.unsent), timings })
            }
            Err(e) => {
                let kind = match e {
                    EvaluateError::Cancelled => FailureKind::HandedBack,
                    EvaluateError::Failed(_) => FailureKind::Retryable,
                    EvaluateError::Impossible(_) => FailureKind::Permanent,
                };
                warn!(candidate = running.candidate.0, samples, error = %e, "failed");
                End::Failed { kind, reason: e.to_string() }
            }
        };
        self.leave_over(lease, &mut running);
        let (candidate, recipe) = (running.candidate, running.recipe);
        self.outcomes.push(Outcome { lease, candidate, recipe, end });
    }

    /// Keeps finished samples of a lease that is over, to be handed in.
    fn leave_over(&mut self, lease: LeaseId, running: &mut Running) {
        running.fetch();
        let rows = std::mem::take(&mut running.unsent);
        if !rows.is_empty() {
            self.leftovers.push(running.report(lease, rows));
        }
    }

    fn cancel(&mut self, leases: &[LeaseId]) {
        for lease in leases {
            if let Some(mut running) = self.running.remove(lease) {
                let samples = running.control.samples_done();
                info!(candidate = running.candidate.0, samples, "cancelled");
                running.control.cancel();
                self.ending.insert(*lease, Instant::now());
                self.leave_over(*lease, &mut running);
            }
        }
    }

    /// Stops everything that runs, so that its candidates go to others at once, with what is finished of them.
    fn hand_back(&mut self) {
        for (lease, mut running) in std::mem::take(&mut self.running) {
            running.control.cancel();
            self.leave_over(lease, &mut running);
            info!(candidate = running.candidate.0, samples = running.control.samples_done(), "handed back");
            let reason = "the worker was stopped".to_string();
            let end = End::Failed { kind: FailureKind::HandedBack, reason };
            let (candidate, recipe) = (running.candidate, running.recipe);
            self.outcomes.push(Outcome { lease, candidate, recipe, end });
        }
    }
}
