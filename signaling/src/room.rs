//! How do peers come into a room, speak in it and leave it? One task for each room, which alone knows its members, so
//! that everything happens in some order and nothing needs a lock.

use std::{collections::HashMap, sync::Arc};

use axum::extract::ws::Utf8Bytes;
use coplay_proto::{PeerId, signal::SignalError};
use tokio::sync::{mpsc, oneshot};

use crate::{
    ask::Ask,
    drain,
    firewall::Kind,
    metrics::Metrics,
    peer::outbox::Inbox,
    registry::{Registry, RoomKey},
    room::group::{Group, Newcomer},
};

pub(crate) mod group;

/// How much may wait to be done in a room; who has more to say waits too.
const QUEUE: usize = 128;

/// Something to be done in a room.
#[derive(Debug)]
pub(crate) enum Command {
    Join(Box<Join>),
    Signal { group: u64, from: PeerId, to: PeerId, kind: Kind, frame: Utf8Bytes },
}

/// A peer at the door. The room drops `reply` if it is closing; the peer is then to ask again.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) ask: Arc<Ask>,
    pub(crate) newcomer: Newcomer,
    pub(crate) inbox: Inbox,
    pub(crate) reply: oneshot::Sender<Result<(Seat, Inbox), SignalError>>,
}

#[derive(Debug)]
struct Departure {
    group: u64,
    peer: PeerId,
}

/// A peer's place in a room. It leaves by dropping this.
#[derive(Debug)]
pub(crate) struct Seat {
    peer: PeerId,
    group: u64,
    /// When those of its group leave a server that stops.
    turn: u16,
    commands: mpsc::Sender<Command>,
    // Unbounded, because a departure must never be lost; there is one for each seat, and seats are counted.
    departures: mpsc::UnboundedSender<Departure>,
}

impl Seat {
    pub(crate) fn peer(&self) -> PeerId {
        self.peer
    }

    pub(crate) fn turn(&self) -> u16 {
        self.turn
    }

    /// Has `frame` passed on to another member.
    pub(crate) async fn signal(&self, to: PeerId, kind: Kind, frame: Utf8Bytes) {
        // A room that is gone has let go of the peer, which it hears by its inbox.
        let _ = self.commands.send(Command::Signal { group: self.group, from: self.peer, to, kind, frame }).await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let _ = self.departures.send(Departure { group: self.group, peer: self.peer });
    }
}

/// The task of a room.
#[derive(Debug)]
pub(crate) struct Room {
    key: RoomKey,
    room_peers: u32,
    groups: HashMap<u64, Group>,
    /// The group that newcomers come into.
    filling: Option<u64>,
    next_group: u64,
    commands: mpsc::Sender<Command>,
    departures: mpsc::UnboundedSender<Departure>,
    metrics: Arc<Metrics>,
}

/// Starts a room with someone at its door, so that no room waits for peers that never come.
pub(crate) fn open(key: RoomKey, registry: Arc<Registry>, room_peers: u32, first: Join) -> mpsc::Sender<Command> {
    let (commands, inbox) = mpsc::channel(QUEUE);
    let (departures, left) = mpsc::unbounded_channel();
    let mut room = Room {
        key,
        room_peers,
        groups: HashMap::new(),
        filling: None,
        next_group: 0,
        commands: commands.clone(),
        departures,
        metrics: registry.metrics.clone(),
    };
    room.join(first);
    tokio::spawn(room.run(inbox, left, registry));
    commands
}

impl Room {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut left: mpsc::UnboundedReceiver<Departure>,
        registry: Arc<Registry>,
    ) {
        while !self.groups.is_empty() {
            tokio::select! {
                biased;
                Some(Departure { group, peer }) = left.recv() => self.leave(group, peer),
                Some(command) = commands.recv() => match command {
                    Command::Join(join) => self.join(*join),
                    Command::Signal { group, from, to, kind, frame } => self.signal(group, from, to, kind, frame),
                },
                else => break,
            }
        }
        registry.close(&self.key);
        // Who found the room before it closed is in `commands`, and asks again when that is dropped.
    }

    fn join(&mut self, join: Join) {
        let Join { ask, newcomer, inbox, reply } = join;
        let number = match self.filling {
            Some(number) => number,
            None => self.next_group,
        };
        let capacity = self.key.next.or(ask.max).unwrap_or(self.room_peers).min(self.room_peers);
        let group = self.groups.entry(number).or_insert_with(|| {
            let max = self.key.next.or(ask.max).map(|_| capacity);
            Group::new(ask.topology.unwrap_or_default(), max, capacity)
        });
        self.filling = Some(number);
        self.next_group = self.next_group.max(number + 1);
        let peer = newcomer.peer;
        let joined = group.admit(newcomer, &self.key.name).map(|()| {
            let (commands, departures) = (self.commands.clone(), self.departures.clone());
            (Seat { peer, group: number, turn: drain::turn(&self.key.name, number), commands, departures }, inbox)
        });
        if self.key.next.is_some() && group.is_full() {
            self.filling = None;
            self.metrics.matches.add(1);
        }
        self.tidy(number);
        // A peer that did not wait for the answer leaves by the seat that comes back.
        let _ = reply.send(joined);
    }

    fn signal(&mut self, number: u64, from: PeerId, to: PeerId, kind: Kind, frame: Utf8Bytes) {
        let Some(group) = self.groups.get_mut(&number) else { return };
        match group.forward(from, to, kind, frame) {
            Ok(()) => self.metrics.signal(kind),
            Err(why) => {
                self.metrics.dropped(why);
                tracing::debug!(%from, %to, ?kind, ?why, "a signal is not passed on");
            }
        }
        self.tidy(number);
    }

    fn leave(&mut self, number: u64, peer: PeerId) {
        if let Some(group) = self.groups.get_mut(&number) {
            group.leave(peer);
        }
        self.tidy(number);
    }

    /// Forgets a group that nobody is in.
    fn tidy(&mut self, number: u64) {
        if self.groups.get(&number).is_some_and(Group::is_empty) {
            self.groups.remove(&number);
            self.filling = self.filling.filter(|filling| *filling != number);
        }
    }
}
