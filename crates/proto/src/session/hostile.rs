//! What a member can do to the others that does not keep to the protocol: nothing, but be thrown out.

use core::time::Duration;

use bytes::Bytes;
use proptest::{prelude::*, test_runner::Config};

use super::{
    Denied, Fact, Input, Session, SessionConfig, TypeId,
    control::{self, Control, LeaveReason},
    envelope::{About, Envelope, Route},
    frame::{FrameWriter, Header, Meta, PartRecord, Record},
    membership::{RosterWire, Seat, SessionInfo},
    store::Entity,
};
use crate::{
    Channel, MemberId, NetId, PeerId, Term, Tick, Topology,
    conditioner::Conditions,
    link::LinkEvent,
    schema::{Delivery, FieldSchema, Schema, TypeKind, TypeSchema},
    sim_net::SimNet,
};

const SECOND: Duration = Duration::from_secs(1);
const HONK: TypeId = TypeId(0);
const MOVE: TypeId = TypeId(1);
const POS: TypeId = TypeId(2);

fn config(topology: Topology) -> SessionConfig {
    let fields = vec![FieldSchema { name: "0".into(), coding: "u8".into() }];
    let shared = |(name, kind)| TypeSchema {
        name: String::from(name),
        kind,
        optional: false,
        delivery: Delivery::default(),
        fields: fields.clone(),
    };
    let types = [("honk", TypeKind::Event), ("move", TypeKind::Input), ("pos", TypeKind::Component)];
    SessionConfig::new(topology, Schema::new(types.map(shared).into()).expect("a schema"))
}

/// A leader, two others, and a hostile peer that came last; each has an entity, controlled by the next one.
struct Room {
    net: SimNet,
    honest: Vec<PeerId>,
    hostile: PeerId,
    entities: Vec<NetId>,
}

impl Room {
    fn new(topology: Topology) -> Self {
        let mut net = SimNet::new(1, Conditions::LAN);
        let mut honest = Vec::new();
        for _ in 0..4 {
            honest.push(net.enter_led(config(topology)));
            net.run_for(SECOND / 2);
        }
        let entities = honest.iter().zip(honest.iter().cycle().skip(1)).map(|(peer, next)| {
            net.act(*peer, |session| {
                let entity = session.spawn(Some(*next)).expect("admitted");
                session.write(entity, POS, Bytes::from_static(b"1")).expect("owned");
                entity
            })
        });
        let entities = entities.collect();
        net.run_for(SECOND);
        let hostile = honest.pop().expect("four");
        for peer in &honest {
            net.facts(*peer);
        }
        Self { net, honest, hostile, entities }
    }

    /// What the hostile peer says to another as a frame, with a header that is believed.
    fn frame(&mut self, to: PeerId, write: impl FnOnce(&mut FrameWriter)) {
        let session = self.net.session(to);
        let Some(tag) = session.tag_from(self.hostile) else { return };
        let ahead = session.peers[&self.hostile].pair.as_ref().and_then(|pair| pair.inbox.newest()).unwrap_or(0) + 40;
        let tick = Tick(session.tick(self.net.now()) as u32);
        let header = Header { seq: ahead as u16, tag, tick, fraction: Some(3), eliciting: true, acks: Vec::new() };
        let mut writer = FrameWriter::new(&header);
        write(&mut writer);
        self.net.tell(to, Input::Link(self.hostile, LinkEvent::State(writer.finish())));
    }

    fn control(&mut self, to: PeerId, control: &Control) {
        let session = self.net.session(to);
        let tag = match control {
            Control::Lost(_) | Control::Tombstones(_) | Control::Grant(..) | Control::Want(_) => {
                session.tag_from(self.hostile).unwrap_or(0)
            }
            _ => session.tag(),
        };
        let message = control::encode(tag, control);
        self.net.tell(to, Input::Link(self.hostile, LinkEvent::Message(Channel::Control, message.into())));
    }

    fn records(&mut self, to: PeerId, records: &[Record]) {
        self.frame(to, |writer| {
            for record in records {
                match record {
                    Record::State { entity, epoch, meta, parts } => {
                        let parts = parts.iter().map(|part| (part.component, part.value.as_ref(), part.tick));
                        writer.state(*entity, *epoch, *meta, parts, true);
                    }
                    Record::End { entity, epoch } => {
                        writer.end(*entity, *epoch);
                    }
                    Record::Input { entity, input, values } => {
                        writer.input(*entity, *input, values.iter().map(|(tick, value)| (*tick, value)));
                    }
                }
            }
        });
    }

    /// The honest peers' entities are as they were, on every honest peer; and they still play together.
    fn assert_unhurt(&mut self) {
        for peer in self.honest.clone() {
            for (entity, owner) in self.entities.iter().zip(&self.honest) {
                let session = self.net.session(peer);
                let known = session.store.get(*entity).map(|known: &Entity| (known.epoch, known.handoff.is_some()));
                assert_eq!(known, Some((0, false)), "{peer}: {entity}");
                assert_eq!(session.owner(*entity), Some(*owner));
                assert_eq!(session.value(*entity, POS), Some(&Bytes::from_static(b"1")));
            }
            assert_eq!(self.net.session(peer).leader(), self.honest.first().copied());
        }
        let (first, entity) = (self.honest[0], self.entities[0]);
        self.net.act(first, |session| session.write(entity, POS, Bytes::from_static(b"2")).expect("owned"));
        self.net.run_for(SECOND);
        for peer in &self.honest {
            let session = self.net.session(*peer);
            assert_eq!(session.value(entity, POS), Some(&Bytes::from_static(b"2")));
            let honest = session.members().filter(|(member, _)| *member != self.hostile).count();
            assert_eq!(honest, self.honest.len());
        }
    }

    /// What the hostile peer says to another as an event that is believed to be from it.
    fn say(&mut self, to: PeerId, said: &Said) {
        let Said { route, seen, about, event, channel } = said.clone();
        let Some(tag) = self.net.session(to).tag_from(self.hostile) else { return };
        let tick = Tick(self.net.session(to).tick(self.net.now()) as u32);
        let message = Envelope { tag, route, seen, about, tick, event, value: b"9" }.write();
        self.net.tell(to, Input::Link(self.hostile, LinkEvent::Message(channel, message)));
    }

    fn denied(&mut self, by: PeerId) -> Vec<Denied> {
        let hostile = self.hostile;
        let denied = |fact| match fact {
            Fact::Denied(peer, denied) if peer == hostile => Some(denied),
            _ => None,
        };
        self.net.facts(by).into_iter().filter_map(denied).collect()
    }

    fn member(&self, peer: PeerId) -> MemberId {
        self.net.session(self.hostile).members().find(|(member, _)| *member == peer).expect("a member").1
    }
}

fn state(entity: NetId, epoch: u32, owner: Option<MemberId>) -> Record {
    let meta = owner.map(|owner| Meta { owner, controller: None, handoff: None });
    let part = PartRecord { component: POS.0, value: Some(Bytes::from_static(b"9")), tick: Tick(1) };
    Record::State { entity, epoch, meta, parts: vec![part] }
}

#[test]
fn claims_on_the_entities_of_others_are_denied() {
    for topology in [Topology::Mesh, Topology::Host] {
        let mut room = Room::new(topology);
        let (leader, entity) = (room.honest[0], room.entities[1]);
        let hostile = room.member(room.hostile);
        let owner = room.member(room.honest[1]);
        room.records(leader, &[state(entity, 0, None)]);
        room.records(leader, &[state(entity, 0, Some(owner))]);
        room.records(leader, &[state(entity, 0, Some(hostile))]);
        room.records(leader, &[Record::End { entity, epoch: 0 }]);
        assert_eq!(room.denied(leader), [Denied::NotOwner(entity); 4], "{topology:?}");
        // That it was given the entity, only the owner could say.
        room.records(leader, &[state(entity, 1, Some(hostile)), state(room.entities[0], 1, Some(hostile))]);
        room.net.run_for(6 * SECOND);
        let mut denied = room.denied(leader);
        denied.sort_by_key(|denied| *denied == Denied::NotOwner(entity));
        assert_eq!(denied, [Denied::NotOwner(room.entities[0]), Denied::NotOwner(entity)], "{topology:?}");
        room.assert_unhurt();
    }
}

#[test]
fn entities_in_the_name_of_others_are_denied() {
    for topology in [Topology::Mesh, Topology::Host] {
        let mut room = Room::new(topology);
        let leader = room.honest[0];
        let (hostile, other) = (room.member(room.hostile), room.member(room.honest[1]));
        let entity = NetId { creator: other, counter: 7 };
        room.records(leader, &[state(entity, 0, Some(other))]);
        room.records(leader, &[state(entity, 0, Some(hostile))]);
        assert_eq!(room.denied(leader), [Denied::NotCreator(entity); 2]);
        assert!(!room.net.session(leader).contains(entity));
        room.records(leader, &[Record::End { entity, epoch: 0 }]);
        room.control(leader, &Control::Tombstones(vec![(other, vec![(0, u32::MAX)])]));
        assert!(!room.net.session(leader).is_gone(entity), "nor can they be ended before they are made");
        room.assert_unhurt();
    }
}

#[test]
fn inputs_for_what_another_controls_are_denied() {
    for topology in [Topology::Mesh, Topology::Host] {
        let mut room = Room::new(topology);
        let (leader, entity) = (room.honest[0], room.entities[0]);
        let values = vec![(Tick(5), Bytes::from_static(b"9"))];
        room.records(leader, &[Record::Input { entity, input: MOVE.0, values }]);
        assert_eq!(room.denied(leader), [Denied::NotController(entity)]);
        room.assert_unhurt();
    }
}

#[test]
fn events_in_the_name_of_others_are_denied() {
    for topology in [Topology::Mesh, Topology::Host] {
        let mut room = Room::new(topology);
        let leader = room.honest[0];
        let other = room.member(room.honest[1]);
        let tag = room.net.session(leader).tag_from(room.hostile).expect("paired");
        let message = super::events::forge(tag, other, HONK, b"9");
        room.net.tell(leader, Input::Link(room.hostile, LinkEvent::Message(Channel::Events, message)));
        let facts = room.net.facts(leader);
        assert_eq!(facts, [Fact::Denied(room.hostile, Denied::NotHost)]);
        room.assert_unhurt();
    }
}

#[test]
fn an_event_in_a_channel_that_is_not_its_own_is_not_of_the_protocol() {
    let mut room = Room::new(Topology::Mesh);
    let (leader, hostile) = (room.honest[0], room.hostile);
    let said =
        Said { route: Route::Direct, seen: false, about: Vec::new(), event: HONK.0, channel: Channel::Unordered };
    room.say(leader, &Said { channel: Channel::Events, ..said.clone() });
    assert!(room.net.facts(leader).contains(&Fact::Event {
        from: hostile,
        event: HONK,
        value: Bytes::from_static(b"9")
    }));
    room.say(leader, &said);
    assert!(!room.net.session(leader).peers.contains_key(&hostile));
    room.assert_unhurt();
}

#[test]
fn events_about_what_never_comes_are_bounded_and_hold_up_nobody_else() {
    for topology in [Topology::Mesh, Topology::Host] {
        let mut room = Room::new(topology);
        let (leader, hostile) = (room.honest[0], room.hostile);
        let entity = NetId { creator: room.member(hostile), counter: 9_999 };
        let parts = (0..31).map(|part| (part % 3, Tick(part.into()))).collect();
        let about = vec![About { entity, parts }; 8];
        let said = Said { route: Route::Direct, seen: false, about, event: HONK.0, channel: Channel::Events };
        room.net.facts(leader);
        for _ in 0..2_000 {
            room.say(leader, &said);
        }
        let parked = |room: &Room| {
            let pair = room.net.session(leader).peers[&hostile].pair.as_ref();
            pair.map_or(0, |pair| pair.parking.bytes())
        };
        let most = super::parking::MAX_PARKED;
        assert!(parked(&room) <= most && parked(&room) > most / 2, "{}", parked(&room));
        room.assert_unhurt();
        room.net.run_for(3 * SECOND);
        assert_eq!(parked(&room), 0, "they wait for two seconds");
        let heard = room.net.facts(leader).iter().filter(|fact| matches!(fact, Fact::Event { .. })).count();
        assert_eq!(heard, 2_000, "and are heard after all");
    }
}

#[test]
fn whoever_sends_what_is_not_of_the_protocol_is_thrown_out_alone() {
    for topology in [Topology::Mesh, Topology::Host] {
        for event in [
            LinkEvent::State(Bytes::from_static(b"?")),
            LinkEvent::Message(Channel::Control, Bytes::from_static(b"????")),
            LinkEvent::Message(Channel::Events, Bytes::from_static(b"?")),
        ] {
            let mut room = Room::new(topology);
            room.net.tell(room.honest[0], Input::Link(room.hostile, event));
            room.net.run_for(SECOND);
            for peer in &room.honest {
                assert_eq!(room.net.session(*peer).members().count(), 3);
            }
            room.assert_unhurt();
        }
    }
}

#[test]
fn whoever_tells_of_more_state_than_one_can_own_is_thrown_out_alone() {
    for topology in [Topology::Mesh, Topology::Host] {
        let mut room = Room::new(topology);
        let (leader, entity) = (room.honest[0], room.entities[3]);
        let owner = room.member(room.hostile);
        let most = super::MAX_STATE_BYTES + super::config::STATE_SLACK;
        // As if it had told us of it in many frames.
        room.net.act(leader, |session| {
            let known = session.store.get_mut(entity).expect("known");
            known.set(TypeId(9), Some(vec![0; most - 10].into()), Tick(1));
            session.store.weigh(entity);
        });
        room.records(leader, &[state(entity, 0, Some(owner))]);
        assert!(room.net.session(leader).owner(entity).is_some(), "as much as it may");
        let part = PartRecord { component: POS.0, value: Some(vec![9; 200].into()), tick: Tick(2) };
        room.records(leader, &[Record::State { entity, epoch: 0, meta: None, parts: vec![part] }]);
        room.net.run_for(SECOND);
        let session = room.net.session(leader);
        assert_eq!((session.owner(entity), session.members().count()), (None, 3), "{topology:?}");
        assert_eq!(session.store.bytes(owner), 0);
        let left = |fact| if let Fact::Left { peer, reason, .. } = fact { Some((peer, reason)) } else { None };
        let left: Vec<_> = room.net.facts(leader).into_iter().filter_map(left).collect();
        let reason = super::DisconnectReason::Malformed("more state than a member can own");
        assert_eq!(left, [(room.hostile, reason)]);
        room.assert_unhurt();
    }
}

#[test]
fn a_member_only_speaks_for_itself_when_it_leaves() {
    for topology in [Topology::Mesh, Topology::Host] {
        let mut room = Room::new(topology);
        let leader = room.honest[0];
        let (hostile, other) = (room.member(room.hostile), room.member(room.honest[1]));
        let term = room.net.session(leader).term().expect("in");
        room.control(leader, &Control::Leave(term, other, LeaveReason::TooSlow));
        room.control(leader, &Control::Leave(term, hostile, LeaveReason::Kicked));
        assert_eq!(room.net.session(leader).members().count(), 4);
        room.control(leader, &Control::Leave(term, hostile, LeaveReason::TooSlow));
        assert_eq!(room.net.session(leader).members().count(), 3);
        room.net.run_for(SECOND);
        room.assert_unhurt();
    }
}

fn member() -> impl Strategy<Value = MemberId> {
    (0_u16..5, 0_u16..2).prop_map(|(slot, incarnation)| MemberId { slot, incarnation })
}

fn net() -> impl Strategy<Value = NetId> {
    (member(), 0_u32..3).prop_map(|(creator, counter)| NetId { creator, counter })
}

fn record() -> impl Strategy<Value = Record> {
    let meta = (member(), proptest::option::of(member()), proptest::option::of(0_u32..3))
        .prop_map(|(owner, controller, handoff)| Meta { owner, controller, handoff });
    let value = || proptest::collection::vec(any::<u8>(), 0..4).prop_map(Bytes::from);
    let part = (0_u16..4, proptest::option::of(value()), any::<u32>())
        .prop_map(|(component, value, tick)| PartRecord { component, value, tick: Tick(tick) });
    prop_oneof![
        6 => (net(), 0_u32..4, proptest::option::of(meta), proptest::collection::vec(part, 0..3))
            .prop_map(|(entity, epoch, meta, parts)| Record::State { entity, epoch, meta, parts }),
        2 => (net(), 0_u32..4).prop_map(|(entity, epoch)| Record::End { entity, epoch }),
        2 => (net(), 0_u16..4, proptest::collection::vec((any::<u32>().prop_map(Tick), value()), 1..4))
            .prop_map(|(entity, input, values)| Record::Input { entity, input, values }),
    ]
}

fn control() -> impl Strategy<Value = Control> {
    let peer = || (1_u128..6).prop_map(|id| PeerId::from_u128(id << 96));
    let term = || (0_u32..4).prop_map(Term);
    let seat = move || (peer(), member(), 0_u32..9).prop_map(|(peer, member, order)| Seat { peer, member, order });
    let roster = move || {
        let id = super::membership::SessionId { founder: Some(PeerId::from_u128(1 << 96)), count: 0 };
        let seats = proptest::collection::vec(seat(), 0..5);
        (term(), peer(), seats, proptest::collection::vec(0_u16..3, 0..5)).prop_map(
            move |(term, leader, seats, incarnations)| RosterWire {
                id,
                term,
                leader,
                seats,
                incarnations,
                next_order: 9,
            },
        )
    };
    prop_oneof![
        Just(Control::Session(None)),
        (term(), peer(), any::<u16>()).prop_map(|(term, leader, members)| {
            let id = super::membership::SessionId { founder: Some(leader), count: 0 };
            Control::Session(Some(SessionInfo { id, term, members, leader }))
        }),
        Just(Control::Ask),
        Just(Control::AskRoster),
        (member(), any::<f64>(), roster()).prop_map(|(you, ticks, roster)| Control::Welcome { you, ticks, roster }),
        any::<u16>().prop_map(Control::Full),
        roster().prop_map(Control::Roster),
        (term(), seat()).prop_map(|(term, seat)| Control::Join(term, seat)),
        (term(), member(), prop_oneof![Just(LeaveReason::Lost), Just(LeaveReason::TooSlow)])
            .prop_map(|(term, member, why)| Control::Leave(term, member, why)),
        term().prop_map(Control::Lost),
        (term(), peer()).prop_map(|(term, into)| Control::Absorbed(term, into)),
        proptest::collection::vec((member(), Just(vec![(0, 5)])), 0..3).prop_map(Control::Tombstones),
        (net(), 0_u32..4, member()).prop_map(|(entity, epoch, to)| Control::Grant(entity, epoch, to)),
        net().prop_map(Control::Want),
    ]
}

/// One thing that the hostile peer does to one of the others.
#[derive(Clone, Debug)]
enum Attack {
    Records(Vec<Record>),
    Control(Control),
    Frame(Bytes),
    Message(Channel, Bytes),
    Event(Said),
    Wait,
}

/// An event of which everything but the tag is made up.
#[derive(Clone, Debug)]
struct Said {
    route: Route,
    seen: bool,
    about: Vec<About<u16>>,
    event: u16,
    channel: Channel,
}

fn event() -> impl Strategy<Value = Said> {
    let route = prop_oneof![
        Just(Route::Direct),
        Just(Route::Others),
        Just(Route::Seers),
        member().prop_map(Route::To),
        member().prop_map(Route::Of)
    ];
    let part = (0_u16..4, any::<u32>().prop_map(Tick));
    let about = (net(), proptest::collection::vec(part, 0..4)).prop_map(|(entity, parts)| About { entity, parts });
    let channel =
        prop_oneof![4 => Just(Channel::Events), 1 => Just(Channel::Unordered), 1 => Just(Channel::Unreliable)];
    (route, any::<bool>(), proptest::collection::vec(about, 1..4), 0_u16..4, channel).prop_map(
        |(route, seen, about, event, channel)| Said {
            seen: seen || route == Route::Seers,
            route,
            about,
            event: if event == 3 { 3 } else { HONK.0 },
            channel,
        },
    )
}

fn attack() -> impl Strategy<Value = Attack> {
    let garbage = || proptest::collection::vec(any::<u8>(), 0..80).prop_map(Bytes::from);
    prop_oneof![
        8 => proptest::collection::vec(record(), 1..4).prop_map(Attack::Records),
        8 => control().prop_map(Attack::Control),
        1 => garbage().prop_map(Attack::Frame),
        1 => garbage().prop_map(|bytes| Attack::Message(Channel::Control, bytes)),
        1 => garbage().prop_map(|bytes| Attack::Message(Channel::Events, bytes)),
        1 => garbage().prop_map(|bytes| Attack::Message(Channel::Unordered, bytes)),
        4 => event().prop_map(Attack::Event),
        2 => Just(Attack::Wait),
    ]
}

/// 128 cases, or as many as `PROPTEST_CASES` says.
fn cases() -> Config {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    Config { failure_persistence: None, ..Config::with_cases(asked.unwrap_or(128)) }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn whatever_a_member_sends_hurts_nobody_else(
        host in any::<bool>(),
        attacks in proptest::collection::vec((0_usize..3, attack()), 1..40),
    ) {
        let mut room = Room::new(if host { Topology::Host } else { Topology::Mesh });
        for (to, attack) in attacks {
            // Under a host, the others have no link to it.
            let to = room.honest[if host { 0 } else { to }];
            let hostile = room.hostile;
            match attack {
                Attack::Records(records) => room.records(to, &records),
                Attack::Control(control) => room.control(to, &control),
                Attack::Event(said) => room.say(to, &said),
                Attack::Frame(bytes) => room.net.tell(to, Input::Link(hostile, LinkEvent::State(bytes))),
                Attack::Message(channel, bytes) => {
                    room.net.tell(to, Input::Link(hostile, LinkEvent::Message(channel, bytes)));
                }
                Attack::Wait => room.net.run_for(SECOND / 10),
            }
        }
        room.net.run_for(SECOND);
        room.assert_unhurt();
    }

    #[test]
    fn whatever_a_stranger_sends_is_taken_or_refused(
        seeking in any::<bool>(),
        messages in proptest::collection::vec(prop_oneof![control().prop_map(|control| control::encode(7, &control)), proptest::collection::vec(any::<u8>(), 0..60)], 0..20),
        greets in any::<bool>(),
    ) {
        let (me, stranger) = (PeerId::from_u128(5), PeerId::from_u128(6));
        let mut session = Session::new(Duration::ZERO, config(Topology::Mesh));
        let term = Term(1);
        let leader = if seeking { stranger } else { me };
        session.handle(Duration::ZERO, Input::Entered { me, leader: Some(crate::signal::Leader { peer: leader, term }) });
        session.handle(Duration::ZERO, Input::Link(stranger, LinkEvent::Opened));
        if greets {
            let hello = control::Hello { topology: Topology::Mesh, tick_rate: 60, session: None, schema: session.config().schema.clone() };
            let message = control::encode_hello(&hello).into();
            session.handle(Duration::ZERO, Input::Link(stranger, LinkEvent::Message(Channel::Control, message)));
        }
        for message in messages {
            session.handle(Duration::ZERO, Input::Link(stranger, LinkEvent::Message(Channel::Control, message.clone().into())));
            session.handle(Duration::ZERO, Input::Link(stranger, LinkEvent::Message(Channel::Events, message.clone().into())));
            session.handle(Duration::ZERO, Input::Link(stranger, LinkEvent::State(message.into())));
            session.handle(Duration::ZERO, Input::Flush);
        }
        while session.poll().is_some() {}
        if !seeking {
            prop_assert_eq!(session.leader(), Some(me));
        }
    }
}
