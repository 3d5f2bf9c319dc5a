//! The smallest whole game: everyone drives a square, and the space bar honks. Run it twice, or with a browser.
//!
//! What you should see: one coloured square a player, moved by the arrow keys, on every player's screen.

use bevy::prelude::*;
use bevy_coplay::prelude::*;

const MAX: Vec2 = Vec2::new(500.0, 300.0);

#[derive(Component, Networked, Clone, Default)]
#[net(interpolate)]
struct Pos {
    #[net(step = 0.01, range = -512.0..=512.0)]
    xy: Vec2,
}

#[derive(Component, Networked, Clone, Default)]
struct Tint(Color);

#[derive(Component, NetInput, Clone, Default)]
struct Move(Vec2);

#[derive(NetEvent, Clone)]
struct Honk {
    by: Option<Entity>, // entity references map by themselves
}

fn main() {
    App::new()
        .add_plugins((DefaultPlugins, CoplayPlugins::room("bumper-cars").mesh())) // or .host()
        .add_net::<(Pos, Tint, Move, Honk)>()
        .add_observer(enter)
        .add_observer(|honk: On<Received<Honk>>| info!("honk from {}", honk.from))
        .add_systems(Startup, camera)
        .add_systems(FixedPreUpdate, read_keys.in_set(NetSystems::Input))
        .add_systems(Simulate, drive)
        .add_systems(Update, (show, honk))
        .run();
}

fn camera(mut commands: Commands) {
    commands.spawn(Camera2d);
}

fn enter(player: On<PlayerEntered>, mut commands: Commands) {
    // Each at another place, so that all are seen.
    let xy = Vec2::from_angle(f32::from(player.slot())) * 150.0;
    commands.spawn((Pos { xy }, Tint(player.color()), Move::default(), ControlledBy(player.id())));
}

fn read_keys(keys: Res<ButtonInput<KeyCode>>, mut mine: Query<&mut Move, With<Mine>>) {
    for mut go in &mut mine {
        go.0 = arrows(&keys);
    }
}

// Written once for every role: the host, a peer of a mesh, and a game that is offline.
fn drive(mut cars: Query<(&mut Pos, &Move), With<Simulated>>, time: Res<Time>) {
    for (mut pos, go) in &mut cars {
        pos.xy = (pos.xy + go.0 * 300.0 * time.delta_secs()).clamp(-MAX, MAX);
    }
}

fn honk(keys: Res<ButtonInput<KeyCode>>, mine: Query<Entity, With<Mine>>, mut commands: Commands) {
    if keys.just_pressed(KeyCode::Space) {
        commands.net_trigger(Honk { by: mine.iter().next() });
    }
}

fn show(
    new: Query<(Entity, &Tint), Without<Sprite>>,
    mut cars: Query<(&Pos, &mut Transform), With<Sprite>>,
    mut commands: Commands,
) {
    for (car, tint) in &new {
        commands.entity(car).insert(Sprite::from_color(tint.0, Vec2::splat(40.0)));
    }
    for (pos, mut transform) in &mut cars {
        transform.translation = pos.xy.extend(0.0);
    }
}

fn arrows(keys: &ButtonInput<KeyCode>) -> Vec2 {
    let axis = |minus, plus| f32::from(keys.pressed(plus)) - f32::from(keys.pressed(minus));
    Vec2::new(axis(KeyCode::ArrowLeft, KeyCode::ArrowRight), axis(KeyCode::ArrowDown, KeyCode::ArrowUp))
}
