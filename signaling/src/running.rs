//! How does a program that is not async have a signaling server of its own? On a thread.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use tokio::sync::oneshot;

use crate::{Config, Occupancy, Relays, Signaling, StartError, TlsReload, registry::Registry, server::Addresses};

/// A signaling server that runs on its own thread, until this is dropped.
#[derive(Debug)]
pub struct Running {
    addresses: Addresses,
    registry: Arc<Registry>,
    tls_reload: Option<TlsReload>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Signaling {
    /// Starts a server on a thread of its own, and returns when it listens.
    pub fn spawn(config: Config) -> Result<Running, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (report, reported) = mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("coplay-signaling".into()).spawn(move || {
            runtime.block_on(async {
                match Self::bind(config).await {
                    Ok(signaling) => {
                        let registry = signaling.door().registry.clone();
                        let _ = report.send(Ok((signaling.addresses(), registry, signaling.tls_reload())));
                        // Whether it is told or dropped.
                        signaling.serve(async { drop(stopped.await) }).await;
                    }
                    Err(error) => {
                        let _ = report.send(Err(error));
                    }
                }
            });
        })?;
        let (addresses, registry, tls_reload) =
            reported.recv().map_err(|_| io::Error::other("the thread ended before it listened"))??;
        Ok(Running { addresses, registry, tls_reload, stop: Some(stop), thread: Some(thread) })
    }
}

impl Running {
    /// Where it listens (TCP).
    pub fn local_addr(&self) -> SocketAddr {
        self.addresses.signaling
    }

    /// Where the embedded STUN server listens (UDP), if it is on.
    pub fn stun_addr(&self) -> Option<SocketAddr> {
        self.addresses.stun
    }

    /// Where metrics are answered (TCP), if they have an address of their own.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.addresses.metrics
    }

    /// What has the server read its certificate anew, if it speaks TLS.
    pub fn tls_reload(&self) -> Option<TlsReload> {
        self.tls_reload.clone()
    }

    /// A URL at which this machine reaches it, for example `ws://127.0.0.1:3536`.
    pub fn url(&self) -> String {
        self.addresses.url()
    }

    /// The embedded TURN server, if there is one.
    pub fn relays(&self) -> Option<&Relays> {
        self.registry.relays()
    }

    /// How much of it is in use.
    pub fn occupancy(&self) -> Occupancy {
        self.registry.occupancy()
    }
}

impl Drop for Running {
    /// Closes every WebSocket and waits until that is done, for at most [`Timing::drain`](crate::Timing::drain)
    /// and [`Timing::close`](crate::Timing::close).
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
