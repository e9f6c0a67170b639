//! What workers were promised, and whether the store keeps it.

use super::{child, simulated};
use common::evaluation::Timings;
use common::id::{CandidateId, LeaseId};
use common::recipe::Recipe;
use common::run::RunPlan;
use common::time::Millis;
use coordinator::fsck;
use coordinator::state::{Durable, Event, Reply, State};
use coordinator::store::{Store, sled::Sled};
use proto::convert::{
    Exchange, ExchangeAnswer, Grant, Held, Outcome, Receipt, Registered, Registration, RunState,
};
use proto::status::Class;
use proto::{Endpoint, wire};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

const SAMPLES: usize = 3;
const EVALUATIONS: usize = 60;

/// What is said of a recipe, by every worker: largest at 0.4 everywhere.
fn score(recipe: &Recipe) -> f64 {
    let amounts = recipe.sources.iter().flat_map(|s| [&s.weight, &s.drop_rate, &s.trim_rate]);
    let numbers = amounts.chain([&recipe.scale]).flat_map(|a| a.numbers());
    1.0 / (1.0 + numbers.map(|(_, x)| (x - 0.4).powi(2)).sum::<f64>())
}

fn outcome(grant: &Grant) -> Outcome {
    simulated::outcome(grant, simulated::part(&grant.samples, score(&grant.recipe), Timings::default()))
}

/// What was promised so far.
#[derive(Clone, Default)]
pub struct Promised {
    /// What candidates that were acknowledged scored.
    acknowledged: BTreeMap<CandidateId, f64>,
    /// The recipe of every candidate that was lent.
    lent: BTreeMap<CandidateId, Recipe>,
    /// Final candidates of the last comparison.
    finals: usize,
    finished: bool,
}

/// A run, its workers, and what these know.
pub struct Model {
    plan: Arc<RunPlan>,
    whole: State,
    promised: Arc<Mutex<Promised>>,
    addresses: Arc<watch::Sender<String>>,
    shot: Arc<Shot>,
    /// Exchanges that workers may make.
    pace: Arc<Semaphore>,
}

impl Model {
    /// A run that was begun in this folder.
    pub fn begin(folder: &Path) -> Model {
        // Attempts whose grant was lost with its answer wait this long for their worker after a restart.
        let scheduling = ["scheduling.lease_seconds=1", "scheduling.attempts=20"].map(String::from);
        let mut sets = vec![format!("search.evaluations={EVALUATIONS}"), "search.population=8".into()];
        sets.extend(scheduling);
        let plan = Arc::new(simulated::plan(SAMPLES, &sets));
        child::begin(folder, &plan);
        let whole = uninterrupted(&plan);
        let addresses = Arc::new(watch::channel(String::new()).0);
        let pace = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        Model { plan, whole, promised: Default::default(), addresses, shot: Default::default(), pace }
    }

    /// The same, with workers that do nothing until they are let.
    pub fn begin_paced(folder: &Path) -> Model {
        Model { pace: Arc::new(Semaphore::new(0)), ..Model::begin(folder) }
    }

    /// Lets workers make so many exchanges.
    pub fn let_go_on(&self, exchanges: usize) {
        self.pace.add_permits(exchanges);
    }

    /// The same run without any promise yet, as for workers that come to a copy of it.
    pub fn again(&self) -> Model {
        let addresses = Arc::new(watch::channel(String::new()).0);
        let (plan, whole) = (self.plan.clone(), uninterrupted(&self.plan));
        let pace = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        Model { plan, whole, promised: Default::default(), addresses, shot: Default::default(), pace }
    }

    /// Tells workers where a coordinator listens.
    pub fn addresses(&self) -> Arc<watch::Sender<String>> {
        self.addresses.clone()
    }

    /// Once a coordinator has said where it listens.
    pub async fn is_served(&self) {
        let mut addresses = self.addresses.subscribe();
        addresses.wait_for(|address| !address.is_empty()).await.expect("the model sends them");
    }

    /// Whether workers were told that the run is over.
    pub fn is_finished(&self) -> bool {
        self.promised.lock().unwrap().finished
    }

    /// So many workers, who outlive every coordinator.
    pub fn workers(&self, count: usize) -> Workers {
        let worker = |n| Worker {
            plan: self.plan.clone(),
            name: format!("w{n}"),
            promised: self.promised.clone(),
            addresses: self.addresses.subscribe(),
            shot: self.shot.clone(),
            pace: self.pace.clone(),
            running: BTreeMap::new(),
            done: BTreeMap::new(),
        };
        let tasks = (0..count).map(|n| tokio::spawn(worker(n).work())).collect();
        Workers { tasks, addresses: self.addresses.clone(), promised: self.promised.clone() }
    }

    /// Says when the coordinator is killed.
    pub fn killer(&self) -> Killer {
        Killer { shot: self.shot.clone() }
    }

    /// Compares a store at rest with what was promised.
    pub fn compare(&self, folder: &Path) {
        let store = Sled::open(folder).unwrap();
        let report = fsck::check(folder, &store).unwrap();
        assert!(report.is_sound(), "{:?} {:?}", report.findings, report.older);
        let finals = self.agree(&self.promised(), &store).unwrap_or_else(|e| panic!("{e}"));
        let mut promised = self.promised.lock().unwrap();
        assert!(finals >= promised.finals, "{finals} are final, {} were", promised.finals);
        promised.finals = finals;
    }

    /// What was promised until now.
    pub fn promised(&self) -> Promised {
        self.promised.lock().unwrap().clone()
    }

    /// Whether everything that was promised is there; how many candidates are final.
    pub fn agree(&self, promised: &Promised, store: &Sled) -> Result<usize, String> {
        let durable = store.load().map_err(|e| e.to_string())?.ok_or("there is no run")?;
        for (id, recipe) in &promised.lent {
            let stored = durable.candidates.get(id.0 as usize - 1);
            if stored.is_none_or(|c| c.recipe() != recipe.digest()) {
                return Err(format!("candidate {id} was lent, and is not there or another"));
            }
        }
        for (id, score) in &promised.acknowledged {
            let fitness = durable.candidates[id.0 as usize - 1].fitness().map(f64::from);
            if fitness.is_none_or(|f| (f - score).abs() > 1e-12) {
                return Err(format!("candidate {id} was acknowledged with {score}, and has {fitness:?}"));
            }
            let evaluation = store.evaluation(*id).map_err(|e| e.to_string())?;
            if evaluation.is_none_or(|e| e.samples.iter().any(|s| s.scores["rouge_l"] != *score)) {
                return Err(format!("candidate {id}'s reports are not what was acknowledged"));
            }
        }
        for (c, wanted) in durable.candidates.iter().zip(self.whole.candidates().iter()) {
            if c.genome() != wanted.genome() {
                return Err(format!("candidate {} is another than without any kill", c.id()));
            }
            let scored =
                c.attempts().iter().filter(|a| a.end.as_ref().is_some_and(|e| e.how.word() == "scored"));
            if scored.count() > 1 {
                return Err(format!("candidate {} is counted twice", c.id()));
            }
        }
        Ok(durable.candidates.iter().filter(|c| c.is_final()).count())
    }

    /// Compares a run that is over with the one that nobody killed.
    pub fn compare_end(&self, folder: &Path) {
        let store = Sled::open(folder).unwrap();
        let state = State::restore(store.load().unwrap().unwrap()).unwrap();
        let found = |s: &State| -> Vec<_> {
            s.candidates().iter().map(|c| (c.genome().clone(), c.fitness())).collect()
        };
        assert_eq!((found(&state), state.best()), (found(&self.whole), self.whole.best()));
        assert_eq!(state.end(), self.whole.end());
    }
}

/// The search without a store, a wire or a mishap.
fn uninterrupted(plan: &RunPlan) -> State {
    let mut state = State::restore(Durable::new(plan, Default::default(), Millis(1))).unwrap();
    state.apply(Millis(1), Event::Start);
    let join = Event::Register(Box::new(simulated::registration(plan, "only".into(), 1)));
    let Some(Reply::Registered(Ok(joined))) = state.apply(Millis(2), join).reply else { panic!("refused") };
    let mut outcomes = Vec::new();
    for sequence in 1.. {
        let e = simulated::exchange(joined.worker, sequence, 1, std::mem::take(&mut outcomes));
        let reply = state.apply(Millis(2 + sequence), Event::Exchange(Box::new(e))).reply;
        let Some(Reply::Exchanged(Ok(answer))) = reply else { panic!("not answered") };
        if state.end().is_some() {
            break;
        }
        outcomes = answer.grants.iter().map(outcome).collect();
    }
    state
}

/// When the coordinator dies, and how to kill it.
#[derive(Default)]
struct Shot {
    state: Mutex<Trigger>,
}

#[derive(Default)]
struct Trigger {
    answers: Option<u64>,
    acknowledgements: Option<u64>,
    delay: Duration,
    from_start: bool,
    kill: Option<Box<dyn FnOnce() + Send>>,
}

impl Shot {
    /// A worker was answered.
    fn answered(&self, acknowledgements: u64) {
        let mut t = self.state.lock().unwrap();
        let count = |left: &mut Option<u64>, seen: u64| match left {
            Some(n) => {
                *n = n.saturating_sub(seen);
                *n == 0
            }
            None => false,
        };
        let by_answers = count(&mut t.answers, 1);
        if count(&mut t.acknowledgements, acknowledgements) || by_answers {
            let (kill, delay) = (t.kill.take(), t.delay);
            drop(t);
            fire(kill, delay);
        }
    }
}

fn fire(kill: Option<Box<dyn FnOnce() + Send>>, delay: Duration) {
    let Some(kill) = kill else { return };
    match delay.is_zero() {
        true => kill(),
        // The moment itself: nothing is waited for.
        false => drop(std::thread::spawn(move || {
            std::thread::sleep(delay);
            kill();
        })),
    }
}

/// Sets the moment of death.
pub struct Killer {
    shot: Arc<Shot>,
}

impl Killer {
    /// Nothing is set yet.
    pub fn rearm(&mut self) {
        *self.shot.state.lock().unwrap() = Trigger::default();
    }

    /// Lets it live.
    pub fn disarm(&self) {
        *self.shot.state.lock().unwrap() = Trigger::default();
    }

    /// So long after it was started.
    pub fn after_start(&self, delay: Duration) {
        let mut t = self.shot.state.lock().unwrap();
        (t.from_start, t.delay) = (true, delay);
    }

    /// So long after so many answers.
    pub fn after_answers(&self, answers: u64, delay: Duration) {
        let mut t = self.shot.state.lock().unwrap();
        (t.answers, t.delay) = (Some(answers), delay);
    }

    /// At once after so many results were acknowledged.
    pub fn after_acknowledgements(&self, acknowledgements: u64) {
        self.shot.state.lock().unwrap().acknowledgements = Some(acknowledgements);
    }

    /// A coordinator was started.
    pub fn aim(&self, kill: impl FnOnce() + Send + 'static) {
        let mut t = self.shot.state.lock().unwrap();
        match t.from_start {
            true => fire(Some(Box::new(kill)), t.delay),
            false => t.kill = Some(Box::new(kill)),
        }
    }

    /// It has ended.
    pub fn done(&self) {
        self.shot.state.lock().unwrap().kill = None;
    }
}

/// Workers at work.
pub struct Workers {
    tasks: Vec<JoinHandle<()>>,
    addresses: Arc<watch::Sender<String>>,
    promised: Arc<Mutex<Promised>>,
}

impl Workers {
    /// Once a coordinator has ended because the run is over. One that was killed between writing that down and saying it
    /// is not started again here.
    pub async fn ended(self) {
        self.promised.lock().unwrap().finished = true;
        self.addresses.send_replace(String::new());
        for worker in self.tasks {
            tokio::time::timeout(Duration::from_secs(120), worker).await.expect("it ends").unwrap();
        }
    }
}

/// A worker as the protocol wants it: repeats what was not answered, brings what it holds.
struct Worker {
    plan: Arc<RunPlan>,
    name: String,
    promised: Arc<Mutex<Promised>>,
    addresses: watch::Receiver<String>,
    shot: Arc<Shot>,
    pace: Arc<Semaphore>,
    running: BTreeMap<LeaseId, Grant>,
    done: BTreeMap<LeaseId, Outcome>,
}

impl Worker {
    async fn work(mut self) {
        while !self.promised.lock().unwrap().finished {
            let address = self.addresses.borrow_and_update().clone();
            match self.serve(&address).await {
                Ok(()) => return,
                Err(Class::UnknownWorker) => {}
                Err(Class::Unavailable(_) | Class::Internal(_)) => {
                    // Another worker may have heard that it is over.
                    let finished = self.promised.lock().unwrap().finished;
                    if finished || self.addresses.changed().await.is_err() {
                        return;
                    }
                }
                Err(other) => panic!("{other}"),
            }
        }
    }

    async fn serve(&mut self, address: &str) -> Result<(), Class> {
        let gone = |e: tonic::transport::Error| Class::Unavailable(e.to_string());
        let endpoint = Endpoint::from_shared(address.to_string()).map_err(gone)?;
        let mut client = proto::cluster_client(endpoint.connect().await.map_err(gone)?);
        let running = self.running.values().map(|g| (g.lease, g.candidate, g.recipe.digest()));
        let done = self.done.values().map(|o| (o.lease, o.candidate, o.recipe));
        let held = running.chain(done).map(|(lease, candidate, recipe)| Held { lease, candidate, recipe });
        let r = Registration {
            held: held.collect(),
            ..simulated::registration(&self.plan, self.name.clone(), 2)
        };
        let reply = client.register(wire::RegisterRequest::from(r)).await.map_err(|s| Class::from(&s))?;
        let registered = Registered::try_from(reply.into_inner()).unwrap();
        registered.cancelled.iter().for_each(|l| drop(self.running.remove(l)));
        for sequence in 1.. {
            self.pace.acquire().await.expect("it is never closed").forget();
            if let Some((lease, grant)) = self.running.pop_first() {
                self.done.insert(lease, outcome(&grant));
            }
            let outcomes = self.done.values().cloned().collect();
            let free = 2 - self.running.len() as u32;
            let e = Exchange {
                // With nothing in hand it waits for work.
                wait_ms: if self.running.is_empty() { 500 } else { 0 },
                running: self.running.keys().map(progress).collect(),
                ..simulated::exchange(registered.worker, sequence, free, outcomes)
            };
            let reply = client.exchange(wire::ExchangeRequest::from(e)).await.map_err(|s| Class::from(&s))?;
            let answer = ExchangeAnswer::try_from(reply.into_inner()).unwrap();
            if self.note(answer) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Believes an answer. True when the run is over.
    fn note(&mut self, answer: ExchangeAnswer) -> bool {
        let mut promised = self.promised.lock().unwrap();
        let mut acknowledged = 0;
        for a in &answer.acknowledgements {
            let Some(outcome) = self.done.remove(&a.lease) else { continue };
            if a.receipt == Receipt::Recorded {
                let proto::convert::End::Evaluated(part) = &outcome.end else { continue };
                promised.acknowledged.insert(outcome.candidate, part.samples[0].scores["rouge_l"]);
                acknowledged += 1;
            }
        }
        answer.cancelled.iter().for_each(|l| drop(self.running.remove(l)));
        for grant in answer.grants {
            promised.lent.insert(grant.candidate, grant.recipe.clone());
            self.running.insert(grant.lease, grant);
        }
        let over = answer.state == RunState::Finished;
        promised.finished |= over;
        drop(promised);
        self.shot.answered(acknowledged);
        over
    }
}

fn progress(lease: &LeaseId) -> proto::convert::LeaseProgress {
    let stage = proto::convert::Stage::Merging;
    proto::convert::LeaseProgress { lease: *lease, stage, samples_done: 0, begun: 0 }
}
