//! A game that does anything at random on every peer, and keeps its own account of what must be.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use coplay_proto::{
    MemberId, NetId, PeerId, Topology,
    conditioner::Conditions,
    session::{DisconnectReason, Fact, Session, Target, TypeId},
    sim_net::SimNet,
};
use proptest::prelude::*;

use crate::support::{GLOW, HEALTH, HONK, Known, MOVE, POS, QUIP, SPARK, config, number, value, world_of};

/// What happens. Peers, entities and types are picked among those that there are.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Spawn { peer: usize, controller: usize },
    Write { peer: usize, entity: usize, component: usize, number: u32 },
    Remove { peer: usize, entity: usize, component: usize },
    Despawn { peer: usize, entity: usize },
    Control { peer: usize, entity: usize, controller: usize },
    Grant { peer: usize, entity: usize, to: usize },
    Input { peer: usize, entity: usize, number: u32 },
    Send { peer: usize, to: usize },
    Enter,
    Leave { peer: usize },
    Kill { peer: usize },
    Sever { one: usize, other: usize },
    Run { millis: u64 },
}

/// Anything; with peers that leave or die, and links that fail, if asked for.
pub(crate) fn ops(count: usize, leaves: bool, severs: bool) -> impl Strategy<Value = Vec<Op>> {
    // Not drawn as `usize`: a browser would draw others, and what fails there could not be looked at here.
    let pick = || (0_u32..1000).prop_map(|pick| pick as usize);
    let op = prop_oneof![
        6 => (pick(), pick()).prop_map(|(peer, controller)| Op::Spawn { peer, controller }),
        12 => (pick(), pick(), pick(), 0_u32..9)
            .prop_map(|(peer, entity, component, number)| Op::Write { peer, entity, component, number }),
        3 => (pick(), pick(), pick()).prop_map(|(peer, entity, component)| Op::Remove { peer, entity, component }),
        3 => (pick(), pick()).prop_map(|(peer, entity)| Op::Despawn { peer, entity }),
        2 => (pick(), pick(), pick()).prop_map(|(peer, entity, controller)| Op::Control { peer, entity, controller }),
        5 => (pick(), pick(), pick()).prop_map(|(peer, entity, to)| Op::Grant { peer, entity, to }),
        4 => (pick(), pick(), 0_u32..9).prop_map(|(peer, entity, number)| Op::Input { peer, entity, number }),
        6 => (pick(), pick()).prop_map(|(peer, to)| Op::Send { peer, to }),
        1 => Just(Op::Enter),
        1 => pick().prop_map(|peer| Op::Leave { peer }),
        1 => pick().prop_map(|peer| Op::Kill { peer }),
        1 => (pick(), pick()).prop_map(|(one, other)| Op::Sever { one, other }),
        12 => (1_u64..400).prop_map(|millis| Op::Run { millis }),
    ];
    let allowed = move |op: &Op| match op {
        Op::Leave { .. } | Op::Kill { .. } => leaves,
        Op::Sever { .. } => severs,
        _ => true,
    };
    proptest::collection::vec(op, 1..count).prop_map(move |ops| ops.into_iter().filter(allowed).collect())
}

/// Paths on which anything can happen, with up to 20 % loss.
pub(crate) fn conditions() -> impl Strategy<Value = Conditions> {
    (0_u64..80, 0_u64..30, 0.0..0.2_f64, 0.0..0.1_f64, 0.0..0.1_f64).prop_map(
        |(latency, jitter, loss, duplication, reordering)| Conditions {
            latency: Duration::from_millis(latency),
            jitter: Duration::from_millis(jitter),
            loss,
            duplication,
            reordering,
            ..Conditions::PERFECT
        },
    )
}

/// The world as facts and own deeds tell it.
#[derive(Debug, Default)]
struct Mirror {
    world: BTreeMap<NetId, Known>,
    joined: BTreeSet<PeerId>,
    /// Numbers of the events that came, by sender and type.
    heard: BTreeMap<(PeerId, TypeId), Vec<u32>>,
    /// The event that comes next comes without what it is about.
    astray: bool,
    /// What the game itself has ended, and this peer was told of or ended itself.
    ended: BTreeSet<NetId>,
    /// What this peer owns, or owned once.
    own: BTreeSet<NetId>,
    leader: Option<PeerId>,
}

/// Of a sender and of whoever is to hear it.
type Seats = (Option<MemberId>, Option<MemberId>);

/// The room and the accounts.
#[derive(Debug)]
pub(crate) struct Game {
    pub(crate) net: SimNet,
    topology: Topology,
    severed: bool,
    peers: Vec<PeerId>,
    mirrors: BTreeMap<PeerId, Mirror>,
    /// Entities that their owner has despawned, by session.
    ended: BTreeSet<(Option<(PeerId, u16)>, NetId)>,
    sent: u32,
    /// What events are about, by their number.
    about: BTreeMap<u32, NetId>,
    /// Who was to hear which event of whom, and in which seats they both were, as the sender had it.
    expected: BTreeMap<(PeerId, PeerId), Vec<(u32, Seats)>>,
}

impl Game {
    pub(crate) fn new(topology: Topology, peers: usize, conditions: Conditions, seed: u64) -> Self {
        let mut game = Self {
            net: SimNet::new(seed, conditions),
            topology,
            severed: false,
            peers: Vec::new(),
            mirrors: BTreeMap::new(),
            ended: BTreeSet::new(),
            sent: 0,
            about: BTreeMap::new(),
            expected: BTreeMap::new(),
        };
        for _ in 0..peers {
            game.enter();
            game.run(Duration::from_millis(300));
        }
        game
    }

    pub(crate) fn play(&mut self, ops: &[Op]) {
        for op in ops {
            self.op(op);
            self.listen();
        }
    }

    /// Lets the room come to rest, and checks that all agree.
    pub(crate) fn check(&mut self) {
        let good = Conditions { latency: Duration::from_millis(5), ..Conditions::PERFECT };
        self.net.set_conditions(good);
        self.run(Duration::from_secs(11));
        if self.severed {
            // Twice, as sessions that part and meet again close links as well.
            self.heal();
            self.run(Duration::from_secs(14));
            self.heal();
        }
        self.run(Duration::from_secs(14));
        let inside: Vec<PeerId> =
            self.peers.iter().copied().filter(|peer| self.net.session(*peer).me().is_some()).collect();
        if !self.severed {
            assert_eq!(inside, self.peers, "all are in");
        }
        let Some(first) = inside.first() else { return };
        let session = self.net.session(*first);
        let (world, leader, term) = (world_of(session), session.leader(), session.term());
        let members: Vec<_> = session.members().collect();
        for peer in &inside {
            let session = self.net.session(*peer);
            assert_eq!((session.leader(), session.term()), (leader, term), "{peer} follows the leader of {first}");
            assert_eq!(session.members().collect::<Vec<_>>(), members, "{peer} knows the members of {first}");
            assert_eq!(world_of(session), world, "{peer} has the world of {first}");
            let mirror = &self.mirrors[peer];
            assert_eq!(mirror.world, world, "the facts of {peer} tell its world");
            assert_eq!(mirror.leader, leader);
            let others: BTreeSet<PeerId> = inside.iter().copied().filter(|other| other != peer).collect();
            assert_eq!(mirror.joined, others, "{peer} was told of all others");
        }
        let founder = self.net.session(*first).founder();
        assert!(world.keys().all(|entity| !self.ended.contains(&(founder, *entity))), "the dead stay dead");
        self.check_events(&inside);
    }

    /// Links all that are there and have no link.
    fn heal(&mut self) {
        for (index, one) in self.peers.iter().enumerate() {
            for other in self.peers.iter().skip(index + 1) {
                self.net.heal(*one, *other);
            }
        }
    }

    fn check_events(&self, inside: &[PeerId]) {
        for to in inside {
            for ((from, event), heard) in &self.mirrors[to].heard {
                let mut heard = heard.clone();
                if *event == SPARK {
                    heard.sort_unstable();
                }
                assert!(heard.is_sorted_by(|one, next| one < next), "{to} heard {from} out of order: {heard:?}");
            }
            for from in inside {
                let of = self.mirrors[to].heard.iter().filter(|((of, _), _)| of == from);
                let heard: Vec<u32> = of.flat_map(|(_, numbers)| numbers).copied().collect();
                // Who comes in anew has another seat, and left the former one with what was said to it there.
                let seats = self.seats(*from, *to);
                let expected = self.expected.get(&(*from, *to)).cloned().unwrap_or_default();
                let promised = expected.iter().filter(|(_, then)| *then == seats).map(|(number, _)| *number);
                let missing: Vec<u32> = promised.filter(|number| !heard.contains(number)).collect();
                assert!(missing.is_empty() || self.severed, "{to} did not hear {missing:?} of {from}");
            }
        }
    }

    /// The seats of both, as the first one has them.
    fn seats(&self, from: PeerId, to: PeerId) -> Seats {
        let members: BTreeMap<PeerId, MemberId> = self.net.session(from).members().collect();
        (members.get(&from).copied(), members.get(&to).copied())
    }

    fn enter(&mut self) {
        if self.peers.len() < 5 {
            let peer = self.net.enter_led(config(self.topology));
            self.peers.push(peer);
            self.mirrors.insert(peer, Mirror::default());
            self.listen();
        }
    }

    fn run(&mut self, time: Duration) {
        self.net.run_for(time);
        self.listen();
    }

    fn op(&mut self, op: &Op) {
        match *op {
            Op::Run { millis } => self.run(Duration::from_millis(millis)),
            Op::Enter => self.enter(),
            Op::Leave { peer } => {
                if let Some(peer) = self.leaver(peer) {
                    self.net.leave(peer);
                }
            }
            Op::Kill { peer } => {
                if let Some(peer) = self.leaver(peer) {
                    self.net.kill(peer);
                }
            }
            Op::Sever { one, other } => {
                let (one, other) = (self.pick(one), self.pick(other));
                if one != other && self.topology == Topology::Mesh {
                    self.severed = true;
                    self.net.sever(one, other);
                }
            }
            Op::Spawn { peer, controller } => {
                let (peer, controller) = (self.pick(peer), self.pick(controller));
                if let Some(entity) = self.net.act(peer, |session| session.spawn(Some(controller))) {
                    self.sync(peer, entity);
                }
            }
            Op::Write { peer, entity, component, number } => {
                let component = component_of(component);
                self.change(peer, entity, |session, entity| {
                    session.write(entity, component, value(number)).unwrap();
                });
            }
            Op::Remove { peer, entity, component } => {
                let component = component_of(component);
                self.change(peer, entity, |session, entity| session.remove(entity, component).unwrap());
            }
            Op::Despawn { peer, entity } => {
                let peer_id = self.pick(peer);
                let ended = self.change(peer, entity, |session, entity| session.despawn(entity).unwrap());
                if let Some(entity) = ended {
                    self.ended.insert((self.net.session(peer_id).founder(), entity));
                    self.mirrors.get_mut(&peer_id).unwrap().ended.insert(entity);
                }
            }
            Op::Control { peer, entity, controller } => {
                let controller = self.pick(controller);
                self.change(peer, entity, |session, entity| {
                    // It may not have been admitted yet.
                    let _ = session.set_controller(entity, Some(controller));
                });
            }
            Op::Grant { peer, entity, to } => {
                let to = self.pick(to);
                self.change(peer, entity, |session, entity| {
                    let _ = session.grant(entity, to);
                });
            }
            Op::Input { peer, entity, number } => {
                let peer = self.pick(peer);
                let session = self.net.session(peer);
                let controlled = |entity: &NetId| session.controller(*entity) == Some(peer);
                let entities: Vec<NetId> = session.entities().filter(controlled).collect();
                if let Some(entity) = picked(&entities, entity) {
                    self.net.act(peer, |session| session.input(entity, MOVE, value(number)).unwrap());
                }
            }
            Op::Send { peer, to } => self.send(peer, to),
        }
    }

    fn send(&mut self, peer: usize, to: usize) {
        let peer = self.pick(peer);
        let joined: Vec<PeerId> = self.mirrors[&peer].joined.iter().copied().collect();
        let (target, hears) = match to % 3 {
            0 => (Target::Everyone, joined.clone()),
            1 => (Target::Others, joined.clone()),
            _ => match picked(&joined, to / 3) {
                Some(to) => (Target::Peer(to), vec![to]),
                None => return,
            },
        };
        self.sent += 1;
        let number = self.sent;
        let event = [HONK, QUIP, SPARK][to / 6 % 3];
        let entities: Vec<NetId> = self.net.session(peer).entities().collect();
        let about = picked(&entities, to / 18).filter(|_| !to.is_multiple_of(5));
        let sent = self.net.act(peer, |session| session.send_about(target, event, value(number), about.as_slice()));
        if sent.is_ok() {
            self.about.extend(about.map(|about| (number, about)));
            for to in hears {
                let seats = self.seats(peer, to);
                self.expected.entry((peer, to)).or_default().push((number, seats));
            }
        }
    }

    /// Does something to an entity that the peer owns.
    fn change(&mut self, peer: usize, entity: usize, act: impl FnOnce(&mut Session, NetId)) -> Option<NetId> {
        let peer = self.pick(peer);
        let session = self.net.session(peer);
        let entities: Vec<NetId> = session.entities().filter(|entity| session.owner(*entity) == Some(peer)).collect();
        let entity = picked(&entities, entity)?;
        self.net.act(peer, |session| act(session, entity));
        self.sync(peer, entity);
        Some(entity)
    }

    /// The peer's game knows what it did itself.
    fn sync(&mut self, peer: PeerId, entity: NetId) {
        let known = world_of(self.net.session(peer)).remove(&entity);
        let mirror = self.mirrors.get_mut(&peer).unwrap();
        if known.as_ref().is_some_and(|(owner, ..)| *owner == Some(peer)) {
            mirror.own.insert(entity);
        }
        match known {
            Some(known) => mirror.world.insert(entity, known),
            None => mirror.world.remove(&entity),
        };
    }

    /// Notes what the sessions told.
    fn listen(&mut self) {
        for peer in self.net.peers() {
            let founder = self.net.session(peer).founder();
            let facts = self.net.facts(peer);
            // Then the session has forgotten by now what was gone as its events came.
            let over = facts.iter().any(|fact| matches!(fact, Fact::Closed(_)));
            for fact in facts {
                if matches!(fact, Fact::Closed(_)) {
                    // What was under way in a session that is over for one of both is not promised.
                    self.expected.retain(|(from, to), _| *from != peer && *to != peer);
                }
                let mirror = self.mirrors.get_mut(&peer).unwrap();
                if let Fact::Event { from, value, .. } = &fact
                    && let Some(about) = self.about.get(&number(value)).filter(|_| *from != peer)
                    && !core::mem::take(&mut mirror.astray)
                {
                    let gone = over || self.net.session(peer).is_gone(*about);
                    // Who sent it may have taken it for the receiver's own still, who has given it to a member that left.
                    let here = mirror.world.contains_key(about) || mirror.own.contains(about);
                    assert!(here || gone, "{peer} heard of {about} by {from} before it was there");
                }
                if let Fact::Owner(entity, owner) = &fact
                    && *owner == peer
                {
                    mirror.own.insert(*entity);
                }
                mirror.note(fact, |entity| self.ended.contains(&(founder, entity)), self.severed);
            }
        }
    }

    fn pick(&self, index: usize) -> PeerId {
        picked(&self.peers, index).unwrap()
    }

    /// A peer that may go: the host stays, and somebody always does.
    fn leaver(&mut self, index: usize) -> Option<PeerId> {
        let first = usize::from(self.topology == Topology::Host);
        if self.peers.len() < 2 {
            return None;
        }
        let index = first + index % (self.peers.len() - first);
        Some(self.peers.remove(index))
    }
}

impl Mirror {
    fn note(&mut self, fact: Fact, ended: impl Fn(NetId) -> bool, severed: bool) {
        match fact {
            Fact::Spawned { entity, owner, controller } => {
                assert!(!self.ended.contains(&entity), "{entity} came back");
                let before = self.world.insert(entity, (Some(owner), controller, BTreeMap::new()));
                assert_eq!(before, None, "{entity} came twice");
            }
            Fact::Written { entity, component, value, .. } => {
                self.known(entity).2.insert(component.0, value);
            }
            Fact::Removed(entity, component) => {
                assert!(self.known(entity).2.remove(&component.0).is_some());
            }
            Fact::Despawned(entity) => {
                assert!(self.world.remove(&entity).is_some(), "{entity} was not there");
                if ended(entity) {
                    self.ended.insert(entity);
                }
            }
            Fact::Owner(entity, owner) => self.known(entity).0 = Some(owner),
            Fact::Controller(entity, controller) => self.known(entity).1 = controller,
            Fact::Joined { peer, .. } => assert!(self.joined.insert(peer)),
            Fact::Left { peer, .. } => assert!(self.joined.remove(&peer)),
            Fact::Leader(peer) => self.leader = Some(peer),
            Fact::Event { from, event, value } => self.heard.entry((from, event)).or_default().push(number(&value)),
            Fact::Astray { .. } => self.astray = true,
            Fact::Denied(peer, denied) => panic!("{peer} {denied}"),
            Fact::Closed(_) => {
                let heard = std::mem::take(&mut self.heard);
                *self = Self { heard, ..Self::default() };
            }
            // Its link had opened on one side only.
            Fact::Refused(_, DisconnectReason::NoHandshake) => {}
            Fact::Refused(peer, reason) => assert!(severed, "{peer} {reason}"),
            Fact::Admitted(_) | Fact::Responsive(..) | Fact::Controlled { .. } => {}
        }
    }

    fn known(&mut self, entity: NetId) -> &mut Known {
        self.world.get_mut(&entity).expect("an entity that was announced")
    }
}

fn component_of(index: usize) -> TypeId {
    [POS, HEALTH, GLOW][index % 3]
}

fn picked<T: Copy>(among: &[T], index: usize) -> Option<T> {
    among.get(index.checked_rem(among.len())?).copied()
}
