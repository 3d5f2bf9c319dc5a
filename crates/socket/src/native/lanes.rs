//! What waits between the caller and a peer's two data channels, and what is known of them?

use std::{
    sync::{Arc, Mutex, PoisonError},
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
    path: PathCell,
    /// Told of each datagram, and of the end.
    wake: Option<Arc<Notify>>,
}

/// The socket thread's end of a peer's lanes.
pub(super) struct Inlets {
    pub(super) unreliable: mpsc::Receiver<Bytes>,
    pub(super) reliable: mpsc::Receiver<Bytes>,
    pub(super) path: PathCell,
}

/// By which way a peer is reached, for whoever asks. What went there is the caller's to count.
#[derive(Clone, Default)]
pub(super) struct PathCell(Arc<Mutex<Option<Path>>>);

impl PathCell {
    pub(super) fn set(&self, path: Path) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(path);
    }

    fn get(&self) -> Option<Path> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Outlets {
    pub(super) fn new(wake: Option<Arc<Notify>>) -> (Self, Inlets) {
        let (unreliable, unreliable_in) = mpsc::channel(WAITING);
        let (reliable, reliable_in) = mpsc::channel(WAITING);
        let path = PathCell::default();
        let inlets = Inlets { unreliable: unreliable_in, reliable: reliable_in, path: path.clone() };
        (Self { unreliable, reliable, path, wake }, inlets)
    }

    pub(super) fn send(&self, lane: Lane, bytes: Bytes) -> Result<(), SendError> {
        let queue = match lane {
            Lane::Unreliable => &self.unreliable,
            Lane::Reliable => &self.reliable,
        };
        queue.try_send(bytes).map_err(|error| match error {
            TrySendError::Full(_) => SendError::Full,
            TrySendError::Closed(_) => SendError::UnknownPeer,
        })?;
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
        self.path.get()
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
