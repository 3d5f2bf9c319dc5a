//! How does the hierarchy cross? `ChildOf` of a shared entity whose parent is shared too, as a reference to the parent.

use bevy_ecs::{
    change_detection::{DetectChanges, Tick as ChangeTick},
    entity::Entity,
    hierarchy::ChildOf,
    query::{Has, QueryState},
    resource::Resource,
    world::{Ref, World},
};
use bytes::Bytes;
use coplay_proto::{
    NetId,
    codec::{BitReader, BitWriter, DecodeError},
    schema::{Delivery, FieldSchema, TypeKind, TypeSchema},
};

use crate::{
    component::{Arrival, Changes, ComponentType, decode},
    control::{NetEntity, Owned},
    field::{FieldOptions, NetField, Precision},
    net::Net,
    net_type::{EncodeError, EntityRefs, NetType, to_bytes},
    part::Part,
    refs::Refs,
    registry::Type,
};

/// [`ChildOf`], which is immutable, and is worth nothing without the parent.
pub(crate) struct Child {
    place: Type,
}

/// What of it crosses.
struct Parent(Option<Entity>);

static OPTIONS: FieldOptions = FieldOptions::new::<Option<Entity>>("ChildOf.0", Precision::NONE);

/// All shared entities that have a parent.
#[derive(Resource, Default)]
pub(crate) struct Children(Option<QueryState<(Entity, Ref<'static, NetEntity>, Ref<'static, ChildOf>, Has<Owned>)>>);

impl NetType for Parent {
    fn schema() -> TypeSchema {
        Child::schema()
    }

    fn write(&self, out: &mut BitWriter, refs: &dyn EntityRefs) -> Result<(), EncodeError> {
        self.0.write(out, &OPTIONS, refs)
    }

    fn read(input: &mut BitReader<'_>, refs: &mut dyn EntityRefs) -> Result<Self, DecodeError> {
        Option::<Entity>::read(input, &OPTIONS, refs).map(Self)
    }
}

impl Child {
    pub(crate) const fn new(place: Type) -> Self {
        Self { place }
    }

    pub(crate) fn schema() -> TypeSchema {
        let field = FieldSchema { name: "0".to_owned(), coding: "entity".to_owned() };
        let name = "bevy_ecs::hierarchy::ChildOf".to_owned();
        let delivery = Delivery::default();
        TypeSchema { name, kind: TypeKind::Component, optional: false, delivery, fields: vec![field] }
    }

    /// The parent, and the name of one that is not here yet.
    pub(crate) fn parent(world: &World, value: &[u8]) -> (Option<Entity>, Option<NetId>) {
        match decode::<Parent>(world, value) {
            Ok((parent, missing)) => (parent.0, missing.first().copied()),
            Err(error) => {
                tracing::debug!("a parent cannot be read and is ignored: {error}");
                (None, None)
            }
        }
    }
}

impl ComponentType for Child {
    fn place(&self) -> Type {
        self.place
    }

    fn part(&self, world: &World, value: &[u8]) -> Option<(Box<dyn Part>, Vec<NetId>)> {
        let (parent, _) = Self::parent(world, value);
        Some((Box::new(ChildOf(parent?)), Vec::new()))
    }

    fn landed(&self, _: &mut World, _: Entity, _: Arrival) {}

    fn receive(&self, world: &mut World, entity: Entity, value: &[u8], _: Arrival) -> Vec<NetId> {
        let (parent, missing) = Self::parent(world, value);
        let Ok(mut child) = world.get_entity_mut(entity) else { return Vec::new() };
        match parent {
            Some(parent) if child.get::<ChildOf>().is_some_and(|child| child.0 == parent) => {}
            Some(parent) => _ = child.insert(ChildOf(parent)),
            None => _ = child.remove::<ChildOf>(),
        }
        missing.into_iter().collect()
    }

    fn remove(&self, world: &mut World, entity: Entity) {
        if let Ok(mut entity) = world.get_entity_mut(entity) {
            entity.remove::<ChildOf>();
        }
    }

    fn collect(&self, world: &mut World, since: ChangeTick, changes: &mut Changes) {
        let children = world.get_resource_or_init::<Children>().0.take();
        let mut children = children.unwrap_or_else(|| QueryState::new(world));
        children.update_archetypes(world);
        let (refs, net) = (world.resource::<Refs>(), world.resource::<Net>());
        for (entity, name, child, owned) in children.iter_manual(world) {
            let parent = world.get_entity(child.0).ok().and_then(|parent| parent.get_ref::<NetEntity>());
            let changed = child.is_changed_after(since) || name.is_added_after(since);
            if !changed && !parent.as_ref().is_some_and(|parent| parent.is_added_after(since)) {
                continue;
            }
            let Ok(value) = to_bytes(&Parent(Some(child.0)), refs) else { continue };
            let known = net.value(name.id(), self.place);
            if known == Some(&value) {
                continue;
            }
            if !owned {
                // What this peer hangs below its own, unshared entities is its own business.
                if known.is_some() || parent.is_some() {
                    changes.foreign.push((name.id(), entity, self.place));
                }
            } else if parent.is_some() || known.is_some() {
                changes.writes.push((name.id(), self.place, value));
            }
        }
        world.get_resource_or_init::<Children>().0 = Some(children);
    }

    fn restore(&self, world: &mut World, entity: Entity, value: &[u8]) {
        let (parent, _) = Self::parent(world, value);
        let Ok(mut child) = world.get_entity_mut(entity) else { return };
        match parent {
            Some(parent) => _ = child.insert(ChildOf(parent)),
            None => _ = child.remove::<ChildOf>(),
        }
    }

    fn is_on(&self, world: &World, entity: Entity) -> bool {
        world.get::<ChildOf>(entity).is_some()
    }

    fn encode(&self, world: &World, entity: Entity) -> Option<Bytes> {
        let parent = world.get::<ChildOf>(entity)?.0;
        let refs = world.resource::<Refs>();
        refs.name(parent)?;
        to_bytes(&Parent(Some(parent)), refs).ok()
    }
}
