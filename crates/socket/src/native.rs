//! How are peers connected on native? By machines of WebRTC (`rtc`), which one task a peer drives, on a thread of their own.
//!
//! ```text
//!   caller's thread                         thread `coplay-socket` (tokio)
//!   NativeSocket ──commands──▶ engine ──orders──▶ one driver a peer ◀──▶ UDP
//!        ▲  ╲                    ▲───reports──────┘        ▲ │
//!        │   ╲──outlets (a bounded queue a lane and peer)──┘ │
//!        └────── inbox (bounded) ◀───────────────────────────┘
//! ```
//!
//! Where the socket is given ports ([`SocketConfig::udp_ports`]), all drivers share one: a task for each address of the machine
//! reads from it, and `demux` knows for whom. TURN is by UDP only.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use coplay_proto::{Lane, PeerId, signal::lobby::RoomCommand};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    task::LocalSet,
};

use self::{
    engine::Command,
    inbox::{Inbox, Inward},
    lanes::Outlets,
};
use crate::{
    Path, SendError, Signaller, Socket, SocketConfig, SocketError, SocketEvent, Waker,
    switchboard::{Attempt, MAX_PEERS},
};

mod demux;
mod driver;
mod engine;
mod gather;
mod inbox;
mod lanes;
pub(crate) mod lobbies;
#[cfg(feature = "matchbox")]
mod matchbox;
mod mdns;
mod peer;
mod ports;
mod quiet;
mod relays;
mod rtc;
mod servers;
mod sockets;
mod upgrade;
mod websocket;

/// The most commands that wait for the engine; more than there can be peers to say one about.
const COMMANDS: usize = 4 * MAX_PEERS;

/// Starts the thread; see [`crate::connect`].
pub(crate) fn connect(config: SocketConfig, signaller: Option<Box<dyn Signaller>>) -> Box<dyn Socket> {
    let (commands, orders) = mpsc::channel(COMMANDS);
    let waker = WakerCell::default();
    let (inbox, events) = Inbox::new(waker.clone());
    let failure = inbox.clone();
    if let Err(error) = config.check() {
        failure.fail(error);
        return Box::new(NativeSocket { commands, events, waker, open: BTreeMap::new() });
    }
    let thread = std::thread::Builder::new().name("coplay-socket".into()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => return failure.fail(SocketError::Unavailable { reason: error.to_string() }),
        };
        // SCTP's machine stays on its thread, and so do the tasks that drive it.
        LocalSet::new().block_on(&runtime, engine::run(config, signaller, orders, inbox));
        // Whatever still runs is a lookup or a task that did not stop in time: not waited for.
        runtime.shutdown_background();
    });
    if let Err(error) = thread {
        let (inbox, events) = Inbox::new(waker.clone());
        inbox.fail(SocketError::Unavailable { reason: format!("no thread can be started: {error}") });
        return Box::new(NativeSocket { commands, events, waker, open: BTreeMap::new() });
    }
    Box::new(NativeSocket { commands, events, waker, open: BTreeMap::new() })
}

/// The caller's end.
struct NativeSocket {
    commands: mpsc::Sender<Command>,
    events: inbox::Events,
    waker: WakerCell,
    /// The peers that the caller was told are open.
    open: BTreeMap<PeerId, Open>,
}

/// A peer that is open.
struct Open {
    /// What datagrams come by, and by what they came before it moved from the relay.
    attempts: [Option<Attempt>; 2],
    outlets: Outlets,
    /// By all connections that there were.
    bytes_sent: u64,
    bytes_received: u64,
}

impl Socket for NativeSocket {
    fn poll(&mut self, _now: Duration) -> Option<SocketEvent> {
        loop {
            match self.events.next()? {
                Inward::Opened(attempt, outlets) => {
                    let open = Open { attempts: [Some(attempt), None], outlets, bytes_sent: 0, bytes_received: 0 };
                    self.open.insert(attempt.peer, open);
                    return Some(SocketEvent::Opened(attempt.peer));
                }
                Inward::Moved(attempt, outlets) => {
                    if let Some(open) = self.open.get_mut(&attempt.peer) {
                        let [before, _] = open.attempts;
                        (open.attempts, open.outlets) = ([Some(attempt), before], outlets);
                    }
                }
                Inward::Mended(attempt, outlets) => {
                    if let Some(open) = self.open.get_mut(&attempt.peer) {
                        (open.attempts, open.outlets) = ([Some(attempt), None], outlets);
                        return Some(SocketEvent::Mended(attempt.peer));
                    }
                }
                Inward::Received(attempt, lane, bytes, counted) => {
                    // It waits no more.
                    drop(counted);
                    // Its tasks may be a little behind the engine, which closed the connection.
                    let open = self.open.get_mut(&attempt.peer);
                    if let Some(open) = open.filter(|open| open.attempts.contains(&Some(attempt))) {
                        open.bytes_received += bytes.len() as u64;
                        return Some(SocketEvent::Received(attempt.peer, lane, bytes));
                    }
                }
                Inward::Event(event) => {
                    if let SocketEvent::Closed(peer, _) = &event {
                        self.open.remove(peer);
                    }
                    return Some(event);
                }
            }
        }
    }

    fn send(&mut self, peer: PeerId, lane: Lane, bytes: Bytes) -> Result<(), SendError> {
        SendError::check(lane, bytes.len())?;
        let open = self.open.get_mut(&peer).ok_or(SendError::UnknownPeer)?;
        let length = bytes.len() as u64;
        open.outlets.send(lane, bytes)?;
        open.bytes_sent += length;
        Ok(())
    }

    fn buffered(&self, peer: PeerId) -> usize {
        self.open.get(&peer).map_or(0, |open| open.outlets.buffered())
    }

    fn disconnect(&mut self, peer: PeerId) {
        match self.commands.try_send(Command::Disconnect(peer)) {
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(_)) => tracing::warn!(%peer, "too many commands at once: not disconnected"),
        }
    }

    fn silence(&mut self, peer: PeerId, silent: bool) {
        match self.commands.try_send(Command::Silence(peer, silent)) {
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(_)) => tracing::warn!(%peer, "too many commands at once: its silence was not noted"),
        }
    }

    fn room_command(&mut self, command: RoomCommand) {
        match self.commands.try_send(Command::Room(command)) {
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(_)) => tracing::warn!("too many commands at once: one to the room was dropped"),
        }
    }

    fn path(&self, peer: PeerId) -> Option<Path> {
        let Open { outlets, bytes_sent, bytes_received, .. } = self.open.get(&peer)?;
        Some(Path { bytes_sent: *bytes_sent, bytes_received: *bytes_received, ..outlets.path()? })
    }

    fn set_waker(&mut self, waker: Waker) {
        self.waker.set(waker.clone());
        if !self.events.is_empty() {
            waker();
        }
    }
}

/// What is to be called when the inbox has something.
#[derive(Clone, Default)]
struct WakerCell(Arc<RwLock<Option<Waker>>>);

impl WakerCell {
    fn set(&self, waker: Waker) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }

    fn wake(&self) {
        let waker = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{inbox::Share, *};
    use crate::PathKind;

    #[tokio::test]
    async fn what_is_counted_of_a_peer_goes_on_by_whatever_carries_it() {
        let waker = WakerCell::default();
        let (inbox, events) = Inbox::new(waker.clone());
        let (commands, _orders) = mpsc::channel(COMMANDS);
        let mut socket = NativeSocket { commands, events, waker, open: BTreeMap::new() };
        let peer = PeerId::from_u128(7);
        for (number, news) in (1..).zip([Inward::Opened, Inward::Moved, Inward::Mended]) {
            let attempt = Attempt { peer, number };
            let (outlets, inlets) = Outlets::new(None);
            let (local, remote) = (String::new(), String::new());
            let path = Path { kind: PathKind::Host, local, remote, rtt: None, bytes_sent: 0, bytes_received: 0 };
            inlets.path.set(path);
            inbox.news(news(attempt, outlets)).await;
            inbox.datagram(attempt, Lane::Reliable, Bytes::from_static(b"hello"), &Share::default()).await;
            while socket.poll(Duration::ZERO).is_some() {}
            socket.send(peer, Lane::Reliable, Bytes::from_static(b"hey")).expect("it is open");
            let path = socket.path(peer).expect("it is known");
            assert_eq!((path.bytes_sent, path.bytes_received), (3 * number, 5 * number));
        }
    }
}
