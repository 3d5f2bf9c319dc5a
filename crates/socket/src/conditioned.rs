//! What would it be like over a worse network? A socket whose sending is conditioned.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    time::Duration,
};

use bytes::Bytes;
use coplay_proto::{
    Lane, PeerId,
    conditioner::{Conditioner, Conditions},
    rng::Rng,
    signal::lobby::RoomCommand,
};

use crate::{
    Path, SendError, Socket, SocketEvent, Waker,
    memory::{OVERHEAD, reliable},
};

/// The most bytes of the reliable lane to one peer that are held back: [`SendError::Full`] beyond.
const HELD_BACK: usize = 1024 * 1024;
/// When to try again what the socket below had no room for.
const RETRY: Duration = Duration::from_millis(5);

/// A socket that does to what it sends what a worse path would. Wrap it on both ends for both directions.
///
/// The unreliable lane takes all of the conditions; the reliable lane the latency, the jitter and the bandwidth.
///
/// ```
/// use std::time::Duration;
/// use coplay_proto::conditioner::Conditions;
/// use coplay_socket::{Conditioned, MemoryHub, Socket};
///
/// let hub = MemoryHub::new();
/// let mut socket: Box<dyn Socket> = Box::new(Conditioned::new(hub.socket(), Conditions::CELLULAR, 7));
/// assert!(socket.poll(Duration::ZERO).is_some());
/// ```
pub struct Conditioned<S> {
    socket: S,
    conditions: Conditions,
    rng: Rng,
    peers: BTreeMap<PeerId, Sending>,
    now: Duration,
}

/// What is on its way to one peer.
struct Sending {
    unreliable: Conditioner<Bytes>,
    reliable: Conditioner<Item>,
    bytes: usize,
    /// Through, and waits for the socket to take it.
    through: VecDeque<Item>,
    /// It is to be disconnected.
    leaving: bool,
}

#[derive(Clone)]
enum Item {
    Datagram(Bytes),
    Disconnect,
}

impl<S: Socket> Conditioned<S> {
    /// Conditions what this socket sends. Same seed, same fate.
    pub fn new(socket: S, conditions: Conditions, seed: u64) -> Self {
        Self { socket, conditions, rng: Rng::new(seed), peers: BTreeMap::new(), now: Duration::ZERO }
    }

    /// Changes the conditions, for what is sent from now on.
    pub fn set(&mut self, conditions: Conditions) {
        self.conditions = conditions;
        for sending in self.peers.values_mut() {
            sending.unreliable.set(conditions);
            sending.reliable.set(reliable(conditions));
        }
    }

    /// Hands over what has come through.
    fn pass_on(&mut self) {
        for (&peer, sending) in &mut self.peers {
            while let Some(bytes) = sending.unreliable.pop(self.now) {
                // Full is a loss like any other.
                let _ = self.socket.send(peer, Lane::Unreliable, bytes);
            }
            while let Some(item) = sending.reliable.pop(self.now) {
                sending.through.push_back(item);
            }
            while let Some(item) = sending.through.pop_front() {
                match item {
                    Item::Disconnect => self.socket.disconnect(peer),
                    Item::Datagram(bytes) => {
                        let sent = self.socket.send(peer, Lane::Reliable, bytes.clone());
                        if sent == Err(SendError::Full) {
                            sending.through.push_front(Item::Datagram(bytes));
                            break;
                        }
                        sending.bytes -= bytes.len() + OVERHEAD;
                    }
                }
            }
        }
    }
}

impl<S: Socket> Socket for Conditioned<S> {
    fn poll(&mut self, now: Duration) -> Option<SocketEvent> {
        self.now = self.now.max(now);
        self.pass_on();
        let event = self.socket.poll(now)?;
        match &event {
            SocketEvent::Opened(peer) => {
                let sending = Sending {
                    unreliable: Conditioner::new(self.conditions, self.rng.next_u64()),
                    reliable: Conditioner::new(reliable(self.conditions), self.rng.next_u64()),
                    bytes: 0,
                    through: VecDeque::new(),
                    leaving: false,
                };
                self.peers.insert(*peer, sending);
            }
            SocketEvent::Mended(peer) => {
                // What was held back was for the connection before.
                let fate = self.rng.next_u64();
                if let Some(sending) = self.peers.get_mut(peer) {
                    sending.reliable = Conditioner::new(reliable(self.conditions), fate);
                    sending.through.clear();
                    sending.bytes = 0;
                    if sending.leaving {
                        sending.reliable.push(self.now, Item::Disconnect, 0);
                    }
                }
            }
            SocketEvent::Closed(peer, _) => {
                self.peers.remove(peer);
            }
            _ => {}
        }
        Some(event)
    }

    fn send(&mut self, peer: PeerId, lane: Lane, bytes: Bytes) -> Result<(), SendError> {
        SendError::check(lane, bytes.len())?;
        let sending = self.peers.get_mut(&peer).ok_or(SendError::UnknownPeer)?;
        let length = bytes.len();
        match lane {
            Lane::Unreliable => sending.unreliable.push(self.now, bytes, length),
            Lane::Reliable if sending.bytes + length + OVERHEAD > HELD_BACK => return Err(SendError::Full),
            Lane::Reliable => {
                sending.bytes += length + OVERHEAD;
                sending.reliable.push(self.now, Item::Datagram(bytes), length);
            }
        }
        Ok(())
    }

    fn buffered(&self, peer: PeerId) -> usize {
        self.socket.buffered(peer)
    }

    fn disconnect(&mut self, peer: PeerId) {
        match self.peers.get_mut(&peer) {
            // Not before what was sent.
            Some(sending) => {
                sending.leaving = true;
                sending.reliable.push(self.now, Item::Disconnect, 0);
            }
            None => self.socket.disconnect(peer),
        }
    }

    fn silence(&mut self, peer: PeerId, silent: bool) {
        self.socket.silence(peer, silent);
    }

    fn room_command(&mut self, command: RoomCommand) {
        self.socket.room_command(command);
    }

    fn path(&self, peer: PeerId) -> Option<Path> {
        self.socket.path(peer)
    }

    fn deadline(&self) -> Option<Duration> {
        let ours = self.peers.values().flat_map(|sending| {
            let waits = !sending.through.is_empty();
            [sending.unreliable.deadline(), sending.reliable.deadline(), waits.then(|| self.now + RETRY)]
        });
        ours.flatten().chain(self.socket.deadline()).min()
    }

    fn set_waker(&mut self, waker: Waker) {
        self.socket.set_waker(waker);
    }
}

impl<S> fmt::Debug for Conditioned<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conditioned").field("conditions", &self.conditions).finish_non_exhaustive()
    }
}
