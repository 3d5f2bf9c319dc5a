//! Are remote values shown evenly, and exactly once they rest?

#[path = "common/world.rs"]
mod world;

use bevy_app::{TaskPoolPlugin, prelude::*};
use bevy_coplay::{Conditions, NetInterpolationPlugin, prelude::*};
use bevy_ecs::prelude::*;
use world::*;

/// Moves by one a tick, until it is told to stop.
fn sliding(app: &mut App) {
    types(app);
    app.add_systems(Simulate, |mut all: Query<&mut Slide, (With<Simulated>, Without<Health>)>| {
        for mut slide in &mut all {
            slide.0 += 1.0;
        }
    });
}

/// What the other peer shows each tick while one value moves at the other, and after it has stopped.
fn watch(net: &mut TestNet) -> (Vec<f32>, f32) {
    let entity = net.app(0).world_mut().spawn((Slide(0.0), Shared)).id();
    net.run_secs(1.0);
    let mut shown = Vec::new();
    for _ in 0..300 {
        net.step(1);
        shown.extend(all::<Slide>(net.app(1)).first().map(|slide| slide.0));
    }
    net.app(0).world_mut().entity_mut(entity).insert(Health(0));
    net.run_secs(2.0);
    let rest = net.app(0).world().get::<Slide>(entity).expect("it is there").0;
    assert_eq!(all::<Slide>(net.app(1)), [Slide(rest)], "exact at rest");
    assert_eq!(all::<Slide>(net.app(2)), [Slide(rest)], "exact at rest");
    (shown, rest)
}

fn steps(shown: &[f32]) -> Vec<f32> {
    shown.windows(2).map(|two| two[1] - two[0]).collect()
}

#[test]
fn remote_values_move_evenly_and_rest_exactly() {
    for mut net in [TestNet::mesh(3, sliding), TestNet::host(3, sliding)] {
        for (conditions, delay) in [(Conditions::PERFECT, 8.0), (Conditions::WIFI, 14.0), (Conditions::CELLULAR, 30.0)]
        {
            net.set_conditions(conditions);
            let (shown, rest) = watch(&mut net);
            let steps = steps(&shown);
            assert!(steps.iter().all(|step| *step >= 0.0), "never goes back: {steps:?}");
            assert!(steps.iter().all(|step| *step < 4.0), "never jumps: {steps:?}");
            let even = steps.iter().filter(|step| (0.7..1.3).contains(*step)).count();
            assert!(even * 100 >= steps.len() * 90, "{even} of {} are even: {steps:?}", steps.len());
            let behind = rest - shown.last().unwrap();
            assert!((0.0..delay).contains(&behind), "{behind} ticks behind");
            let world = net.app(0).world_mut();
            let done = world.query_filtered::<Entity, With<Slide>>().single(world).unwrap();
            world.despawn(done);
            net.run_secs(1.0);
        }
    }
}

#[test]
fn what_has_rested_does_not_start_early() {
    let mut net = TestNet::mesh(2, types);
    let entity = net.app(0).world_mut().spawn((Slide(0.0), Shared)).id();
    net.run_secs(5.0);
    net.app(0).world_mut().get_mut::<Slide>(entity).unwrap().0 = 100.0;
    let mut shown = Vec::new();
    for _ in 0..30 {
        net.step(1);
        shown.push(all::<Slide>(net.app(1))[0].0);
    }
    assert_eq!(shown.last(), Some(&100.0));
    let between = shown.iter().filter(|x| **x != 0.0 && **x != 100.0).count();
    assert!(between <= 5, "it goes there within a few ticks, not over the time that it has rested: {shown:?}");
}

#[test]
fn changes_are_seen_by_change_detection() {
    #[derive(Resource, Default)]
    struct Changes(u32);
    let mut net = TestNet::mesh(2, |app| {
        sliding(app);
        app.init_resource::<Changes>().add_systems(
            Update,
            |all: Query<(), (Changed<Slide>, Without<Owned>)>, mut changes: ResMut<Changes>| {
                changes.0 += all.iter().count() as u32;
            },
        );
    });
    let entity = net.app(0).world_mut().spawn((Slide(0.0), Shared)).id();
    net.step(120);
    net.app(0).world_mut().entity_mut(entity).insert(Health(0));
    net.run_secs(1.0);
    let moving = net.app(1).world().resource::<Changes>().0;
    assert!((100..130).contains(&moving), "{moving} changes in 120 ticks");
    net.run_secs(1.0);
    assert_eq!(net.app(1).world().resource::<Changes>().0, moving, "what rests is not written");
}

#[test]
fn the_game_runs_without_the_plugin() {
    let room = CoplayPlugins::offline().build().disable::<NetInterpolationPlugin>();
    let mut app = App::new();
    app.add_plugins((TaskPoolPlugin::default(), room)).add_plugins(types);
    app.world_mut().spawn((Slide(1.0), Shared));
    app.update();
    app.update();
    assert_eq!(all::<Slide>(&mut app), [Slide(1.0)]);
}
