//! How do peers come into a room, speak in it and leave it? One task for each room, which alone knows its members, so
//! that everything happens in some order and nothing needs a lock.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use coplay_proto::{
    PeerId,
    signal::{
        ServerMessage, SignalError,
        lobby::{Lobby, Password, RoomCommand},
        relay::FrameKind,
    },
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tracing::{Instrument, field};

pub(crate) use self::returns::{Entry, Kept, Resume};
use self::{
    door::RoomDoor,
    face::{Face, Powers},
    group::{Greeting, Group, Identity, Newcomer},
    returns::Returns,
};
use crate::{
    ask::Ask,
    drain,
    firewall::Kind,
    metrics::Metrics,
    quick::{Backfill, Fill},
    registry::{Place, Registry, RoomKey},
    relay::Unrelayed,
    secrets::SeatName,
    wire::{self, malformed},
};

pub(crate) mod door;
mod face;
pub(crate) mod group;
mod returns;

/// How much may wait to be done in a room; who has more to say waits too.
const QUEUE: usize = 128;

/// Something to be done in a room. All in boxes, since each room's queue has places for 32 of them at the least.
#[derive(Debug)]
pub(crate) enum Command {
    Join(Box<Join>),
    Fill(Box<Fill>),
    Resume(Box<Resume>),
    Member(Box<Request>),
}

/// What a member wants of its group.
#[derive(Debug)]
pub(crate) struct Request {
    group: u64,
    from: PeerId,
    what: Wish,
}

#[derive(Debug)]
enum Wish {
    Signal { to: PeerId, kind: Kind, frame: Utf8Bytes },
    Leader(RoomCommand),
    Relay { to: PeerId, kind: FrameKind, frame: Bytes },
}

/// A peer at the door. The room drops `reply` if it is closing; the peer is then to ask again.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) ask: Arc<Ask>,
    pub(crate) newcomer: Newcomer,
    pub(crate) kept: Kept,
    pub(crate) reply: oneshot::Sender<Result<Entry, SignalError>>,
}

#[derive(Debug)]
struct Departure {
    group: u64,
    peer: PeerId,
    arrival: u32,
    /// What is left behind by a peer that may come back.
    kept: Option<Box<Kept>>,
}

/// A peer's place in a room. It leaves by dropping this.
#[derive(Debug)]
pub(crate) struct Seat {
    peer: PeerId,
    /// Counts who comes into the room: a peer that is let go, and comes again with the same id, does not leave by dropping
    /// what it had before.
    arrival: u32,
    group: u64,
    room: Arc<str>,
    /// Whether the peer takes relayed frames.
    relays: bool,
    /// When those of its group leave a server that stops.
    turn: u16,
    commands: mpsc::Sender<Command>,
    // Unbounded, because a departure must never be lost; there is one for each seat, and seats are counted. In boxes for
    // the reason that commands are.
    departures: mpsc::UnboundedSender<Box<Departure>>,
    /// Rung when the seat is to be given up to the same peer on another WebSocket; only for who may come back.
    bell: Option<Arc<Notify>>,
    kept: Option<Box<Kept>>,
}

impl Seat {
    pub(crate) fn peer(&self) -> PeerId {
        self.peer
    }

    /// The room's name.
    pub(crate) fn room(&self) -> &str {
        &self.room
    }

    pub(crate) fn relays(&self) -> bool {
        self.relays
    }

    pub(crate) fn turn(&self) -> u16 {
        self.turn
    }

    /// Has `frame` passed on to another member.
    pub(crate) async fn signal(&self, to: PeerId, kind: Kind, frame: Utf8Bytes) {
        self.want(Wish::Signal { to, kind, frame }).await;
    }

    /// Has `frame` relayed to another member.
    pub(crate) async fn relay(&self, to: PeerId, kind: FrameKind, frame: Bytes) {
        self.want(Wish::Relay { to, kind, frame }).await;
    }

    /// Wants something of the room.
    pub(crate) async fn command(&self, command: RoomCommand) {
        self.want(Wish::Leader(command)).await;
    }

    async fn want(&self, what: Wish) {
        let request = Request { group: self.group, from: self.peer, what };
        // A room that is gone has let go of the peer, which it hears by its inbox.
        let _ = self.commands.send(Command::Member(Box::new(request))).await;
    }

    /// Comes when the peer is back on another WebSocket.
    pub(crate) async fn recalled(&self) {
        match &self.bell {
            Some(bell) => bell.notified().await,
            None => std::future::pending().await,
        }
    }

    /// The WebSocket is lost: who may come back leaves everything here; of another, its place on the server is returned.
    fn lost(mut self, kept: Kept) -> Option<Place> {
        if self.bell.is_none() {
            return Some(kept.place);
        }
        self.kept = Some(Box::new(kept));
        None
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Self { group, peer, arrival, .. } = *self;
        let departure = Departure { group, peer, arrival, kept: self.kept.take() };
        let _ = self.departures.send(Box::new(departure));
    }
}

/// The task of a room.
#[derive(Debug)]
pub(crate) struct Room {
    key: RoomKey,
    /// That of `key`, for the seats.
    name: Arc<str>,
    registry: Arc<Registry>,
    /// Whether this server drew its code, for this room: then nobody led it before the server began.
    is_new: bool,
    /// In boxes, since the smallest map has places for four.
    groups: HashMap<u64, Box<Group>>,
    /// The group that newcomers come into.
    filling: Option<u64>,
    /// The groups that were full and lost somebody before the two of a pair met: newcomers come into these first.
    refilling: BTreeSet<u64>,
    /// Of the room of a quick match: who comes into what was lost in the same way.
    backfill: Option<Backfill>,
    next_group: u64,
    arrivals: u32,
    door: RoomDoor,
    face: Face,
    returns: Returns,
    commands: mpsc::Sender<Command>,
    departures: mpsc::UnboundedSender<Box<Departure>>,
    metrics: Arc<Metrics>,
}

/// Starts a room with someone at its door, so that no room waits for peers that never come. `None` if nobody of them
/// was let in, which they are told.
pub(crate) fn open(
    key: RoomKey,
    registry: Arc<Registry>,
    first: Vec<Join>,
    backfill: Option<Backfill>,
) -> Option<mpsc::Sender<Command>> {
    let (commands, inbox) = mpsc::channel(QUEUE);
    let (departures, left) = mpsc::unbounded_channel();
    let now = Instant::now();
    let (ask, maker) = first.first().map(|join| (join.ask.clone(), join.newcomer.from))?;
    let password = ask.credentials.password.as_ref().and_then(|password| registry.secrets().hash(password.expose()));
    // In a box, or its task would have places for two of it.
    let mut room = Box::new(Room {
        face: Face::new(key.name.clone(), &ask, maker, now),
        door: RoomDoor::new(password, now),
        metrics: registry.metrics.clone(),
        name: key.name.as_str().into(),
        key,
        registry,
        is_new: ask.room.is_none(),
        groups: HashMap::new(),
        filling: None,
        refilling: BTreeSet::new(),
        backfill,
        next_group: 0,
        arrivals: 0,
        returns: Returns::default(),
        commands: commands.clone(),
        departures,
    });
    // Of its own, and not within that of the peer that asked first, which may be gone long before.
    let span = tracing::debug_span!(parent: None, "room", name = room.key.name, next = room.key.next);
    span.in_scope(|| {
        tracing::debug!(from = maker.map(field::display), "a room is made");
        for join in first {
            room.join(join);
        }
    });
    if room.groups.is_empty() {
        return None;
    }
    tokio::spawn(room.run(inbox, left).instrument(span));
    Some(commands)
}

impl Room {
    async fn run(
        mut self: Box<Self>,
        mut commands: mpsc::Receiver<Command>,
        mut left: mpsc::UnboundedReceiver<Box<Departure>>,
    ) {
        while !self.groups.is_empty() {
            let overdue = self.returns.deadline();
            tokio::select! {
                biased;
                Some(departure) = left.recv() => self.depart(*departure),
                () = at(overdue) => self.give_up(),
                Some(command) = commands.recv() => match command {
                    Command::Join(join) => self.join(*join),
                    Command::Fill(fill) => self.fill(*fill),
                    Command::Resume(resume) => self.claim(resume),
                    Command::Member(request) => {
                        let Request { group, from, what } = *request;
                        match what {
                            Wish::Signal { to, kind, frame } => self.signal(group, from, to, kind, frame),
                            Wish::Leader(command) => self.command(group, from, command),
                            Wish::Relay { to, kind, frame } => self.relay(group, from, to, kind, frame),
                        }
                    }
                },
                else => break,
            }
        }
        // First out of the public list: who knocks when the room is forgotten may open it anew, with an entry of its own.
        drop(self.face);
        // Before the queue has those back who are on the way to a seat.
        drop(self.backfill);
        self.registry.close(&self.key);
        tracing::debug!("a room is closed: nobody is in it");
        // Who found the room before it closed is in `commands`, and asks again when that is dropped.
    }

    fn join(&mut self, join: Join) {
        let number = self.open_group();
        if let Some(peer) = join.newcomer.proven()
            && self.returns.has(number, peer)
        {
            // It is here: it comes back to its seat, by its secret in place of the token.
            let Join { newcomer: Newcomer { ice_servers, .. }, reply, .. } = join;
            return self.claim(Box::new(Resume { group: number, peer, ice_servers, reply }));
        }
        let Join { ask, newcomer, kept, reply } = join;
        let joined = self.admit(number, &ask, newcomer, kept);
        self.tidy(number);
        // A peer that did not wait for the answer leaves by the seat that comes back.
        if let Err(Ok(entry)) = reply.send(joined) {
            entry.leave();
        }
    }

    /// The group that a newcomer comes into.
    fn open_group(&mut self) -> u64 {
        while let Some(number) = self.refilling.first().copied() {
            if self.vacant(number) > 0 {
                return number;
            }
            self.refilling.remove(&number);
        }
        self.filling.unwrap_or(self.next_group)
    }

    /// How many seats of a group are to be filled again.
    fn vacant(&self, number: u64) -> u32 {
        let kept = self.registry.timing().backfill;
        self.groups.get(&number).map_or(0, |group| group.vacant(Instant::now(), kept))
    }

    /// Takes somebody into a seat that was lost, if there is one and they may come in; else they are back in the queue.
    fn fill(&mut self, fill: Fill) {
        if let Some(backfill) = &mut self.backfill {
            backfill.called();
        }
        let number = self.open_group();
        let seated = match self.vacant(number) {
            0 => Err(fill),
            _ => fill.knock(&mut self.door, self.registry.secrets(), Instant::now()),
        };
        match seated {
            Ok(join) => self.join(*join),
            Err(fill) => {
                // The queue hears what is free before it has them back.
                self.tidy(number);
                drop(fill);
            }
        }
    }

    fn admit(&mut self, number: u64, ask: &Ask, mut newcomer: Newcomer, kept: Kept) -> Result<Entry, SignalError> {
        let room_peers = self.registry.limits().room_peers;
        let capacity = self.key.next.or(ask.max).unwrap_or(room_peers).min(room_peers);
        let fresh = self.groups.is_empty();
        let group = self.groups.entry(number).or_insert_with(|| {
            let max = self.key.next.or(ask.max).map(|_| capacity);
            Box::new(Group::new(ask.topology.unwrap_or_default(), max, capacity))
        });
        if !self.refilling.contains(&number) {
            self.filling = Some(number);
        }
        self.next_group = self.next_group.max(number + 1);
        let grouped = self.key.next.is_some();
        if !(grouped || fresh) {
            let password = ask.credentials.password.as_ref().map(Password::expose);
            self.door.admit(newcomer.from, newcomer.proven(), password, self.registry.secrets(), Instant::now())?;
        }
        if fresh {
            self.face.show(group, &self.door, 1, self.registry.lobbies())?;
        }
        let (peer, relays) = (newcomer.peer, newcomer.relays);
        let bell = (newcomer.coplay && ask.credentials.resumable).then(|| Arc::new(Notify::new()));
        let seat = SeatName { room: self.key.clone(), group: number, peer };
        let greeting = Greeting {
            room: &self.key.name,
            lobby: (!grouped).then(|| self.face.lobby(group, &self.door, group.len() + usize::from(!group.has(peer)))),
            resume: bell.as_ref().and_then(|_| self.registry.secrets().token(&seat)),
            relay: self.registry.limits().relay.filter(|_| relays).map(|relay| relay.offer()),
            ..Greeting::default()
        };
        self.arrivals = self.arrivals.wrapping_add(1);
        let arrival = self.arrivals;
        if let Identity::Proven { led } = &mut newcomer.identity
            && self.is_new
        {
            *led = None;
        }
        group.admit(newcomer, arrival, greeting)?;
        self.door.expect_no_more(peer);
        group.came(Instant::now());
        if !fresh && group.is_led_by(peer) && !self.door.has_password() {
            // It leads again. Whoever made the room anew before it came knew no password of it.
            let password = ask.credentials.password.as_ref().filter(|_| !grouped);
            if let Some(hash) = password.and_then(|password| self.registry.secrets().hash(password.expose())) {
                self.door.set_password(hash);
                let lobby = self.face.lobby(group, &self.door, group.len());
                group.tell_all(&ServerMessage::Room(Box::new(lobby)));
            }
        }
        if grouped && group.is_full() && self.filling == Some(number) {
            self.filling = None;
            self.metrics.matches.add(1);
        }
        if let Some(bell) = &bell {
            self.returns.present(number, peer, bell.clone());
        }
        Ok(Entry::new(self.seat(number, peer, arrival, relays, bell), kept))
    }

    fn seat(&self, group: u64, peer: PeerId, arrival: u32, relays: bool, bell: Option<Arc<Notify>>) -> Seat {
        let (commands, departures) = (self.commands.clone(), self.departures.clone());
        let turn = drain::turn(&self.key.name, group);
        Seat { peer, arrival, group, room: self.name.clone(), relays, turn, commands, departures, bell, kept: None }
    }

    fn depart(&mut self, Departure { group, peer, arrival, kept }: Departure) {
        if !self.groups.get(&group).is_some_and(|group| group.has_since(peer, arrival)) {
            // It was let go before.
            return;
        }
        let until = Instant::now() + self.registry.timing().resume;
        match kept {
            Some(kept) => {
                if let Some((resume, kept)) = self.returns.away(group, peer, kept, until) {
                    self.give_back(*resume, *kept);
                } else {
                    tracing::debug!(%peer, "a peer lost its connection, and may come back");
                }
            }
            None => self.leave(group, peer),
        }
    }

    /// Somebody is back, by a token or a secret, and is to have its seat as soon as that is free.
    fn claim(&mut self, resume: Box<Resume>) {
        if let Some((resume, kept)) = self.returns.claim(resume) {
            self.give_back(*resume, *kept);
        }
    }

    /// Gives a seat to its peer, which is back.
    fn give_back(&mut self, resume: Resume, kept: Kept) {
        let Resume { group: number, peer, ice_servers, reply } = resume;
        let Some(group) = self.groups.get(&number).filter(|group| group.has(peer)) else {
            let _ = reply.send(Err(SignalError::SeatGone));
            return;
        };
        let (relays, arrival) = (group.relays(peer), group.arrival(peer));
        let seat = SeatName { room: self.key.clone(), group: number, peer };
        let greeting = Greeting {
            room: &self.key.name,
            lobby: self.key.next.is_none().then(|| self.face.lobby(group, &self.door, group.len())),
            resume: self.registry.secrets().token(&seat),
            resumed: true,
            ice_servers,
            relay: self.registry.limits().relay.filter(|_| relays).map(|relay| relay.offer()),
            ..Greeting::default()
        };
        let greeting = wire::say(&group.welcome(peer, greeting));
        tracing::debug!(%peer, "a peer is back");
        let bell = Arc::new(Notify::new());
        self.returns.present(number, peer, bell.clone());
        // One that did not wait for the answer is away again: that is what dropping it says.
        let _ = reply.send(Ok(Entry::again(self.seat(number, peer, arrival, relays, Some(bell)), kept, greeting)));
    }

    /// Lets those go who did not come back in time.
    fn give_up(&mut self) {
        for (group, peer) in self.returns.overdue(Instant::now()) {
            self.leave(group, peer);
        }
    }

    fn command(&mut self, number: u64, from: PeerId, command: RoomCommand) {
        let powers = Powers {
            lobbies: self.registry.lobbies(),
            room_peers: self.registry.limits().room_peers,
            relays: self.registry.relays(),
            banned_for: self.registry.timing().kicked,
            returning_for: self.registry.timing().reclaim.max(self.registry.timing().resume),
            now: Instant::now(),
        };
        let Some(group) = self.groups.get_mut(&number) else { return };
        let done = match self.key.next {
            Some(_) => Err(malformed("a room of groups has no settings")),
            None => self.face.obey(group, &mut self.door, from, command, &powers),
        };
        match done {
            Ok(()) => {
                let lobby = self.face.lobby(group, &self.door, group.len());
                let Lobby { public, locked, max, metadata, .. } = &lobby;
                let metadata = metadata.iter().count();
                tracing::debug!(leader = %from, public, locked, max, metadata, "the leader changed the room");
                group.tell_all(&ServerMessage::Room(Box::new(lobby)));
            }
            Err(error) => {
                tracing::debug!(peer = %from, error = error.to_string(), "a command is not done");
                group.tell(from, &ServerMessage::Denied(error));
            }
        }
        self.tidy(number);
    }

    fn signal(&mut self, number: u64, from: PeerId, to: PeerId, kind: Kind, frame: Utf8Bytes) {
        let Some(group) = self.groups.get_mut(&number) else { return };
        let members = group.len();
        match group.forward(from, to, kind, frame) {
            Ok(()) => {
                if matches!(kind, Kind::Offer | Kind::Opaque) {
                    group.begin(Instant::now());
                }
                self.metrics.signal(kind);
            }
            Err(why) => {
                self.metrics.dropped(why);
                tracing::debug!(%from, %to, ?kind, ?why, "a signal is not passed on");
            }
        }
        if self.groups.get(&number).is_some_and(|group| group.len() < members) {
            self.tidy(number);
        }
    }

    fn relay(&mut self, number: u64, from: PeerId, to: PeerId, kind: FrameKind, frame: Bytes) {
        let Some(group) = self.groups.get_mut(&number) else { return };
        match group.relay(from, to, kind, frame) {
            Ok((dropped, first)) => {
                if first {
                    group.begin(Instant::now());
                }
                self.metrics.relay_pairs.add(first.into());
                if dropped > 0 {
                    self.metrics.unrelayed(Unrelayed::Queue, dropped);
                }
            }
            Err(why) => self.metrics.unrelayed(why, 1),
        }
    }

    fn leave(&mut self, number: u64, peer: PeerId) {
        if let Some(group) = self.groups.get_mut(&number).filter(|group| group.has(peer)) {
            group.leave(peer);
            tracing::debug!(%peer, members = group.len(), "a peer left");
        }
        self.tidy(number);
    }

    /// Forgets those who are gone and a group that nobody is in, says which seats are to be filled again, and brings the
    /// public list up to date.
    fn tidy(&mut self, number: u64) {
        if self.groups.get(&number).is_some_and(|group| group.is_empty()) {
            self.groups.remove(&number);
            self.filling = self.filling.filter(|filling| *filling != number);
        }
        if self.door.locked
            && let Some(group) = self.groups.get_mut(&number)
        {
            group.forget_lost();
        }
        let vacant = self.vacant(number);
        if let Some(backfill) = &mut self.backfill {
            backfill.tell(vacant, &self.commands);
        }
        if self.key.next.is_some() && vacant > 0 && self.filling != Some(number) {
            self.refilling.insert(number);
        } else {
            self.refilling.remove(&number);
        }
        let group = self.groups.get(&number);
        self.returns.retain(number, |peer| group.is_some_and(|group| group.has(peer)));
        if let Some(group) = self.groups.get(&number)
            && let Err(error) = self.face.show(group, &self.door, group.len(), self.registry.lobbies())
        {
            tracing::debug!(%error, "a room is not in the public list");
        }
    }
}

/// Comes then, if at all.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
