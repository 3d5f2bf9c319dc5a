//! Which rooms are there, and is there a place left for one more peer?

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use coplay_proto::{PeerId, signal::SignalError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use uuid::Uuid;

use crate::{
    Limits, Occupancy,
    addresses::Visitor,
    ask::Ask,
    ice::IceServers,
    metrics::Metrics,
    peer::outbox::{Inbox, outbox},
    room::{self, Command, Join, Seat, group::Newcomer},
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

/// All rooms of a server.
#[derive(Debug)]
pub(crate) struct Registry {
    limits: Limits,
    ice: IceServers,
    pub(crate) metrics: Arc<Metrics>,
    rooms: Mutex<HashMap<RoomKey, mpsc::Sender<Command>>>,
    peers: Arc<Semaphore>,
}

impl Registry {
    pub(crate) fn new(limits: Limits, ice: IceServers, metrics: Arc<Metrics>) -> Arc<Self> {
        let peers = Arc::new(Semaphore::new(limits.peers as usize));
        Arc::new(Self { limits, ice, metrics, rooms: Mutex::default(), peers })
    }

    /// Finds a peer its place. The permit counts the peer for as long as its WebSocket is there.
    pub(crate) async fn join(
        self: &Arc<Self>,
        ask: Ask,
        caller: Caller<'_>,
    ) -> Result<(OwnedSemaphorePermit, Seat, Inbox), SignalError> {
        let Ok(permit) = self.peers.clone().try_acquire_owned() else { return Err(SignalError::ServerFull) };
        let ask = Arc::new(ask);
        let peer = PeerId::from(Uuid::new_v4());
        for _ in 0..KNOCKS {
            let (outbox, inbox) = outbox(self.limits.queue_frames, self.limits.queue_bytes);
            let ice_servers = match caller.coplay {
                true => self.ice.for_peer(peer, caller.host, SystemTime::now()),
                false => Vec::new(),
            };
            let newcomer = Newcomer { peer, coplay: caller.coplay, ice_servers, topology: ask.topology, outbox };
            let (reply, answer) = oneshot::channel();
            let join = Join { ask: ask.clone(), newcomer, inbox, reply };
            if let Some((room, join)) = self.find_or_open(join, caller.visitor)? {
                // A room that closed meanwhile drops the command, and with it the reply.
                let _ = room.send(Command::Join(Box::new(join))).await;
            }
            if let Ok(answer) = answer.await {
                return answer.map(|(seat, inbox)| (permit, seat, inbox));
            }
        }
        Err(SignalError::ServerFull)
    }

    /// The room that is asked for with `join` still to be sent to it; or `None` when it was opened for it.
    fn find_or_open(
        self: &Arc<Self>,
        join: Join,
        visitor: &Visitor,
    ) -> Result<Option<(mpsc::Sender<Command>, Join)>, SignalError> {
        let mut rooms = self.lock();
        let count = rooms.len();
        let name = match &join.ask.room {
            Some(name) => name.clone(),
            None => std::iter::repeat_with(|| code(Uuid::new_v4()))
                .find(|name| !rooms.contains_key(&RoomKey { name: name.clone(), next: None }))
                .unwrap_or_default(),
        };
        let key = RoomKey { name, next: join.ask.next };
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
            Entry::Occupied(room) => Ok(Some((room.get().clone(), join))),
            Entry::Vacant(_) if count >= self.limits.rooms as usize => Err(SignalError::ServerFull),
            Entry::Vacant(_) if !visitor.may_open_room() => Err(SignalError::TooMuch),
            Entry::Vacant(place) => {
                let key = place.key().clone();
                place.insert(room::open(key, self.clone(), self.limits.room_peers, join));
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
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_panic_under_the_lock_is_no_outage() {
        let ice = IceServers::new(None, Vec::new(), None).unwrap();
        let registry = Registry::new(Limits::default(), ice, Arc::default());
        let poisoner = registry.clone();
        let panicked = std::thread::spawn(move || {
            let _held = poisoner.lock();
            panic!("on purpose");
        });
        assert!(panicked.join().is_err() && registry.rooms.is_poisoned());
        assert_eq!(registry.occupancy(), Occupancy::default());
    }

    #[test]
    fn codes_are_of_the_alphabet_and_differ() {
        let codes: HashSet<_> = (0..1000).map(|_| code(Uuid::new_v4())).collect();
        assert!(codes.len() > 990, "{} of 1000", codes.len());
        assert!(codes.iter().all(|code| code.len() == CODE_LENGTH && code.bytes().all(|c| CODE_ALPHABET.contains(&c))));
    }
}
