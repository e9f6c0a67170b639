//! The one task that owns state and store: apply, commit, answer; and the only place that reads the clock.
//!
//! Commands that are waiting when it looks are applied together and committed as one transaction, so that many
//! workers cost few flushes. No answer leaves before the records under it stand; where they cannot be written, none leaves
//! at all and the driver ends. While the disk keeps it waiting nobody can be heard, so that this time counts against
//! no lease and no budget. An exchange that there is
//! nothing to say to is kept for a while (long polling) and answered as soon as there is.

use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::state::{Changes, Event, Note, Record, Reply, State};
use crate::store::Store;
use common::id::WorkerId;
use common::run::{Budget, Extension};
use common::time::Millis;
use proto::convert::{Exchange, ExchangeAnswer, Registered, Registration, RunState};
use proto::status::Class;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Commands that may wait for the driver; senders wait beyond that.
const QUEUE: usize = 1024;
/// Commands that are committed together at most.
const BATCH: usize = 256;

/// A commit that takes longer keeps workers from being heard.
const SLOW_COMMIT: Duration = Duration::from_secs(1);

/// Tells the time. Must never go back.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// Milliseconds since 1970 that go forward steadily, whatever becomes of the wall clock afterwards.
pub fn system_clock() -> Clock {
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let start = std::time::Instant::now();
    Arc::new(move || Millis(0) + wall + start.elapsed())
}

/// Someone who shows people what happens.
pub trait Watch: Send {
    /// Something happened.
    fn note(&mut self, note: &Note, state: &State);
    /// Called several times a second, for a live line.
    fn tick(&mut self, now: Millis, state: &State);
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn note(&mut self, _: &Note, _: &State) {}
    fn tick(&mut self, _: Millis, _: &State) {}
}

type Look = Box<dyn FnOnce(&State, &dyn Store, Millis) + Send>;
type Answer<T> = oneshot::Sender<std::result::Result<T, Class>>;

enum Command {
    Register(Box<Registration>, Answer<Registered>),
    Exchange(Box<Exchange>, Answer<ExchangeAnswer>),
    Look(Look),
    Pause(bool, Answer<u64>),
    Extend(Extension, Answer<Budget>),
    Drain(String, bool, Answer<u64>),
    Tick,
    Stop,
}

/// Sends commands to the driver.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    disk: Arc<Disk>,
    clock: Clock,
}

impl Handle {
    async fn ask<T>(&self, make: impl FnOnce(Answer<T>) -> Command) -> std::result::Result<T, Class> {
        let (answer, answered) = oneshot::channel();
        let gone = || Class::Unavailable("the coordinator is stopping".into());
        self.commands.send(make(answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// A worker joins.
    pub async fn register(&self, r: Registration) -> std::result::Result<Registered, Class> {
        self.ask(|answer| Command::Register(Box::new(r), answer)).await
    }

    /// A worker reports and asks for work.
    pub async fn exchange(&self, e: Exchange) -> std::result::Result<ExchangeAnswer, Class> {
        self.ask(|answer| Command::Exchange(Box::new(e), answer)).await
    }

    /// Looks at the state and the store as they are between two events.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State, &dyn Store, Millis) -> std::result::Result<T, Class> + Send + 'static,
    ) -> std::result::Result<T, Class> {
        self.ask(|answer| {
            Command::Look(Box::new(move |state, store, now| drop(answer.send(look(state, store, now)))))
        })
        .await
    }

    /// The operator pauses the run (true), or lets it go on. Yields how many leases are live.
    pub async fn pause(&self, paused: bool) -> std::result::Result<u64, Class> {
        self.ask(|answer| Command::Pause(paused, answer)).await
    }

    /// The operator changes what ends the run.
    pub async fn extend(&self, extension: Extension) -> std::result::Result<Budget, Class> {
        self.ask(|answer| Command::Extend(extension, answer)).await
    }

    /// The operator wants the workers of that name to go, or to stay. Yields how many leases they hold.
    pub async fn drain(&self, name: String, drained: bool) -> std::result::Result<u64, Class> {
        self.ask(|answer| Command::Drain(name, drained, answer)).await
    }

    /// Lets time pass. False means that the driver has ended. Never waits: the driver may be waiting for a disk, of which is
    /// told here.
    pub fn tick(&self) -> bool {
        self.disk.look((self.clock)());
        // A full queue has other reasons to look at the clock.
        !matches!(self.commands.try_send(Command::Tick), Err(mpsc::error::TrySendError::Closed(_)))
    }

    /// Stops the coordinator. The run can be resumed.
    pub async fn stop(&self) {
        // When the driver has ended already, there is nothing to stop.
        let _ = self.commands.send(Command::Stop).await;
    }
}

/// Owns the state and the store.
pub struct Driver {
    state: State,
    store: Box<dyn Store>,
    clock: Clock,
    watch: Box<dyn Watch>,
    commands: mpsc::Receiver<Command>,
    /// Exchanges kept until there is something to say, one per worker at most.
    parked: BTreeMap<WorkerId, Parked>,
    /// When the kept ones are to be answered at the latest, and which of them could begin a candidate: so that a batch
    /// costs as many steps as there are answers, not as there are workers.
    due: BTreeSet<(Millis, WorkerId)>,
    hungry: BTreeSet<WorkerId>,
    /// How long workers are given to hear that the run is finished.
    farewell: Duration,
    finished_at: Option<Millis>,
    /// The run was over already: who still asks is not known yet.
    was_over: bool,
    stopping: bool,
    /// What slow commits took in all.
    waited: Duration,
    disk: Arc<Disk>,
}

struct Parked {
    until: Millis,
    so_far: ExchangeAnswer,
    answer: Answer<ExchangeAnswer>,
}

/// What one batch of commands leaves to be done after the commit.
#[derive(Default)]
struct Batch {
    records: Vec<Record>,
    notes: Vec<Note>,
    registered: Vec<(Answer<Registered>, std::result::Result<Registered, Class>)>,
    exchanged: Vec<(Answer<ExchangeAnswer>, std::result::Result<ExchangeAnswer, Class>)>,
    paused: Vec<(Answer<u64>, u64)>,
    extended: Vec<(Answer<Budget>, std::result::Result<Budget, Class>)>,
    drained: Vec<(Answer<u64>, std::result::Result<u64, Class>)>,
    looks: Vec<Look>,
}

impl Driver {
    /// A driver and the handle that reaches it. What cannot change any more leaves memory: the store has it.
    pub fn new(
        mut state: State,
        store: Box<dyn Store>,
        clock: Clock,
        watch: Box<dyn Watch>,
        farewell: Duration,
    ) -> (Driver, Handle) {
        let (sender, commands) = mpsc::channel(QUEUE);
        state.keep_few();
        let parked = BTreeMap::new();
        let disk = Arc::new(Disk::default());
        let handle = Handle { commands: sender, disk: disk.clone(), clock: clock.clone() };
        let driver = Driver {
            state,
            store,
            clock,
            watch,
            commands,
            parked,
            due: BTreeSet::new(),
            hungry: BTreeSet::new(),
            farewell,
            finished_at: None,
            was_over: false,
            stopping: false,
            waited: Duration::ZERO,
            disk,
        };
        (driver, handle)
    }

    /// Runs until the run is finished and its workers know, or until it is stopped. Blocks.
    pub fn run(mut self) -> Result<State> {
        self.begin()?;
        while let Some(first) = self.commands.blocking_recv() {
            if self.round(first)? {
                break;
            }
        }
        Ok(self.state)
    }

    /// The same as a task, for a store that never waits for a disk.
    pub async fn run_as_task(mut self) -> Result<State> {
        self.begin()?;
        while let Some(first) = self.commands.recv().await {
            if self.round(first)? {
                break;
            }
        }
        Ok(self.state)
    }

    fn begin(&mut self) -> Result<()> {
        self.was_over = self.state.end().is_some();
        let mut batch = Batch::default();
        self.apply(Event::Start, &mut batch);
        self.settle(batch)
    }

    /// Handles what is there, commits it together, and answers. True once there is nothing left to do.
    fn round(&mut self, first: Command) -> Result<bool> {
        let mut batch = Batch::default();
        let mut next = Some(first);
        for _ in 0..BATCH {
            let Some(command) = next else { break };
            self.handle(command, &mut batch);
            next = self.commands.try_recv().ok();
        }
        if let Some(command) = next {
            self.handle(command, &mut batch);
        }
        self.wake_parked(&mut batch);
        self.settle(batch)?;
        Ok(self.is_done())
    }

    /// The time as the state sees it: it stands still while the disk does.
    fn now(&self) -> Millis {
        Millis((self.clock)().0.saturating_sub(self.waited.as_millis() as u64))
    }

    /// Writes records down, however long that takes.
    fn commit(&mut self, records: &[Record]) -> Result<()> {
        let begun = (self.clock)();
        self.disk.begin(begun);
        let committed = self.store.commit(records);
        self.disk.end();
        committed?;
        let took = (self.clock)() - begun;
        if took > SLOW_COMMIT {
            self.waited += took;
            let seconds = took.as_secs_f64();
            tracing::error!(seconds, "the disk was slow: nothing was answered meanwhile, no lease ran down");
        }
        Ok(())
    }

    fn apply(&mut self, event: Event, batch: &mut Batch) -> Option<Reply> {
        let Changes { records, notes, reply } = self.state.apply(self.now(), event);
        batch.records.extend(records);
        batch.notes.extend(notes);
        reply
    }

    fn handle(&mut self, command: Command, batch: &mut Batch) {
        match command {
            Command::Register(r, answer) => {
                if let Some(Reply::Registered(reply)) = self.apply(Event::Register(r), batch) {
                    batch.registered.push((answer, reply));
                }
            }
            Command::Exchange(e, answer) => self.exchange(e, answer, batch),
            Command::Look(look) => batch.looks.push(look),
            Command::Pause(paused, answer) => {
                self.apply(Event::Pause(paused), batch);
                batch.paused.push((answer, self.state.leases().len() as u64));
            }
            Command::Extend(extension, answer) => {
                if let Some(Reply::Extended(reply)) = self.apply(Event::Extend(extension), batch) {
                    batch.extended.push((answer, reply));
                }
            }
            Command::Drain(name, drained, answer) => {
                if let Some(Reply::Drained(reply)) = self.apply(Event::Drain(name.clone(), drained), batch) {
                    batch.drained.push((answer, reply));
                }
                let named = |id: &WorkerId| self.state.roster().get(*id).is_some_and(|w| w.name == name);
                for worker in self.parked.keys().copied().filter(named).collect::<Vec<_>>() {
                    self.wake(worker, false, batch);
                }
            }
            Command::Tick => drop(self.apply(Event::Tick, batch)),
            Command::Stop => {
                self.stopping = true;
                self.apply(Event::Stop, batch);
            }
        }
    }

    fn exchange(&mut self, e: Box<Exchange>, answer: Answer<ExchangeAnswer>, batch: &mut Batch) {
        let worker = e.worker;
        // Kept too long, an exchange would let the worker's own leases run out.
        let third = self.state.plan().scheduling.lease_seconds * 1000 / 3;
        let wait = Duration::from_millis(u64::from(e.wait_ms).min(third));
        let patient = !wait.is_zero() && !e.leaving;
        let Some(Reply::Exchanged(reply)) = self.apply(Event::Exchange(e), batch) else { return };
        // The worker speaks again, so it no longer waits for the exchange before, unless on a lost connection.
        if let Some(old) = self.unpark(worker) {
            batch.exchanged.push((old.answer, Ok(old.so_far)));
        }
        match reply {
            Ok(so_far) if patient && has_nothing_to_say(&so_far) => {
                let until = self.now() + wait;
                self.due.insert((until, worker));
                if self.state.roster().get(worker).is_some_and(|w| w.free_slots > 0) {
                    self.hungry.insert(worker);
                }
                self.parked.insert(worker, Parked { until, so_far, answer });
            }
            reply => batch.exchanged.push((answer, reply)),
        }
    }

    fn unpark(&mut self, worker: WorkerId) -> Option<Parked> {
        let parked = self.parked.remove(&worker)?;
        self.due.remove(&(parked.until, worker));
        self.hungry.remove(&worker);
        Some(parked)
    }

    /// Answers kept exchanges that there is now something to say to, or whose time is over.
    fn wake_parked(&mut self, batch: &mut Batch) {
        if self.state.run_state() != RunState::Running {
            for worker in self.parked.keys().copied().collect::<Vec<_>>() {
                self.wake(worker, true, batch);
            }
            return;
        }
        let now = self.now();
        while let Some((_, worker)) = self.due.first().copied().filter(|(until, _)| *until <= now) {
            self.wake(worker, true, batch);
        }
        let mut after = None;
        while self.state.has_waiting()
            && let Some(worker) = self.next_hungry(after)
        {
            self.wake(worker, false, batch);
            after = Some(worker);
        }
    }

    fn next_hungry(&self, after: Option<WorkerId>) -> Option<WorkerId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.hungry.range((from, Bound::Unbounded)).next().copied()
    }

    /// Answers one kept exchange if there is something to say, or in any case.
    fn wake(&mut self, worker: WorkerId, in_any_case: bool, batch: &mut Batch) {
        if self.parked.get(&worker).is_none_or(|p| p.answer.is_closed()) {
            // A grant to a lost connection would lie idle until it expires.
            self.unpark(worker);
            return;
        }
        let Some(Reply::Exchanged(reply)) = self.apply(Event::Poll(worker), batch) else { return };
        if (in_any_case || !reply.as_ref().is_ok_and(has_nothing_to_say))
            && let Some(parked) = self.unpark(worker)
        {
            batch.exchanged.push((parked.answer, reply));
        }
    }

    /// Commits, then answers.
    fn settle(&mut self, batch: Batch) -> Result<()> {
        if !batch.records.is_empty() {
            self.commit(&batch.records)?;
        }
        // A worker that no longer listens asks again under the same number.
        for (answer, reply) in batch.registered {
            let _ = answer.send(reply);
        }
        for (answer, reply) in batch.exchanged {
            let _ = answer.send(reply);
        }
        for (answer, leases) in batch.paused {
            let _ = answer.send(Ok(leases));
        }
        for (answer, reply) in batch.extended {
            let _ = answer.send(reply);
        }
        for (answer, reply) in batch.drained {
            let _ = answer.send(reply);
        }
        let now = self.now();
        for look in batch.looks {
            look(&self.state, self.store.as_ref(), now);
        }
        for note in &batch.notes {
            crate::notes::log(note);
            self.watch.note(note, &self.state);
        }
        self.watch.tick(now, &self.state);
        Ok(())
    }

    fn is_done(&mut self) -> bool {
        if self.stopping {
            return true;
        }
        if self.state.end().is_none() {
            return false;
        }
        let now = self.now();
        let since = *self.finished_at.get_or_insert(now);
        // Whoever waits for a coordinator that has died may pause for as long again before it asks.
        let farewell = if self.was_over { self.farewell * 2 } else { self.farewell };
        let all_know = !self.was_over && self.state.roster().iter().all(|(_, w)| w.told_finished);
        all_know || now - since >= farewell
    }
}

fn has_nothing_to_say(a: &ExchangeAnswer) -> bool {
    a.grants.is_empty()
        && a.cancelled.is_empty()
        && a.acknowledgements.is_empty()
        && a.state == RunState::Running
        && !a.drain
}

impl From<tokio::task::JoinError> for Error {
    fn from(e: tokio::task::JoinError) -> Error {
        let panic = e.try_into_panic().ok();
        let text = panic.as_ref().and_then(|p| {
            p.downcast_ref::<String>().cloned().or_else(|| p.downcast_ref::<&str>().map(|s| s.to_string()))
        });
        Error::Broken(text.unwrap_or_else(|| "the driver was cancelled".into()))
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
