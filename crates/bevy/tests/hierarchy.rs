//! Do parents and other references to entities mean the same on every peer?

#[path = "common/world.rs"]
mod world;

use bevy_coplay::{Conditions, prelude::*};
use bevy_ecs::prelude::*;
use world::*;

/// The health of the parent of each entity that has one, with the entity's own.
fn families(net: &mut TestNet, peer: usize) -> Vec<(u16, Option<u16>)> {
    let world = net.app(peer).world_mut();
    let parents: Vec<_> =
        world.query::<(&Health, Option<&ChildOf>)>().iter(world).map(|(h, p)| (h.0, p.cloned())).collect();
    let health = |parent: ChildOf| world.get::<Health>(parent.parent()).map_or(u16::MAX, |health| health.0);
    let mut families: Vec<_> = parents.into_iter().map(|(own, parent)| (own, parent.map(health))).collect();
    families.sort_unstable();
    families
}

#[test]
fn children_hang_below_their_parents_everywhere() {
    for mut net in [TestNet::mesh(3, types), TestNet::host(3, types)] {
        net.set_conditions(Conditions::CELLULAR);
        let world = net.app(1).world_mut();
        // The child is made, and told of, before its parent.
        let child = world.spawn((Health(3), Shared)).id();
        let middle = world.spawn((Health(2), Shared)).id();
        let root = world.spawn((Health(1), Shared)).id();
        world.entity_mut(child).insert(ChildOf(middle));
        world.entity_mut(middle).insert(ChildOf(root));
        world.spawn((Health(4), Shared, ChildOf(root)));
        net.run_secs(2.0);
        let late = net.add_late();
        net.run_secs(2.0);
        same(&mut net);
        for peer in [0, 1, 2, late] {
            assert_eq!(families(&mut net, peer), [(1, None), (2, Some(1)), (3, Some(2)), (4, Some(1))]);
        }
        // Elsewhere, and nowhere.
        net.app(1).world_mut().entity_mut(child).insert(ChildOf(root));
        net.app(1).world_mut().entity_mut(middle).remove::<ChildOf>();
        net.run_secs(2.0);
        same(&mut net);
        for peer in [0, 1, 2, late] {
            assert_eq!(families(&mut net, peer), [(1, None), (2, None), (3, Some(1)), (4, Some(1))]);
        }
        // With the parent go its children.
        net.app(1).world_mut().despawn(root);
        net.run_secs(2.0);
        for peer in [0, 1, 2, late] {
            assert_eq!(families(&mut net, peer), [(2, None)]);
        }
    }
}

#[test]
fn a_child_comes_with_its_parent_or_after_it() {
    #[derive(Resource, Default)]
    struct Orphans(usize);
    let mut net = TestNet::mesh(2, |app| {
        types(app);
        app.init_resource::<Orphans>().add_observer(
            |add: On<Add, Label>, parents: Query<&ChildOf>, mut orphans: ResMut<Orphans>| {
                orphans.0 += usize::from(!parents.contains(add.entity));
            },
        );
    });
    net.set_conditions(Conditions::TERRIBLE);
    for _ in 0..100 {
        let world = net.app(0).world_mut();
        let child = world.spawn_empty().id();
        let parent = world.spawn((Health(0), Shared)).id();
        world.entity_mut(child).insert((Label("child".into()), ChildOf(parent), Shared));
    }
    net.run_secs(4.0);
    same(&mut net);
    assert_eq!(all::<Label>(net.app(1)).len(), 100);
    assert_eq!(net.app(1).world().resource::<Orphans>().0, 0);
}

#[test]
fn a_child_of_another_owner_follows_its_own() {
    let mut net = TestNet::mesh(3, types);
    let parent = net.app(0).world_mut().spawn((Health(1), Shared)).id();
    net.run_secs(0.3);
    let name = id(net.app(0), parent);
    // A rider on another's horse.
    let horse = find(net.app(1), name).unwrap();
    let rider = net.app(1).world_mut().spawn((Health(2), Shared, ChildOf(horse))).id();
    net.run_secs(0.3);
    for peer in 0..3 {
        assert_eq!(families(&mut net, peer), [(1, None), (2, Some(1))]);
    }
    // It gets off just before the horse goes: on the third peer it must not be lost.
    net.app(1).world_mut().entity_mut(rider).remove::<ChildOf>();
    net.app(0).world_mut().despawn(parent);
    net.run_secs(2.0);
    same(&mut net);
    for peer in 0..3 {
        assert_eq!(families(&mut net, peer), [(2, None)]);
    }
}

#[test]
fn others_cannot_rearrange_a_hierarchy_and_local_parents_are_local() {
    let mut net = TestNet::mesh(2, types);
    let world = net.app(0).world_mut();
    let (a, b) = (world.spawn((Health(1), Shared)).id(), world.spawn((Health(2), Shared)).id());
    world.entity_mut(a).insert(ChildOf(b));
    let lone = world.spawn((Health(3), Shared)).id();
    let room = world.spawn_empty().id();
    world.entity_mut(b).insert(ChildOf(room));
    net.run_secs(0.3);
    assert_eq!(families(&mut net, 1), [(1, Some(2)), (2, None), (3, None)]);
    let (a, lone) = (id(net.app(0), a), id(net.app(0), lone));
    let (a, lone) = (find(net.app(1), a).unwrap(), find(net.app(1), lone).unwrap());
    let world = net.app(1).world_mut();
    let shelf = world.spawn(Health(9)).id();
    world.entity_mut(a).insert(ChildOf(lone));
    world.entity_mut(lone).insert(ChildOf(shelf));
    net.run_secs(0.3);
    assert_eq!(families(&mut net, 1), [(1, Some(2)), (2, None), (3, Some(9)), (9, None)]);
    same(&mut net);
}

#[test]
fn references_name_the_readers_own_entities() {
    let mut net = TestNet::host(3, types).with(Conditions::CELLULAR);
    let world = net.app(0).world_mut();
    let local = world.spawn(Health(9)).id();
    let early = world.spawn_empty().id();
    let late = world.spawn((Health(1), Shared)).id();
    world.entity_mut(early).insert((Aim(Some(late)), Shared));
    world.spawn((Aim(Some(local)), Label("to what is not shared".into()), Shared));
    net.run_secs(2.0);
    for peer in 0..3 {
        let app = net.app(peer);
        let world = app.world_mut();
        let mut targets: Vec<_> = world.query::<(&Aim, Has<Label>)>().iter(world).map(|(t, l)| (l, t.0)).collect();
        targets.sort_unstable();
        let [(false, Some(target)), (true, other)] = targets[..] else { panic!("{targets:?}") };
        assert_eq!(world.get::<Health>(target), Some(&Health(1)));
        assert_eq!(other.is_some(), peer == 0, "the owner's own reference stays");
    }
    // Then the other is another.
    let next = net.app(0).world_mut().spawn((Health(2), Shared)).id();
    net.app(0).world_mut().get_mut::<Aim>(early).unwrap().0 = Some(next);
    net.run_secs(2.0);
    for peer in 1..3 {
        let world = net.app(peer).world_mut();
        let target = world.query_filtered::<&Aim, Without<Label>>().single(world).unwrap().0.unwrap();
        assert_eq!(world.get::<Health>(target), Some(&Health(2)));
    }
    same(&mut net);
}
