//! Ctrl-C and SIGTERM.

use anyhow::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Waits for Ctrl-C or, on Unix, SIGTERM. False when signals cannot be listened for.
pub async fn interrupted() -> bool {
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

/// A flag that the first Ctrl-C or SIGTERM sets, for work that looks at it and cleans up behind itself.
///
/// # Errors
/// When signals cannot be listened for.
pub fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let set = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if runtime.block_on(interrupted()) {
            eprintln!("stopping: what was begun is removed");
            set.store(true, Ordering::Relaxed);
        }
    })?;
    Ok(stop)
}
