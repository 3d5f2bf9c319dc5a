//! Which rooms are there, and is there a place left for one more peer?

use std::{
    collections::{HashMap, hash_map},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use coplay_proto::{PeerId, signal::SignalError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use uuid::Uuid;

use crate::{
    Limits, Occupancy, Timing,
    addresses::{Open, Visitor},
    ask::Ask,
    ice::IceServers,
    lobby::Lobbies,
    metrics::Metrics,
    peer::outbox::outbox,
    quick::{Backfill, Queue},
    room::{self, Command, Entry, Join, Kept, Resume, group::Newcomer},
    secrets::Secrets,
    shares::{PerAddress, Share},
    turn::Relays,
};

/// How often a peer knocks at a room that closes just then.
const KNOCKS: u32 = 16;

/// Letters and digits that nobody takes for another, and that make no words.
const CODE_ALPHABET: &[u8; 24] = b"CDFGHJKMNPQRTVWXY2346789";
/// How many of them make a code: 1.9e8 codes, of which [`Limits::rooms`] are in use at most.
const CODE_LENGTH: usize = 6;

/// What a room is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RoomKey {
    pub(crate) name: String,
    /// The size of its groups, if it has several: `/r` and `/r?next=2` are two rooms.
    pub(crate) next: Option<u32>,
}

/// Who asks to come in.
#[derive(Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) coplay: bool,
    /// The `Host` header of its request.
    pub(crate) host: Option<&'a str>,
    pub(crate) visitor: &'a Visitor,
}

/// A place on the server, and one of those that its address has. Given back by dropping it.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    _open: Open,
}

/// All rooms of a server.
#[derive(Debug)]
pub(crate) struct Registry {
    limits: Limits,
    timing: Timing,
    ice: IceServers,
    secrets: Secrets,
    lobbies: Arc<Lobbies>,
    queue: Queue,
    menus: Arc<PerAddress>,
    pub(crate) metrics: Arc<Metrics>,
    rooms: Mutex<HashMap<RoomKey, mpsc::Sender<Command>>>,
    peers: Arc<Semaphore>,
}

impl Registry {
    /// Must be called within a tokio runtime.
    pub(crate) fn new(limits: Limits, timing: Timing, ice: IceServers, metrics: Arc<Metrics>) -> Arc<Self> {
        let peers = Arc::new(Semaphore::new(limits.peers as usize));
        Arc::new_cyclic(|registry| Self {
            limits,
            timing,
            ice,
            secrets: Secrets::new(),
            lobbies: Lobbies::new(limits.rooms, limits.address_lobbies),
            queue: Queue::open(registry.clone(), timing.proof),
            menus: PerAddress::new(limits.address_menus),
            metrics,
            rooms: Mutex::default(),
            peers,
        })
    }

    /// Finds a peer its place.
    pub(crate) async fn join(self: &Arc<Self>, ask: Ask, caller: Caller<'_>) -> Result<Entry, SignalError> {
        let ask = Arc::new(ask);
        for _ in 0..KNOCKS {
            let place = self.place(caller.visitor)?;
            let (join, answer) = self.newcomer(ask.clone(), &caller, place);
            if let Some((room, join)) = self.find_or_open(join, caller.visitor)? {
                // A room that closed meanwhile drops the command, and with it the reply.
                let _ = room.send(Command::Join(Box::new(join))).await;
            }
            if let Ok(answer) = answer.await {
                if matches!(answer, Err(SignalError::WrongPassword)) {
                    caller.visitor.failed();
                }
                return answer;
            }
        }
        Err(SignalError::ServerFull)
    }

    /// Brings a peer back to its seat.
    pub(crate) async fn resume(&self, token: &str, caller: &Caller<'_>) -> Result<Entry, SignalError> {
        let seat = self.secrets.seat(token).ok_or(SignalError::SeatGone)?;
        let room = self.lock().get(&seat.room).cloned().ok_or(SignalError::SeatGone)?;
        let (reply, answer) = oneshot::channel();
        let ice_servers = self.ice.for_peer(seat.peer, caller.host, SystemTime::now());
        let resume = Resume { group: seat.group, peer: seat.peer, ice_servers, reply };
        let _ = room.send(Command::Resume(Box::new(resume))).await;
        // A room that closed meanwhile has no seats; nor has one that is given to another who has the same token.
        answer.await.unwrap_or(Err(SignalError::SeatGone))
    }

    /// Counts one more peer, for as long as its WebSocket is there.
    pub(crate) fn place(&self, visitor: &Visitor) -> Result<Place, SignalError> {
        let open = visitor.stay().ok_or(SignalError::TooMuch)?;
        let permit = self.peers.clone().try_acquire_owned().map_err(|_| SignalError::ServerFull)?;
        Ok(Place { _permit: permit, _open: open })
    }

    /// Counts one more that is in no room, for as long as its WebSocket is there.
    pub(crate) fn menu(&self, visitor: &Visitor) -> Result<(Share, Place), SignalError> {
        let share = self.menus.take(visitor.address()).ok_or(SignalError::TooMuch)?;
        Ok((share, self.place(visitor)?))
    }

    /// A peer with an id of its own, and the way back to it.
    pub(crate) fn newcomer(
        &self,
        ask: Arc<Ask>,
        caller: &Caller<'_>,
        place: Place,
    ) -> (Join, oneshot::Receiver<Result<Entry, SignalError>>) {
        let peer = PeerId::from(Uuid::new_v4());
        let relay = self.limits.relay.filter(|_| caller.coplay && ask.credentials.relays);
        let queued = relay.map_or(0, |relay| relay.queue_bytes);
        let (outbox, inbox) = outbox(self.limits.queue_frames, self.limits.queue_bytes, queued);
        let ice_servers = match caller.coplay {
            true => self.ice.for_peer(peer, caller.host, SystemTime::now()),
            false => Vec::new(),
        };
        let from = caller.visitor.address();
        let (coplay, relays, topology) = (caller.coplay, relay.is_some(), ask.topology);
        let newcomer = Newcomer { peer, coplay, relays, ice_servers, topology, from, outbox };
        let (reply, answer) = oneshot::channel();
        (Join { ask, newcomer, kept: Kept { inbox, place }, reply }, answer)
    }

    /// Opens a new room with all of these in it. It is on nobody's account of rooms made: each of them asked to join, which
    /// is counted, and has one of the places of its address; and who came first, which was chance, could by an account that
    /// is empty keep the others from a match that is complete.
    pub(crate) fn open_for(self: &Arc<Self>, joins: Vec<Join>, backfill: Backfill) {
        let mut rooms = self.lock();
        if rooms.len() >= self.limits.rooms as usize {
            for join in joins {
                let _ = join.reply.send(Err(SignalError::ServerFull));
            }
            return;
        }
        let key = fresh(&rooms);
        if let Some(room) = room::open(key.clone(), self.clone(), joins, Some(backfill)) {
            self.metrics.matches.add(1);
            rooms.insert(key, room);
        }
    }

    /// The room that is asked for with `join` still to be sent to it; or `None` when it was opened for it.
    fn find_or_open(
        self: &Arc<Self>,
        join: Join,
        visitor: &Visitor,
    ) -> Result<Option<(mpsc::Sender<Command>, Join)>, SignalError> {
        let mut rooms = self.lock();
        let count = rooms.len();
        let key = match &join.ask.room {
            Some(name) => RoomKey { name: name.clone(), next: join.ask.next },
            None => fresh(&rooms),
        };
        if join.ask.existing {
            // Codes are of capitals, and people type what they please.
            let capitals = RoomKey { name: key.name.to_ascii_uppercase(), next: None };
            return match rooms.get(&key).or_else(|| rooms.get(&capitals)) {
                Some(room) => Ok(Some((room.clone(), join))),
                None => {
                    visitor.failed();
                    Err(SignalError::NoSuchRoom { code: key.name })
                }
            };
        }
        match rooms.entry(key) {
            hash_map::Entry::Occupied(room) => Ok(Some((room.get().clone(), join))),
            hash_map::Entry::Vacant(_) if count >= self.limits.rooms as usize => Err(SignalError::ServerFull),
            hash_map::Entry::Vacant(_) if !visitor.may_open_room() => Err(SignalError::TooMuch),
            hash_map::Entry::Vacant(place) => {
                if let Some(room) = room::open(place.key().clone(), self.clone(), vec![join], None) {
                    place.insert(room);
                }
                Ok(None)
            }
        }
    }

    /// Forgets a room; its task says so when nobody is in it.
    pub(crate) fn close(&self, key: &RoomKey) {
        self.lock().remove(key);
    }

    /// The embedded TURN server, if there is one.
    pub(crate) fn relays(&self) -> Option<&Relays> {
        self.ice.relays()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn timing(&self) -> &Timing {
        &self.timing
    }

    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    pub(crate) fn lobbies(&self) -> &Arc<Lobbies> {
        &self.lobbies
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    pub(crate) fn can_relay(&self) -> bool {
        self.ice.can_relay()
    }

    pub(crate) fn occupancy(&self) -> Occupancy {
        let peers = self.limits.peers as usize - self.peers.available_permits();
        Occupancy { rooms: self.lock().len(), peers }
    }

    /// Comes when no peer is left.
    pub(crate) async fn vacated(&self) {
        let _ = self.peers.acquire_many(self.limits.peers).await;
    }

    /// Held for a look-up only, never while waiting. Nothing in here panics; if it did, the map would still be whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<RoomKey, mpsc::Sender<Command>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A code that no room has.
fn fresh(rooms: &HashMap<RoomKey, mpsc::Sender<Command>>) -> RoomKey {
    let free = |key: &RoomKey| !rooms.contains_key(key);
    let codes = std::iter::repeat_with(|| RoomKey { name: code(Uuid::new_v4()), next: None });
    let mut codes = codes.skip_while(|key| !free(key));
    codes.next().unwrap_or_else(|| RoomKey { name: String::new(), next: None })
}

/// A room code made of the random bits of `uuid`.
fn code(uuid: Uuid) -> String {
    // The low 62 bits of a version 4 UUID are random (RFC 9562, section 5.4).
    let mut bits = uuid.as_u64_pair().1 & (u64::MAX >> 2);
    let mut letter = || {
        let letter = CODE_ALPHABET.get((bits % CODE_ALPHABET.len() as u64) as usize);
        bits /= CODE_ALPHABET.len() as u64;
        letter.map(|letter| char::from(*letter))
    };
    (0..CODE_LENGTH).map_while(|_| letter()).collect()
}

#[cfg(test)]
pub(crate) mod tests;
