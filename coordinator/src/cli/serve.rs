//! `start` and `resume`: a run is begun or taken up, and served until it ends.

use super::folder::{self, Announced};
use super::live::Live;
use super::network::{Credentials, Listen};
use super::{Failure, Resume, Start, Target, exit, plan, refine, say, table, tell};
use crate::Settings;
use crate::guard::access::Access;
use crate::guard::gate;
use crate::state::{Durable, State};
use crate::store::Store;
use crate::store::sled::Sled;
use common::digest::Manifest;
use std::net::SocketAddr;
use std::path::Path;

const DEFAULT_LISTEN: &str = "127.0.0.1:7443";

pub(super) async fn start(args: Start) -> Result<u8, Failure> {
    let default = DEFAULT_LISTEN.parse().expect("the default address is one");
    let listen = args.listen.checked(default)?;
    let access = args.listen.access()?;
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
    serve(&args.state, state, store, Socket { listener, access, listen: args.listen }).await
}

pub(super) async fn resume(args: Resume) -> Result<u8, Failure> {
    // While it is served, a certificate that is given is for speaking to who serves it.
    let credentials = Credentials::of_folder(args.listen.tls.clone());
    if super::reach::serving(&args.state, &credentials).await.is_some() {
        let target = Target { state: Some(args.state), coordinator: None, credentials };
        return super::operate::pause(target, false).await;
    }
    let fallback = || DEFAULT_LISTEN.parse().expect("the default address is one");
    let listen = args.listen.checked(folder::last_listen(&args.state).unwrap_or_else(fallback))?;
    let access = args.listen.access()?;
    let (store, durable) = super::reach::at_rest_when_free(&args.state, &credentials).await?;
    folder::close(&args.state)?;
    // Killed between the first commit and this file, a run has none.
    folder::write_run(&args.state, &durable.identity)?;
    let state = crate::restore(durable)?;
    let bound = bind(listen).await;
    let listener = match bound {
        Ok(listener) => listener,
        // Somebody else listens there: whoever still asks for this run asks in vain.
        Err(_) if state.end().is_some() => return Ok(over(&state, &args.state)),
        Err(e) => return Err(e),
    };
    let (p, run) = (state.progress(), &state.identity().run);
    match state.end() {
        None => say(&format!("resuming {run}: {} of {} evaluated", p.evaluations_done, p.evaluations_budget)),
        Some(_) => say(&format!("{run} is over: for some seconds, workers that still ask are told")),
    }
    if state.is_paused() && state.end().is_none() {
        say(&format!("it is paused; lend again with: jradievo resume {}", args.state.display()));
    }
    serve(&args.state, state, store, Socket { listener, access, listen: args.listen }).await
}

/// Says what a run that is over found.
fn over(state: &State, folder: &Path) -> u8 {
    say((table::end(state, folder)).trim_end());
    // A search of which nothing could be evaluated is over, but not done.
    if state.best().is_some() { exit::DONE } else { exit::FAILURE }
}

async fn bind(address: SocketAddr) -> Result<tokio::net::TcpListener, Failure> {
    tokio::net::TcpListener::bind(address).await.map_err(|e| {
        let remedy = "is another coordinator running? --listen 127.0.0.1:0 takes any free port";
        Failure::Failed(format!("cannot listen on {address}: {e} ({remedy})"))
    })
}

/// Where a coordinator listens, and to whom.
struct Socket {
    listener: tokio::net::TcpListener,
    access: Access,
    listen: Listen,
}

impl Socket {
    /// Says where it listens, to people and in the state folder.
    fn announce(&self, folder: &Path) -> Result<Announced, Failure> {
        let listening = self.listener.local_addr()?;
        let Some(server) = self.access.server() else {
            let url = format!("http://{listening}");
            // Whoever reads the line may look into the folder at once.
            let announced = Announced::new(folder, listening, &url, None)?;
            say(&format!("listening on {url}"));
            say(&format!("workers: jradievo-worker run --coordinator {url}"));
            return Ok(announced);
        };
        // Under a name that stands in the certificate.
        let (here, there) = match listening.ip().is_unspecified() {
            false => (listening.to_string(), listening.to_string()),
            true => {
                let port = listening.port();
                (format!("127.0.0.1:{port}"), format!("{}:{port}", server.current().identity.name))
            }
        };
        let how = match &self.listen.pki {
            Some(pki) => format!("--token-file FILE  (jradievo token {} > FILE)", pki.display()),
            None => "--tls DIR".into(),
        };
        let operator = self.listen.operator();
        let announced = Announced::new(folder, listening, &format!("https://{here}"), operator.as_deref())?;
        say(&format!("listening on https://{there}"));
        say(&format!("workers: jradievo-worker run --coordinator https://{there} {how}"));
        Ok(announced)
    }
}

async fn serve(folder: &Path, state: State, store: Sled, socket: Socket) -> Result<u8, Failure> {
    // Before anybody knows that it is here: who stops it then finds a run that ends well.
    let mut signals = Signals::listen()?;
    let announced = socket.announce(folder)?;
    let Socket { listener, access, listen } = socket;
    let (interrupted, stop) = tokio::sync::oneshot::channel();
    let listening = tokio::spawn(async move {
        signals.heard().await;
        tell("\rstopping; once more to stop at once");
        let _ = interrupted.send(());
        signals.heard().await;
        // Everything that was answered stands in the store already.
        std::process::exit(i32::from(exit::STOPPED));
    });
    let incoming = gate::open(listener, access.server().cloned(), listen.limits());
    let settings = Settings { access, ..Settings::new(Box::new(Live::new(&state))) };
    let shutdown = async {
        if stop.await.is_err() {
            // The signal task is gone, which only happens when this one is.
            std::future::pending::<()>().await;
        }
    };
    let ended = crate::run(settings, state, Box::new(store), incoming, shutdown).await;
    listening.abort();
    let state = ended.inspect_err(|_| {
        tell(&format!("what was recorded is safe; go on with: jradievo resume {}", folder.display()));
    })?;
    drop(announced);
    if state.end().is_some() {
        return Ok(over(&state, folder));
    }
    let p = state.progress();
    say(&format!("stopped at {} of {} evaluations", p.evaluations_done, p.evaluations_budget));
    say(&format!("go on with: jradievo resume {}", folder.display()));
    Ok(exit::STOPPED)
}

/// Signals that are waited for: from now on they no longer end the process.
struct Signals {
    #[cfg(unix)]
    signals: [tokio::signal::unix::Signal; 2],
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Signals { signals: [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?] })
        }
        #[cfg(not(unix))]
        Ok(Signals {})
    }

    /// Resolves at Ctrl-C, or when the process is asked to end: also where that was since this began.
    async fn heard(&mut self) {
        #[cfg(unix)]
        {
            let [interrupt, terminate] = &mut self.signals;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}
