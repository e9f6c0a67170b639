//! Ctrl-C and SIGTERM.

use super::STOPPED;
use anyhow::Result;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A wish that the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C: somebody is waiting.
    Interrupt,
    /// SIGTERM: a scheduler that gives some time.
    Terminate,
}

/// Signals that are waited for: from now on they no longer end the process.
pub struct Listening {
    #[cfg(unix)]
    signals: [tokio::signal::unix::Signal; 2],
}

impl Listening {
    /// Within a runtime.
    ///
    /// # Errors
    /// When the system does not let signals be listened for.
    pub fn begin() -> std::io::Result<Listening> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
            Ok(Listening { signals })
        }
        #[cfg(not(unix))]
        Ok(Listening {})
    }

    /// Waits for Ctrl-C or, on Unix, SIGTERM: also one that came since it began, or since the last one was heard.
    pub async fn heard(&mut self) -> Option<Signal> {
        #[cfg(unix)]
        {
            let [interrupt, terminate] = &mut self.signals;
            tokio::select! {
                heard = interrupt.recv() => heard.map(|()| Signal::Interrupt),
                heard = terminate.recv() => heard.map(|()| Signal::Terminate),
            }
        }
        #[cfg(not(unix))]
        tokio::signal::ctrl_c().await.ok().map(|()| Signal::Interrupt)
    }
}

/// Watches for signals while a command is at work that cannot be interrupted everywhere.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// From now on, on the first Ctrl-C or SIGTERM the watch's flag is set, `clean_up` runs and the process ends with
/// [`STOPPED`], whatever the command is at.
///
/// # Errors
/// When the system does not let signals be listened for.
pub fn clean_up_when_stopped(clean_up: impl FnOnce() + Send + 'static) -> Result<Watch> {
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut listening = {
        let _inside = runtime.enter();
        Listening::begin()?
    };
    let flag = stop.clone();
    let thread = std::thread::Builder::new().name("signals".into()).spawn(move || {
        if runtime.block_on(listening.heard()).is_some() {
            flag.store(true, Ordering::Relaxed);
            clean_up();
            std::process::exit(i32::from(STOPPED));
        }
    })?;
    Ok(Watch { stop, thread })
}

impl Watch {
    /// Set once the command is to stop.
    pub fn flag(&self) -> &AtomicBool {
        &self.stop
    }

    /// What the command came to. Once a signal has arrived that no longer counts: the thread that took it is cleaning up
    /// and ends the process, which is waited for.
    pub fn ended(self, result: Result<u8>) -> Result<u8> {
        if self.stop.load(Ordering::Relaxed) {
            let _ = self.thread.join();
            return Ok(STOPPED);
        }
        result
    }
}

/// Removes a folder, if it is there, that another thread may still be writing into.
pub fn remove_folder(path: &Path) {
    for _ in 0..100 {
        if std::fs::remove_dir_all(path).is_ok() || !path.exists() {
            return;
        }
        std::thread::yield_now();
    }
    eprintln!("{}: could not be removed whole; please remove it", path.display());
}
