//! How do files, levels and replays travel? Sent to one peer, accepted or not, in chunks beside the game; told by events of
//! an entity for each.

use std::collections::{BTreeMap, VecDeque};

use bevy_app::{App, PreUpdate};
use bevy_ecs::{
    component::Component,
    entity::Entity,
    event::EntityEvent,
    lifecycle::Remove,
    observer::On,
    resource::Resource,
    schedule::IntoScheduleConfigs,
    system::{Commands, ResMut},
    world::World,
};
use bytes::Bytes;
use coplay_proto::{
    PeerId,
    bulk::{Blob, BlobId, Fact, Failure, Offer, Refusal, Unsendable},
};
use coplay_socket::{BlobShelf, Network};

use crate::{
    apply,
    blob_policy::{Answer, BlobPolicy},
    net::Links,
    peers::Peers,
    schedule::NetSystems,
};

/// Sends blobs: what is too large for an event.
pub trait BlobCommandsExt {
    /// Sends a blob to a peer, and returns an entity that stands for it, with [`BlobTransfer`] and the events of it:
    ///
    /// ```
    /// # use bevy_app::prelude::*;
    /// # use bevy_ecs::prelude::*;
    /// # use bevy_coplay::prelude::*;
    /// fn welcome(joined: On<PeerJoined>, mut commands: Commands) {
    ///     let level = Blob::new("level", vec![7; 100_000]);
    ///     commands.send_blob(joined.id, level).observe(|sent: On<BlobSent>| println!("{} has the level", sent.to));
    /// }
    ///
    /// let mut net = TestNet::mesh(2, |app| {
    ///     app.insert_resource(BlobPolicy::accept(1 << 20)).add_observer(welcome).add_observer(
    ///         |level: On<BlobReceived>, mut commands: Commands| {
    ///             assert_eq!(level.bytes.len(), 100_000);
    ///             // commands.spawn(..)
    ///             # commands.spawn(Got);
    ///         },
    ///     );
    /// });
    /// net.run_secs(2.0);
    /// # #[derive(Component)] struct Got;
    /// # let world = net.app(1).world_mut();
    /// # assert_eq!(world.query::<&Got>().iter(world).count(), 1);
    /// ```
    ///
    /// What becomes of it is told here by [`BlobProgress`], and [`BlobSent`] or [`BlobFailed`] at its end; there by
    /// [`BlobOffered`], [`BlobProgress`], and [`BlobReceived`] or [`BlobFailed`]. Nothing of it moves before the receiver has
    /// accepted it, by its [`BlobPolicy`]: by default, none is. After the end the entity is despawned. [`CancelBlob`], or
    /// despawning the entity, ends it before.
    ///
    /// * To whom: peers that this one is connected with. Under a host, guests reach the host alone.
    /// * How many: four at once to each peer, in turn, so that a small one does not wait for a large one; 64 in all, the
    ///   others in line.
    /// * How fast: as fast as the path is without making events and state wait: these may take a quarter of a round trip
    ///   longer. By a relay of the signaling server: 16 KiB a second.
    /// * How large: as large as the receiver says. The sender holds what it was given, or [reads it](Blob::from_source) bit
    ///   by bit. But a game's own files belong on an HTTP server: it has a cache, and players do not have to upload.
    /// * If the connection breaks, it fails on both sides. Sent again within two minutes, it goes on where it was: the
    ///   receiver knows it by its name, size and digest. If it failed when all of it was sent, it may have arrived.
    fn send_blob(&mut self, to: PeerId, blob: Blob) -> bevy_ecs::system::EntityCommands<'_>;
}

impl BlobCommandsExt for Commands<'_, '_> {
    fn send_blob(&mut self, to: PeerId, blob: Blob) -> bevy_ecs::system::EntityCommands<'_> {
        let entity = self.spawn_empty().id();
        self.queue(move |world: &mut World| send(world, entity, to, blob));
        self.entity(entity)
    }
}

/// A blob on its way from or to a peer, or offered. The entity goes when it is at its end; who despawns it before cancels it.
#[derive(Component, Clone, Debug, PartialEq, Eq)]
#[component(immutable)]
pub struct BlobTransfer {
    /// With whom.
    pub peer: PeerId,
    /// Whether it comes from the peer.
    pub incoming: bool,
    /// What the sender calls it, 1 to 128 bytes. Of another's: check it before a path is made of it.
    pub name: String,
    /// How many bytes it has.
    pub size: u64,
    /// What the sender says of it besides, at most 1,024 bytes.
    pub metadata: Bytes,
}

/// A peer would send a blob. If the [`BlobPolicy`] leaves it to the game, [`AcceptBlob`] or [`RefuseBlob`] is due, some time:
/// the entity has [`BlobTransfer`].
#[derive(EntityEvent, Clone, Debug, PartialEq, Eq)]
pub struct BlobOffered {
    /// What stands for it here.
    pub entity: Entity,
    /// Who would.
    pub from: PeerId,
    /// What it calls it.
    pub name: String,
    /// How many bytes it has.
    pub size: u64,
    /// What else is said of it.
    pub metadata: Bytes,
}

/// So much of a blob is with the receiver: told on both sides when it begins, and then about ten times a second.
#[derive(EntityEvent, Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobProgress {
    /// What stands for it here.
    pub entity: Entity,
    /// So many bytes.
    pub bytes: u64,
    /// Of so many.
    pub size: u64,
}

/// The next bytes of a blob that was [accepted in chunks](AcceptBlob::stream), or is too large to be handed over as one.
/// Whether they are the right ones, [`BlobReceived`] says, when all are here.
#[derive(EntityEvent, Clone, Debug, PartialEq, Eq)]
pub struct BlobChunk {
    /// What stands for it here.
    pub entity: Entity,
    /// Where they belong. The first chunk may be beyond 0, if what is before it came before the connection broke.
    pub offset: u64,
    /// The bytes.
    pub bytes: Bytes,
}

/// A blob is here, and is what was sent. Its entity goes after this.
#[derive(EntityEvent, Clone, Debug, PartialEq, Eq)]
pub struct BlobReceived {
    /// What stood for it here.
    pub entity: Entity,
    /// Who sent it.
    pub from: PeerId,
    /// What it calls it.
    pub name: String,
    /// What else is said of it.
    pub metadata: Bytes,
    /// It; empty if it came in [`BlobChunk`]s.
    pub bytes: Bytes,
}

/// A blob is with the receiver, and is what was sent. Its entity goes after this.
#[derive(EntityEvent, Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobSent {
    /// What stood for it here.
    pub entity: Entity,
    /// Who has it.
    pub to: PeerId,
}

/// A blob does not arrive: told on both sides. Its entity goes after this.
#[derive(EntityEvent, Clone, Debug, PartialEq, Eq)]
pub struct BlobFailed {
    /// What stood for it here.
    pub entity: Entity,
    /// With whom.
    pub peer: PeerId,
    /// Why: [`Failure::Cancelled`] and [`Failure::CancelledByPeer`] if somebody wanted it so.
    pub failure: Failure,
}

/// Accepts a blob that was offered: `commands.trigger(AcceptBlob::whole(offered.entity))`. Has an effect once.
#[derive(EntityEvent, Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptBlob {
    entity: Entity,
    stream: bool,
}

impl AcceptBlob {
    /// To be handed over as one; or in chunks, if it is larger than [`BlobPolicy::max_whole`].
    pub const fn whole(entity: Entity) -> Self {
        Self { entity, stream: false }
    }

    /// To be handed over in [`BlobChunk`]s, as they come: a file can be written without being in memory as one.
    pub const fn stream(entity: Entity) -> Self {
        Self { entity, stream: true }
    }
}

/// Does not accept a blob that was offered. [`BlobFailed`] follows on both sides.
#[derive(EntityEvent, Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefuseBlob {
    /// What stands for it.
    pub entity: Entity,
}

/// Sends or takes no more of a blob. [`BlobFailed`] follows on both sides, unless it was at its end.
#[derive(EntityEvent, Clone, Copy, Debug, PartialEq, Eq)]
pub struct CancelBlob {
    /// What stands for it.
    pub entity: Entity,
}

/// The blobs that are not at their end, and what was told of them that the world does not know yet.
#[derive(Resource, Default)]
pub(crate) struct Blobs {
    transfers: BTreeMap<(PeerId, BlobId), Transfer>,
    facts: VecDeque<(PeerId, Fact)>,
    /// Offers of peers that have not joined yet: for each as many as its link lets through.
    early: Vec<(PeerId, Offer)>,
    /// What could not be sent at all, to be told in the next frame: who sent it may want to observe it.
    unsent: Vec<BlobFailed>,
    /// What is kept of blobs when a link breaks, for all rooms one after the other.
    pub(crate) shelf: BlobShelf,
}

struct Transfer {
    entity: Entity,
    /// How much memory was promised to it.
    held: u64,
}

impl Blobs {
    /// The links told this.
    pub(crate) fn told(&mut self, peer: PeerId, fact: Fact) {
        self.facts.push_back((peer, fact));
    }

    fn find(&self, entity: Entity) -> Option<(PeerId, BlobId)> {
        self.transfers.iter().find(|(_, transfer)| transfer.entity == entity).map(|(key, _)| *key)
    }
}

pub(crate) fn plugin(app: &mut App) {
    app.init_resource::<Blobs>()
        .init_resource::<BlobPolicy>()
        .add_observer(|accept: On<AcceptBlob>, mut commands: Commands| {
            let AcceptBlob { entity, stream } = *accept.event();
            commands.queue(move |world: &mut World| accepted(world, entity, stream));
        })
        .add_observer(|refuse: On<RefuseBlob>, mut commands: Commands| {
            let entity = refuse.entity;
            commands.queue(move |world: &mut World| cancel(world, entity));
        })
        .add_observer(|cancelled: On<CancelBlob>, mut commands: Commands| {
            let entity = cancelled.entity;
            commands.queue(move |world: &mut World| cancel(world, entity));
        })
        .add_observer(|gone: On<Remove, BlobTransfer>, mut blobs: ResMut<Blobs>, mut commands: Commands| {
            // Nobody is there to be told of the end.
            if let Some(key) = blobs.find(gone.entity) {
                blobs.transfers.remove(&key);
                commands.queue(move |world: &mut World| on_network(world, |network| network.cancel_blob(key.0, key.1)));
            }
        })
        .add_systems(PreUpdate, apply.in_set(NetSystems::Apply).after(apply::apply));
}

fn send(world: &mut World, entity: Entity, to: PeerId, blob: Blob) {
    let network = &mut world.non_send_mut::<Links>().0;
    let (name, size, metadata) = (blob.name().to_owned(), blob.size(), blob.said().clone());
    let sent = network.as_mut().ok_or(Unsendable::NotConnected).and_then(|network| network.send_blob(to, blob));
    let Ok(mut here) = world.get_entity_mut(entity) else { return };
    here.insert(BlobTransfer { peer: to, incoming: false, name, size, metadata });
    let blobs = &mut *world.resource_mut::<Blobs>();
    match sent {
        Ok(number) => _ = blobs.transfers.insert((to, BlobId::Out(number)), Transfer { entity, held: 0 }),
        Err(why) => blobs.unsent.push(BlobFailed { entity, peer: to, failure: why.into() }),
    }
}

/// Tells the game what has happened: one fact after another, in their order. Observers run in between.
fn apply(world: &mut World) {
    for failed in core::mem::take(&mut world.resource_mut::<Blobs>().unsent) {
        end(world, failed.entity, failed);
    }
    let (here, early) = {
        let early = core::mem::take(&mut world.resource_mut::<Blobs>().early);
        let peers = world.resource::<Peers>();
        early.into_iter().partition::<Vec<_>, _>(|(peer, _)| peers.is_here(*peer))
    };
    world.resource_mut::<Blobs>().early = early;
    for (peer, offer) in here {
        offered(world, peer, offer);
    }
    while let Some((peer, fact)) = { world.resource_mut::<Blobs>().facts.pop_front() } {
        one(world, peer, fact);
    }
}

fn one(world: &mut World, peer: PeerId, fact: Fact) {
    let blob = fact.blob();
    let fact = match fact {
        Fact::Offered(offer) if world.resource::<Peers>().is_here(peer) => return offered(world, peer, offer),
        Fact::Offered(offer) => return world.resource_mut::<Blobs>().early.push((peer, offer)),
        fact => fact,
    };
    if fact.is_last() {
        world.resource_mut::<Blobs>().early.retain(|(from, offer)| (*from, BlobId::In(offer.number)) != (peer, blob));
    }
    let Some(entity) = world.resource::<Blobs>().transfers.get(&(peer, blob)).map(|transfer| transfer.entity) else {
        // It was refused before the game heard of it, or its entity is gone.
        return;
    };
    if fact.is_last() {
        world.resource_mut::<Blobs>().transfers.remove(&(peer, blob));
    }
    match fact {
        Fact::Offered(_) => {}
        Fact::Progress { bytes, size, .. } => world.trigger(BlobProgress { entity, bytes, size }),
        Fact::Chunk { offset, bytes, .. } => world.trigger(BlobChunk { entity, offset, bytes }),
        Fact::Received { bytes, .. } => {
            if let Some(BlobTransfer { name, metadata, .. }) = world.get::<BlobTransfer>(entity).cloned() {
                end(
                    world,
                    entity,
                    BlobReceived { entity, from: peer, name, metadata, bytes: bytes.unwrap_or_default() },
                );
            }
        }
        Fact::Sent { .. } => end(world, entity, BlobSent { entity, to: peer }),
        Fact::Failed { failure, .. } => {
            tracing::debug!("a blob from or to {peer} failed: {failure}");
            end(world, entity, BlobFailed { entity, peer, failure });
        }
    }
}

/// Tells the end of a blob, after which its entity goes.
fn end<'a, E: EntityEvent<Trigger<'a>: Default>>(world: &mut World, entity: Entity, event: E) {
    world.trigger(event);
    world.try_despawn(entity).ok();
}

fn offered(world: &mut World, from: PeerId, offer: Offer) {
    let Offer { number, name, size, metadata, .. } = offer;
    let answer = world.resource::<BlobPolicy>().answer();
    if answer == Answer::Refuse {
        tracing::debug!("{from} would send `{name}`, and no blobs are taken: insert a `BlobPolicy` that does");
        return on_network(world, |network| network.refuse_blob(from, number, Refusal::Unwanted));
    }
    let transfer = BlobTransfer { peer: from, incoming: true, name: name.clone(), size, metadata: metadata.clone() };
    let entity = world.spawn(transfer).id();
    let transfer = Transfer { entity, held: 0 };
    world.resource_mut::<Blobs>().transfers.insert((from, BlobId::In(number)), transfer);
    world.trigger(BlobOffered { entity, from, name, size, metadata });
    if answer == Answer::Accept {
        accepted(world, entity, false);
    }
}

fn accepted(world: &mut World, entity: Entity, stream: bool) {
    let Some((peer, BlobId::In(number))) = world.resource::<Blobs>().find(entity) else { return };
    let Some(size) = world.get::<BlobTransfer>(entity).map(|transfer| transfer.size) else { return };
    let (max_whole, max_total) = world.resource::<BlobPolicy>().room();
    let blobs = &mut *world.resource_mut::<Blobs>();
    let held = if stream || size > max_whole { 0 } else { size };
    let others: u64 = blobs.transfers.values().map(|transfer| transfer.held).sum();
    if others + held > max_total {
        tracing::debug!("a blob of {size} bytes from {peer} has no room beside the others");
        return on_network(world, |network| network.refuse_blob(peer, number, Refusal::Busy));
    }
    if let Some(transfer) = blobs.transfers.get_mut(&(peer, BlobId::In(number))) {
        transfer.held = held;
    }
    on_network(world, |network| network.accept_blob(peer, number, stream));
}

fn cancel(world: &mut World, entity: Entity) {
    if let Some((peer, blob)) = world.resource::<Blobs>().find(entity) {
        on_network(world, |network| network.cancel_blob(peer, blob));
    }
}

fn on_network(world: &mut World, work: impl FnOnce(&mut Network)) {
    if let Some(network) = &mut world.non_send_mut::<Links>().0 {
        work(network);
    }
}

/// The network is gone, and what was on its way with it. What it has told is told first: of a blob in chunks, what goes on
/// later begins behind them.
pub(crate) fn clear(world: &mut World) {
    while let Some((peer, fact)) = { world.resource_mut::<Blobs>().facts.pop_front() } {
        if !matches!(fact, Fact::Offered(_)) {
            one(world, peer, fact);
        }
    }
    let blobs = &mut *world.resource_mut::<Blobs>();
    blobs.early.clear();
    for ((peer, _), Transfer { entity, .. }) in core::mem::take(&mut blobs.transfers) {
        end(world, entity, BlobFailed { entity, peer, failure: Failure::Disconnected });
    }
}
