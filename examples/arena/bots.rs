//! Ships that play by themselves: the peer that was given `--bots` owns them, whoever hosts.

use bevy::prelude::*;
use bevy_coplay::prelude::*;

use crate::{
    game::{BOLT_SPEED, Body, Dice, Pilot, Steer, ship},
    options::Options,
    orbs::Orb,
};

const NAMES: [&str; 8] = ["Ada", "Bix", "Cleo", "Dot", "Emil", "Fay", "Gus", "Hedy"];

/// A ship that plays by itself.
#[derive(Component)]
struct Bot {
    /// Seconds until it thinks of something else.
    bored_in: f32,
    wander: Vec2,
}

pub fn plugin(app: &mut App) {
    app.add_systems(OnEnter(RoomState::Joined), come).add_systems(FixedPreUpdate, think.in_set(NetSystems::Input));
}

fn come(options: Res<Options>, bots: Query<(), With<Bot>>, mut dice: ResMut<Dice>, mut commands: Commands) {
    for (number, name) in NAMES.iter().cycle().take(options.bots).enumerate().skip(bots.iter().len()) {
        let color = Color::hsl(dice.roll() * 360.0, 0.35, 0.62);
        let bot = Bot { bored_in: number as f32 * 0.1, wander: Vec2::ZERO };
        commands.spawn((ship(format!("{name} (bot)"), color, &mut dice), bot));
    }
}

fn think(
    mut bots: Query<(Entity, &Body, &mut Steer, &mut Bot), With<Owned>>,
    ships: Query<(Entity, &Body, &Pilot)>,
    orbs: Query<&Orb>,
    mut dice: ResMut<Dice>,
    time: Res<Time>,
) {
    for (me, body, mut steer, mut bot) in &mut bots {
        bot.bored_in -= time.delta_secs();
        if bot.bored_in < 0.0 {
            bot.bored_in = 0.6 + dice.roll();
            bot.wander = dice.place();
        }
        let near = |at: &Vec2| at.distance_squared(body.at);
        let enemy = ships
            .iter()
            .filter(|(ship, _, pilot)| *ship != me && !pilot.down)
            .map(|(_, other, _)| other.at)
            .min_by(|a, b| near(a).total_cmp(&near(b)));
        let orb = orbs.iter().map(|orb| orb.at).min_by(|a, b| near(a).total_cmp(&near(b)));
        let goal = orb.filter(|at| near(at) < 250_000.0).unwrap_or(bot.wander);
        steer.go = (goal - body.at).normalize_or_zero();
        if let Some(enemy) = enemy {
            let miss = Vec2::new(dice.roll() - 0.5, dice.roll() - 0.5) * 0.25;
            steer.aim = ((enemy - body.at).normalize_or_zero() + miss).normalize_or_zero();
            steer.fire = near(&enemy) < (BOLT_SPEED * 0.6).powi(2) && bot.bored_in < 0.5;
        } else {
            steer.fire = false;
        }
    }
}
