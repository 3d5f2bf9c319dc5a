//! Things to pick up. Whoever leads the room lays them out and says who got one, so that nobody gets one twice.

use bevy::prelude::*;
use bevy_coplay::prelude::*;

use crate::game::{Body, Dice, FULL_SHIELD, Guns, Pilot, SHIP_RADIUS};

pub const ORB_RADIUS: f32 = 14.0;
const ORBS: usize = 6;
const RAPID_SECONDS: f32 = 6.0;

/// Something to pick up.
#[derive(Component, Networked, Clone, Debug)]
#[require(Asked)]
pub struct Orb {
    pub kind: Kind,
    #[net(step = 0.1, range = -1000.0..=1000.0)]
    pub at: Vec2,
}

/// What an orb does.
#[derive(NetField, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A point.
    #[default]
    Star,
    /// A full shield.
    Shield,
    /// Faster shots for a while.
    Rapid,
}

/// A ship of ours has asked for it already.
#[derive(Component, Default)]
struct Asked(bool);

/// A ship is on an orb. Said by the ship's owner, to the leader.
#[derive(NetEvent, Clone, Debug)]
struct Grab {
    orb: Option<Entity>,
    by: Option<Entity>,
}

/// A ship got an orb. Said by the leader, to everyone.
#[derive(NetEvent, Clone, Debug)]
pub struct Grabbed {
    pub by: Option<Entity>,
    pub kind: Kind,
    pub at: Vec2,
}

pub fn plugin(app: &mut App) {
    app.add_net::<(Orb, Grab, Grabbed)>()
        .add_observer(grant)
        .add_observer(grabbed)
        .add_systems(Simulate, (lay_out.run_if(leads), grab));
}

fn leads(room: Res<Room>) -> bool {
    room.is_leader()
}

fn lay_out(orbs: Query<(), (With<Orb>, With<Owned>)>, mut dice: ResMut<Dice>, mut commands: Commands) {
    for _ in orbs.iter().len()..ORBS {
        let kind = match dice.roll() {
            roll if roll < 0.6 => Kind::Star,
            roll if roll < 0.8 => Kind::Shield,
            _ => Kind::Rapid,
        };
        commands.spawn((Orb { kind, at: dice.place() }, Shared));
    }
}

fn grab(
    ships: Query<(Entity, &Body, &Pilot), With<Simulated>>,
    mut orbs: Query<(Entity, &Orb, &mut Asked)>,
    mut commands: Commands,
) {
    for (ship, body, _) in ships.iter().filter(|(.., pilot)| !pilot.down) {
        for (entity, orb, mut asked) in &mut orbs {
            if !asked.0 && body.at.distance(orb.at) < SHIP_RADIUS + ORB_RADIUS {
                asked.0 = true;
                commands.net_trigger_to(Target::Host, Grab { orb: Some(entity), by: Some(ship) });
            }
        }
    }
}

fn grant(grab: On<Received<Grab>>, orbs: Query<&Orb, With<Owned>>, mut commands: Commands) {
    if let Some(entity) = grab.orb
        && let Ok(orb) = orbs.get(entity)
    {
        commands.entity(entity).despawn();
        commands.net_trigger(Grabbed { by: grab.by, kind: orb.kind, at: orb.at });
    }
}

fn grabbed(grabbed: On<Received<Grabbed>>, room: Res<Room>, mut ships: Query<(&mut Pilot, &mut Guns), With<Owned>>) {
    let by_leader = room.leader().is_none_or(|leader| grabbed.from == leader);
    if let Some((mut pilot, mut guns)) = grabbed.by.filter(|_| by_leader).and_then(|by| ships.get_mut(by).ok()) {
        match grabbed.kind {
            Kind::Star => pilot.score = pilot.score.saturating_add(1),
            Kind::Shield => pilot.shield = FULL_SHIELD,
            Kind::Rapid => guns.rapid = RAPID_SECONDS,
        }
    }
}
