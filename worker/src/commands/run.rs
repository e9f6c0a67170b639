//! `jradievo-worker run`: joins a run and evaluates its candidates until it is over.

use super::{OK, STOPPED, TURNED_AWAY};
use crate::cli;
use crate::data;
use crate::device;
use crate::evaluator::Evaluator;
use crate::link::{Ending, Identity, Link, LinkError, Patience, describe};
use crate::locate::Locator;
use crate::pipeline::{Bench, Pipeline};
use crate::slot::{MakeEvaluator, Slots};
use anyhow::{Context, Result};
use proto::convert::Description;
use proto::{Channel, ClusterClient, Endpoint};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

/// Runs the command.
pub async fn run(args: cli::Run) -> Result<u8> {
    let mut stop = stop_signal();
    tokio::select! {
        ended = work(args, stop.clone()) => match ended {
            Ok(Ending::Finished) => { info!("the run is over"); Ok(OK) }
            Ok(Ending::Stopped) => Ok(STOPPED),
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

async fn work(args: cli::Run, mut stop: watch::Receiver<bool>) -> Result<Ending> {
    let chosen = device::choose(&args.device.device)?;
    if let Some(note) = &chosen.note {
        warn!("{note}");
    }
    let patience = Patience { give_up_after: args.give_up_after.map(Duration::from_secs) };
    let client = connect(&args.coordinator)?;
    let Description { run, plan, program_version, .. } = describe(&client, patience).await?;
    info!(run = %run, version = program_version, "joining");

    let locator = Locator { models: args.models.clone(), data: args.data.clone() };
    let began = Instant::now();
    let (plan, locator) = (Arc::new(plan), Arc::new(locator));
    let manifest = {
        let (plan, locator) = (plan.clone(), locator.clone());
        tokio::task::spawn_blocking(move || data::manifest(&plan, &locator)).await??
    };
    info!(files = manifest.files().len(), seconds = began.elapsed().as_secs_f32(), "files digested");
    let identity = Identity {
        name: args.name.clone().unwrap_or_else(host_name),
        device: chosen.words.clone(),
        slots: args.slots,
    };
    let mut link = Link::register(client, patience, identity, &plan, manifest).await?;

    let began = Instant::now();
    let (first, make) = tokio::task::spawn_blocking(move || -> Result<_> {
        let bench = Arc::new(Bench::open(&plan, &locator, &chosen)?);
        for fit in bench.fits.iter().filter(|f| !f.is_plain()) {
            info!(model = fit.model, "{fit}");
        }
        let dataset = locator.dataset(&plan.dataset);
        let references = data::read_run_references(&dataset, &plan.samples)?;
        let exam = Arc::new(bench.exam(&plan, &dataset, references)?);
        let make: Arc<MakeEvaluator> =
            Arc::new(move || Ok(Box::new(Pipeline::new(bench.clone(), exam.clone())?) as Box<dyn Evaluator>));
        Ok((make()?, make))
    })
    .await??;
    info!(seconds = began.elapsed().as_secs_f32(), "models and images ready");

    let (done_sender, mut done) = mpsc::unbounded_channel();
    let slots = Slots::start(args.slots as usize, first, make, done_sender)?;
    Ok(link.run(&slots, &mut done, &mut stop).await?)
}

fn connect(url: &str) -> Result<ClusterClient<Channel>> {
    let url = if url.contains("://") { url.to_string() } else { format!("http://{url}") };
    let endpoint = Endpoint::from_shared(url.clone())
        .with_context(|| format!("--coordinator {url}: expected an address such as http://node1:7443"))?
        .connect_timeout(Duration::from_secs(5))
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_while_idle(true);
    Ok(proto::cluster_client(endpoint.connect_lazy()))
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "worker".into() } else { name.into() }
}

/// True after the first Ctrl-C or SIGTERM; the second ends the process at once.
fn stop_signal() -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        if interrupted().await {
            info!("stopping: handing candidates back; once more to stop at once");
            let _ = sender.send(true);
        }
        if interrupted().await {
            std::process::exit(i32::from(STOPPED));
        }
        // Keeps the channel open, so that waiting on it never ends by accident.
        std::future::pending::<()>().await;
        drop(sender);
    });
    receiver
}

/// Waits for Ctrl-C or, on Unix, SIGTERM. False when signals cannot be listened for.
async fn interrupted() -> bool {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut term) = signal(SignalKind::terminate()) else { return false };
        tokio::select! {
            r = tokio::signal::ctrl_c() => r.is_ok(),
            _ = term.recv() => true,
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await.is_ok()
}
