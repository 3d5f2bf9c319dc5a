//! From what is shared to what is seen, and from keys and fingers to what the player wants.

use bevy::{camera::ScalingMode, input::touch::Touches, prelude::*};
use bevy_coplay::prelude::*;

use crate::game::{Pos, Potato, Push, RADIUS, RINK, Skater};

const DARK: Color = Color::srgb(0.06, 0.07, 0.1);

pub fn plugin(app: &mut App) {
    app.insert_resource(ClearColor(DARK))
        .add_systems(Startup, stage)
        .add_systems(FixedPreUpdate, steer.in_set(NetSystems::Input))
        .add_observer(dress_skater)
        .add_observer(dress_potato)
        .add_observer(mark_mine)
        .add_observer(complain)
        .add_systems(Update, (show_skaters, show_potato, tell.run_if(not(in_state(RoomState::Offline)))));
}

fn stage(mut commands: Commands) {
    // All of the rink, whatever the window's shape.
    let scaling_mode = ScalingMode::AutoMin { min_width: RINK.x * 2.0, min_height: RINK.y * 2.0 };
    let projection = OrthographicProjection { scaling_mode, ..OrthographicProjection::default_2d() };
    commands.spawn((Camera2d, Projection::from(projection)));
    commands
        .spawn((Sprite::from_color(Color::srgb(0.75, 0.85, 0.92), RINK * 2.0), Transform::from_xyz(0.0, 0.0, -1.0)));
    // It may lie on the rink or beside it.
    let line = Node { padding: UiRect::axes(px(10), px(6)), max_width: percent(100), ..default() };
    commands.spawn((line, BackgroundColor(DARK))).with_child((Text::default(), TextFont::from_font_size(16.0)));
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

/// The player's own has a dark edge.
fn mark_mine(mine: On<Add, Mine>, mut commands: Commands) {
    let edge = Sprite::from_color(DARK, Vec2::splat(RADIUS * 2.1));
    commands.entity(mine.entity).with_child((edge, Transform::from_xyz(0.0, 0.0, -0.5)));
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

fn tell(room: Res<Room>, state: Res<State<RoomState>>, skaters: Query<&Skater>, mut line: Single<&mut Text>) {
    let who = match skaters.iter().len() {
        _ if *state == RoomState::Joining => "joining ...".to_owned(),
        1 => "1 player".to_owned(),
        players => format!("{players} players"),
    };
    let keys = "Arrow keys or a finger push the square with the dark edge.";
    line.0 = format!("room {}: {who}\n{keys}", room.code());
}

fn complain(failed: On<RoomFailed>, mut line: Single<&mut Text>) {
    let again = if failed.error.is_temporary() { "\nTrying again ..." } else { "" };
    line.0 = format!("{}{again}", failed.error);
}
