//! How a game reaches a connection that tasks of tokio serve: by queues.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;
use tokio::{
    net::TcpListener,
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
};

use crate::game::{Connection, Way};

/// The game's end.
pub(super) struct Piped {
    out: UnboundedSender<(Way, Bytes)>,
    bulk: UnboundedSender<u64>,
    came: UnboundedReceiver<Bytes>,
    shared: Arc<Shared>,
}

/// The tasks' end. When it is dropped, the connection is over.
pub(super) struct Served {
    pub(super) out: UnboundedReceiver<(Way, Bytes)>,
    /// How many bytes are to be sent beside that.
    pub(super) bulk: UnboundedReceiver<u64>,
    arrivals: Arrivals,
}

/// Where what comes goes.
#[derive(Clone)]
pub(super) struct Arrivals {
    came: UnboundedSender<Bytes>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    open: AtomicBool,
    /// Bytes of bulk that came.
    bulk: AtomicU64,
}

/// Both ends of a connection that is not open yet.
pub(super) fn pipe() -> (Piped, Served) {
    let (out, outgoing) = mpsc::unbounded_channel();
    let (bulk, begun) = mpsc::unbounded_channel();
    let (incoming, came) = mpsc::unbounded_channel();
    let shared = Arc::<Shared>::default();
    let arrivals = Arrivals { came: incoming, shared: shared.clone() };
    (Piped { out, bulk, came, shared }, Served { out: outgoing, bulk: begun, arrivals })
}

/// Listens at this address from now on.
pub(super) fn listen(address: &str) -> Result<TcpListener, String> {
    let listener = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    });
    listener.map_err(|error| format!("cannot listen at {address}: {error}"))
}

impl Served {
    pub(super) fn opened(&self) {
        self.arrivals.shared.open.store(true, Ordering::Relaxed);
    }

    pub(super) fn arrivals(&self) -> Arrivals {
        self.arrivals.clone()
    }
}

impl Arrivals {
    pub(super) fn came(&self, bytes: Bytes) {
        // To a game that is over, nothing comes.
        let _ = self.came.send(bytes);
    }

    pub(super) fn bulk_came(&self, bytes: usize) {
        self.shared.bulk.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Connection for Piped {
    fn begin(&mut self) -> Result<bool, String> {
        if self.out.is_closed() {
            return Err("the connection is over".to_owned());
        }
        Ok(self.shared.open.load(Ordering::Relaxed))
    }

    fn receive(&mut self) -> Option<Bytes> {
        self.came.try_recv().ok()
    }

    fn send(&mut self, bytes: Bytes, way: Way) {
        // To one that is over, nothing is sent.
        let _ = self.out.send((way, bytes));
    }

    fn bulk(&mut self, bytes: u64) {
        let _ = self.bulk.send(bytes);
    }

    fn bulk_came(&self) -> u64 {
        self.shared.bulk.load(Ordering::Relaxed)
    }
}
