//! How do peers of one process play together, without a network? For tests, demonstrations, and several players at one
//! machine.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use coplay_proto::{
    Lane, PeerId, Term,
    conditioner::{Conditioner, Conditions},
    link::CloseReason,
    rng::Rng,
    signal::Leader,
};

use crate::{Entered, Path, PathKind, SendError, SignalingState, Socket, SocketEvent, Waker};

/// The most bytes on one lane in one direction that are on their way: [`SendError::Full`] beyond.
const ON_THE_WAY: usize = 1024 * 1024;
/// What a datagram counts as besides its bytes, so that those without any have a bound too.
pub(crate) const OVERHEAD: usize = 64;

/// Where sockets in memory meet: one room. Its clones are the same hub.
///
/// What one socket sends to another passes a [`Conditioner`] in each direction, with a seed of its own: the same calls
/// at the same times have the same outcome. Time is what the callers of [`Socket::poll`] say it is.
///
/// Ids are counted up from 1 in the order of arrival, in the eight hex digits that are shown.
#[derive(Clone)]
pub struct MemoryHub(Arc<Mutex<Hub>>);

impl MemoryHub {
    /// A hub where everything arrives at once.
    pub fn new() -> Self {
        Self::with(Conditions::PERFECT, 0)
    }

    /// A hub with such paths between its sockets. Same seed, same fate.
    ///
    /// The reliable lane takes the latency, the jitter and the bandwidth, and loses nothing.
    #[allow(clippy::arc_with_non_send_sync, reason = "in the browser wakers stay on their thread")]
    pub fn with(conditions: Conditions, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Hub { conditions, rng: Rng::new(seed), ..Hub::default() })))
    }

    /// A socket that enters, and is connected with all the others at once.
    pub fn socket(&self) -> Box<dyn Socket> {
        let (me, wakers) = self.hub().enter();
        wakers.call();
        Box::new(MemorySocket { hub: self.clone(), me, now: Duration::ZERO })
    }

    /// Changes all paths, for what is sent from now on.
    pub fn set(&self, conditions: Conditions) {
        let mut hub = self.hub();
        hub.conditions = conditions;
        for route in hub.routes.values_mut() {
            route.set(conditions);
        }
    }

    /// Changes the path from one socket to another, for what is sent from now on.
    pub fn set_between(&self, from: PeerId, to: PeerId, conditions: Conditions) {
        if let Some(route) = self.hub().routes.get_mut(&(from, to)) {
            route.set(conditions);
        }
    }

    /// The sockets that are there, in the order of arrival.
    pub fn members(&self) -> Vec<PeerId> {
        self.hub().members.keys().copied().collect()
    }

    /// A peer vanishes, as if its machine lost power: nothing comes from it or gets to it any more, on any lane.
    pub fn vanish(&self, peer: PeerId) {
        for ((from, to), route) in &mut self.hub().routes {
            if *from == peer || *to == peer {
                route.vanish();
            }
        }
    }

    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryHub {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.members()).finish()
    }
}

struct Hub {
    members: BTreeMap<PeerId, Member>,
    /// From whom to whom; there as long as the receiver holds it to be open.
    routes: BTreeMap<(PeerId, PeerId), Route>,
    conditions: Conditions,
    rng: Rng,
    arrived: u32,
    leader: Option<Leader>,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            members: BTreeMap::new(),
            routes: BTreeMap::new(),
            conditions: Conditions::PERFECT,
            rng: Rng::new(0),
            arrived: 0,
            leader: None,
        }
    }
}

#[derive(Default)]
struct Member {
    /// As many as peers come and go.
    news: VecDeque<SocketEvent>,
    waker: Option<Waker>,
}

/// One direction between two sockets.
struct Route {
    unreliable: Conditioner<Bytes>,
    reliable: Conditioner<Item>,
    reliable_bytes: usize,
    bytes: u64,
    vanished: bool,
}

#[derive(Clone)]
enum Item {
    Datagram(Bytes),
    Close,
}

impl Route {
    fn new(conditions: Conditions, rng: &mut Rng) -> Self {
        Self {
            unreliable: Conditioner::new(conditions, rng.next_u64()),
            reliable: Conditioner::new(reliable(conditions), rng.next_u64()),
            reliable_bytes: 0,
            bytes: 0,
            vanished: false,
        }
    }

    fn set(&mut self, conditions: Conditions) {
        self.unreliable.set(conditions);
        self.reliable.set(reliable(conditions));
    }

    fn vanish(&mut self) {
        *self = Self { vanished: true, ..Self::new(Conditions::PERFECT, &mut Rng::new(0)) };
    }

    /// Tells the other end that this one is gone, after all that was sent.
    fn close(&mut self, now: Duration) {
        if !self.vanished {
            self.reliable.push(now, Item::Close, 0);
        }
    }

    fn deadline(&self) -> Option<Duration> {
        [self.unreliable.deadline(), self.reliable.deadline()].into_iter().flatten().min()
    }
}

/// What the conditions mean for a lane that loses nothing and keeps the order.
pub(crate) fn reliable(conditions: Conditions) -> Conditions {
    Conditions { loss: 0.0, bursts: None, duplication: 0.0, reordering: 0.0, queue: u32::MAX as usize, ..conditions }
}

/// Whom to wake once the hub is unlocked: a waker may come back here at once.
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

impl Hub {
    fn enter(&mut self) -> (PeerId, Wakers) {
        self.arrived += 1;
        let me = PeerId::from_u128(u128::from(self.arrived) << 96 | 1);
        let leader = *self.leader.get_or_insert(Leader { peer: me, term: Term(1) });
        let mut wakers = Wakers::default();
        let others: Vec<PeerId> = self.members.keys().copied().collect();
        let members = others.iter().copied().chain([me]).collect();
        let mut newcomer = Member::default();
        newcomer.news.push_back(SocketEvent::Signaling(SignalingState::Connected));
        let entered = Entered { me, room: "memory".into(), leader: Some(leader), members };
        newcomer.news.push_back(SocketEvent::Entered(entered));
        for other in others {
            newcomer.news.push_back(SocketEvent::Opened(other));
            self.routes.insert((me, other), Route::new(self.conditions, &mut self.rng));
            self.routes.insert((other, me), Route::new(self.conditions, &mut self.rng));
            self.tell(other, SocketEvent::Opened(me), &mut wakers);
        }
        self.members.insert(me, newcomer);
        (me, wakers)
    }

    fn leave(&mut self, now: Duration, me: PeerId) -> Wakers {
        let mut wakers = Wakers::default();
        self.members.remove(&me);
        self.routes.retain(|(_, to), _| *to != me);
        for ((from, to), route) in &mut self.routes {
            if *from == me {
                route.close(now);
                wakers.0.extend(self.members.get(to).and_then(|member| member.waker.clone()));
            }
        }
        let next = self.members.keys().next().copied();
        self.leader = self.leader.and_then(|leader| {
            let term = Term(leader.term.0 + u32::from(leader.peer == me));
            (leader.peer != me).then_some(leader).or_else(|| next.map(|peer| Leader { peer, term }))
        });
        if let Some(leader) = self.leader.filter(|leader| Some(leader.peer) == next) {
            let members: Vec<PeerId> = self.members.keys().copied().collect();
            for member in members {
                self.tell(member, SocketEvent::Leader(leader), &mut wakers);
            }
        }
        wakers
    }

    fn tell(&mut self, member: PeerId, event: SocketEvent, wakers: &mut Wakers) {
        if let Some(member) = self.members.get_mut(&member) {
            member.news.push_back(event);
            wakers.0.extend(member.waker.clone());
        }
    }

    fn disconnect(&mut self, now: Duration, me: PeerId, peer: PeerId) -> Wakers {
        let mut wakers = Wakers::default();
        if self.routes.remove(&(peer, me)).is_some() {
            self.tell(me, SocketEvent::Closed(peer, CloseReason::Local), &mut wakers);
            if let Some(route) = self.routes.get_mut(&(me, peer)) {
                route.close(now);
                wakers.0.extend(self.members.get(&peer).and_then(|member| member.waker.clone()));
            }
        }
        wakers
    }

    fn poll(&mut self, now: Duration, me: PeerId) -> Option<SocketEvent> {
        if let Some(event) = self.members.get_mut(&me)?.news.pop_front() {
            return Some(event);
        }
        let due = |(&(from, to), route): (&(PeerId, PeerId), &Route)| {
            route.deadline().filter(|&deadline| to == me && deadline <= now).map(|deadline| (deadline, from))
        };
        let (_, from) = self.routes.iter().filter_map(due).min()?;
        let route = self.routes.get_mut(&(from, me))?;
        // What is due first comes first; of both lanes at once, the reliable one.
        let unreliable = route.unreliable.deadline();
        if route.reliable.deadline().is_none_or(|deadline| unreliable.is_some_and(|other| other < deadline)) {
            return route.unreliable.pop(now).map(|bytes| SocketEvent::Received(from, Lane::Unreliable, bytes));
        }
        match route.reliable.pop(now)? {
            Item::Datagram(bytes) => {
                route.reliable_bytes -= bytes.len() + OVERHEAD;
                Some(SocketEvent::Received(from, Lane::Reliable, bytes))
            }
            Item::Close => {
                self.routes.remove(&(from, me));
                self.routes.remove(&(me, from));
                Some(SocketEvent::Closed(from, CloseReason::Goodbye))
            }
        }
    }

    fn deadline(&self, me: PeerId) -> Option<Duration> {
        let news = self.members.get(&me).filter(|member| !member.news.is_empty()).map(|_| Duration::ZERO);
        self.routes.iter().filter(|((_, to), _)| *to == me).filter_map(|(_, route)| route.deadline()).chain(news).min()
    }
}

/// One peer's end.
struct MemorySocket {
    hub: MemoryHub,
    me: PeerId,
    /// The time of the last poll, which is that of what is sent after it.
    now: Duration,
}

impl Socket for MemorySocket {
    fn poll(&mut self, now: Duration) -> Option<SocketEvent> {
        self.now = self.now.max(now);
        self.hub.hub().poll(self.now, self.me)
    }

    fn send(&mut self, peer: PeerId, lane: Lane, bytes: Bytes) -> Result<(), SendError> {
        SendError::check(lane, bytes.len())?;
        let mut hub = self.hub.hub();
        // Open as long as this side may hear from the peer, too.
        let open = hub.routes.contains_key(&(peer, self.me));
        let route = hub.routes.get_mut(&(self.me, peer)).filter(|_| open).ok_or(SendError::UnknownPeer)?;
        let length = bytes.len();
        match lane {
            _ if route.vanished => {}
            Lane::Unreliable => route.unreliable.push(self.now, bytes, length),
            Lane::Reliable if route.reliable_bytes + length + OVERHEAD > ON_THE_WAY => return Err(SendError::Full),
            Lane::Reliable => {
                route.reliable_bytes += length + OVERHEAD;
                route.reliable.push(self.now, Item::Datagram(bytes), length);
            }
        }
        route.bytes += length as u64;
        let waker = hub.members.get(&peer).and_then(|member| member.waker.clone());
        drop(hub);
        if let Some(waker) = waker {
            waker();
        }
        Ok(())
    }

    fn disconnect(&mut self, peer: PeerId) {
        let wakers = self.hub.hub().disconnect(self.now, self.me, peer);
        wakers.call();
    }

    fn path(&self, peer: PeerId) -> Option<Path> {
        let hub = self.hub.hub();
        let (there, back) = (hub.routes.get(&(self.me, peer))?, hub.routes.get(&(peer, self.me))?);
        Some(Path {
            kind: PathKind::Memory,
            local: "memory".into(),
            remote: "memory".into(),
            rtt: Some(there.reliable.conditions().latency + back.reliable.conditions().latency),
            bytes_sent: there.bytes,
            bytes_received: back.bytes,
        })
    }

    fn deadline(&self) -> Option<Duration> {
        self.hub.hub().deadline(self.me)
    }

    fn set_waker(&mut self, waker: Waker) {
        if let Some(member) = self.hub.hub().members.get_mut(&self.me) {
            member.waker = Some(waker.clone());
        }
        waker();
    }
}

impl Drop for MemorySocket {
    fn drop(&mut self) {
        let wakers = self.hub.hub().leave(self.now, self.me);
        wakers.call();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(socket: &mut Box<dyn Socket>, now: Duration) -> Vec<SocketEvent> {
        std::iter::from_fn(|| socket.poll(now)).collect()
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn datagrams_arrive_when_the_path_says_so() {
        let hub = MemoryHub::with(Conditions { latency: ms(30), ..Conditions::PERFECT }, 1);
        let (mut a, mut b) = (hub.socket(), hub.socket());
        let [one, two] = hub.members()[..] else { panic!("two members") };
        events(&mut a, ms(5));
        events(&mut b, ms(5));
        a.send(two, Lane::Unreliable, "u".into()).unwrap();
        a.send(two, Lane::Reliable, "r".into()).unwrap();
        assert_eq!(events(&mut b, ms(34)), []);
        assert_eq!(b.deadline(), Some(ms(35)));
        let expected = [
            SocketEvent::Received(one, Lane::Reliable, "r".into()),
            SocketEvent::Received(one, Lane::Unreliable, "u".into()),
        ];
        assert_eq!(events(&mut b, ms(35)), expected);
        assert_eq!(b.deadline(), None);
    }

    #[test]
    fn only_the_unreliable_lane_loses() {
        let hub = MemoryHub::with(Conditions { loss: 0.5, reordering: 0.5, ..Conditions::CELLULAR }, 1);
        let (mut a, mut b) = (hub.socket(), hub.socket());
        let two = hub.members()[1];
        events(&mut a, ms(0));
        events(&mut b, ms(0));
        for n in 0..200_u8 {
            a.send(two, Lane::Unreliable, vec![n].into()).unwrap();
            a.send(two, Lane::Reliable, vec![n].into()).unwrap();
        }
        let mut of = [Vec::new(), Vec::new()];
        for event in events(&mut b, ms(1_000)) {
            let SocketEvent::Received(_, lane, bytes) = event else { panic!("{event:?}") };
            of[usize::from(lane == Lane::Reliable)].push(bytes[0]);
        }
        assert_eq!(of[1], (0..200).collect::<Vec<u8>>());
        assert!((40..160).contains(&of[0].len()), "{}", of[0].len());
    }

    #[test]
    fn the_next_leads_when_the_leader_leaves() {
        let hub = MemoryHub::new();
        let (a, mut b) = (hub.socket(), hub.socket());
        let [one, two] = hub.members()[..] else { panic!("two members") };
        events(&mut b, ms(0));
        drop(a);
        let expected =
            [SocketEvent::Leader(Leader { peer: two, term: Term(2) }), SocketEvent::Closed(one, CloseReason::Goodbye)];
        assert_eq!(events(&mut b, ms(0)), expected);
        let mut c = hub.socket();
        let leader = events(&mut c, ms(0)).into_iter().find_map(|event| match event {
            SocketEvent::Entered(entered) => entered.leader,
            _ => None,
        });
        assert_eq!(leader, Some(Leader { peer: two, term: Term(2) }));
        drop(b);
        assert!(events(&mut c, ms(0)).contains(&SocketEvent::Leader(Leader { peer: hub.members()[0], term: Term(3) })));
    }

    #[test]
    fn who_vanishes_says_no_goodbye() {
        let hub = MemoryHub::new();
        let (mut a, mut b) = (hub.socket(), hub.socket());
        let [one, two] = hub.members()[..] else { panic!("two members") };
        events(&mut b, ms(0));
        hub.vanish(one);
        assert_eq!(a.send(two, Lane::Reliable, "into the void".into()), Ok(()));
        assert_eq!(b.send(one, Lane::Reliable, "into the void".into()), Ok(()));
        drop(a);
        assert!(!events(&mut b, ms(60_000)).iter().any(|event| matches!(event, SocketEvent::Closed(..))));
    }
}
