//! Does everyone see what the owner does to its entities, and nobody what others do to them?

#[path = "common/world.rs"]
mod world;

use bevy_coplay::{Conditions, prelude::*};
use bevy_ecs::prelude::*;
use bevy_time::prelude::*;
use world::*;

#[test]
fn spawn_change_insert_remove_and_despawn_are_seen_by_all() {
    for mut net in [TestNet::mesh(3, types), TestNet::host(3, types)] {
        for owner in 0..3 {
            let world = net.app(owner).world_mut();
            let entity = world.spawn((Health(7), Shared)).id();
            assert!(world.entity(entity).contains::<Owned>() && world.entity(entity).contains::<Simulated>());
            net.run_secs(0.3);
            for peer in 0..3 {
                assert_eq!(all::<Health>(net.app(peer)), [Health(7)], "peer {peer} of owner {owner}");
                assert_eq!(count::<With<Owned>>(net.app(peer)), usize::from(peer == owner));
            }
            net.app(owner).world_mut().get_mut::<Health>(entity).unwrap().0 = 8;
            net.app(owner).world_mut().entity_mut(entity).insert(Label("new".into()));
            net.run_secs(0.3);
            for peer in 0..3 {
                assert_eq!(all::<Health>(net.app(peer)), [Health(8)]);
                assert_eq!(all::<Label>(net.app(peer)), [Label("new".into())]);
            }
            net.app(owner).world_mut().entity_mut(entity).remove::<Health>();
            net.run_secs(0.3);
            assert_eq!(same(&mut net).len(), 1);
            for peer in 0..3 {
                assert_eq!(all::<Health>(net.app(peer)), []);
            }
            net.app(owner).world_mut().despawn(entity);
            net.run_secs(0.3);
            for peer in 0..3 {
                assert_eq!(count::<With<Shared>>(net.app(peer)), 0);
                assert_eq!(all::<Label>(net.app(peer)), []);
            }
        }
    }
}

#[test]
fn what_is_not_shared_stays_at_home() {
    let mut net = TestNet::mesh(2, types);
    let world = net.app(0).world_mut();
    world.spawn(Health(1));
    let later = world.spawn(Health(2)).id();
    net.run_secs(0.3);
    assert_eq!(all::<Health>(net.app(1)), []);
    net.app(0).world_mut().entity_mut(later).insert(Shared);
    net.run_secs(0.3);
    assert_eq!(all::<Health>(net.app(1)), [Health(2)]);
    net.app(0).world_mut().entity_mut(later).remove::<Shared>();
    net.run_secs(0.3);
    assert_eq!(all::<Health>(net.app(1)), []);
    assert_eq!(all::<Health>(net.app(0)).len(), 2, "the owner keeps it");
    assert!(!net.app(0).world().entity(later).contains::<Owned>());
    net.app(0).world_mut().entity_mut(later).insert(Shared);
    net.run_secs(0.3);
    assert_eq!(all::<Health>(net.app(1)), [Health(2)]);
}

#[test]
fn what_a_paused_game_changes_is_seen_by_the_others() {
    let mut net = TestNet::mesh(2, types);
    let entity = net.app(0).world_mut().spawn((Health(1), Shared)).id();
    net.run_secs(0.3);
    net.app(0).world_mut().resource_mut::<Time<Virtual>>().pause();
    net.run_secs(0.3);
    net.app(0).world_mut().get_mut::<Health>(entity).unwrap().0 = 2;
    net.run_secs(0.3);
    assert_eq!(all::<Health>(net.app(1)), [Health(2)]);
}

#[test]
fn a_clone_is_another_entity() {
    let mut net = TestNet::mesh(2, types);
    let entity = net.app(0).world_mut().spawn((Health(1), Shared)).id();
    net.run_secs(0.3);
    // Of one's own, and of another's: either is one's own.
    net.app(0).world_mut().entity_mut(entity).clone_and_spawn();
    let world = net.app(1).world_mut();
    let there = world.query_filtered::<Entity, With<Health>>().single(world).unwrap();
    world.entity_mut(there).clone_and_spawn();
    net.run_secs(0.3);
    assert_eq!(same(&mut net).len(), 3);
    assert_eq!((count::<With<Owned>>(net.app(0)), count::<With<Owned>>(net.app(1))), (2, 1));
}

#[test]
fn components_arrive_together() {
    #[derive(Component)]
    struct Dressed;
    let mut net = TestNet::host(2, |app| {
        types(app);
        app.add_observer(
            |add: On<Add, Health>, labels: Query<(&Label, &Shared, Has<Mine>)>, mut commands: Commands| {
                assert!(labels.contains(add.entity));
                commands.entity(add.entity).insert(Dressed);
            },
        );
    });
    let guest = me(net.app(1));
    net.app(0).world_mut().spawn((Label("a".into()), Health(1), ControlledBy(guest)));
    net.run_secs(0.3);
    assert_eq!(count::<(With<Dressed>, With<Mine>)>(net.app(1)), 1);
}

#[test]
fn who_comes_late_sees_all_and_nothing_that_is_gone() {
    for mut net in [TestNet::mesh(2, types), TestNet::host(2, types)] {
        for owner in 0..2 {
            let world = net.app(owner).world_mut();
            let doomed = world.spawn((Health(99), Shared)).id();
            for health in 0..50 {
                world.spawn((Health(health), Label(format!("{owner}")), Shared));
            }
            net.run_secs(0.3);
            net.app(owner).world_mut().despawn(doomed);
        }
        let late = net.add_late();
        net.run_secs(1.0);
        assert_eq!(same(&mut net).len(), 100);
        assert!(!all::<Health>(net.app(late)).contains(&Health(99)));
    }
}

#[test]
fn what_a_leaver_owned_goes_everywhere() {
    for mut net in [TestNet::mesh(3, types), TestNet::host(3, types)] {
        for peer in 0..3 {
            net.app(peer).world_mut().spawn((Health(peer as u16), Shared));
        }
        net.run_secs(0.3);
        net.end(1);
        net.run_secs(0.5);
        for peer in [0, 2] {
            assert_eq!(all::<Health>(net.app(peer)), [Health(0), Health(2)]);
        }
    }
}

#[test]
fn what_a_leaver_controlled_is_despawned_by_the_host() {
    let mut net = TestNet::host(3, types);
    let leaver = me(net.app(1));
    net.app(0).world_mut().spawn((Health(1), ControlledBy(leaver)));
    net.app(0).world_mut().spawn((Health(2), Shared));
    net.run_secs(0.3);
    net.kill(1);
    net.run_secs(5.0);
    assert_eq!(count::<(With<Peer>, With<Unresponsive>)>(net.app(0)), 1);
    assert_eq!(all::<Health>(net.app(2)), [Health(1), Health(2)]);
    net.run_secs(10.0);
    for peer in [0, 2] {
        assert_eq!(all::<Health>(net.app(peer)), [Health(2)]);
        assert_eq!(count::<With<Peer>>(net.app(peer)), 1);
    }
}

#[test]
fn what_others_do_to_an_entity_is_undone() {
    for mut net in [TestNet::mesh(3, types), TestNet::host(3, types)] {
        let owner = net.app(2).world_mut().spawn((Health(1), Label("kept".into()), Slide(4.0), Shared)).id();
        net.run_secs(0.3);
        let name = id(net.app(2), owner);
        for other in [0, 1] {
            let there = find(net.app(other), name).unwrap();
            let mut entity = net.app(other).world_mut().entity_mut(there);
            entity.get_mut::<Health>().unwrap().0 = 1000;
            entity.get_mut::<Slide>().unwrap().0 = 1000.0;
            entity.remove::<Label>();
            entity.insert(Steer(3));
            net.step(2);
            let entity = net.app(other).world().entity(there);
            assert_eq!(entity.get::<Health>(), Some(&Health(1)));
            assert_eq!(entity.get::<Slide>(), Some(&Slide(4.0)));
            assert_eq!(entity.get::<Label>(), Some(&Label("kept".into())));
        }
        net.run_secs(0.3);
        same(&mut net);
        assert_eq!(all::<Health>(net.app(2)), [Health(1)]);
        // It takes the owner's next value as if nothing had been.
        net.app(2).world_mut().get_mut::<Health>(owner).unwrap().0 = 2;
        net.run_secs(0.3);
        for other in [0, 1] {
            assert_eq!(all::<Health>(net.app(other)), [Health(2)]);
        }
    }
}

#[test]
fn what_others_despawn_comes_back() {
    let mut net = TestNet::mesh(2, types);
    net.app(0).world_mut().spawn((Health(5), Slide(1.5), Shared));
    net.run_secs(0.3);
    let world = net.app(1).world_mut();
    let entity = world.query_filtered::<Entity, With<Health>>().single(world).unwrap();
    world.despawn(entity);
    net.step(2);
    assert_eq!(all::<Health>(net.app(1)), [Health(5)]);
    let world = net.app(1).world_mut();
    let entity = world.query_filtered::<Entity, With<Health>>().single(world).unwrap();
    world.entity_mut(entity).remove::<Shared>();
    net.step(2);
    assert_eq!(all_with::<Health, With<Shared>>(net.app(1)), [Health(5)]);
    assert!(!net.app(1).world().entity(entity).contains::<Owned>(), "it is still the other's");
    same(&mut net);
    assert_eq!(all::<Health>(net.app(0)), [Health(5)]);
}

#[test]
fn the_controllers_input_reaches_the_owner_and_no_one_else_is_listened_to() {
    let mut net = TestNet::host(3, types).with(Conditions::CELLULAR);
    let players: Vec<_> = (0..3).map(|index| me(net.app(index))).collect();
    let car = net.app(0).world_mut().spawn((Steer(0), ControlledBy(players[1]))).id();
    net.run_secs(1.0);
    let name = id(net.app(0), car);
    for (peer, value) in [(1, 5), (2, 6)] {
        let there = find(net.app(peer), name).unwrap();
        assert_eq!(net.app(peer).world().entity(there).contains::<Mine>(), peer == 1);
        net.app(peer).world_mut().get_mut::<Steer>(there).unwrap().0 = value;
    }
    net.run_secs(2.0);
    assert_eq!(net.app(0).world().get::<Steer>(car), Some(&Steer(5)));
    // What the owner took over does not come back to the controller, who has gone on meanwhile.
    let there = find(net.app(1), name).unwrap();
    for value in 6..20 {
        net.app(1).world_mut().get_mut::<Steer>(there).unwrap().0 = value;
        net.step(3);
        assert_eq!(net.app(1).world().get::<Steer>(there), Some(&Steer(value)));
    }
    net.run_secs(2.0);
    assert_eq!(net.app(0).world().get::<Steer>(car), Some(&Steer(19)));
    // Another controller.
    net.app(0).world_mut().entity_mut(car).insert(ControlledBy(players[2]));
    net.run_secs(1.0);
    assert_eq!(count::<With<Mine>>(net.app(1)), 0);
    let there = find(net.app(2), name).unwrap();
    assert!(net.app(2).world().entity(there).contains::<Mine>());
    net.app(2).world_mut().get_mut::<Steer>(there).unwrap().0 = -1;
    net.run_secs(2.0);
    assert_eq!(net.app(0).world().get::<Steer>(car), Some(&Steer(-1)));
    // Nobody.
    net.app(0).world_mut().entity_mut(car).remove::<ControlledBy>();
    net.run_secs(1.0);
    assert_eq!(count::<With<Mine>>(net.app(2)) + count::<With<ControlledBy>>(net.app(2)), 0);
}

#[test]
fn worlds_converge_over_a_bad_network() {
    for mut net in [TestNet::mesh(4, types), TestNet::host(4, types)] {
        net.set_conditions(Conditions::CELLULAR);
        let mut owned: Vec<Vec<Entity>> = vec![Vec::new(); 4];
        for round in 0..40_u16 {
            for (peer, owned) in owned.iter_mut().enumerate() {
                let world = net.app(peer).world_mut();
                if round % 3 != 2 {
                    let target = owned.last().copied();
                    owned.push(world.spawn((Health(round), Slide(0.0), Aim(target), Shared)).id());
                } else {
                    world.despawn(owned.remove(usize::from(round) % owned.len()));
                }
                for (index, entity) in owned.iter().enumerate() {
                    let mut entity = world.entity_mut(*entity);
                    entity.get_mut::<Slide>().unwrap().0 += index as f32;
                    match (round + index as u16) % 5 {
                        0 => _ = entity.remove::<Label>(),
                        1 => _ = entity.insert(Label(format!("{round}"))),
                        _ => {}
                    }
                }
            }
            net.step(4);
        }
        net.run_secs(5.0);
        let seen = same(&mut net);
        assert_eq!(seen.len(), owned.iter().map(Vec::len).sum::<usize>());
    }
}
