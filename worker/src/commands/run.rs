//! `jradievo-worker run`: joins a run and evaluates its candidates until it is over.

use super::signal::{Listening, Signal};
use super::{OK, STOPPED, TURNED_AWAY};
use crate::cli;
use crate::data;
use crate::device::{self, Chosen};
use crate::evaluator::Evaluator;
use crate::foreign::Foreign;
use crate::keep::Keeper;
use crate::link::{Ending, Identity, Link, LinkError, Patience, describe};
use crate::locate::Locator;
use crate::memory::{self, MemoryPlan};
use crate::network;
use crate::obtain::obtain;
use crate::pipeline::{Bench, Pipeline};
use crate::slot::{MakeEvaluator, Slots};
use anyhow::{Context, Result, anyhow, bail};
use common::run::RunPlan;
use hub::Meter;
use proto::convert::Description;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

/// Runs the command.
pub async fn run(args: cli::Run) -> Result<u8> {
    let wishes = Wishes::listen(Duration::from_secs(args.grace))?;
    let mut stop = wishes.stop.clone();
    tokio::select! {
        ended = work(args, wishes) => match ended {
            Ok(Ending::Finished) => { info!("the run is over"); Ok(OK) }
            Ok(Ending::Stopped) => Ok(STOPPED),
            Ok(Ending::Drained) => { info!("drained: everything is handed in"); Ok(OK) }
            Err(e) => match e.downcast_ref::<LinkError>() {
                Some(LinkError::TurnedAway(_)) => { eprintln!("error: {e:#}"); Ok(TURNED_AWAY) }
                _ => Err(e),
            },
        },
        // While models load there is nothing to hand back; `work` itself handles the signal after that, and
        // gets a moment to do so.
        _ = async { let _ = stop.wait_for(|s| *s).await; tokio::time::sleep(Duration::from_secs(5)).await } => Ok(STOPPED),
    }
}

async fn work(args: cli::Run, mut wishes: Wishes) -> Result<Ending> {
    let stop = wishes.stop.clone();
    let chosen = device::choose(&args.device)?;
    if let Some(note) = &chosen.note {
        warn!("{note}");
    }
    let patience = Patience {
        give_up_after: args.give_up_after.map(Duration::from_secs),
        salt: salt(std::process::id()),
    };
    let network = network::open(&args, &host_name(), patience).await?;
    let client = network.client.clone();
    let Description { run, plan, program_version, .. } = describe(&client, patience).await?;
    info!(run = %run, version = program_version, "joining");
    allow(&plan, args.allow_external)?;

    let mut locator = Locator::new(args.models.clone(), args.data.clone());
    let began = Instant::now();
    // Fetching takes as long as it takes, and hears of a stop between two reads.
    let meter = Arc::new(Meter::stderr());
    let watched = tokio::spawn({
        let (meter, mut stop) = (meter.clone(), stop.clone());
        async move {
            if stop.wait_for(|s| *s).await.is_ok() {
                meter.stop();
            }
        }
    });
    let (plan, locator) = blocking(move || -> Result<_> {
        obtain(&mut locator, plan.model_refs(), &*meter)?;
        Ok((Arc::new(plan), Arc::new(locator)))
    })
    .await??;
    watched.abort();
    let manifest = {
        let (plan, locator) = (plan.clone(), locator.clone());
        blocking(move || data::manifest(&plan, &locator)).await??
    };
    info!(files = manifest.files().len(), seconds = began.elapsed().as_secs_f32(), "files digested");
    let identity = Identity {
        name: args.name.clone().or_else(|| network.node.clone()).unwrap_or_else(host_name),
        device: chosen.words.clone(),
        slots: args.slots,
    };
    // Before joining: a worker that cannot hold the run must not take work from others. Models that cannot be opened are
    // reported after registering, since the coordinator may know which file differs.
    let opened = {
        let (plan, locator, chosen, slots) =
            (plan.clone(), locator.clone(), chosen.clone(), args.slots as usize);
        blocking(move || -> Result<_> {
            // With an evaluator of the run's own there is nothing to hold here.
            plan.evaluator.is_none().then(|| open(&plan, &locator, &chosen, slots)).transpose()
        })
        .await?
    };
    if let Ok(Some((_, memory))) = &opened {
        info!("memory: {}", memory.summary());
        memory::guard(memory, args.memory.ignore_memory_plan).context("not joining")?;
    }
    let keeper = Keeper::for_run(&plan, &run, args.reports.as_deref())?;
    if let Some(folder) = keeper.folder() {
        info!("reports stay on this node, in {}", folder.display());
    }
    let mut link = Link::register(client, patience, identity, &plan, manifest, keeper).await?;

    let began = Instant::now();
    let opened = opened?;
    let stopped = stop.clone();
    let (first, make) = blocking(move || -> Result<_> {
        let Some((mut bench, memory)) = opened else {
            let make: Arc<MakeEvaluator> = Foreign::maker(&plan, &locator, &plan.dataset)?;
            return Ok((make()?, make));
        };
        for fit in bench.fits.iter().filter(|f| !f.is_plain()) {
            info!(model = fit.model, "{fit}");
        }
        bench.follow(&memory)?;
        if let Some(left_out) = bench.placement.note() {
            info!("{left_out}");
        }
        keep_resident(&bench, &plan, &memory, &stopped)?;
        let bench = Arc::new(bench);
        let dataset = locator.dataset(&plan.dataset);
        let references = data::read_run_references(&dataset, &plan.samples)?;
        let exam = bench.exam(&plan, &dataset, references)?;
        let exam = Arc::new(exam.ending_early(plan.early_stop.as_ref()));
        let make: Arc<MakeEvaluator> =
            Arc::new(move || Ok(Box::new(Pipeline::new(bench.clone(), exam.clone())?) as Box<dyn Evaluator>));
        Ok((make()?, make))
    })
    .await??;
    info!(seconds = began.elapsed().as_secs_f32(), "ready");

    let (done_sender, mut done) = mpsc::unbounded_channel();
    let slots = Slots::start(args.slots as usize, first, make, done_sender)?;
    wishes.working.store(true, Ordering::Relaxed);
    let ended = link.run(&slots, &mut done, &mut wishes.stop, &mut wishes.finish).await;
    // Nobody listens any more, so that what is at work is not wanted; less than the moment that a stop is given.
    blocking(move || slots.end(Duration::from_secs(4))).await?;
    Ok(ended?)
}

/// Runs what takes its time on a thread of its own. A panic there is told without its message, which may quote a report.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let panicked = "this step panicked; where is in this worker's log";
    tokio::task::spawn_blocking(work).await.map_err(|_| anyhow!(panicked))
}

/// A plan comes over the network, and its commands would run with this worker's rights on its patients' data: whoever
/// operates the worker has to say that they may. Said before anything is fetched, digested or registered.
fn allow(plan: &RunPlan, allowed: bool) -> Result<()> {
    let commands = external::commands(plan);
    if !allowed && !commands.is_empty() {
        bail!(
            "this run makes its workers run commands:\n  {}\nnot joining: if you trust whoever started the run, and its \
             files on this machine, start the worker with --allow-external",
            commands.join("\n  ")
        );
    }
    commands.iter().for_each(|c| info!("allowed: {c}"));
    Ok(())
}

/// Opens the run's models without reading weights, and plans what this worker will hold.
fn open(plan: &RunPlan, locator: &Locator, chosen: &Chosen, slots: usize) -> Result<(Bench, MemoryPlan)> {
    let bench = Bench::open(plan, locator, chosen)?;
    let memory = memory::for_run(&bench, plan, plan.samples.len(), slots, chosen)?;
    Ok((bench, memory))
}

/// Reads base and sources into the page cache where the plan has room for them, so that no candidate waits for a disk.
fn keep_resident(
    bench: &Bench,
    plan: &RunPlan,
    memory: &MemoryPlan,
    stopped: &watch::Receiver<bool>,
) -> Result<()> {
    match memory.page_cache.room {
        // The GPU keeps them, and reads them once.
        _ if memory.resident > 0 => return Ok(()),
        Some(_) if memory.page_cache.from_disk == 0 => {}
        Some(_) => {
            memory.notes.iter().take(1).for_each(|n| warn!("{n}"));
            return Ok(());
        }
        None => return Ok(()),
    }
    let base = bench.merger.model(&plan.models.base.name).context("a run has a base")?;
    let models: Vec<_> = plan.merged_models().iter().filter_map(|m| bench.merger.model(&m.name)).collect();
    let models: Vec<_> = models.iter().map(|m| &***m).collect();
    let (began, stop) = (Instant::now(), AtomicBool::new(false));
    let mut told = began;
    let bytes = memory::prefault(base, &models, &stop, |done, total| {
        if *stopped.borrow() {
            stop.store(true, Ordering::Relaxed);
        }
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            info!("reading weights: {} of {}", memory::words(done), memory::words(total));
        }
    });
    info!(
        seconds = began.elapsed().as_secs_f32(),
        "{} of base and sources are in memory",
        memory::words(bytes)
    );
    Ok(())
}

/// Another number in every process.
fn salt(process: u32) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) << 32 | u64::from(process)
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "worker".into() } else { name.into() }
}

/// What signals ask of a worker.
struct Wishes {
    /// True once it is to hand back what it has and leave.
    stop: watch::Receiver<bool>,
    /// True once it is to take nothing new, finish what it has and leave.
    finish: watch::Receiver<bool>,
    /// Set once there may be something to finish.
    working: Arc<AtomicBool>,
}

impl Wishes {
    /// After SIGTERM a worker has `grace` to finish; after Ctrl-C none. A second signal ends the process at once.
    ///
    /// # Errors
    /// When the system does not let signals be listened for.
    fn listen(grace: Duration) -> std::io::Result<Wishes> {
        let mut signals = Listening::begin()?;
        let (stop, stopped) = watch::channel(false);
        let (finish, finishing) = watch::channel(false);
        let working = Arc::new(AtomicBool::new(false));
        let at_work = working.clone();
        tokio::spawn(async move {
            let first = signals.heard().await;
            if first == Some(Signal::Terminate) && at_work.load(Ordering::Relaxed) && !grace.is_zero() {
                info!(seconds = grace.as_secs(), "finishing what can be finished; once more to stop at once");
                let _ = finish.send(true);
                if tokio::time::timeout(grace, signals.heard()).await.is_ok() {
                    std::process::exit(i32::from(STOPPED));
                }
            }
            if first.is_some() {
                info!("stopping: handing candidates back; once more to stop at once");
                let _ = stop.send(true);
            }
            if signals.heard().await.is_some() {
                std::process::exit(i32::from(STOPPED));
            }
            // Keeps the channels open, so that waiting on them never ends by accident.
            std::future::pending::<()>().await;
            drop((stop, finish));
        });
        Ok(Wishes { stop: stopped, finish: finishing, working })
    }
}
