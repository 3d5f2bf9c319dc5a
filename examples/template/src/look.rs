//! From what is shared to what is seen, and from keys and fingers to what the player wants.

use bevy::{camera::ScalingMode, input::touch::Touches, prelude::*};
use bevy_coplay::prelude::*;

use crate::game::{Pos, Potato, Push, RADIUS, RINK, Skater};

pub fn plugin(app: &mut App) {
    app.insert_resource(ClearColor(Color::srgb(0.06, 0.07, 0.1)))
        .add_systems(Startup, stage)
        .add_systems(FixedPreUpdate, steer.in_set(NetSystems::Input))
        .add_observer(dress_skater)
        .add_observer(dress_potato)
        .add_observer(|failed: On<RoomFailed>, mut line: Single<&mut Text>| line.0 = failed.error.to_string())
        .add_systems(Update, (show_skaters, show_potato, tell.run_if(not(in_state(RoomState::Offline)))));
}

fn stage(mut commands: Commands) {
    // All of the rink, whatever the window's shape.
    let scaling_mode = ScalingMode::AutoMin { min_width: RINK.x * 2.0, min_height: RINK.y * 2.0 };
    let projection = OrthographicProjection { scaling_mode, ..OrthographicProjection::default_2d() };
    commands.spawn((Camera2d, Projection::from(projection)));
    commands
        .spawn((Sprite::from_color(Color::srgb(0.75, 0.85, 0.92), RINK * 2.0), Transform::from_xyz(0.0, 0.0, -1.0)));
    commands.spawn((Text::default(), TextColor(Color::BLACK)));
}

/// Arrow keys, or the way that a finger was drawn.
fn steer(keys: Res<ButtonInput<KeyCode>>, touches: Res<Touches>, mut mine: Query<&mut Push, With<Mine>>) {
    let axis = |minus, plus| f32::from(keys.pressed(plus)) - f32::from(keys.pressed(minus));
    let arrows = Vec2::new(axis(KeyCode::ArrowLeft, KeyCode::ArrowRight), axis(KeyCode::ArrowDown, KeyCode::ArrowUp));
    let finger = touches.iter().map(|touch| touch.distance() * Vec2::new(0.02, -0.02)).sum::<Vec2>();
    for mut push in &mut mine {
        push.0 = (arrows + finger).clamp_length_max(1.0);
    }
}

/// Looks are not shared: each peer gives its own to what appears, wherever that came from.
fn dress_skater(skater: On<Add, Skater>, skaters: Query<&Skater>, mut commands: Commands) -> Result {
    let color = skaters.get(skater.entity)?.color;
    commands.entity(skater.entity).insert(Sprite::from_color(color, Vec2::splat(RADIUS * 1.8)));
    Ok(())
}

fn dress_potato(potato: On<Add, Potato>, mut commands: Commands) {
    commands.entity(potato.entity).insert(Sprite::from_color(Color::srgb(0.45, 0.3, 0.15), Vec2::splat(RADIUS)));
}

fn show_skaters(mut skaters: Query<(&Pos, &mut Transform)>) {
    for (pos, mut transform) in &mut skaters {
        transform.translation = pos.at.extend(0.0);
    }
}

fn show_potato(mut potatoes: Query<(&Potato, &mut Transform)>, skaters: Query<&Pos>) {
    for (potato, mut transform) in &mut potatoes {
        if let Some(pos) = potato.holder.and_then(|holder| skaters.get(holder).ok()) {
            transform.translation = pos.at.extend(1.0);
        }
    }
}

fn tell(room: Res<Room>, skaters: Query<&Skater>, mut line: Single<&mut Text>) {
    line.0 = format!("room {}: {} players", room.code(), skaters.iter().len());
}
