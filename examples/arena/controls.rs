//! From keys, mouse and fingers to what the pilot wants.

use bevy::{input::touch::Touches, prelude::*, window::PrimaryWindow};
use bevy_coplay::{Conditions, prelude::*};

use crate::{
    chat::Typing,
    game::{Body, Steer},
    menu::Menu,
};

pub fn plugin(app: &mut App) {
    app.init_resource::<Fingers>()
        .add_systems(Update, (fingers, worsen))
        .add_systems(FixedPreUpdate, steer.in_set(NetSystems::Input));
}

/// N: what it would be like over the next worse network, for what this player sends.
fn worsen(keys: Res<ButtonInput<KeyCode>>, typing: Res<Typing>, menu: Res<Menu>, mut paths: ResMut<LinkConditions>) {
    if keys.just_pressed(KeyCode::KeyN) && !typing.is_on() && !menu.is_open() {
        let presets = Conditions::presets();
        let now = presets.iter().position(|(_, preset)| *preset == paths.0);
        let next = now.map_or(0, |now| (now + 1) % presets.len());
        paths.0 = presets.get(next).map_or(Conditions::PERFECT, |(_, preset)| *preset);
    }
}

/// Left half of the screen: a stick. Right half: aim and fire.
#[derive(Resource, Default)]
struct Fingers {
    go: Option<Vec2>,
    aim: Option<Vec2>,
}

fn fingers(touches: Res<Touches>, window: Single<&Window, With<PrimaryWindow>>, mut fingers: ResMut<Fingers>) {
    let stick = |left: bool| {
        let touch = touches.iter().find(|touch| (touch.start_position().x < window.width() / 2.0) == left)?;
        let pull = (touch.position() - touch.start_position()) * Vec2::new(1.0, -1.0);
        Some((pull / 60.0).clamp_length_max(1.0))
    };
    *fingers = Fingers { go: stick(true), aim: stick(false) };
}

fn steer(
    mut mine: Query<(&mut Steer, &Body), With<Mine>>,
    keys: Res<ButtonInput<KeyCode>>,
    buttons: Res<ButtonInput<MouseButton>>,
    window: Single<&Window, With<PrimaryWindow>>,
    camera: Single<(&Camera, &GlobalTransform)>,
    fingers: Res<Fingers>,
    typing: Res<Typing>,
    menu: Res<Menu>,
) {
    let (camera, view) = *camera;
    let pointer = window.cursor_position().and_then(|at| camera.viewport_to_world_2d(view, at).ok());
    let busy = typing.is_on() || menu.is_open();
    let held = |codes: [KeyCode; 2]| !busy && keys.any_pressed(codes);
    let axis = |minus, plus| f32::from(held(plus)) - f32::from(held(minus));
    let go = Vec2::new(
        axis([KeyCode::KeyA, KeyCode::ArrowLeft], [KeyCode::KeyD, KeyCode::ArrowRight]),
        axis([KeyCode::KeyS, KeyCode::ArrowDown], [KeyCode::KeyW, KeyCode::ArrowUp]),
    );
    for (mut steer, body) in &mut mine {
        let pointed = pointer.map_or(body.aim, |pointer| (pointer - body.at).normalize_or_zero());
        *steer = Steer {
            go: fingers.go.unwrap_or(go),
            aim: fingers.aim.map_or(pointed, Vec2::normalize_or_zero),
            fire: fingers.aim.is_some_and(|aim| aim.length() > 0.3)
                || fingers.go.is_none() && !menu.is_open() && buttons.pressed(MouseButton::Left)
                || held([KeyCode::Space, KeyCode::ControlLeft]),
        };
    }
}
