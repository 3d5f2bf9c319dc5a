//! What waits between the caller and a peer's two data channels, and what is known of them?

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use coplay_proto::Lane;
use tokio::sync::{
    Notify,
    mpsc::{self, error::TrySendError},
};

use crate::{MAX_RELIABLE, Path, SendError};

/// The most datagrams a lane that wait for the socket's thread: [`SendError::Full`] beyond.
const WAITING: usize = 256;
/// How long what was sent reliably before a connection is closed may take to be acked: closing it aborts the SCTP
/// association, and whoever hears of that forgets what it has not read yet. Browsers may ack a lone packet after 200 ms.
pub(super) const FLUSHING: Duration = Duration::from_millis(400);
/// The caller's end of a peer's lanes.
pub(super) struct Outlets {
    unreliable: mpsc::Sender<Bytes>,
    reliable: mpsc::Sender<Bytes>,
    traffic: Arc<Traffic>,
    /// Told of each datagram, and of the end.
    wake: Option<Arc<Notify>>,
}

/// The socket thread's end of a peer's lanes.
pub(super) struct Inlets {
    pub(super) unreliable: mpsc::Receiver<Bytes>,
    pub(super) reliable: mpsc::Receiver<Bytes>,
    pub(super) traffic: Arc<Traffic>,
}

/// What is known of a connection, for whoever asks.
#[derive(Default)]
pub(super) struct Traffic {
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    path: Mutex<Option<Path>>,
}

impl Traffic {
    pub(super) fn set_path(&self, path: Path) {
        *self.path.lock().unwrap_or_else(PoisonError::into_inner) = Some(path);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.bytes_received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts on from where another connection to the same peer was.
    pub(super) fn go_on_from(&self, before: &Self) {
        for (here, there) in [(&self.bytes_sent, &before.bytes_sent), (&self.bytes_received, &before.bytes_received)] {
            here.fetch_add(there.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

impl Outlets {
    pub(super) fn new(wake: Option<Arc<Notify>>) -> (Self, Inlets) {
        let (unreliable, unreliable_in) = mpsc::channel(WAITING);
        let (reliable, reliable_in) = mpsc::channel(WAITING);
        let traffic = Arc::new(Traffic::default());
        let inlets = Inlets { unreliable: unreliable_in, reliable: reliable_in, traffic: traffic.clone() };
        (Self { unreliable, reliable, traffic, wake }, inlets)
    }

    pub(super) fn send(&self, lane: Lane, bytes: Bytes) -> Result<(), SendError> {
        let queue = match lane {
            Lane::Unreliable => &self.unreliable,
            Lane::Reliable => &self.reliable,
        };
        let length = bytes.len() as u64;
        queue.try_send(bytes).map_err(|error| match error {
            TrySendError::Full(_) => SendError::Full,
            TrySendError::Closed(_) => SendError::UnknownPeer,
        })?;
        self.traffic.bytes_sent.fetch_add(length, Ordering::Relaxed);
        if let Some(wake) = &self.wake {
            wake.notify_one();
        }
        Ok(())
    }

    /// How much waits before SCTP's own buffer: at the most, for each datagram counts as a full one.
    pub(super) fn buffered(&self) -> usize {
        (self.reliable.max_capacity() - self.reliable.capacity()) * MAX_RELIABLE
    }

    pub(super) fn path(&self) -> Option<Path> {
        let mut path = self.traffic.path.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        path.bytes_sent = self.traffic.bytes_sent.load(Ordering::Relaxed);
        path.bytes_received = self.traffic.bytes_received.load(Ordering::Relaxed);
        Some(path)
    }
}

impl Drop for Outlets {
    fn drop(&mut self) {
        // What is woken is to find the senders gone.
        if let Some(wake) = &self.wake {
            let (closed, _) = mpsc::channel(1);
            (self.unreliable, self.reliable) = (closed.clone(), closed);
            wake.notify_one();
        }
    }
}
