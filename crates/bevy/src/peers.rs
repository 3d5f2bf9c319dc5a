//! Who else is in the room? An entity for each other peer, with how it is reached, and the notices of coming and going.

use core::time::Duration;
use std::collections::BTreeMap;

use bevy_app::App;
use bevy_color::Color;
use bevy_ecs::{
    component::Component, entity::Entity, event::Event, reflect::ReflectComponent, resource::Resource, world::World,
};
use bevy_reflect::{Reflect, std_traits::ReflectDefault};
use coplay_proto::{
    MemberId, PeerId, Topology,
    link::{Cause, Figures, Quality},
    session::{Denied, DisconnectReason},
};
use coplay_socket::{Path, PathKind};

use crate::{
    control,
    interpolate::Playheads,
    net::{Clock, Net},
    room::Room,
};

/// The most peers whose path is remembered before they have joined.
const MAX_STRANGERS: usize = 256;

/// The least time between two notices that the same peer does what it may not.
const DENIED_INTERVAL: Duration = Duration::from_secs(1);

/// Another peer of the room. `On<Add, Peer>` is when it joins; the entity is despawned when it has left.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Reflect)]
#[component(immutable)]
#[require(PeerPath)]
#[reflect(opaque)]
#[reflect(Component, Clone, Debug, PartialEq)]
pub struct Peer {
    /// Its id.
    pub id: PeerId,
    /// Its seat, from 0: small, and not held by another one at the same time. Good for colours and places.
    pub slot: u16,
}

impl Peer {
    /// A colour that differs from those of the others.
    pub fn color(&self) -> Color {
        color(self.slot)
    }
}

/// How a peer is reached, measured about four times a second, and oftener while the path changes.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Reflect)]
#[reflect(opaque)]
#[reflect(Component, Clone, Debug, Default, PartialEq)]
pub struct PeerPath {
    /// Round trip. Zero until it is measured, and for a peer that is reached by way of the host.
    pub rtt: Duration,
    /// Mean deviation of the round trip.
    pub jitter: Duration,
    /// Share of our datagrams that were lost lately, 0 to 1.
    pub loss: f32,
    /// Share of the peer's datagrams that did not get here lately, 0 to 1.
    pub loss_received: f32,
    /// How long datagrams wait on their way because the path is full.
    pub queueing: Duration,
    /// Bytes a second that the path to the peer is thought to carry. Zero until it is measured.
    pub rate: u32,
    /// Bytes a second of that which state may take. What does not fit is skipped, and not sent late.
    pub budget: u32,
    /// Bytes of events that wait to be sent, or for the peer's word that they came.
    pub waiting: u32,
    /// How good it is for a game. Good until it is measured, and for a peer that is reached by way of the host.
    pub quality: Quality,
    /// Why it is not good.
    pub cause: Option<Cause>,
    /// How direct it is. `None` for a peer that is reached by way of the host.
    pub kind: Option<PathKind>,
    /// Bytes sent so far.
    pub bytes_sent: u64,
    /// Bytes received so far.
    pub bytes_received: u64,
}

/// Nothing was heard of this peer for 2 seconds. It may come back; it leaves after 10.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq, Reflect)]
#[reflect(Component, Clone, Debug, Default, PartialEq)]
pub struct Unresponsive;

/// Another peer has joined. A notice, on every peer; players' entities are made on [`PlayerEntered`].
#[derive(Event, Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerJoined {
    /// Who.
    pub id: PeerId,
    /// Its [`Peer`] entity.
    pub peer: Entity,
}

/// Another peer has left. Its entities are gone already; its [`Peer`] entity goes after this.
#[derive(Event, Clone, Debug, PartialEq, Eq)]
pub struct PeerLeft {
    /// Who.
    pub id: PeerId,
    /// Its [`Peer`] entity.
    pub peer: Entity,
    /// Why. It has the verb already: write it as `{id} {reason}`, as in "1a2b3c4d left the room".
    pub reason: DisconnectReason,
}

/// A peer was not let in, or cannot be played with: its version or its shared types differ, or the room is full.
#[derive(Event, Clone, Debug, PartialEq, Eq)]
pub struct PeerRefused {
    /// Who.
    pub id: PeerId,
    /// Why.
    pub reason: DisconnectReason,
}

/// A peer told something that a rule forbids, such as a write to an entity of another's. It had no effect. Honest peers do
/// not: their game was changed, or they break the rules; [`KickPeer`](crate::KickPeer) sends them away.
///
/// At most once a second for each peer, however often it happens.
#[derive(Event, Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerDenied {
    /// Who. Under a host, guests only hear of the host.
    pub id: PeerId,
    /// What. It has the verb already: write it as `{id} {denied}`.
    pub denied: Denied,
}

/// A player has entered, and its entities are to be made here, with [`ControlledBy(player.id())`](crate::ControlledBy).
///
/// Under a host it fires on the host, for each player and for itself. In a mesh it fires on the player's own peer,
/// and offline too. A player enters once: not again when an offline game goes online, nor when the host changes.
#[derive(Event, Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlayerEntered {
    id: PeerId,
    slot: u16,
}

impl PlayerEntered {
    /// The player's peer.
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// The player's seat, from 0.
    pub fn slot(&self) -> u16 {
        self.slot
    }

    /// A colour that differs from those of the others.
    pub fn color(&self) -> Color {
        color(self.slot)
    }
}

/// Neighbouring slots are far apart on the wheel: the golden angle.
fn color(slot: u16) -> Color {
    Color::hsl((f32::from(slot) * 137.508 + 15.0) % 360.0, 0.75, 0.6)
}

/// The entity of each peer, and what is known of peers that have none yet.
#[derive(Resource, Default)]
pub(crate) struct Peers {
    entities: BTreeMap<PeerId, Entity>,
    strangers: BTreeMap<PeerId, PeerPath>,
    /// When the game was last told that a peer does what it may not.
    denied: BTreeMap<PeerId, Duration>,
    /// Whether this peer's own player has entered.
    pub(crate) entered: bool,
}

impl Peers {
    /// Whether the peer has joined, as far as the game knows.
    pub(crate) fn is_here(&self, id: PeerId) -> bool {
        self.entities.contains_key(&id)
    }
}

pub(crate) fn plugin(app: &mut App) {
    app.init_resource::<Peers>().register_type::<Peer>().register_type::<PeerPath>().register_type::<Unresponsive>();
}

/// This peer's own player enters, unless it has.
pub(crate) fn enter(world: &mut World) {
    if !core::mem::replace(&mut world.resource_mut::<Peers>().entered, true) {
        let room = world.resource::<Room>();
        let (id, slot) = (room.me(), room.slot().unwrap_or(0));
        world.trigger(PlayerEntered { id, slot });
    }
}

/// A peer has joined.
pub(crate) fn joined(world: &mut World, id: PeerId, member: MemberId) {
    let path = world.resource_mut::<Peers>().strangers.remove(&id).unwrap_or_default();
    let peer = world.spawn_empty().id();
    world.resource_mut::<Peers>().entities.insert(id, peer);
    world.entity_mut(peer).insert((Peer { id, slot: member.slot }, path));
    tracing::debug!("{id} joined, in slot {}", member.slot);
    world.trigger(PeerJoined { id, peer });
    let net = world.resource::<Net>();
    if net.topology == Topology::Host && net.is_leader() {
        world.trigger(PlayerEntered { id, slot: member.slot });
    }
}

/// A peer has left: what it controlled goes, where it is owned.
pub(crate) fn left(world: &mut World, id: PeerId, reason: &DisconnectReason) {
    for entity in control::controlled_by(world, id) {
        world.try_despawn(entity).ok();
    }
    if let Some(mut heads) = world.get_resource_mut::<Playheads>() {
        heads.left(id);
    }
    let peers = &mut *world.resource_mut::<Peers>();
    peers.strangers.remove(&id);
    peers.denied.remove(&id);
    if let Some(peer) = world.resource_mut::<Peers>().entities.remove(&id) {
        tracing::debug!("{id} {reason}");
        world.trigger(PeerLeft { id, peer, reason: reason.clone() });
        world.try_despawn(peer).ok();
    }
}

/// A peer did what it may not.
pub(crate) fn denied(world: &mut World, id: PeerId, denied: Denied) {
    let now = world.resource::<Clock>().now;
    let peers = &mut *world.resource_mut::<Peers>();
    let due = peers.denied.get(&id).is_none_or(|last| *last + DENIED_INTERVAL <= now);
    // One that is no peer of the room any more needs no notice, and would be kept for ever.
    if due && peers.entities.contains_key(&id) {
        peers.denied.insert(id, now);
        tracing::debug!("{id} {denied}: ignored");
        world.trigger(PeerDenied { id, denied });
    }
}

/// This peer is out of the session, and so are the others.
pub(crate) fn all_left(world: &mut World, reason: &DisconnectReason) {
    for id in world.resource::<Peers>().entities.keys().copied().collect::<Vec<_>>() {
        left(world, id, reason);
    }
    world.resource_mut::<Peers>().strangers.clear();
}

/// The peer is heard, or not.
pub(crate) fn responsive(world: &mut World, id: PeerId, responsive: bool) {
    let Some(peer) = world.resource::<Peers>().entities.get(&id).copied() else { return };
    let Ok(mut peer) = world.get_entity_mut(peer) else { return };
    if responsive {
        peer.remove::<Unresponsive>();
    } else {
        peer.insert(Unresponsive);
    }
}

/// Its link has new figures.
pub(crate) fn measured(world: &mut World, id: PeerId, figures: &Figures) {
    change(world, id, |path| {
        let Figures { rtt, jitter, queueing, loss, loss_received, bytes_sent, bytes_received, .. } = *figures;
        let Figures { rate, budget, waiting, quality, cause, .. } = *figures;
        let kind = path.kind;
        *path = PeerPath {
            rtt,
            jitter,
            loss,
            loss_received,
            queueing,
            rate,
            budget,
            waiting,
            quality,
            cause,
            kind,
            bytes_sent,
            bytes_received,
        };
    });
}

/// Its link goes by this path.
pub(crate) fn reached(world: &mut World, id: PeerId, reached: &Path) {
    change(world, id, |path| {
        if path.kind.replace(reached.kind) != Some(reached.kind) {
            tracing::debug!("{id} is reached from {} at {} ({:?})", reached.local, reached.remote, reached.kind);
        }
    });
}

fn change(world: &mut World, id: PeerId, change: impl FnOnce(&mut PeerPath)) {
    let peers = &mut *world.resource_mut::<Peers>();
    if let Some(peer) = peers.entities.get(&id).copied() {
        if let Some(mut path) = world.get_mut::<PeerPath>(peer) {
            change(&mut path);
        }
    } else if peers.strangers.len() < MAX_STRANGERS || peers.strangers.contains_key(&id) {
        change(peers.strangers.entry(id).or_default());
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use bevy_ecs::{observer::On, system::ResMut};
    use coplay_proto::{NetId, session::Fact};

    use super::*;
    use crate::{TestNet, room::Room};

    #[derive(Resource, Default)]
    struct Seen(Vec<(PeerId, Denied)>);

    #[test]
    fn what_a_peer_may_not_do_is_noticed_once_a_second_and_forgotten_with_it() {
        let mut net = TestNet::mesh(3, |app| {
            app.init_resource::<Seen>();
            app.add_observer(|denied: On<PeerDenied>, mut seen: ResMut<Seen>| seen.0.push((denied.id, denied.denied)));
        });
        let [one, two] = [1, 2].map(|peer| net.app(peer).world().resource::<Room>().me());
        let stranger = PeerId::from_u128(99);
        let not_owner = Denied::NotOwner(NetId { creator: MemberId::default(), counter: 7 });
        for _ in 0..180 {
            let facts = &mut net.app(0).world_mut().resource_mut::<Net>().facts;
            for _ in 0..100 {
                facts.extend([one, two, stranger].map(|peer| Fact::Denied(peer, not_owner)));
            }
            net.step(1);
        }
        let seen = core::mem::take(&mut net.app(0).world_mut().resource_mut::<Seen>().0);
        assert_eq!(seen, [(one, not_owner), (two, not_owner)].repeat(3));
        net.end(1);
        net.run_secs(0.5);
        let denied = &net.app(0).world().resource::<Peers>().denied;
        assert_eq!(denied.keys().collect::<Vec<_>>(), [&two]);
    }
}
