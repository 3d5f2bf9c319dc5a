//! Is a mesh that is more than the paths carry told so, and no other room?

#[path = "common/world.rs"]
mod world;

use bevy_app::prelude::*;
use bevy_coplay::{Conditions, prelude::*};
use bevy_ecs::prelude::*;
use world::*;

/// Each path takes less than thirty entities need that change in every frame.
const NARROW: Conditions = Conditions { bandwidth: Some(6_000), queue: 8_000, ..Conditions::WIFI };

fn busy(app: &mut App) {
    types(app);
    log::<_, MeshCrowded, _>(app, |crowded: On<MeshCrowded>, mut log: ResMut<Log<MeshCrowded>>| log.0.push(*crowded));
    app.add_systems(Update, |mut all: Query<&mut Slide, With<Owned>>| {
        for mut slide in &mut all {
            slide.0 += 0.37;
        }
    });
}

fn told(mut net: TestNet) -> Vec<Vec<MeshCrowded>> {
    for (_, app) in net.apps() {
        app.world_mut().spawn_batch((0..30).map(|number| (Slide(number as f32), Shared)));
    }
    net.run_secs(20.0);
    net.apps().map(|(_, app)| logged(app)).collect()
}

#[test]
fn a_mesh_that_its_paths_do_not_carry_is_told_once() {
    for told in told(TestNet::mesh(4, busy).with(NARROW)) {
        let [crowded] = told.as_slice() else { panic!("it is told once: {told:?}") };
        assert_eq!(crowded.others, 3);
        assert!(crowded.affected >= 2 && crowded.rate < 3 * 32_000, "{crowded:?}");
    }
}

#[test]
fn rooms_that_are_no_crowd_are_not_told() {
    // Three players, a host, and paths that carry it.
    for net in [TestNet::mesh(3, busy).with(NARROW), TestNet::host(4, busy).with(NARROW), TestNet::mesh(4, busy)] {
        assert!(told(net).iter().all(Vec::is_empty));
    }
}
