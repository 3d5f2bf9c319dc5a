//! Where do peers of one process meet, without a signaling server? For tests, and for demonstrations on one page.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use coplay_proto::{
    PeerId, Term, Topology,
    signal::{
        ClientMessage, IceServer, Leader, ServerMessage, Welcome,
        relay::{RelayFrame, RelayOffer},
    },
};

use crate::{Dial, Dialect, Down, Signaller, SignallerEvent, Waker};

/// The most messages that wait for one member; what comes on top is dropped.
const INBOX: usize = 4096;

/// A room in memory. Its clones are the same room.
///
/// Ids are counted up from 1 in the order of arrival, in the eight hex digits that are shown.
#[derive(Clone, Default)]
pub struct Rendezvous(Arc<Mutex<Room>>);

impl Rendezvous {
    /// An empty room.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty room whose members are told to use these STUN and TURN servers.
    pub fn with_ice_servers(ice_servers: Vec<IceServer>) -> Self {
        let rendezvous = Self::new();
        rendezvous.room().ice_servers = ice_servers;
        rendezvous
    }

    /// An empty room that relays between its members, so much of each.
    pub fn relaying(offer: RelayOffer) -> Self {
        let rendezvous = Self::new();
        rendezvous.room().relay = Some(offer);
        rendezvous
    }

    /// A way to the room; it is entered when that is dialled.
    pub fn signaller(&self) -> Box<dyn Signaller> {
        Box::new(Line { room: self.clone(), id: None, waker: None })
    }

    /// Cuts a member off, as if its connection to signaling were lost. The others are told that it left.
    pub fn cut(&self, peer: PeerId) {
        let wakers = self.room().leave(peer, true);
        wakers.call();
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Rendezvous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.room().members.iter().map(|member| member.id)).finish()
    }
}

#[derive(Default)]
struct Room {
    members: Vec<Member>,
    /// Cut off, with what they were told last.
    cut: Vec<Member>,
    arrived: u32,
    term: u32,
    ice_servers: Vec<IceServer>,
    relay: Option<RelayOffer>,
}

struct Member {
    id: PeerId,
    inbox: VecDeque<SignallerEvent>,
    waker: Option<Waker>,
}

/// Whom to wake once the room is unlocked: a waker may come back here at once.
#[derive(Default)]
#[must_use]
struct Wakers(Vec<Waker>);

impl Wakers {
    fn call(self) {
        for waker in self.0 {
            waker();
        }
    }
}

impl Member {
    fn tell(&mut self, event: SignallerEvent, wakers: &mut Wakers) {
        if self.inbox.len() < INBOX {
            self.inbox.push_back(event);
            wakers.0.extend(self.waker.clone());
        }
    }
}

impl Room {
    fn enter(&mut self, dialect: Dialect, relays: bool, waker: Option<Waker>) -> (PeerId, Wakers) {
        let mut wakers = Wakers::default();
        self.arrived += 1;
        let id = PeerId::from_u128(u128::from(self.arrived) << 96 | 1);
        if self.members.is_empty() {
            self.term += 1;
        }
        for member in &mut self.members {
            member.tell(SignallerEvent::Message(ServerMessage::NewPeer(id)), &mut wakers);
        }
        let members: Vec<PeerId> = self.members.iter().map(|member| member.id).chain([id]).collect();
        let welcome = match dialect {
            Dialect::Matchbox => ServerMessage::IdAssigned(id),
            Dialect::Coplay => ServerMessage::Welcome(Box::new(Welcome {
                me: id,
                room: "rendezvous".into(),
                topology: Topology::Mesh,
                leader: Leader { peer: members.first().copied().unwrap_or(id), term: Term(self.term) },
                members,
                max: None,
                ice_servers: self.ice_servers.clone(),
                resume: None,
                secret: None,
                resumed: false,
                lobby: None,
                relay: self.relay.filter(|_| relays),
            })),
        };
        let mut member = Member { id, inbox: VecDeque::new(), waker };
        member.tell(SignallerEvent::Opened, &mut wakers);
        member.tell(SignallerEvent::Message(welcome), &mut wakers);
        self.members.push(member);
        (id, wakers)
    }

    fn leave(&mut self, peer: PeerId, cut: bool) -> Wakers {
        let mut wakers = Wakers::default();
        let Some(at) = self.members.iter().position(|member| member.id == peer) else { return wakers };
        let mut gone = self.members.remove(at);
        if cut {
            gone.tell(SignallerEvent::Down(Down::Lost("cut off".into())), &mut wakers);
            self.cut.push(gone);
        }
        let leader = self.members.first().map(|first| first.id).filter(|_| at == 0);
        self.term += u32::from(leader.is_some());
        for member in &mut self.members {
            member.tell(SignallerEvent::Message(ServerMessage::PeerLeft(peer)), &mut wakers);
            if let Some(peer) = leader {
                let leader = Leader { peer, term: Term(self.term) };
                member.tell(SignallerEvent::Message(ServerMessage::Leader(leader)), &mut wakers);
            }
        }
        wakers
    }

    fn member(&mut self, id: PeerId) -> Option<&mut Member> {
        self.members.iter_mut().chain(&mut self.cut).find(|member| member.id == id)
    }
}

/// One member's way to the room.
struct Line {
    room: Rendezvous,
    id: Option<PeerId>,
    waker: Option<Waker>,
}

impl Line {
    fn leave(&mut self) {
        let Some(id) = self.id.take() else { return };
        let mut room = self.room.room();
        let wakers = room.leave(id, false);
        room.cut.retain(|member| member.id != id);
        drop(room);
        wakers.call();
    }
}

impl Signaller for Line {
    fn dial(&mut self, dial: Dial) {
        self.leave();
        let relays = dial.credentials.relays;
        let (id, wakers) = self.room.room().enter(dial.dialect, relays, self.waker.clone());
        self.id = Some(id);
        wakers.call();
    }

    fn hang_up(&mut self) {
        self.leave();
    }

    fn send(&mut self, message: ClientMessage) {
        let (Some(sender), ClientMessage::Signal { receiver, data }) = (self.id, message) else { return };
        let mut wakers = Wakers::default();
        let mut room = self.room.room();
        if room.members.iter().any(|member| member.id == sender)
            && let Some(member) = room.members.iter_mut().find(|member| member.id == receiver)
        {
            member.tell(SignallerEvent::Message(ServerMessage::Signal { sender, data }), &mut wakers);
        }
        drop(room);
        wakers.call();
    }

    fn relay(&mut self, frame: Bytes) {
        let (Some(sender), Some(frame)) = (self.id, RelayFrame::read(frame)) else { return };
        let mut wakers = Wakers::default();
        let mut room = self.room.room();
        if room.relay.is_some()
            && room.members.iter().any(|member| member.id == sender)
            && let Some(member) = room.members.iter_mut().find(|member| member.id == frame.peer)
        {
            member.tell(SignallerEvent::Relayed(RelayFrame { peer: sender, ..frame }.write()), &mut wakers);
        }
        drop(room);
        wakers.call();
    }

    fn poll(&mut self) -> Option<SignallerEvent> {
        self.room.room().member(self.id?)?.inbox.pop_front()
    }

    fn set_waker(&mut self, waker: Waker) {
        if let Some(id) = self.id
            && let Some(member) = self.room.room().member(id)
        {
            member.waker = Some(waker.clone());
        }
        self.waker = Some(waker.clone());
        waker();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.leave();
    }
}
