//! `start` and `resume`: a run is begun or taken up, and served until it ends.

use super::folder::{self, Announced};
use super::live::Live;
use super::{Failure, Listen, Resume, Start, Target, exit, plan, refine, say, table, tell};
use crate::Settings;
use crate::state::{Durable, State};
use crate::store::Store;
use crate::store::sled::Sled;
use common::digest::Manifest;
use std::net::SocketAddr;
use std::path::Path;
use tonic::transport::server::TcpIncoming;

const DEFAULT_LISTEN: &str = "127.0.0.1:7443";

pub(super) async fn start(args: Start) -> Result<u8, Failure> {
    let default = DEFAULT_LISTEN.parse().expect("the default address is one");
    let listen = checked(&args.listen, default)?;
    let mut read = plan::read(&args.run_file, &args.overrides)?;
    read.models.pin(&mut read.plan, &mut |line| say(&line))?;
    let created = (crate::driver::system_clock())();
    // Before a folder is made for a run that would be refused.
    let mut durable = Durable::new(&read.plan, Manifest::default(), created);
    let refined =
        args.refine.as_deref().map(|from| refine::refine(&mut durable, &read.plan, from)).transpose()?;
    folder::create(&args.state)?;
    durable.pinned.manifest = plan::manifest(&read, args.pin, &mut |line| say(&line))?;
    let listener = bind(listen).await?;

    let mut store = Sled::open_or_create(&args.state)?;
    store.commit(&durable.records())?;
    folder::write_run(&args.state, &durable.identity)?;
    say((table::plan(&read.plan, read.references.len())).trim_end());
    refined.iter().for_each(|line| say(line));
    let state = crate::restore(durable)?;
    serve(&args.state, state, store, listener).await
}

pub(super) async fn resume(args: Resume) -> Result<u8, Failure> {
    if super::reach::serving(&args.state).await.is_some() {
        let target = Target { state: Some(args.state), coordinator: None };
        return super::operate::pause(target, false).await;
    }
    let fallback = || DEFAULT_LISTEN.parse().expect("the default address is one");
    let listen = checked(&args.listen, folder::last_listen(&args.state).unwrap_or_else(fallback))?;
    let (store, durable) = super::reach::at_rest(&args.state)?;
    // Killed between the first commit and this file, a run has none.
    folder::write_run(&args.state, &durable.identity)?;
    let state = crate::restore(durable)?;
    if state.end().is_some() {
        say((table::end(&state, &args.state)).trim_end());
        // A search of which nothing could be evaluated is over, but not done.
        return Ok(if state.best().is_some() { exit::DONE } else { exit::FAILURE });
    }
    let p = state.progress();
    say(&format!(
        "resuming {}: {} of {} evaluated",
        state.identity().run,
        p.evaluations_done,
        p.evaluations_budget
    ));
    if state.is_paused() {
        say(&format!("it is paused; lend again with: jradievo resume {}", args.state.display()));
    }
    let listener = bind(listen).await?;
    serve(&args.state, state, store, listener).await
}

/// Without encryption and identities, only this machine is listened to, unless the operator insists.
fn checked(listen: &Listen, default: SocketAddr) -> Result<SocketAddr, Failure> {
    let address = listen.listen.unwrap_or(default);
    // What is resumed keeps its address, but not the consent to it.
    if address.ip().is_loopback() {
        return Ok(address);
    }
    if !listen.insecure_listen {
        return Err(Failure::Usage(format!(
            "{address} can be reached from other machines, and the connection is neither encrypted nor \
             authenticated: anybody there could read reports and hand in results. Listen on 127.0.0.1 and let \
             workers come through an SSH tunnel (ssh -L 7443:127.0.0.1:7443 HOST), or, on a network where \
             everybody is trusted, add --insecure-listen"
        )));
    }
    tell(&format!("warning: {address} is open to everybody who can reach it; nothing is encrypted"));
    Ok(address)
}

async fn bind(address: SocketAddr) -> Result<tokio::net::TcpListener, Failure> {
    tokio::net::TcpListener::bind(address).await.map_err(|e| {
        let remedy = "is another coordinator running? --listen 127.0.0.1:0 takes any free port";
        Failure::Failed(format!("cannot listen on {address}: {e} ({remedy})"))
    })
}

async fn serve(
    folder: &Path,
    state: State,
    store: Sled,
    listener: tokio::net::TcpListener,
) -> Result<u8, Failure> {
    let listening = listener.local_addr()?;
    let announced = Announced::new(folder, listening)?;
    say(&format!("listening on http://{listening}"));
    say(&format!("workers: jradievo-worker run --coordinator http://{listening}"));
    let (interrupted, stop) = tokio::sync::oneshot::channel();
    let signals = tokio::spawn(async move {
        signal().await;
        tell("\rstopping; once more to stop at once");
        let _ = interrupted.send(());
        signal().await;
        // Everything that was answered stands in the store already.
        std::process::exit(i32::from(exit::STOPPED));
    });
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let settings = Settings::new(Box::new(Live::new(&state)));
    let shutdown = async {
        if stop.await.is_err() {
            // The signal task is gone, which only happens when this one is.
            std::future::pending::<()>().await;
        }
    };
    let ended = crate::run(settings, state, Box::new(store), incoming, shutdown).await;
    signals.abort();
    let state = ended.inspect_err(|_| {
        tell(&format!("what was recorded is safe; go on with: jradievo resume {}", folder.display()));
    })?;
    drop(announced);
    if state.end().is_some() {
        say((table::end(&state, folder)).trim_end());
        // A search of which nothing could be evaluated is over, but not done.
        return Ok(if state.best().is_some() { exit::DONE } else { exit::FAILURE });
    }
    let p = state.progress();
    say(&format!("stopped at {} of {} evaluations", p.evaluations_done, p.evaluations_budget));
    say(&format!("go on with: jradievo resume {}", folder.display()));
    Ok(exit::STOPPED)
}

/// Resolves at Ctrl-C, or when the process is asked to end.
async fn signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_listened_on_unless_insisted() {
        let check = |address: &str, insecure_listen| {
            let listen = Listen { listen: Some(address.parse().unwrap()), insecure_listen };
            checked(&listen, "127.0.0.1:1".parse().unwrap())
        };
        assert!(check("127.0.0.1:0", false).is_ok());
        assert!(check("[::1]:7443", false).is_ok());
        let e = check("0.0.0.0:7443", false).unwrap_err();
        assert!(e.code() == exit::USAGE && e.to_string().contains("SSH tunnel"), "{e}");
        assert!(check("0.0.0.0:7443", true).is_ok());
    }
}
