//! From what is shared to what is seen: whatever appears in the room gets its looks here, wherever it came from.

use bevy::{camera::ScalingMode, prelude::*};

use crate::{
    game::{Body, Bolt, FULL_SHIELD, Flight, HALF, Pilot, SHIP_RADIUS},
    orbs::{Kind, ORB_RADIUS, Orb},
};

const NIGHT: Color = Color::srgb(0.035, 0.04, 0.09);
const LINE: Color = Color::srgb(0.09, 0.11, 0.2);
const WALL: Color = Color::srgb(0.25, 0.32, 0.6);

pub fn plugin(app: &mut App) {
    app.insert_resource(ClearColor(NIGHT))
        .add_systems(Startup, (camera, floor))
        .add_observer(dress_ship)
        .add_observer(dress_bolt)
        .add_observer(dress_orb)
        .add_systems(Update, (place_ships, place_bolts, turn_orbs, show_pilots));
}

/// A ship's name above it.
#[derive(Component)]
struct NameTag;

/// One of a ship's shield marks.
#[derive(Component)]
struct Pip(u8);

/// The part of a ship that turns.
#[derive(Component)]
struct Hull;

fn camera(mut commands: Commands) {
    let scaling_mode = ScalingMode::AutoMin { min_width: HALF.x * 2.0 + 40.0, min_height: HALF.y * 2.0 + 40.0 };
    let projection = OrthographicProjection { scaling_mode, ..OrthographicProjection::default_2d() };
    commands.spawn((Camera2d, Projection::from(projection)));
}

fn floor(mut commands: Commands) {
    let mut line = |at: Vec2, size: Vec2, color: Color, depth: f32| {
        commands.spawn((Sprite::from_color(color, size), Transform::from_translation(at.extend(depth))));
    };
    for step in -7..=7 {
        line(Vec2::new(step as f32 * 100.0, 0.0), Vec2::new(2.0, HALF.y * 2.0), LINE, -10.0);
    }
    for step in -4..=4 {
        line(Vec2::new(0.0, step as f32 * 100.0), Vec2::new(HALF.x * 2.0, 2.0), LINE, -10.0);
    }
    for side in [-1.0, 1.0] {
        line(Vec2::new(side * HALF.x, 0.0), Vec2::new(5.0, HALF.y * 2.0 + 5.0), WALL, -9.0);
        line(Vec2::new(0.0, side * HALF.y), Vec2::new(HALF.x * 2.0 + 5.0, 5.0), WALL, -9.0);
    }
}

fn dress_ship(
    ship: On<Add, Pilot>,
    pilots: Query<&Pilot>,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<ColorMaterial>>,
    mut commands: Commands,
) {
    let Ok(pilot) = pilots.get(ship.entity) else { return };
    let color = materials.add(pilot.color);
    let dark = materials.add(pilot.color.darker(0.28));
    let nose = Vec2::new(SHIP_RADIUS + 8.0, 0.0);
    let hull = Triangle2d::new(nose, Vec2::new(-20.0, 19.0), Vec2::new(-20.0, -19.0));
    commands.entity(ship.entity).insert((Transform::default(), Visibility::default())).with_children(|ship| {
        ship.spawn((Hull, Transform::default(), Visibility::default())).with_children(|hulls| {
            hulls.spawn((Mesh2d(meshes.add(hull)), MeshMaterial2d(color.clone()), Transform::from_xyz(0.0, 0.0, 1.0)));
            hulls.spawn((
                Mesh2d(meshes.add(Circle::new(9.0))),
                MeshMaterial2d(dark),
                Transform::from_xyz(-4.0, 0.0, 2.0),
            ));
        });
        ship.spawn((
            Mesh2d(meshes.add(Annulus::new(SHIP_RADIUS + 1.0, SHIP_RADIUS + 3.5))),
            MeshMaterial2d(materials.add(pilot.color.with_alpha(0.35))),
        ));
        ship.spawn((
            NameTag,
            Text2d::new(pilot.name.clone()),
            TextFont::from_font_size(20.0),
            TextColor(pilot.color.lighter(0.15)),
            Transform::from_xyz(0.0, SHIP_RADIUS + 26.0, 5.0),
        ));
        for pip in 0..FULL_SHIELD {
            let x = (f32::from(pip) - f32::from(FULL_SHIELD - 1) / 2.0) * 13.0;
            ship.spawn((
                Pip(pip),
                Sprite::from_color(Color::WHITE.with_alpha(0.85), Vec2::new(10.0, 4.0)),
                Transform::from_xyz(x, -SHIP_RADIUS - 14.0, 5.0),
            ));
        }
    });
}

fn dress_bolt(bolt: On<Add, Bolt>, bolts: Query<&Bolt>, mut commands: Commands) {
    if let Ok(shot) = bolts.get(bolt.entity) {
        let place = Transform::from_translation(shot.start.extend(0.5))
            .with_rotation(Quat::from_rotation_z(shot.direction.to_angle()));
        commands
            .entity(bolt.entity)
            .insert((Sprite::from_color(shot.color.lighter(0.25), Vec2::new(26.0, 5.0)), place));
    }
}

fn dress_orb(
    orb: On<Add, Orb>,
    orbs: Query<&Orb>,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<ColorMaterial>>,
    mut commands: Commands,
) {
    let Ok(&Orb { kind, at }) = orbs.get(orb.entity) else { return };
    let (sides, color) = match kind {
        Kind::Star => (5, Color::srgb(1.0, 0.85, 0.3)),
        Kind::Shield => (8, Color::srgb(0.4, 0.8, 1.0)),
        Kind::Rapid => (3, Color::srgb(1.0, 0.4, 0.5)),
    };
    commands.entity(orb.entity).insert((
        Mesh2d(meshes.add(RegularPolygon::new(ORB_RADIUS, sides))),
        MeshMaterial2d(materials.add(color)),
        Transform::from_translation(at.extend(0.0)),
    ));
}

fn place_ships(
    mut ships: Query<(&Body, &Pilot, &mut Transform, &mut Visibility, &Children), Without<Hull>>,
    mut hulls: Query<&mut Transform, With<Hull>>,
) {
    for (body, pilot, mut transform, mut visibility, children) in &mut ships {
        transform.translation = body.at.extend(1.0);
        let shown = if pilot.down { Visibility::Hidden } else { Visibility::Inherited };
        visibility.set_if_neq(shown);
        let mut parts = hulls.iter_many_mut(children);
        while let Some(mut hull) = parts.fetch_next() {
            hull.rotation = Quat::from_rotation_z(body.aim.to_angle());
        }
    }
}

fn show_pilots(
    ships: Query<(&Pilot, &Children), Changed<Pilot>>,
    mut names: Query<&mut Text2d, With<NameTag>>,
    mut pips: Query<(&Pip, &mut Visibility)>,
) {
    for (pilot, children) in &ships {
        for part in children.iter() {
            if let Ok(mut name) = names.get_mut(part) {
                name.0.clone_from(&pilot.name);
            }
            if let Ok((pip, mut visibility)) = pips.get_mut(part) {
                *visibility = if pip.0 < pilot.shield { Visibility::Inherited } else { Visibility::Hidden };
            }
        }
    }
}

fn place_bolts(mut bolts: Query<(&Bolt, &Flight, &mut Transform, &mut Visibility)>) {
    for (bolt, flight, mut transform, mut visibility) in &mut bolts {
        let at = bolt.at(flight.seconds);
        transform.translation = at.unwrap_or(bolt.start).extend(0.5);
        // Its owner takes it away when it is at the wall; until we hear of that, it is not seen beyond.
        visibility.set_if_neq(if at.is_some() { Visibility::Inherited } else { Visibility::Hidden });
    }
}

fn turn_orbs(mut orbs: Query<&mut Transform, With<Orb>>, time: Res<Time>) {
    for mut transform in &mut orbs {
        transform.rotate_z(time.delta_secs() * 1.5);
        transform.scale = Vec3::splat(1.0 + (time.elapsed_secs() * 4.0).sin() * 0.1);
    }
}
