//! How a command that has to tidy up is stopped by Ctrl-C: it asks now and then, and ends as after an error.

use std::sync::{
    Once,
    atomic::{AtomicBool, Ordering},
};

use crate::run::Result;

static STOPPED: AtomicBool = AtomicBool::new(false);

/// From here on, Ctrl-C (and SIGTERM) no longer ends the process, but has [`check`] fail.
pub(crate) fn listen() -> Result {
    static LISTENING: Once = Once::new();
    let mut result = Ok(());
    LISTENING.call_once(|| {
        let listen = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            std::thread::Builder::new().name("interrupt".into()).spawn(move || {
                runtime.block_on(stop());
                STOPPED.store(true, Ordering::Relaxed);
            })
        };
        result = listen().map(drop).map_err(|error: std::io::Error| format!("cannot wait for Ctrl-C: {error}"));
    });
    result
}

/// An error once the person has stopped the command.
pub(crate) fn check() -> Result {
    if STOPPED.load(Ordering::Relaxed) { Err("stopped".to_owned()) } else { Ok(()) }
}

#[cfg(unix)]
async fn stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminated) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}

#[cfg(not(unix))]
async fn stop() {
    let _ = tokio::signal::ctrl_c().await;
}
