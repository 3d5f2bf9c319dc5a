//! What runs where bytes arrive? The socket, and one link per peer.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use coplay_proto::{
    Channel, Lane, PeerId, bulk,
    link::{CloseReason, Input, Link, LinkEvent, Output, Refused},
    signal::lobby::RoomCommand,
};

use super::{
    NetworkConfig, NetworkEvent,
    blobs::{BlobCommand, Blobs},
};
use crate::{Path, Socket, SocketEvent, Waker};

/// The most events that wait for the game while there are newer ones: frames, figures and paths beyond are lost, as the
/// path loses some. Messages are not: each link's receive window bounds them.
const WAITING: usize = 4096;
/// The most of these of one peer, here and on the way to the game: so that a flood from one does not leave those of the
/// others without room. At 60 frames a second, what a peer says while the game stands still for eight seconds.
const SHARE: usize = 512;
/// The most events taken from the socket in one turn.
const TURN: usize = 1024;
/// How often the path to a peer is asked for, and how often until there is one.
const PATH_INTERVAL: Duration = Duration::from_secs(1);
const PATH_SEARCH: Duration = Duration::from_millis(100);

/// What the game wants.
#[derive(Debug)]
pub(super) enum Command {
    State(PeerId, Bytes),
    /// Over the link that has this pressure: what was said to one that is over is not for the next one.
    Message(PeerId, Channel, Bytes, Arc<Pressure>),
    Blob(PeerId, Box<BlobCommand>),
    Disconnect(PeerId),
    Room(RoomCommand),
}

/// What there is for the game.
#[derive(Debug)]
pub(super) enum Outward {
    /// As `NetworkEvent::Link(peer, LinkEvent::Opened)`.
    Opened(PeerId, Arc<Pressure>),
    Event(NetworkEvent),
}

/// What game and link tell each other about a peer's messages, in bytes.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    /// Handed over by the game, and not acked by the peer yet. One number, so that nothing is ever counted twice, or not.
    pub(super) outgoing: AtomicUsize,
    /// The same of those that may be lost, until the link has them.
    pub(super) fleeting: AtomicUsize,
    /// Taken by the game, which the link is to learn.
    pub(super) consumed: AtomicUsize,
    /// How many frames, figures and notices of progress of the peer wait for the game.
    pub(super) waiting: AtomicUsize,
    /// How many blobs the game has handed over whose end it has not taken.
    pub(super) blobs: AtomicUsize,
    /// How many facts about blobs of the peer the game has taken, which the link is to learn.
    pub(super) facts_taken: AtomicUsize,
}

/// See the top of the file.
pub(super) struct Links {
    socket: Box<dyn Socket>,
    config: NetworkConfig,
    links: BTreeMap<PeerId, Seat>,
    /// The peers that the socket was told to disconnect, until it says that they are closed.
    parting: BTreeSet<PeerId>,
    out: VecDeque<Outward>,
}

struct Seat {
    link: Link,
    blobs: Blobs,
    pressure: Arc<Pressure>,
    /// Messages that the link has no room for. The game is told to hold back before there are many.
    backlogs: BTreeMap<Channel, VecDeque<Bytes>>,
    backlog_bytes: usize,
    /// What has come here of [`Pressure::outgoing`], and is yet in it.
    counted: usize,
    /// We said goodbye.
    leaving: bool,
    path: Option<Path>,
    path_due: Duration,
}

impl Links {
    pub(super) fn new(socket: Box<dyn Socket>, config: NetworkConfig) -> Self {
        Self { socket, config, links: BTreeMap::new(), parting: BTreeSet::new(), out: VecDeque::new() }
    }

    pub(super) fn set_waker(&mut self, waker: Waker) {
        self.socket.set_waker(waker);
    }

    /// Does what is to be done by now. Returns whether the socket may have more.
    pub(super) fn turn(&mut self, now: Duration) -> bool {
        let mut taken = 0;
        while taken < TURN
            && let Some(event) = self.socket.poll(now)
        {
            taken += 1;
            self.hear(now, event);
        }
        for (peer, seat) in &mut self.links {
            seat.consume(now);
            seat.refill(now);
            if seat.link.deadline().is_some_and(|deadline| deadline <= now) {
                let _ = seat.link.handle(now, Input::Elapsed);
            }
            seat.blobs.elapse(now);
            if seat.path_due <= now {
                let path = self.socket.path(*peer);
                seat.path_due = now + if path.is_some() { PATH_INTERVAL } else { PATH_SEARCH };
                if path != seat.path
                    && let Some(path) = path
                {
                    seat.blobs.reached(now, seat.path.as_ref(), &path);
                    seat.path = Some(path.clone());
                    if self.out.len() < WAITING {
                        self.out.push_back(Outward::Event(NetworkEvent::Path(*peer, path)));
                    }
                }
            }
        }
        self.flush(now) || taken == TURN
    }

    /// Takes what the game wants. What comes of it is sent with the next turn.
    pub(super) fn command(&mut self, now: Duration, command: Command) {
        match command {
            Command::State(peer, bytes) => {
                if let Some(seat) = self.links.get_mut(&peer)
                    && let Err(error) = seat.link.handle(now, Input::State(bytes))
                    && !seat.link.is_closed()
                {
                    tracing::debug!(%peer, %error, "a frame was not sent");
                }
            }
            Command::Message(peer, channel, bytes, pressure) => {
                let seat = self.links.get_mut(&peer);
                if let Some(seat) = seat.filter(|seat| Arc::ptr_eq(&seat.pressure, &pressure)) {
                    seat.message(now, channel, bytes);
                }
            }
            Command::Blob(peer, command) => match self.links.get_mut(&peer) {
                Some(seat) => seat.blobs.command(now, *command),
                None => self.out.extend(command.unsent().map(|fact| Outward::Event(NetworkEvent::Blob(peer, fact)))),
            },
            Command::Disconnect(peer) => match self.links.get_mut(&peer) {
                Some(seat) => {
                    seat.leaving = true;
                    let _ = seat.link.handle(now, Input::Close);
                }
                // Not open yet: there is nothing to say goodbye to.
                None => self.socket.disconnect(peer),
            },
            Command::Room(command) => self.socket.room_command(command),
        }
    }

    pub(super) fn poll(&mut self) -> Option<Outward> {
        self.out.pop_front()
    }

    /// Gives back what was polled and could not be passed on.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn put_back(&mut self, event: Outward) {
        self.out.push_front(event);
    }

    /// When the next turn is due at the latest.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let links =
            self.links.values().flat_map(|seat| [seat.link.deadline(), seat.blobs.deadline(), Some(seat.path_due)]);
        links.flatten().chain(self.socket.deadline()).min()
    }

    /// Says goodbye to all.
    pub(super) fn close(&mut self, now: Duration) {
        for seat in self.links.values_mut() {
            seat.leaving = true;
            let _ = seat.link.handle(now, Input::Close);
            // Nobody is there to be told, but what has come of them is kept.
            seat.blobs.close(now, false);
        }
        self.flush(now);
    }

    /// Whether there is nobody left.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    fn hear(&mut self, now: Duration, event: SocketEvent) {
        match event {
            SocketEvent::Received(peer, lane, bytes) => {
                if let Some(seat) = self.links.get_mut(&peer) {
                    let _ = seat.link.handle(now, Input::Received(lane, bytes.clone()));
                    // A flood must not wait for the end of the turn in the link's queue.
                    seat.flush(now, peer, &mut *self.socket, &mut self.out);
                    if lane == Lane::Reliable
                        && let Err(what) = seat.blobs.received(now, bytes)
                    {
                        self.misspoken(now, peer, what);
                    }
                }
            }
            SocketEvent::Opened(peer) => {
                self.parting.remove(&peer);
                let seat = Seat::new(now, peer, self.config.clone());
                self.out.push_back(Outward::Opened(peer, seat.pressure.clone()));
                self.links.insert(peer, seat);
            }
            SocketEvent::Mended(peer) => {
                if let Some(seat) = self.links.get_mut(&peer) {
                    seat.path_due = now;
                    seat.blobs.anew(now);
                }
            }
            SocketEvent::Closed(peer, reason) => {
                let asked = self.parting.remove(&peer);
                let seat = self.links.remove(&peer);
                let seat = seat.map(|mut seat| {
                    self.out.extend(seat.ended(now, peer));
                    seat
                });
                let event = match seat {
                    // The peer may close first, when it has heard our goodbye.
                    Some(seat) if seat.leaving => CloseReason::Local,
                    // The link has said why.
                    None if asked => return,
                    _ => reason,
                };
                self.event(NetworkEvent::Link(peer, LinkEvent::Closed(event)));
            }
            SocketEvent::Entered(entered) => self.event(NetworkEvent::Entered(entered)),
            SocketEvent::Leader(leader) => self.event(NetworkEvent::Leader(leader)),
            SocketEvent::Room(event) => self.event(NetworkEvent::Room(event)),
            SocketEvent::Signaling(state) => self.event(NetworkEvent::Signaling(state)),
            SocketEvent::Failed(error) => self.event(NetworkEvent::Failed(error)),
        }
    }

    /// Sends what the links want to be sent, and takes leave of those that are closed. Returns whether there is more to be
    /// sent at once.
    fn flush(&mut self, now: Duration) -> bool {
        let mut closed = Vec::new();
        let mut more = false;
        for (&peer, seat) in &mut self.links {
            seat.flush(now, peer, &mut *self.socket, &mut self.out);
            if seat.link.is_closed() {
                closed.push(peer);
            } else {
                more |= seat.blobs.transmit(now, peer, &mut *self.socket);
                seat.tell(peer, &mut self.out);
            }
        }
        for peer in closed {
            self.links.remove(&peer);
            self.part(peer);
        }
        more
    }

    /// The peer said of blobs what none says.
    fn misspoken(&mut self, now: Duration, peer: PeerId, what: &'static str) {
        let Some(mut seat) = self.links.remove(&peer) else { return };
        // It need not wait for our silence.
        let _ = seat.link.handle(now, Input::Close);
        while let Some(output) = seat.link.poll() {
            if let Output::Transmit(lane, bytes) = output {
                let _ = self.socket.send(peer, lane, bytes);
            }
        }
        self.out.extend(seat.ended(now, peer));
        self.event(NetworkEvent::Link(peer, LinkEvent::Closed(CloseReason::Malformed(what))));
        self.part(peer);
    }

    /// Closes the connection below a link that is over.
    fn part(&mut self, peer: PeerId) {
        self.parting.insert(peer);
        self.socket.disconnect(peer);
    }

    fn event(&mut self, event: NetworkEvent) {
        self.out.push_back(Outward::Event(event));
    }
}

impl Seat {
    fn new(now: Duration, peer: PeerId, config: NetworkConfig) -> Self {
        Self {
            // The seed need not be secret: what is sent is encrypted and authenticated.
            link: Link::new(now, config.link, (peer.as_u128() >> 64) as u64),
            blobs: Blobs::new(now, config.bulk, config.shelf),
            pressure: Arc::new(Pressure::default()),
            backlogs: BTreeMap::new(),
            backlog_bytes: 0,
            counted: 0,
            leaving: false,
            path: None,
            path_due: now,
        }
    }

    /// Tells the link what the game has taken.
    fn consume(&mut self, now: Duration) {
        let consumed = self.pressure.consumed.swap(0, Ordering::Relaxed);
        if consumed > 0 {
            let _ = self.link.handle(now, Input::Consumed(consumed));
        }
        let facts = self.pressure.facts_taken.swap(0, Ordering::Relaxed);
        if facts > 0 {
            self.blobs.taken(now, facts);
        }
    }

    /// Takes a message of the game.
    fn message(&mut self, now: Duration, channel: Channel, bytes: Bytes) {
        let size = bytes.len();
        if channel == Channel::Unreliable {
            // Where there is no room it is lost, rather than to wait here.
            let _ = self.link.handle(now, Input::Message(channel, bytes));
            self.pressure.fleeting.fetch_sub(size, Ordering::Relaxed);
            return;
        }
        self.counted += size;
        self.backlog_bytes += size;
        self.backlogs.entry(channel).or_default().push_back(bytes);
        self.refill(now);
    }

    /// Hands over what the link has room for. What waits of one channel does not hold up another.
    fn refill(&mut self, now: Duration) {
        for (&channel, backlog) in &mut self.backlogs {
            while let Some(bytes) = backlog.pop_front() {
                match self.link.handle(now, Input::Message(channel, bytes.clone())) {
                    Err(Refused::QueueFull { .. }) => {
                        backlog.push_front(bytes);
                        break;
                    }
                    Ok(()) | Err(_) => self.backlog_bytes -= bytes.len(),
                }
            }
        }
        let gone = self.counted.saturating_sub(self.link.queued() + self.backlog_bytes);
        self.counted -= gone;
        self.pressure.outgoing.fetch_sub(gone, Ordering::Relaxed);
    }

    fn flush(&mut self, now: Duration, peer: PeerId, socket: &mut dyn Socket, out: &mut VecDeque<Outward>) {
        while let Some(output) = self.link.poll() {
            match output {
                // What is not taken is lost, which links are made for.
                Output::Transmit(lane, bytes) => {
                    let _ = socket.send(peer, lane, bytes);
                }
                Output::Event(event @ (LinkEvent::State(_) | LinkEvent::Figures(_))) => {
                    self.tell_or_lose(NetworkEvent::Link(peer, event), out);
                }
                Output::Event(event) => {
                    match &event {
                        LinkEvent::Closed(_) => out.extend(self.ended(now, peer)),
                        LinkEvent::Unresponsive => socket.silence(peer, true),
                        LinkEvent::Responsive => socket.silence(peer, false),
                        _ => {}
                    }
                    out.push_back(Outward::Event(NetworkEvent::Link(peer, event)));
                }
            }
        }
    }

    /// Tells the game what there is about blobs.
    fn tell(&mut self, peer: PeerId, out: &mut VecDeque<Outward>) {
        while let Some(fact) = self.blobs.poll() {
            let lossy = matches!(fact, bulk::Fact::Progress { .. });
            let event = NetworkEvent::Blob(peer, fact);
            if lossy {
                self.tell_or_lose(event, out);
            } else {
                out.push_back(Outward::Event(event));
            }
        }
    }

    /// Tells the game what it can do without, if there is room for it.
    fn tell_or_lose(&self, event: NetworkEvent, out: &mut VecDeque<Outward>) {
        if out.len() < WAITING && self.pressure.waiting.load(Ordering::Relaxed) < SHARE {
            self.pressure.waiting.fetch_add(1, Ordering::Relaxed);
            out.push_back(Outward::Event(event));
        }
    }

    /// The link is over: how its blobs end.
    fn ended(&mut self, now: Duration, peer: PeerId) -> Vec<Outward> {
        let facts = self.blobs.close(now, true).into_iter();
        // Progress that was not told yet is of no use any more, and would not be counted.
        let facts = facts.filter(|fact| !matches!(fact, bulk::Fact::Progress { .. }));
        facts.map(|fact| Outward::Event(NetworkEvent::Blob(peer, fact))).collect()
    }
}
