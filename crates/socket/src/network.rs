//! How does a game loop talk to its peers, while links run where bytes arrive?
//!
//! ```text
//!   game loop             native: thread `coplay-link`        socket's thread
//!   Network ──commands──▶  Links: one Link a peer  ◀──▶  Box<dyn Socket>
//!      ▲                   web: within the browser's events
//!      └────events─────    inline: within Network::turn, with the caller's time
//! ```

use std::{collections::BTreeMap, fmt, sync::Arc, sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use coplay_proto::{
    Channel, PeerId,
    bulk::{Blob, BlobId, BulkConfig, Fact, Refusal, Unsendable},
    link::{CONTROL_RESERVE, LinkConfig, LinkEvent, MAX_MESSAGE, Refused},
    signal::{Leader, lobby::RoomCommand},
};

use self::{
    blobs::BlobCommand,
    links::{Command, Links, Outward, Pressure},
};
use crate::{Entered, Path, RoomEvent, SignalingState, Socket, SocketError};

mod blobs;
#[cfg(target_arch = "wasm32")]
mod callback;
mod links;
#[cfg(not(target_arch = "wasm32"))]
mod thread;

#[cfg(target_arch = "wasm32")]
use callback::Running;
#[cfg(not(target_arch = "wasm32"))]
use thread::Running;

pub use blobs::BlobShelf;

/// The settings of a network. A [`LinkConfig`] is one, with the defaults of the rest.
#[derive(Clone, Debug, Default)]
pub struct NetworkConfig {
    /// Of each link.
    pub link: LinkConfig,
    /// Of the blobs of each peer.
    pub bulk: BulkConfig,
    /// Where the beginnings of blobs are kept whose link broke. Networks that are given clones of one go on with what
    /// another began.
    pub shelf: BlobShelf,
}

impl From<LinkConfig> for NetworkConfig {
    fn from(link: LinkConfig) -> Self {
        Self { link, ..Self::default() }
    }
}

/// The game loop's end of the connections to a room's peers.
///
/// What is handed over is on its way at the latest after the next [`turn`](Self::turn): hand over everything of a frame,
/// then turn, so that it shares datagrams. Dropping it says goodbye to every peer, and does not wait for that.
pub struct Network {
    mode: Mode,
    peers: BTreeMap<PeerId, Arc<Pressure>>,
    send_queue: usize,
    blob_queue: usize,
    /// How many blobs were sent: the number of the last of them.
    blobs: u64,
}

enum Mode {
    /// The links run in `turn`.
    Inline { links: Box<Links>, now: Duration },
    /// The links run by themselves.
    Running(Running),
}

/// What happens to a network.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkEvent {
    /// The room is entered. See [`crate::SocketEvent::Entered`].
    Entered(Entered),
    /// The room has another leader.
    Leader(Leader),
    /// What signaling says about the room. See [`crate::SocketEvent::Room`].
    Room(RoomEvent),
    /// What the link to a peer tells. First comes [`LinkEvent::Opened`], last [`LinkEvent::Closed`]; where a peer could
    /// not be connected, only that.
    Link(PeerId, LinkEvent),
    /// The path to a peer is known, or has other figures than a second ago.
    Path(PeerId, Path),
    /// What there is about a blob from or to this peer. Each has an end, which comes before the link's.
    Blob(PeerId, Fact),
    /// The connection to signaling changed.
    Signaling(SignalingState),
    /// The room cannot be entered.
    Failed(SocketError),
}

impl Network {
    /// Runs the links by themselves: on a thread, or in the browser's events. Time is that of [`crate::now`].
    pub fn start(socket: Box<dyn Socket>, config: impl Into<NetworkConfig>) -> Self {
        Self::new(config.into(), |config| Mode::Running(Running::start(Links::new(socket, config))))
    }

    /// Runs the links within [`Self::turn`], with the time given there. For tests with virtual time.
    pub fn inline(socket: Box<dyn Socket>, config: impl Into<NetworkConfig>) -> Self {
        Self::new(config.into(), |config| Mode::Inline {
            links: Box::new(Links::new(socket, config)),
            now: Duration::ZERO,
        })
    }

    fn new(config: NetworkConfig, mode: impl FnOnce(NetworkConfig) -> Mode) -> Self {
        let (send_queue, blob_queue) = (config.link.send_queue, config.bulk.queue);
        Self { mode: mode(config), peers: BTreeMap::new(), send_queue, blob_queue, blobs: 0 }
    }

    /// Sends what was handed over. Where the links do not run by themselves, does also everything else that is to be
    /// done by `now`, which is ignored elsewhere.
    pub fn turn(&mut self, now: Duration) {
        match &mut self.mode {
            Mode::Inline { links, now: last } => {
                *last = now.max(*last);
                while links.turn(*last) {}
            }
            Mode::Running(running) => running.turn(),
        }
    }

    /// The next thing that happened, or `None` when there is nothing more for now.
    pub fn poll(&mut self) -> Option<NetworkEvent> {
        let outward = match &mut self.mode {
            Mode::Inline { links, .. } => links.poll(),
            Mode::Running(running) => running.poll(),
        };
        Some(match outward? {
            Outward::Opened(peer, pressure) => {
                self.peers.insert(peer, pressure);
                NetworkEvent::Link(peer, LinkEvent::Opened)
            }
            Outward::Event(event) => {
                match &event {
                    NetworkEvent::Link(peer, LinkEvent::State(_) | LinkEvent::Figures(_)) => {
                        if let Some(pressure) = self.peers.get(peer) {
                            pressure.waiting.fetch_sub(1, Ordering::Relaxed);
                        }
                    }
                    NetworkEvent::Link(peer, LinkEvent::Closed(_)) => _ = self.peers.remove(peer),
                    NetworkEvent::Blob(peer, fact) => {
                        if let Some(pressure) = self.peers.get(peer) {
                            pressure.told(fact);
                        }
                    }
                    _ => {}
                }
                event
            }
        })
    }

    /// Sends a frame of the session, at most [`coplay_proto::link::MAX_STATE`] bytes: once, and it may be lost.
    pub fn state(&mut self, peer: PeerId, bytes: Bytes) {
        if self.peers.contains_key(&peer) {
            // Lost, if there is no room: the session finds out, as with any loss.
            let _ = self.command(Command::State(peer, bytes));
        }
    }

    /// Sends a message: exactly once, in order within its channel. To a peer that is gone, nothing is sent.
    ///
    /// # Errors
    /// Nothing was sent: more than [`MAX_MESSAGE`] bytes, or more than [`LinkConfig::send_queue`] bytes wait;
    /// [`CONTROL_RESERVE`] more on the control channel.
    pub fn message(&mut self, peer: PeerId, channel: Channel, bytes: Bytes) -> Result<(), Refused> {
        let Some(pressure) = self.peers.get(&peer) else { return Ok(()) };
        let reserve = if channel == Channel::Control { CONTROL_RESERVE } else { 0 };
        let (size, limit) = (bytes.len(), self.send_queue + reserve);
        if size > MAX_MESSAGE {
            return Err(Refused::TooLarge { size, limit: MAX_MESSAGE });
        }
        let waiting = pressure.outgoing();
        if waiting > 0 && waiting + size > limit {
            return Err(Refused::QueueFull { limit });
        }
        let pressure = pressure.clone();
        pressure.handed.fetch_add(size, Ordering::Relaxed);
        self.command(Command::Message(peer, channel, bytes)).map_err(|_| {
            pressure.handed.fetch_sub(size, Ordering::Relaxed);
            Refused::QueueFull { limit }
        })
    }

    /// Whether more than half of the messages that may wait for this peer do.
    pub fn is_pressed(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|pressure| pressure.outgoing() > self.send_queue / 2)
    }

    /// The session has taken messages of this peer with so many bytes, so that the peer may send more.
    pub fn consumed(&mut self, peer: PeerId, bytes: usize) {
        if let Some(pressure) = self.peers.get(&peer) {
            pressure.consumed.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Sends a blob to a peer: a file, a level, a replay. Returns its number; how it fares and ends is told by
    /// [`NetworkEvent::Blob`] with [`BlobId::Out`] of it. Nothing of it moves before the peer accepts it.
    ///
    /// It goes over the reliable lane, and leaves room for frames and messages. By a relay of the signaling server it is
    /// slow: 16 KiB a second. What is large is better off on an HTTP server.
    ///
    /// # Errors
    /// It was not sent: there is no link to the peer, [`BulkConfig::queue`] blobs wait for it already, or the name or the
    /// metadata is too long.
    pub fn send_blob(&mut self, peer: PeerId, blob: Blob) -> Result<u64, Unsendable> {
        blob.check()?;
        let pressure = self.peers.get(&peer).ok_or(Unsendable::NotConnected)?.clone();
        let full = Unsendable::QueueFull { limit: self.blob_queue };
        if pressure.blobs.load(Ordering::Relaxed) >= self.blob_queue {
            return Err(full);
        }
        self.blobs += 1;
        pressure.blobs.fetch_add(1, Ordering::Relaxed);
        match self.command(Command::Blob(peer, BlobCommand::Send(self.blobs, blob).into())) {
            Ok(()) => Ok(self.blobs),
            Err(_) => {
                pressure.blobs.fetch_sub(1, Ordering::Relaxed);
                Err(full)
            }
        }
    }

    /// Takes a blob that a peer has [offered](Fact::Offered), by its number: as one, or in chunks if that is asked for or it
    /// is larger than [`BulkConfig::max_whole`]. What is on the [shelf](NetworkConfig::shelf) of it is not sent again.
    pub fn accept_blob(&mut self, peer: PeerId, number: u64, stream: bool) {
        self.blob_command(peer, BlobCommand::Accept { number, stream });
    }

    /// Does not take a blob that a peer has offered.
    pub fn refuse_blob(&mut self, peer: PeerId, number: u64, refusal: Refusal) {
        self.blob_command(peer, BlobCommand::Refuse(number, refusal));
    }

    /// Sends or takes no more of a blob. Both sides are told that it failed, unless it was at its end.
    pub fn cancel_blob(&mut self, peer: PeerId, blob: BlobId) {
        self.blob_command(peer, BlobCommand::Cancel(blob));
    }

    fn blob_command(&mut self, peer: PeerId, command: BlobCommand) {
        if self.peers.contains_key(&peer) && self.command(Command::Blob(peer, command.into())).is_err() {
            tracing::warn!(%peer, "too many commands at once: one about a blob was dropped");
        }
    }

    /// Says goodbye to a peer and closes the connection. [`LinkEvent::Closed`] follows.
    pub fn disconnect(&mut self, peer: PeerId) {
        if self.command(Command::Disconnect(peer)).is_err() {
            tracing::warn!(%peer, "too many commands at once: not disconnected");
        }
    }

    /// Has signaling do something with the room: see [`Socket::room_command`].
    pub fn room_command(&mut self, command: RoomCommand) {
        if self.command(Command::Room(command)).is_err() {
            tracing::warn!("too many commands at once: one to the room was dropped");
        }
    }

    /// Says goodbye to every peer and waits until that is done, at most so long. For the end of a process, which would
    /// cut a goodbye off; elsewhere drop the network.
    pub fn close(mut self, within: Duration) {
        if let Mode::Running(running) = &mut self.mode {
            running.close(within);
        }
    }

    fn command(&mut self, command: Command) -> Result<(), Command> {
        match &mut self.mode {
            Mode::Inline { links, now } => {
                links.command(*now, command);
                Ok(())
            }
            Mode::Running(running) => running.command(command),
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Mode::Inline { links, now } = &mut self.mode {
            links.close(*now);
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("peers", &self.peers.keys()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod flood;
#[cfg(test)]
mod tests;
