//! How a room of many peers behaves, in virtual time and without sockets: sessions, links and conditioned paths.
//!
//! ```
//! use std::time::Duration;
//! use coplay_proto::{Topology, conditioner::Conditions, schema::Schema, session::SessionConfig, sim_net::SimNet};
//!
//! let mut net = SimNet::new(1, Conditions::WIFI);
//! let config = SessionConfig::new(Topology::Mesh, Schema::default());
//! let first = net.enter(config.clone());
//! let second = net.enter(config);
//! net.run_for(Duration::from_secs(4));
//! assert_eq!(net.session(first).members().count(), 2);
//! assert_eq!(net.session(first).leader(), net.session(second).leader());
//! ```
//!
//! Same seed and same calls, same [`SimNet::trace`].

mod node;

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    Lane, PeerId, Term,
    conditioner::{Conditioner, Conditions},
    link::{CloseReason, LinkConfig, LinkEvent},
    rng::Rng,
    session::{Fact, Input, Session, SessionConfig},
    signal::Leader,
};

use node::{Node, Work};

/// The two ends of a link open this much apart at the most.
const OPENING: Duration = Duration::from_millis(50);
/// How often each peer flushes: 60 times a second.
const FLUSH: Duration = Duration::from_nanos(16_666_667);

/// Many peers and all that lies between them.
#[derive(Debug)]
pub struct SimNet {
    rng: Rng,
    conditions: Conditions,
    links: LinkConfig,
    now: Duration,
    nodes: BTreeMap<PeerId, Node>,
    paths: BTreeMap<(PeerId, PeerId), Path>,
    /// Ends of links that open later: the peer, and whom to.
    openings: BTreeMap<(Duration, PeerId, PeerId), ()>,
    entered: u128,
    /// Who leads the room, as signaling has it.
    leader: Option<Leader>,
    trace: Trace,
}

/// One direction between two peers.
#[derive(Debug)]
struct Path {
    conditioner: Conditioner<(Lane, Bytes)>,
    cut: bool,
}

impl SimNet {
    /// A net without peers, whose paths will be like this.
    pub fn new(seed: u64, conditions: Conditions) -> Self {
        Self {
            rng: Rng::new(seed),
            conditions,
            links: LinkConfig::default(),
            now: Duration::ZERO,
            nodes: BTreeMap::new(),
            paths: BTreeMap::new(),
            openings: BTreeMap::new(),
            entered: 0,
            leader: None,
            trace: Trace::default(),
        }
    }

    /// What the links that are made from now on are like.
    pub fn set_links(&mut self, config: LinkConfig) {
        self.links = config;
    }

    /// What the paths are like, for what is sent from now on.
    pub fn set_conditions(&mut self, conditions: Conditions) {
        self.conditions = conditions;
        for path in self.paths.values_mut() {
            path.conditioner.set(conditions);
        }
    }

    /// A new peer enters the room, and is linked with all others; nobody says who leads.
    pub fn enter(&mut self, config: SessionConfig) -> PeerId {
        let peer = self.enter_alone(config, None);
        self.connect_all(peer);
        peer
    }

    /// A new peer enters a room with signaling that says who leads, and is linked with all others. The first leads,
    /// and when it goes, whoever is there longest.
    pub fn enter_led(&mut self, config: SessionConfig) -> PeerId {
        let me = PeerId::from_u128((self.entered + 1) << 96);
        let leader = self.leader.unwrap_or(Leader { peer: me, term: Term(1) });
        self.leader = Some(leader);
        let peer = self.enter_alone(config, Some(leader));
        self.connect_all(peer);
        peer
    }

    /// A new peer enters the room, and is linked with nobody. `leader`: as signaling says.
    pub fn enter_alone(&mut self, config: SessionConfig, leader: Option<Leader>) -> PeerId {
        self.entered += 1;
        let me = PeerId::from_u128(self.entered << 96);
        let flush = self.now + Duration::from_micros(self.rng.below(FLUSH.as_micros() as u64));
        self.nodes.insert(me, Node::new(self.now, flush, config));
        self.tell(me, Input::Entered { me, leader });
        me
    }

    /// Opens a link between two peers, or opens it anew.
    pub fn connect(&mut self, one: PeerId, other: PeerId) {
        for (from, to) in [(one, other), (other, one)] {
            let conditioner = Conditioner::new(self.conditions, self.rng.next_u64());
            self.paths.insert((from, to), Path { conditioner, cut: false });
            if let Some(node) = self.nodes.get_mut(&from) {
                node.links.remove(&to);
            }
            let at = self.now + Duration::from_micros(self.rng.below(OPENING.as_micros() as u64));
            self.openings.insert((at, from, to), ());
        }
    }

    /// Nothing passes between the two any more, and nobody says so.
    pub fn cut(&mut self, one: PeerId, other: PeerId) {
        self.set_cut(one, other, true);
    }

    /// What was cut passes again. A link that was given up meanwhile is opened anew.
    pub fn heal(&mut self, one: PeerId, other: PeerId) {
        self.set_cut(one, other, false);
        let linked = |from: PeerId, to| self.nodes.get(&from).is_some_and(|node| node.has_link(to));
        if !linked(one, other) || !linked(other, one) {
            self.sever(one, other);
            self.connect(one, other);
        }
    }

    /// From now on the peer's game stands still, or goes on again: its links answer, and nobody takes what they bring.
    pub fn stand_still(&mut self, peer: PeerId, still: bool) {
        if let Some(node) = self.nodes.get_mut(&peer) {
            node.stands_still = still;
            self.pump(peer);
        }
    }

    /// The link between the two fails, and both are told at once.
    pub fn sever(&mut self, one: PeerId, other: PeerId) {
        for (from, to) in [(one, other), (other, one)] {
            self.paths.remove(&(from, to));
            self.openings.retain(|(_, peer, with), ()| (*peer, *with) != (from, to));
            let had = self.nodes.get_mut(&from).is_some_and(|node| node.links.remove(&to).is_some());
            if had {
                let reason = CloseReason::Failed("severed by the simulation".into());
                self.tell(from, Input::Link(to, LinkEvent::Closed(reason)));
            }
        }
    }

    /// The peer is gone from one moment to the next, and nobody says so.
    pub fn kill(&mut self, peer: PeerId) {
        self.nodes.remove(&peer);
        self.paths.retain(|(_, to), _| *to != peer);
        self.gone(peer);
    }

    /// The peer leaves with a goodbye to all. Its session can still be looked at.
    pub fn leave(&mut self, peer: PeerId) {
        self.act(peer, Session::leave);
        self.gone(peer);
    }

    /// A peer's game does something.
    ///
    /// # Panics
    ///
    /// If there is no such peer, as this is a tool for tests.
    pub fn act<T>(&mut self, peer: PeerId, act: impl FnOnce(&mut Session) -> T) -> T {
        let node = self.nodes.get_mut(&peer).expect("a peer of this net");
        node.report(self.now);
        let result = act(&mut node.session);
        self.pump(peer);
        result
    }

    /// Something happens to a peer's session that no link brought about: what a hostile peer would do.
    pub fn tell(&mut self, peer: PeerId, input: Input) {
        if let Some(node) = self.nodes.get_mut(&peer) {
            node.session.handle(self.now, input);
            self.pump(peer);
        }
    }

    /// A peer's session.
    ///
    /// # Panics
    ///
    /// If there is no such peer, as this is a tool for tests.
    pub fn session(&self, peer: PeerId) -> &Session {
        &self.nodes.get(&peer).expect("a peer of this net").session
    }

    /// What a peer's session told its game since this was last asked.
    pub fn facts(&mut self, peer: PeerId) -> Vec<Fact> {
        self.nodes.get_mut(&peer).map(|node| core::mem::take(&mut node.facts)).unwrap_or_default()
    }

    /// All peers that were not killed, in the order in which they entered: their ids ascend.
    pub fn peers(&self) -> Vec<PeerId> {
        self.nodes.keys().copied().collect()
    }

    /// Bytes that this peer's links sent so far.
    pub fn bytes_sent(&self, peer: PeerId) -> u64 {
        self.nodes.get(&peer).map_or(0, |node| node.bytes_sent)
    }

    /// The time that all peers' clocks show.
    pub const fn now(&self) -> Duration {
        self.now
    }

    /// A digest of every datagram that was sent and every fact that was told, with their times.
    pub const fn trace(&self) -> u64 {
        self.trace.0
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(next) = self.next_event().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.turn();
        }
        self.now = until;
    }

    /// Lets time pass until this holds, at most so long. Says whether it does.
    pub fn run_until(&mut self, most: Duration, mut holds: impl FnMut(&Self) -> bool) -> bool {
        let until = self.now + most;
        while !holds(self) {
            if self.now >= until {
                return false;
            }
            self.run_for(FLUSH);
        }
        true
    }

    /// Peers whose session is not over.
    fn present(&self) -> impl Iterator<Item = PeerId> {
        self.nodes.iter().filter(|(_, node)| !node.session.is_closed()).map(|(peer, _)| *peer)
    }

    fn connect_all(&mut self, peer: PeerId) {
        for other in self.present().filter(|other| *other != peer).collect::<Vec<_>>() {
            self.connect(peer, other);
        }
    }

    /// A peer is gone: signaling names another leader if need be.
    fn gone(&mut self, peer: PeerId) {
        self.openings.retain(|(_, one, other), ()| *one != peer && *other != peer);
        let Some(term) = self.leader.filter(|leader| leader.peer == peer).map(|leader| Term(leader.term.0 + 1)) else {
            return;
        };
        let next = self.present().next().map(|peer| Leader { peer, term });
        self.leader = next;
        for other in self.present().collect::<Vec<_>>() {
            if let Some(leader) = self.leader {
                self.tell(other, Input::Leader(leader));
            }
        }
    }

    fn next_event(&self) -> Option<Duration> {
        let nodes = self.nodes.values().map(Node::deadline);
        let paths = self.paths.values().filter_map(|path| path.conditioner.deadline());
        let openings = self.openings.first_key_value().map(|((at, ..), ())| *at);
        nodes.chain(paths).chain(openings).min()
    }

    /// Everything that is due now.
    fn turn(&mut self) {
        let now = self.now;
        while let Some(entry) = self.openings.first_entry().filter(|entry| entry.key().0 <= now) {
            let (_, peer, with) = *entry.key();
            entry.remove();
            let seed = self.rng.next_u64();
            if let Some(node) = self.nodes.get_mut(&peer) {
                node.open(now, with, self.links.clone(), seed);
                self.pump(peer);
            }
        }
        let keys: Vec<(PeerId, PeerId)> = self.paths.keys().copied().collect();
        for (from, to) in keys {
            while let Some((lane, bytes)) = self.paths.get_mut(&(from, to)).and_then(|path| path.conditioner.pop(now)) {
                if let Some(node) = self.nodes.get_mut(&to) {
                    node.receive(now, from, lane, bytes);
                }
                self.pump(to);
            }
        }
        for peer in self.peers() {
            if let Some(node) = self.nodes.get_mut(&peer)
                && node.deadline() <= now
            {
                node.elapse(now, FLUSH);
                self.pump(peer);
            }
        }
    }

    /// Does what a peer's session and links want done.
    fn pump(&mut self, peer: PeerId) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&peer) else { return };
        while let Some(work) = node.work(now) {
            match work {
                Work::Transmit(to, lane, bytes) => {
                    self.trace.note(now, peer, &to, &bytes);
                    node.bytes_sent += bytes.len() as u64;
                    if let Some(path) = self.paths.get_mut(&(peer, to)).filter(|path| !path.cut) {
                        let size = bytes.len();
                        path.conditioner.push(now, (lane, bytes), size);
                    }
                }
                Work::Fact(fact) => {
                    self.trace.note(now, peer, &fact, &[]);
                    node.facts.push(fact);
                }
            }
        }
    }

    fn set_cut(&mut self, one: PeerId, other: PeerId, cut: bool) {
        for key in [(one, other), (other, one)] {
            if let Some(path) = self.paths.get_mut(&key) {
                path.cut = cut;
                if cut {
                    path.conditioner = Conditioner::new(self.conditions, self.rng.next_u64());
                }
            }
        }
    }
}

/// A running digest (FNV-1a).
#[derive(Debug)]
struct Trace(u64);

impl Default for Trace {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Trace {
    fn note(&mut self, now: Duration, peer: PeerId, what: &impl core::fmt::Debug, bytes: &[u8]) {
        self.add(&now.as_nanos().to_le_bytes());
        self.add(&peer.as_u128().to_le_bytes());
        self.add(format!("{what:?}").as_bytes());
        self.add(bytes);
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
