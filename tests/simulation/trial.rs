//! One simulated run, from a seed to its checks.

use crate::disk::Disk;
use crate::faults::{Count, Faults, name};
use crate::node::{COORDINATOR, Character, WallClock, coordinator, work, worker};
use crate::plan::{manifest, plan, row};
use common::digest::Manifest;
use common::evaluation::{Evaluation, Timings};
use common::genome::Genome;
use common::id::RunId;
use common::run::RunPlan;
use common::seed::Stream;
use common::time::Millis;
use coordinator::state::candidate::{Candidate, Phase};
use coordinator::state::{Durable, Event, Reply, State};
use proto::convert::{End, Exchange, Outcome as Handed, Registration};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;
use worker::link::{Ending, LinkError};

/// How long things break, in simulated time.
const TROUBLE: Duration = Duration::from_secs(60);
/// By when a run of healthy machines must be over after that.
const LIMIT: Duration = Duration::from_secs(900);
const TICK: Duration = Duration::from_millis(10);
/// Ticks between two looks at what could break.
const LOOK_EVERY: u32 = 10;

/// What trials came to.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Outcome {
    /// How many.
    pub trials: u32,
    /// Machines killed.
    pub restarts: u32,
    /// Links cut or held.
    pub partitions: u32,
    /// Times that the wall clock was set.
    pub jumps: u32,
    /// Commits that failed.
    pub failed_commits: u32,
    /// Candidates evaluated.
    pub candidates: u32,
    /// Attempts that were needed.
    pub attempts: u32,
    /// Candidates that another worker evaluated again.
    pub audited: u32,
    /// Everything that was written, of the last trial.
    pub trace: String,
}

impl Outcome {
    /// Counts another.
    pub fn add(&mut self, other: &Outcome) {
        self.trials += other.trials;
        self.restarts += other.restarts;
        self.partitions += other.partitions;
        self.jumps += other.jumps;
        self.failed_commits += other.failed_commits;
        self.candidates += other.candidates;
        self.attempts += other.attempts;
        self.audited += other.audited;
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Outcome {
            trials,
            restarts,
            partitions,
            jumps,
            failed_commits,
            candidates,
            attempts,
            audited,
            ..
        } = self;
        write!(
            f,
            "{trials} runs: {restarts} machines killed, {partitions} links cut or held, {jumps} jumps of the clock, \
             {failed_commits} failed commits; {candidates} candidates in {attempts} attempts, {audited} audited"
        )
    }
}

/// Runs a search among faults, then lets healthy machines do the rest, and checks what came out.
pub fn trial(seed: u64) -> Outcome {
    let mut draw = Stream::new(seed, "trial");
    let mut one_in = |n: f64| draw.uniform() < 1.0 / n;
    let (asynchronous, hopeless, whole) = (one_in(3.0), one_in(3.0), one_in(4.0));
    let mut sets = vec![format!("seed={seed}")];
    sets.extend(asynchronous.then(|| "search.mode=asynchronous".into()));
    sets.extend(hopeless.then(|| "early_stop.hopeless=0.9".into()));
    sets.extend(whole.then(|| "scheduling.split=false".into()));
    let plan = Arc::new(plan(&sets));
    let workers = 1 + (draw.uniform() * 4.0) as usize;
    let mut durable = Durable::new(&plan, Manifest::default(), Millis(0));
    durable.identity.run = RunId(format!("simulated-{seed}"));
    let disk = Disk::new(&plan, &durable);
    let clock = WallClock::default();
    let calm = Arc::new(AtomicBool::new(false));

    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(TICK)
        .simulation_duration(TROUBLE + LIMIT)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(200))
        .tcp_capacity(1024)
        .build();
    {
        let (disk, clock) = (disk.clone(), clock.clone());
        sim.host(COORDINATOR, move || coordinator(disk.clone(), clock.clone()));
    }
    for number in 0..workers {
        let character = Character {
            slots: 1 + (draw.uniform() * 2.0) as usize,
            sample_ms: 50 + (draw.uniform() * 400.0) as u64,
            fails: if draw.uniform() < 0.3 { 0.3 } else { 0.02 },
            hangs: if draw.uniform() < 0.3 { 0.05 } else { 0.0 },
        };
        let (plan, starts, calm) = (plan.clone(), Arc::new(AtomicU64::new(0)), calm.clone());
        let salt = seed << 8 | number as u64;
        sim.host(name(number), move || worker(plan.clone(), salt, starts.clone(), character, calm.clone()));
    }

    let mut faults = Faults::new(seed, workers);
    while disk.durable().searched.end.is_none() {
        for _ in 0..LOOK_EVERY {
            sim.step().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        }
        assert!(sim.elapsed() < TROUBLE + LIMIT - TICK * LOOK_EVERY, "seed {seed}: no end in sight");
        if sim.elapsed() < TROUBLE {
            faults.strike(&mut sim, &disk, &clock);
        } else if !calm.swap(true, std::sync::atomic::Ordering::Relaxed) {
            faults.mend(&mut sim, Duration::MAX);
            // What hangs is started again by whoever watches over it.
            (0..workers).for_each(|n| sim.bounce(name(n)));
        }
    }
    check(seed, &plan, &disk);
    let durable = disk.durable();
    let Count { restarts, partitions, jumps } = faults.count;
    Outcome {
        trials: 1,
        restarts,
        partitions,
        jumps,
        failed_commits: disk.failed(),
        candidates: durable.candidates.len() as u32,
        attempts: durable.candidates.iter().map(|c| c.attempts().len() as u32).sum(),
        audited: disk.audited(),
        trace: disk.trace().to_string(),
    }
}

/// How a worker ends all of whose slots hang in what they are lent, and what it took with it.
pub fn hanging() -> (Result<Ending, LinkError>, Vec<Candidate>) {
    let plan = Arc::new(plan(&[]));
    let disk = Disk::new(&plan, &Durable::new(&plan, Manifest::default(), Millis(0)));
    let mut sim = turmoil::Builder::new().rng_seed(1).tick_duration(TICK).simulation_duration(LIMIT).build();
    let served = disk.clone();
    sim.host(COORDINATOR, move || coordinator(served.clone(), WallClock::default()));
    let character = Character { slots: 2, sample_ms: 50, fails: 0.0, hangs: 1.0 };
    let (sender, ended) = std::sync::mpsc::channel();
    sim.client(name(0), async move {
        let ended = work(plan, 0, Arc::default(), character, Arc::default()).await;
        Ok(sender.send(ended)?)
    });
    sim.run().expect("the worker ends");
    (ended.recv().expect("it has ended"), disk.durable().candidates)
}

/// What must hold of a finished run.
fn check(seed: u64, plan: &RunPlan, disk: &Disk) {
    let state = State::restore(disk.durable()).expect("what was stored is consistent");
    assert!(state.candidates().iter().all(Candidate::is_final), "seed {seed}: a candidate was lost");
    assert_eq!(state.candidates().len() as u64, plan.search.evaluations, "seed {seed}");
    let scored_once = |c: &Candidate| {
        let scored = c.attempts().iter().flat_map(|a| &a.end).filter(|e| e.how.word() == "scored").count();
        scored == usize::from(matches!(c.phase(), Phase::Scored(_)))
    };
    assert!(state.candidates().iter().all(scored_once), "seed {seed}: a candidate was scored twice");
    let replayed = state.replay(|from, most| disk.entries(from, most)).expect("readable");
    assert_eq!(replayed.parts, None, "seed {seed}: the journal does not replay");
    if plan.search.mode.is_generational() {
        assert_eq!(found(&state), found(&undisturbed(plan)), "seed {seed}: other genomes than one worker's");
    }
}

/// Genomes, and what became of each.
fn found(state: &State) -> Vec<(Genome, Option<f64>, bool)> {
    let of = |c: &Candidate| {
        let bound = match c.phase() {
            Phase::Censored(censored) => Some(censored.bound.value()),
            _ => c.fitness().map(|f| f.value()),
        };
        (c.genome().clone(), bound, c.fitness().is_some())
    };
    state.candidates().iter().map(of).collect()
}

/// The same run by one worker, without a network.
fn undisturbed(plan: &RunPlan) -> State {
    let mut state = State::restore(Durable::new(plan, Manifest::default(), Millis(0))).expect("a new run");
    state.apply(Millis(1), Event::Start);
    let registration = Registration {
        name: "only".into(),
        program_version: proto::PROGRAM_VERSION.into(),
        protocol_version: proto::PROTOCOL_VERSION,
        device: "simulated".into(),
        slots: 1,
        manifest: manifest(),
        held: Vec::new(),
        plan: plan.digest(),
    };
    let registered = state.apply(Millis(1), Event::Register(Box::new(registration))).reply;
    let Some(Reply::Registered(Ok(registered))) = registered else { panic!("refused") };
    let mut outcomes = Vec::new();
    for sequence in 1.. {
        let e = Exchange {
            worker: registered.worker,
            sequence,
            free_slots: 1,
            running: Vec::new(),
            reports: Vec::new(),
            outcomes: std::mem::take(&mut outcomes),
            wait_ms: 0,
            leaving: false,
        };
        let reply = state.apply(Millis(1 + sequence), Event::Exchange(Box::new(e))).reply;
        let Some(Reply::Exchanged(Ok(answer))) = reply else { panic!("not answered") };
        if state.end().is_some() {
            break;
        }
        for grant in answer.grants {
            let rows = grant.samples.iter().map(|p| row(plan, &grant.recipe, *p as usize));
            let evaluation = Evaluation { samples: rows.collect(), timings: Timings::default() };
            let (lease, candidate, recipe) = (grant.lease, grant.candidate, grant.recipe.digest());
            outcomes.push(Handed { lease, candidate, recipe, end: End::Evaluated(evaluation) });
        }
    }
    state
}
