//! How a game reaches a connection that tasks of tokio serve: by a queue in each direction.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use tokio::{
    net::TcpListener,
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
};

use crate::game::{Connection, Way};

/// The game's end.
pub(super) struct Piped {
    out: UnboundedSender<Bytes>,
    came: UnboundedReceiver<Bytes>,
    open: Arc<AtomicBool>,
}

/// The tasks' end. When it is dropped, the connection is over.
pub(super) struct Served {
    pub(super) out: UnboundedReceiver<Bytes>,
    pub(super) came: UnboundedSender<Bytes>,
    open: Arc<AtomicBool>,
}

/// Both ends of a connection that is not open yet.
pub(super) fn pipe() -> (Piped, Served) {
    let (out, outgoing) = mpsc::unbounded_channel();
    let (incoming, came) = mpsc::unbounded_channel();
    let open = Arc::<AtomicBool>::default();
    (Piped { out, came, open: open.clone() }, Served { out: outgoing, came: incoming, open })
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
        self.open.store(true, Ordering::Relaxed);
    }
}

impl Connection for Piped {
    fn begin(&mut self) -> Result<bool, String> {
        if self.out.is_closed() {
            return Err("the connection is over".to_owned());
        }
        Ok(self.open.load(Ordering::Relaxed))
    }

    fn receive(&mut self) -> Option<Bytes> {
        self.came.try_recv().ok()
    }

    fn send(&mut self, bytes: Bytes, way: Way) {
        if way == Way::Reliably {
            // To one that is over, nothing is sent.
            let _ = self.out.send(bytes);
        }
    }
}
