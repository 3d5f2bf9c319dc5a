//! What is done with a component of a shared type? Between the world and the bytes that the session carries.

use core::{
    marker::PhantomData,
    sync::atomic::{AtomicBool, Ordering},
};
use std::{collections::BTreeMap, sync::Arc};

use bevy_ecs::{
    change_detection::{DetectChanges, Tick as ChangeTick},
    component::{Component, Mutable},
    entity::{Entity, EntityHashMap},
    lifecycle::Remove,
    observer::On,
    query::{Has, QueryState},
    resource::Resource,
    system::ResMut,
    world::{Ref, World},
};
use bytes::Bytes;
use coplay_proto::{NetId, PeerId, Tick, codec::DecodeError};

use crate::{
    control::{NetEntity, Owned, Remote},
    interpolate::{Playheads, Track},
    net::Net,
    net_type::{EncodeError, EntityRefs, NetType, Networked, from_bytes, to_bytes},
    part::Part,
    refs::{Refs, Resolver},
    registry::Type,
};

/// A component on its way between world and session, whatever its type is. Inputs are among them.
pub(crate) trait ComponentType: Send + Sync {
    /// Its place in the schema.
    fn place(&self) -> Type;

    /// A value that has arrived, to be put on a new entity, and the entities it names that are not here yet.
    fn part(&self, world: &World, value: &[u8]) -> Option<(Box<dyn Part>, Vec<NetId>)>;

    /// The part is on the entity.
    fn landed(&self, world: &mut World, entity: Entity, arrival: Arrival);

    /// A newer value has arrived. Returns the entities it names that are not here yet.
    fn receive(&self, world: &mut World, entity: Entity, value: &[u8], arrival: Arrival) -> Vec<NetId>;

    /// The owner has removed it.
    fn remove(&self, world: &mut World, entity: Entity);

    /// Reads what has changed since this tick of the world.
    fn collect(&self, world: &mut World, since: ChangeTick, changes: &mut Changes);

    /// Undoes what was done to the component of an entity that is not owned here.
    fn restore(&self, world: &mut World, entity: Entity, value: &[u8]);

    /// An entity that the newest value names is here now.
    fn refresh(&self, world: &mut World, entity: Entity, value: &[u8]) {
        self.restore(world, entity, value);
    }

    /// Whether the entity has it.
    fn is_on(&self, world: &World, entity: Entity) -> bool;

    /// The value as it would be sent.
    fn encode(&self, world: &World, entity: Entity) -> Option<Bytes>;

    /// Shows what lies between the received values now.
    fn play(&self, _world: &mut World) {}

    /// The entity is owned here from now on: the newest value counts, not the one that is shown.
    fn adopt(&self, _world: &mut World, _entity: Entity) {}
}

/// When a value is from, and when it arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// The owner.
    pub(crate) owner: PeerId,
    /// The owner's tick.
    pub(crate) tick: Tick,
    /// The room's tick at this moment.
    pub(crate) now: f64,
}

/// What has changed in the world.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// On entities that are owned here: to be sent.
    pub(crate) writes: Vec<(NetId, Type, Bytes)>,
    /// On entities that are not: to be undone.
    pub(crate) foreign: Vec<(NetId, Entity, Type)>,
}

/// State: `derive(Networked)`.
pub(crate) struct State<T> {
    place: Type,
    name: Arc<str>,
    complained: AtomicBool,
    component: PhantomData<fn() -> T>,
}

/// What is remembered of all components of one type.
#[derive(Resource)]
pub(crate) struct Column<T: Component> {
    query: Option<Changed<T>>,
    /// When the plugin itself has last written the component of a remote entity: any other change is another's.
    written: EntityHashMap<ChangeTick>,
    tracks: BTreeMap<Entity, Track<T>>,
    /// What was said once is not said again.
    complained: bool,
}

type Changed<T> = QueryState<(Entity, Ref<'static, NetEntity>, Ref<'static, T>, Has<Owned>)>;

impl<T: Component> Default for Column<T> {
    fn default() -> Self {
        Self { query: None, written: EntityHashMap::default(), tracks: BTreeMap::new(), complained: false }
    }
}

impl<T: Networked> State<T> {
    pub(crate) fn new(place: Type, name: Arc<str>) -> Self {
        Self { place, name, complained: AtomicBool::new(false), component: PhantomData }
    }

    fn decode(&self, world: &World, value: &[u8]) -> Option<(T, Vec<NetId>)> {
        decode(world, value).inspect_err(|error| unreadable(&self.name, &self.complained, error)).ok()
    }

    fn set(&self, world: &mut World, entity: Entity, value: T) {
        if let Some(written) = set(world, entity, value) {
            world.resource_mut::<Column<T>>().written.insert(entity, written);
        }
    }
}

impl<T: Networked> ComponentType for State<T> {
    fn place(&self) -> Type {
        self.place
    }

    fn part(&self, world: &World, value: &[u8]) -> Option<(Box<dyn Part>, Vec<NetId>)> {
        let (value, missing) = self.decode(world, value)?;
        Some((Box::new(value), missing))
    }

    fn landed(&self, world: &mut World, entity: Entity, arrival: Arrival) {
        let Some(value) = world.get_entity(entity).ok().and_then(|entity| entity.get_ref::<T>()) else { return };
        let (written, track) = (value.last_changed(), Track::new(arrival.tick, T::clone(&value)));
        let interpolates = T::INTERPOLATE && world.contains_resource::<Playheads>();
        let column = &mut *world.resource_mut::<Column<T>>();
        column.written.insert(entity, written);
        if interpolates {
            column.tracks.insert(entity, track);
        }
    }

    fn receive(&self, world: &mut World, entity: Entity, value: &[u8], arrival: Arrival) -> Vec<NetId> {
        let Some((value, missing)) = self.decode(world, value) else { return Vec::new() };
        let remote = T::INTERPOLATE && world.get::<Remote>(entity).is_some();
        if let Some(shown) = world.get::<T>(entity).filter(|_| remote).cloned()
            && let Some(mut heads) = world.get_resource_mut::<Playheads>()
        {
            heads.arrived(arrival);
            let head = heads.head(arrival.owner);
            let tracks = &mut world.resource_mut::<Column<T>>().tracks;
            let start = || Track::new(Tick(arrival.tick.0.saturating_sub(1)), shown);
            tracks.entry(entity).or_insert_with(start).push(arrival.tick, value, head);
        } else {
            self.set(world, entity, value);
        }
        missing
    }

    fn remove(&self, world: &mut World, entity: Entity) {
        if let Ok(mut entity) = world.get_entity_mut(entity) {
            entity.remove::<T>();
        }
    }

    fn collect(&self, world: &mut World, since: ChangeTick, changes: &mut Changes) {
        let query = world.resource_mut::<Column<T>>().query.take();
        let mut query = query.unwrap_or_else(|| QueryState::new(world));
        query.update_archetypes(world);
        let (refs, column) = (world.resource::<Refs>(), world.resource::<Column<T>>());
        let mut failure = None;
        for (entity, name, value, owned) in query.iter_manual(world) {
            if !value.is_changed_after(since) && !name.is_added_after(since) {
                continue;
            }
            if !owned {
                if column.written.get(&entity) != Some(&value.last_changed()) {
                    changes.foreign.push((name.id(), entity, self.place));
                }
                continue;
            }
            match to_bytes(&*value, refs) {
                Ok(bytes) => changes.writes.push((name.id(), self.place, bytes)),
                Err(error) => failure = Some((entity, error)),
            }
        }
        let column = &mut *world.resource_mut::<Column<T>>();
        column.query = Some(query);
        if let Some((entity, error)) = failure
            && !core::mem::replace(&mut column.complained, true)
        {
            unsendable(&self.name, entity, &error);
        }
    }

    fn restore(&self, world: &mut World, entity: Entity, value: &[u8]) {
        let owner = world.resource::<Net>().owner_of(world.resource::<Refs>().name(entity));
        let head = owner.and_then(|owner| Some(world.get_resource::<Playheads>()?.head(owner)));
        let shown = world.resource::<Column<T>>().tracks.get(&entity).and_then(|track| Some(track.at(head?)));
        if let Some(value) = shown.or_else(|| Some(self.decode(world, value)?.0)) {
            self.set(world, entity, value);
        }
    }

    fn refresh(&self, world: &mut World, entity: Entity, value: &[u8]) {
        let Some((value, _)) = self.decode(world, value) else { return };
        let moving = world.resource_mut::<Column<T>>().tracks.get_mut(&entity).is_some_and(|track| {
            track.replace_newest(value.clone());
            track.is_moving()
        });
        if !moving {
            self.set(world, entity, value);
        }
    }

    fn is_on(&self, world: &World, entity: Entity) -> bool {
        world.get::<T>(entity).is_some()
    }

    fn encode(&self, world: &World, entity: Entity) -> Option<Bytes> {
        to_bytes(world.get::<T>(entity)?, world.resource::<Refs>()).ok()
    }

    fn play(&self, world: &mut World) {
        if !T::INTERPOLATE {
            return;
        }
        world.resource_scope(|world, mut column: bevy_ecs::world::Mut<'_, Column<T>>| {
            let column = &mut *column;
            for (entity, track) in column.tracks.iter_mut().filter(|(_, track)| track.is_moving()) {
                let name = world.resource::<Refs>().name(*entity);
                let Some(owner) = world.resource::<Net>().owner_of(name) else { continue };
                if let Some(value) = track.play(world.resource::<Playheads>().head(owner))
                    && let Some(mut component) = world.get_mut::<T>(*entity)
                {
                    *component = value;
                    column.written.insert(*entity, component.last_changed());
                }
            }
        });
    }

    fn adopt(&self, world: &mut World, entity: Entity) {
        let column = &mut *world.resource_mut::<Column<T>>();
        column.written.remove(&entity);
        if let Some(newest) = column.tracks.remove(&entity).map(Track::into_newest) {
            set(world, entity, newest);
        }
    }
}

/// The component is gone, and what was remembered of it.
pub(crate) fn forget<T: Component>(remove: On<'_, '_, Remove, T>, mut column: ResMut<'_, Column<T>>) {
    column.written.remove(&remove.entity);
    column.tracks.remove(&remove.entity);
}

/// A value of its bytes, and the entities it names that are not here yet.
pub(crate) fn decode<T: NetType>(world: &World, value: &[u8]) -> Result<(T, Vec<NetId>), DecodeError> {
    let mut resolver = Resolver::new(world);
    let value = from_bytes(value, &mut resolver as &mut dyn EntityRefs)?;
    Ok((value, resolver.missing))
}

/// Writes or inserts a component. Returns the tick at which it has changed by that.
pub(crate) fn set<T: Component<Mutability = Mutable>>(
    world: &mut World,
    entity: Entity,
    value: T,
) -> Option<ChangeTick> {
    if let Some(mut component) = world.get_mut::<T>(entity) {
        *component = value;
        return Some(component.last_changed());
    }
    world.get_entity_mut(entity).ok()?.insert(value);
    Some(world.get_entity(entity).ok()?.get_ref::<T>()?.last_changed())
}

/// Says, the first time for a type, that what a peer sent is no value of it.
pub(crate) fn unreadable(name: &str, complained: &AtomicBool, error: &DecodeError) {
    if !complained.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            "a peer sent what is no value of `{name}`, it is ignored: {error}. Further ones are not reported"
        );
    }
}

/// Says that a value is not sent.
pub(crate) fn unsendable(name: &str, entity: Entity, error: &EncodeError) {
    tracing::error!("`{name}` of entity {entity} is not sent, other peers keep its last value: {error}");
}
