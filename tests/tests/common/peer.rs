//! A healthy peer of ours, whose events can be awaited.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use coplay_proto::{Lane, PeerId};
use coplay_socket::{Dialect, Entered, Socket, SocketConfig, SocketEvent};
use tokio::{sync::Notify, time::timeout};

/// For anything that is to happen on one machine, a busy one included.
const PATIENCE: Duration = Duration::from_secs(30);

/// One socket of ours, whose events can be awaited.
pub(crate) struct Peer {
    socket: Box<dyn Socket>,
    woken: Arc<Notify>,
}

impl Peer {
    /// On its way into the room with this URL.
    pub(crate) fn connect(url: &str, dialect: Dialect) -> Self {
        let config = SocketConfig { dialect: Some(dialect), ..SocketConfig::new(url) };
        let mut socket = coplay_socket::connect(config);
        let woken = Arc::new(Notify::new());
        let wake = woken.clone();
        socket.set_waker(Arc::new(move || wake.notify_one()));
        Self { socket, woken }
    }

    /// Waits for the first event that `wanted` makes something of.
    pub(crate) async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(SocketEvent) -> Option<T>) -> T {
        let events = async {
            loop {
                while let Some(event) = self.socket.poll(coplay_socket::now()) {
                    if let Some(found) = wanted(event) {
                        return found;
                    }
                }
                self.woken.notified().await;
            }
        };
        timeout(PATIENCE, events).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
    }

    pub(crate) async fn entered(&mut self) -> Entered {
        self.until("the room", |event| match event {
            SocketEvent::Entered(entered) => Some(entered),
            SocketEvent::Failed(error) => panic!("{error}"),
            _ => None,
        })
        .await
    }

    /// Waits until the lanes to this peer are open, or to anyone.
    pub(crate) async fn opened(&mut self, peer: Option<PeerId>) -> PeerId {
        self.until("a peer", |event| match event {
            SocketEvent::Opened(opened) if peer.is_none_or(|peer| peer == opened) => Some(opened),
            SocketEvent::Failed(error) => panic!("{error}"),
            _ => None,
        })
        .await
    }

    /// Waits for the next datagram of this peer on this lane.
    pub(crate) async fn received(&mut self, from: PeerId, on: Lane) -> Bytes {
        self.until("a datagram", |event| match event {
            SocketEvent::Received(peer, lane, bytes) if (peer, lane) == (from, on) => Some(bytes),
            SocketEvent::Closed(peer, reason) if peer == from => panic!("the connection is lost: {reason}"),
            SocketEvent::Failed(error) => panic!("{error}"),
            _ => None,
        })
        .await
    }

    pub(crate) fn send(&mut self, to: PeerId, lane: Lane, bytes: impl Into<Bytes>) {
        self.socket.send(to, lane, bytes.into()).unwrap_or_else(|error| panic!("{error}"));
    }
}
