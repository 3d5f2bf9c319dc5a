//! What the tests of sessions share: a small game's types, values, and ways to look at a world.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use coplay_proto::{
    NetId, PeerId, Topology,
    conditioner::Conditions,
    schema::{Delivery, FieldSchema, Schema, TypeKind, TypeSchema},
    session::{Session, SessionConfig, TypeId},
    sim_net::SimNet,
};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) const GLOW: TypeId = TypeId(0);
pub(crate) const HEALTH: TypeId = TypeId(1);
pub(crate) const HONK: TypeId = TypeId(2);
pub(crate) const MOVE: TypeId = TypeId(3);
pub(crate) const POS: TypeId = TypeId(4);
/// Events in order among themselves, apart from all others.
pub(crate) const QUIP: TypeId = TypeId(5);
pub(crate) const RANT: TypeId = TypeId(6);
/// Events in no order.
pub(crate) const SPARK: TypeId = TypeId(7);
/// Events that may be lost.
pub(crate) const WHIFF: TypeId = TypeId(8);

/// The schema of the game; `codings` says how some types differ from it.
pub(crate) fn schema(codings: &[(&str, &str)]) -> Schema {
    let types = [
        ("game::Pos", TypeKind::Component, false),
        ("game::Health", TypeKind::Component, false),
        ("game::Move", TypeKind::Input, false),
        ("game::Honk", TypeKind::Event, false),
        ("game::Glow", TypeKind::Component, true),
    ];
    let mut types: Vec<_> = types.map(|(name, kind, optional)| shared(name, kind, optional, codings)).into();
    let event = |name| shared(name, TypeKind::Event, false, codings);
    types.push(event("game::Quip").channel("quips"));
    types.push(event("game::Rant").channel("rants"));
    types.push(event("game::Spark").unordered());
    types.push(event("game::Whiff").unreliable());
    Schema::new(types).unwrap()
}

/// The schema without what is optional: all indices differ.
pub(crate) fn without_optional() -> Schema {
    let types = schema(&[]).types().iter().filter(|shared| !shared.optional).cloned().collect();
    Schema::new(types).unwrap()
}

fn shared(name: &str, kind: TypeKind, optional: bool, codings: &[(&str, &str)]) -> TypeSchema {
    let coding = codings.iter().find(|(other, _)| *other == name).map_or("u32", |(_, coding)| coding);
    let fields = vec![FieldSchema { name: "value".into(), coding: coding.into() }];
    TypeSchema { name: name.into(), kind, optional, delivery: Delivery::default(), fields }
}

pub(crate) fn config(topology: Topology) -> SessionConfig {
    SessionConfig::new(topology, schema(&[]))
}

pub(crate) fn value(number: u32) -> Bytes {
    Bytes::copy_from_slice(&number.to_le_bytes())
}

pub(crate) fn number(value: &Bytes) -> u32 {
    u32::from_le_bytes(value.as_ref().try_into().unwrap())
}

/// Everything that a peer knows of an entity.
pub(crate) type Known = (Option<PeerId>, Option<PeerId>, BTreeMap<u16, Bytes>);

/// Everything that a peer knows.
pub(crate) fn world_of(session: &Session) -> BTreeMap<NetId, Known> {
    let known = |entity| {
        let values = session.values(entity).map(|(component, value)| (component.0, value.clone())).collect();
        (entity, (session.owner(entity), session.controller(entity), values))
    };
    session.entities().map(known).collect()
}

/// Lets a room come to rest over good paths.
pub(crate) fn settle(net: &mut SimNet) {
    net.set_conditions(Conditions { latency: Duration::from_millis(10), ..Conditions::PERFECT });
    net.run_for(Duration::from_secs(8));
}

/// A room whose members were admitted in this order.
pub(crate) fn room(topology: Topology, peers: usize) -> (SimNet, Vec<PeerId>) {
    let mut net = SimNet::new(7, Conditions::WIFI);
    let mut entered = Vec::new();
    for _ in 0..peers {
        entered.push(net.enter_led(config(topology)));
        net.run_for(SECOND / 2);
    }
    net.run_for(SECOND);
    (net, entered)
}
