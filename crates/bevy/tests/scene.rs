//! Are entities that every peer loads by itself one and not several?

#[path = "common/world.rs"]
mod world;

use bevy_app::prelude::*;
use bevy_coplay::prelude::*;
use bevy_ecs::prelude::*;
use world::*;

/// What only this peer knows of a door.
#[derive(Component)]
struct Looks;

fn level(app: &mut App) {
    types(app);
    app.add_systems(Startup, |mut commands: Commands| {
        for number in 0..3 {
            commands.spawn((SceneId(number), Health(10), Looks));
        }
    });
}

fn doors(net: &mut TestNet, peer: usize) -> Vec<u16> {
    let mut doors: Vec<_> =
        all_with::<Health, (With<Looks>, With<SceneId>)>(net.app(peer)).iter().map(|h| h.0).collect();
    doors.sort_unstable();
    doors
}

#[test]
fn a_level_is_there_once_and_the_leaders() {
    for mut net in [TestNet::mesh(3, level), TestNet::host(3, level)] {
        net.run_secs(0.5);
        assert_eq!(same(&mut net).len(), 3);
        for peer in 0..3 {
            assert_eq!(doors(&mut net, peer), [10, 10, 10]);
            assert_eq!(count::<With<Shared>>(net.app(peer)), 3);
            assert_eq!(count::<With<Owned>>(net.app(peer)), if peer == 0 { 3 } else { 0 });
        }
        let world = net.app(0).world_mut();
        for (door, mut health) in world.query::<(&SceneId, &mut Health)>().iter_mut(world) {
            health.0 += door.0 as u16;
        }
        let late = net.add_late();
        net.run_secs(0.5);
        for peer in [0, 1, 2, late] {
            assert_eq!(doors(&mut net, peer), [10, 11, 12]);
        }
        same(&mut net);
        // What the leader takes away is gone.
        let world = net.app(0).world_mut();
        let door = world.query::<(Entity, &SceneId)>().iter(world).find(|(_, id)| id.0 == 1).unwrap().0;
        world.despawn(door);
        net.run_secs(0.5);
        for peer in [0, 1, 2, late] {
            assert_eq!(doors(&mut net, peer), [10, 12]);
        }
    }
}

#[test]
fn the_next_leader_takes_the_level_over_as_it_is() {
    let mut net = TestNet::mesh(3, level);
    net.run_secs(0.5);
    let world = net.app(0).world_mut();
    for mut health in world.query::<&mut Health>().iter_mut(world) {
        health.0 = 5;
    }
    net.run_secs(0.5);
    net.end(0);
    net.run_secs(1.0);
    for peer in [1, 2] {
        assert_eq!(doors(&mut net, peer), [5, 5, 5]);
        assert_eq!(count::<With<SceneId>>(net.app(peer)), 3, "one of each");
    }
    assert_eq!(same(&mut net).len(), 3);
    let leader = [1, 2].into_iter().find(|peer| net.app(*peer).world().resource::<Room>().is_leader()).unwrap();
    assert_eq!(count::<With<Owned>>(net.app(leader)), 3);
    let world = net.app(leader).world_mut();
    for mut health in world.query::<&mut Health>().iter_mut(world) {
        health.0 = 6;
    }
    net.run_secs(0.5);
    for peer in [1, 2] {
        assert_eq!(doors(&mut net, peer), [6, 6, 6]);
    }
}

#[test]
fn alone_everyone_has_the_level() {
    let mut net = TestNet::host(2, level);
    net.run_secs(0.5);
    net.app(1).world_mut().trigger(LeaveRoom);
    net.run_secs(0.5);
    assert_eq!(doors(&mut net, 1), [10, 10, 10]);
    assert_eq!(count::<With<Owned>>(net.app(1)), 3);
    assert_eq!(count::<With<NetEntity>>(net.app(1)), 0);
}
