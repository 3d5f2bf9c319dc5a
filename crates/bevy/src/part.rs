//! How are several components put on an entity at once, so that an observer of one of them finds the others?

use bevy_ecs::{
    bundle::{BundleScratch, BundleWriter},
    component::{Component, ComponentsRegistrator},
    entity::Entity,
    world::World,
};

/// A component whose type only it knows.
pub(crate) trait Part {
    /// Adds it to a bundle.
    ///
    /// # Safety
    /// The registrar is of the world in which the bundle is written.
    #[expect(unsafe_code, reason = "bundles whose types are known at run time have no safe interface")]
    unsafe fn push(self: Box<Self>, bundle: &mut BundleWriter<'_>, registrar: &mut ComponentsRegistrator<'_>);
}

impl<C: Component> Part for C {
    #[expect(unsafe_code, reason = "bundles whose types are known at run time have no safe interface")]
    unsafe fn push(self: Box<Self>, bundle: &mut BundleWriter<'_>, registrar: &mut ComponentsRegistrator<'_>) {
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { bundle.push_component(registrar, *self) }
    }
}

/// Inserts all of them, then runs hooks and observers. Does nothing if the entity is gone.
pub(crate) fn insert(world: &mut World, entity: Entity, parts: Vec<Box<dyn Part>>) {
    if world.get_entity(entity).is_err() {
        return;
    }
    let mut scratch = BundleScratch::default();
    let mut bundle = scratch.writer();
    let mut registrar = world.components_registrator();
    #[expect(unsafe_code, reason = "bundles whose types are known at run time have no safe interface")]
    for part in parts {
        // SAFETY: there is one world here, in which the bundle is written below.
        unsafe { part.push(&mut bundle, &mut registrar) }
    }
    if let Ok(mut entity) = world.get_entity_mut(entity) {
        // SAFETY: the entity is of the world that registered the components.
        #[expect(unsafe_code, reason = "bundles whose types are known at run time have no safe interface")]
        unsafe {
            bundle.write(&mut entity);
        }
    }
}

#[cfg(test)]
mod tests {
    use bevy_ecs::{lifecycle::Add, observer::On, resource::Resource, system::Query, system::ResMut};

    use super::*;

    #[derive(Component)]
    struct A(String);

    #[derive(Component)]
    #[require(C)]
    struct B(u8);

    #[derive(Component, Default)]
    struct C;

    #[derive(Resource, Default)]
    struct Seen(Vec<String>);

    #[test]
    fn observers_find_the_whole_entity() {
        let mut world = World::new();
        world.init_resource::<Seen>();
        world.add_observer(|add: On<Add, A>, all: Query<(&A, &B, &C)>, mut seen: ResMut<Seen>| {
            let (a, b, _) = all.get(add.entity).unwrap();
            seen.0.push(format!("{} {}", a.0, b.0));
        });
        let entity = world.spawn_empty().id();
        insert(&mut world, entity, vec![Box::new(A("a".into())), Box::new(B(1))]);
        assert_eq!(world.resource::<Seen>().0, ["a 1"]);
        insert(&mut world, entity, vec![]);
        world.despawn(entity);
        insert(&mut world, entity, vec![Box::new(A("b".into()))]);
        assert_eq!(world.resource::<Seen>().0, ["a 1"]);
    }
}
