//! What is done with an input? Its presence comes from the owner of the entity, its values from the controller.

use core::{marker::PhantomData, sync::atomic::AtomicBool};
use std::sync::Arc;

use bevy_ecs::{
    change_detection::{DetectChanges, Tick as ChangeTick},
    component::Component,
    entity::{Entity, EntityHashMap},
    lifecycle::Remove,
    observer::On,
    query::{Has, QueryState, With},
    resource::Resource,
    system::ResMut,
    world::{Ref, World},
};
use bytes::Bytes;
use coplay_proto::NetId;

use crate::{
    component::{Arrival, Changes, ComponentType, decode, set, unreadable, unsendable},
    control::{Mine, NetEntity, Owned},
    net_type::{NetInput, to_bytes},
    part::Part,
    refs::Refs,
    registry::Type,
};

/// What an input can do besides what every component can.
pub(crate) trait InputType: ComponentType {
    /// The controller of an entity that is owned here says this.
    fn control(&self, world: &mut World, entity: Entity, value: &[u8]);

    /// What the game here says for entities that are owned elsewhere, if it has changed since the last time.
    fn say(&self, world: &mut World) -> Vec<(NetId, Bytes)>;
}

/// `derive(NetInput)`.
pub(crate) struct Input<T> {
    place: Type,
    name: Arc<str>,
    complained: AtomicBool,
    component: PhantomData<fn() -> T>,
}

/// What is remembered of all inputs of one type.
#[derive(Resource)]
pub(crate) struct InputColumn<T: Component> {
    owned: Option<QueryState<(Entity, Ref<'static, NetEntity>, Ref<'static, T>), With<Owned>>>,
    mine: Option<QueryState<(Entity, &'static NetEntity, Ref<'static, T>, Has<Owned>), With<Mine>>>,
    /// When the plugin itself has last written the component of a remote entity.
    written: EntityHashMap<ChangeTick>,
    /// When inputs were last said.
    said: Option<ChangeTick>,
    /// What was said once is not said again.
    complained: bool,
}

impl<T: Component> Default for InputColumn<T> {
    fn default() -> Self {
        Self { owned: None, mine: None, written: EntityHashMap::default(), said: None, complained: false }
    }
}

impl<T: NetInput> Input<T> {
    pub(crate) fn new(place: Type, name: Arc<str>) -> Self {
        Self { place, name, complained: AtomicBool::new(false), component: PhantomData }
    }

    fn decode(&self, world: &World, value: &[u8]) -> Option<T> {
        let decoded = decode(world, value).inspect_err(|error| unreadable(&self.name, &self.complained, error));
        decoded.ok().map(|(value, _)| value)
    }
}

impl<T: NetInput> ComponentType for Input<T> {
    fn place(&self) -> Type {
        self.place
    }

    fn part(&self, world: &World, value: &[u8]) -> Option<(Box<dyn Part>, Vec<NetId>)> {
        Some((Box::new(self.decode(world, value)?), Vec::new()))
    }

    fn landed(&self, world: &mut World, entity: Entity, _: Arrival) {
        let Some(value) = world.get_entity(entity).ok().and_then(|entity| entity.get_ref::<T>()) else { return };
        let written = value.last_changed();
        world.resource_mut::<InputColumn<T>>().written.insert(entity, written);
    }

    fn receive(&self, world: &mut World, entity: Entity, value: &[u8], _: Arrival) -> Vec<NetId> {
        // Once it is there, its controller knows better.
        if world.get::<T>(entity).is_none() {
            self.restore(world, entity, value);
        }
        Vec::new()
    }

    fn remove(&self, world: &mut World, entity: Entity) {
        if let Ok(mut entity) = world.get_entity_mut(entity) {
            entity.remove::<T>();
        }
    }

    fn collect(&self, world: &mut World, since: ChangeTick, changes: &mut Changes) {
        let query = world.resource_mut::<InputColumn<T>>().owned.take();
        let mut query = query.unwrap_or_else(|| QueryState::new(world));
        query.update_archetypes(world);
        for (_, name, value) in query.iter_manual(world) {
            if (value.is_added_after(since) || name.is_added_after(since))
                && let Ok(value) = to_bytes(&*value, world.resource::<Refs>())
            {
                changes.writes.push((name.id(), self.place, value));
            }
        }
        world.resource_mut::<InputColumn<T>>().owned = Some(query);
    }

    fn restore(&self, world: &mut World, entity: Entity, value: &[u8]) {
        if let Some(value) = self.decode(world, value)
            && let Some(written) = set(world, entity, value)
        {
            world.resource_mut::<InputColumn<T>>().written.insert(entity, written);
        }
    }

    fn refresh(&self, _: &mut World, _: Entity, _: &[u8]) {}

    fn is_on(&self, world: &World, entity: Entity) -> bool {
        world.get::<T>(entity).is_some()
    }

    /// Not compared between peers: only the owner has the values.
    fn encode(&self, _: &World, _: Entity) -> Option<Bytes> {
        None
    }
}

impl<T: NetInput> InputType for Input<T> {
    fn control(&self, world: &mut World, entity: Entity, value: &[u8]) {
        if world.get::<T>(entity).is_some()
            && let Some(value) = self.decode(world, value)
        {
            set(world, entity, value);
        }
    }

    fn say(&self, world: &mut World) -> Vec<(NetId, Bytes)> {
        let query = world.resource_mut::<InputColumn<T>>().mine.take();
        let mut query = query.unwrap_or_else(|| QueryState::new(world));
        query.update_archetypes(world);
        let (refs, column) = (world.resource::<Refs>(), world.resource::<InputColumn<T>>());
        let (mut said, mut failure) = (Vec::new(), None);
        for (entity, name, value, owned) in query.iter_manual(world) {
            let changed = column.said.is_none_or(|said| value.is_changed_after(said));
            if owned || !changed || column.written.get(&entity) == Some(&value.last_changed()) {
                continue;
            }
            match to_bytes(&*value, refs) {
                Ok(bytes) => said.push((name.id(), bytes)),
                Err(error) => failure = Some((entity, error)),
            }
        }
        let now = world.change_tick();
        let column = &mut *world.resource_mut::<InputColumn<T>>();
        (column.mine, column.said) = (Some(query), Some(now));
        if let Some((entity, error)) = failure
            && !core::mem::replace(&mut column.complained, true)
        {
            unsendable(&self.name, entity, &error);
        }
        said
    }
}

/// The component is gone, and what was remembered of it.
pub(crate) fn forget_input<T: Component>(remove: On<'_, '_, Remove, T>, mut column: ResMut<'_, InputColumn<T>>) {
    column.written.remove(&remove.entity);
}
