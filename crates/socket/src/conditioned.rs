//! What would it be like over a worse network? A socket whose sending is conditioned.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
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

/// What conditioned sockets make of their paths. Its clones are the same, on whatever thread.
#[derive(Clone, Debug)]
pub struct Conditioning(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    conditions: Mutex<Conditions>,
    /// How often they have changed.
    changes: AtomicU64,
}

impl Conditioning {
    /// These conditions, until others are [set](Self::set).
    pub fn new(conditions: Conditions) -> Self {
        Self(Arc::new(Shared { conditions: Mutex::new(conditions), changes: AtomicU64::new(0) }))
    }

    /// Changes the conditions, for what is sent from now on.
    pub fn set(&self, conditions: Conditions) {
        *self.0.conditions.lock().unwrap_or_else(PoisonError::into_inner) = conditions;
        self.0.changes.fetch_add(1, Ordering::Release);
    }

    /// The conditions as they are now.
    pub fn conditions(&self) -> Conditions {
        *self.0.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The socket over paths like these, each with a fate of its own.
    pub fn over<S: Socket>(&self, socket: S) -> Conditioned<S> {
        // Without randomness peers lose the same datagrams, which is no reason not to play.
        let seed = getrandom::u64().unwrap_or(1);
        Conditioned::by(socket, self.clone(), seed)
    }

    fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Acquire)
    }
}

/// A socket that does to what it sends what a worse path would. Wrap it on both ends for both directions.
///
/// The unreliable lane takes all of the conditions; the reliable lane the latency, the jitter and the bandwidth. While
/// they are [`Conditions::PERFECT`], everything goes straight to the socket within.
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
    conditioning: Conditioning,
    /// Those of `conditioning` after so many changes.
    conditions: Conditions,
    changes: u64,
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

impl Sending {
    /// Whether nothing of this lane is on its way that others must not overtake.
    fn is_idle(&self, lane: Lane) -> bool {
        match lane {
            Lane::Unreliable => self.unreliable.deadline().is_none(),
            Lane::Reliable => self.reliable.deadline().is_none() && self.through.is_empty(),
        }
    }
}

impl<S: Socket> Conditioned<S> {
    /// Conditions what this socket sends. Same seed, same fate.
    pub fn new(socket: S, conditions: Conditions, seed: u64) -> Self {
        Self::by(socket, Conditioning::new(conditions), seed)
    }

    fn by(socket: S, conditioning: Conditioning, seed: u64) -> Self {
        let changes = conditioning.changes();
        let conditions = conditioning.conditions();
        Self {
            socket,
            conditioning,
            conditions,
            changes,
            rng: Rng::new(seed),
            peers: BTreeMap::new(),
            now: Duration::ZERO,
        }
    }

    /// Takes over conditions that have changed.
    fn follow(&mut self) {
        let changes = self.conditioning.changes();
        if changes == self.changes {
            return;
        }
        self.changes = changes;
        self.conditions = self.conditioning.conditions();
        for sending in self.peers.values_mut() {
            sending.unreliable.set(self.conditions);
            sending.reliable.set(reliable(self.conditions));
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
        self.follow();
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
        self.follow();
        let sending = self.peers.get_mut(&peer).ok_or(SendError::UnknownPeer)?;
        if self.conditions == Conditions::PERFECT && sending.is_idle(lane) {
            return self.socket.send(peer, lane, bytes);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryHub;

    /// Two sockets that are connected, and the peer that the first one sends to.
    fn pair(conditioning: &Conditioning) -> (Conditioned<impl Socket + use<>>, impl Socket + use<>, PeerId) {
        let hub = MemoryHub::new();
        let (mut one, mut other) = (conditioning.over(hub.socket()), hub.socket());
        let opened = |event| if let SocketEvent::Opened(peer) = event { Some(peer) } else { None };
        let peer = std::iter::from_fn(|| one.poll(Duration::ZERO)).find_map(opened).expect("they are connected");
        while other.poll(Duration::ZERO).is_some() {}
        (one, other, peer)
    }

    fn received(socket: &mut impl Socket, now: Duration) -> Vec<Bytes> {
        let bytes = |event| if let SocketEvent::Received(_, _, bytes) = event { Some(bytes) } else { None };
        std::iter::from_fn(|| socket.poll(now)).filter_map(bytes).collect()
    }

    #[test]
    fn on_a_perfect_path_nothing_waits_to_be_polled() {
        let (mut one, mut other, peer) = pair(&Conditioning::new(Conditions::PERFECT));
        for lane in [Lane::Unreliable, Lane::Reliable] {
            one.send(peer, lane, "hello".into()).expect("there is room");
            assert_eq!(received(&mut other, Duration::ZERO), ["hello"]);
        }
        assert_eq!(one.deadline(), None);
    }

    #[test]
    fn conditions_change_while_it_runs_and_keep_the_order_of_the_reliable_lane() {
        let conditioning = Conditioning::new(Conditions::PERFECT);
        let (mut one, mut other, peer) = pair(&conditioning);
        let late = Duration::from_millis(100);
        conditioning.set(Conditions { loss: 1.0, latency: late, ..Conditions::PERFECT });
        one.send(peer, Lane::Unreliable, "lost".into()).expect("a loss is no error");
        one.send(peer, Lane::Reliable, "first".into()).expect("there is room");
        conditioning.set(Conditions::PERFECT);
        one.send(peer, Lane::Reliable, "second".into()).expect("there is room");
        one.send(peer, Lane::Unreliable, "at once".into()).expect("there is room");
        assert_eq!(received(&mut other, Duration::ZERO), ["at once"]);
        assert_eq!(one.deadline(), Some(late));
        assert!(one.poll(late).is_none());
        assert_eq!(received(&mut other, late), ["first", "second"]);
        one.send(peer, Lane::Reliable, "third".into()).expect("there is room");
        assert_eq!(received(&mut other, late), ["third"]);
    }
}
