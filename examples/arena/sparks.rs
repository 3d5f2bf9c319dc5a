//! Sparks where something happens. They are nobody's business but this screen's, and so not shared.

use bevy::prelude::*;
use bevy_coplay::prelude::*;

use crate::{
    game::{Body, Dice, Hit, Pilot},
    orbs::Grabbed,
};

/// A bit of light that flies off and fades.
#[derive(Component)]
struct Spark {
    speed: Vec2,
    seconds: f32,
}

pub fn plugin(app: &mut App) {
    app.add_observer(on_hit).add_observer(on_grabbed).add_systems(Update, fly);
}

fn on_hit(hit: On<Received<Hit>>, ships: Query<(&Pilot, &Body)>, mut dice: ResMut<Dice>, mut commands: Commands) {
    let victim = hit.victim.and_then(|victim| ships.get(victim).ok());
    let color = victim.map_or(Color::WHITE, |(pilot, _)| pilot.color);
    burst(&mut commands, &mut dice, hit.at, color, if hit.down { 60 } else { 10 });
}

fn on_grabbed(grabbed: On<Received<Grabbed>>, mut dice: ResMut<Dice>, mut commands: Commands) {
    burst(&mut commands, &mut dice, grabbed.at, Color::srgb(1.0, 0.95, 0.7), 14);
}

fn burst(commands: &mut Commands, dice: &mut Dice, at: Vec2, color: Color, sparks: usize) {
    for _ in 0..sparks {
        let speed = Vec2::from_angle(dice.roll() * core::f32::consts::TAU) * (60.0 + dice.roll() * 320.0);
        commands.spawn((
            Spark { speed, seconds: 0.3 + dice.roll() * 0.4 },
            Sprite::from_color(color, Vec2::splat(3.0 + dice.roll() * 4.0)),
            Transform::from_translation(at.extend(3.0)),
        ));
    }
}

fn fly(mut sparks: Query<(Entity, &mut Spark, &mut Transform, &mut Sprite)>, time: Res<Time>, mut commands: Commands) {
    let seconds = time.delta_secs();
    for (entity, mut spark, mut transform, mut sprite) in &mut sparks {
        spark.seconds -= seconds;
        if spark.seconds <= 0.0 {
            commands.entity(entity).despawn();
            continue;
        }
        let speed = spark.speed;
        transform.translation += (speed * seconds).extend(0.0);
        spark.speed *= 1.0 - 2.5 * seconds;
        sprite.color.set_alpha((spark.seconds * 3.0).min(1.0));
    }
}
