//! `pause`, `drain`, `extend` and `replay`: what is done to a run beside serving it.

use super::look::{print, refused};
use super::{Extend, Failure, Looked, Target, exit, reach, say};
use crate::state::{Event, Reply};
use crate::store::Store;
use common::run::{Budget, Extension};
use proto::wire;

/// `jradievo pause`, and `resume` of a run that is being served.
pub(super) async fn pause(target: Target, paused: bool) -> Result<u8, Failure> {
    let Some(channel) = reach::live(&target).await? else {
        return Err(Failure::Absent("no coordinator is serving this folder: nothing is being lent".into()));
    };
    let mut client = proto::operate_client(channel);
    let reply = client.pause(wire::PauseRequest { paused }).await.map_err(refused)?.into_inner();
    say(&match paused {
        true => format!("paused: nothing new is lent, {} candidates are still being evaluated", reply.leases),
        false => "lending again".into(),
    });
    Ok(exit::DONE)
}

/// The workers of a node, and the run that they work for.
#[derive(Debug, clap::Args)]
pub(super) struct Drain {
    /// Name of the worker, as `jradievo status` shows it
    #[arg(value_name = "WORKER")]
    worker: String,
    #[command(flatten)]
    target: Target,
    /// Lend to it again
    #[arg(long)]
    undo: bool,
}

/// `jradievo drain`: a worker finishes what it has and leaves.
pub(super) async fn drain(args: Drain) -> Result<u8, Failure> {
    let Some(channel) = reach::live(&args.target).await? else {
        return Err(Failure::Absent("no coordinator is serving this folder: no worker is here".into()));
    };
    let (name, drain) = (args.worker.clone(), !args.undo);
    let request = wire::DrainRequest { name, drain };
    let reply = proto::operate_client(channel).drain(request).await.map_err(refused)?.into_inner();
    say(&match (drain, reply.leases) {
        (true, 0) => format!("{} leaves: it holds nothing", args.worker),
        (true, n) => format!("{} leaves once it has finished the {n} that it holds", args.worker),
        (false, _) => format!("{} is lent to again", args.worker),
    });
    Ok(exit::DONE)
}

/// `jradievo extend`: on the coordinator that serves the run, or on the folder at rest.
pub(super) async fn extend(args: Extend) -> Result<u8, Failure> {
    let extension = Extension {
        evaluations: args.evaluations,
        hours: args.hours,
        device_hours: args.device_hours,
        target_fitness: args.target_fitness,
        stagnation: args.stagnation,
    };
    if extension == Extension::default() {
        return Err(Failure::Usage("say what to extend, such as --evaluations 500".into()));
    }
    if let Some(channel) = reach::serving(&args.state, &args.credentials).await {
        let request = wire::ExtendRequest::from(extension);
        let reply = proto::operate_client(channel).extend(request).await.map_err(refused)?.into_inner();
        let budget = Budget::from(reply.budget.unwrap_or_default());
        say(&format!("the run now ends at {}", super::table::budget(&budget)));
        return Ok(exit::DONE);
    }
    let (mut store, durable) = reach::at_rest(&args.state)?;
    let mut state = crate::restore(durable)?;
    let changes = state.apply((crate::driver::system_clock())(), Event::Extend(extension));
    let Some(Reply::Extended(reply)) = changes.reply else { unreachable!("it is answered at once") };
    let budget = reply.map_err(|class| Failure::Usage(class.to_string()))?;
    store.commit(&changes.records)?;
    say(&format!("the run now ends at {}", super::table::budget(&budget)));
    match state.end() {
        Some(end) => say(&format!("it stays finished: {}", end.reason())),
        None => say(&format!("go on with: jradievo resume {}", args.state.display())),
    }
    Ok(exit::DONE)
}

/// `jradievo replay`: whether journal and store agree.
pub(super) async fn replay(args: Looked) -> Result<u8, Failure> {
    let Some(folder) = args.target.state.filter(|_| args.target.coordinator.is_none()) else {
        return Err(Failure::Usage("give a state folder: a replay reads the store itself".into()));
    };
    let (state, store) = reach::state_at_rest(&folder)?;
    let replayed = state.replay(|from, most| store.journal(from, most))?;
    if args.json {
        print(&super::json::replayed(&replayed));
    } else {
        let (entries, candidates, results) = (replayed.entries, replayed.candidates, replayed.results);
        print(&format!("{entries} entries: {candidates} candidates asked for, {results} results told"));
        print(&match &replayed.parts {
            None => "exact: genomes, random stream, search and best are what is stored".into(),
            Some(what) => format!("parts after entry {entries}: {what}"),
        });
    }
    Ok(if replayed.parts.is_none() { exit::DONE } else { exit::FAILURE })
}
