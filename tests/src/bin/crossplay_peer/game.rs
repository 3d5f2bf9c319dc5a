//! The game of a peer: each player keeps some entities moving, takes some away and makes others.
//!
//! It is written once: in a mesh each player owns its entities; under a host the host owns them all, and the players
//! steer theirs.

use std::collections::BTreeMap;

use bevy_app::{App, FixedPreUpdate, FixedUpdate};
use bevy_coplay::prelude::*;
use bevy_ecs::prelude::*;
use bevy_math::Vec2;
use bevy_time::{Fixed, Time};
use coplay_tests::crossplay::ENTITIES;

use crate::desk::wall_millis;

/// How far entities get from the middle.
const HALF: f32 = 500.0;
/// Every so many ticks each player's oldest entity goes and a new one comes.
const CHURN: u32 = 60;
/// Every so many ticks an entity gets its [`Shield`] or loses it.
const SHIELD: u32 = 20;
/// One entity in so many carries a [`Stamp`].
const STAMPED: u32 = 5;

/// Where it is.
#[derive(Component, Networked, Clone, Debug, Default)]
#[net(interpolate)]
pub(crate) struct Pos {
    #[net(step = 0.01, range = -512.0..=512.0)]
    xy: Vec2,
}

/// What changes now and then, and is sent as it is.
#[derive(Component, Networked, Clone, Debug, Default)]
pub(crate) struct Look {
    name: String,
    hue: f32,
    hits: Option<u16>,
    behind: Option<Entity>,
}

/// What comes and goes.
#[derive(Component, Networked, Clone, Debug, Default)]
pub(crate) struct Shield {
    left: u8,
}

/// When the owner wrote it, in ms of the time of day.
#[derive(Component, Networked, Clone, Debug, Default)]
pub(crate) struct Stamp {
    pub(crate) at: f64,
}

/// Where its player wants it to go.
#[derive(Component, NetInput, Clone, Debug, Default)]
pub(crate) struct Steer {
    #[net(step = 0.01, range = -1.0..=1.0)]
    go: Vec2,
}

/// Whether anything is to change at present.
#[derive(Resource, Debug, Default)]
pub(crate) struct Playing(pub(crate) bool);

/// The how-manieth entity of this peer it is: which is the oldest.
#[derive(Component, Clone, Copy)]
struct Born(u32);

/// Counts what this peer has made, and its ticks.
#[derive(Resource, Debug, Default)]
struct Count {
    born: u32,
    ticks: u32,
}

pub(crate) fn plugin(app: &mut App) {
    app.add_net::<(Pos, Look, Shield, Stamp, Steer)>()
        .init_resource::<Playing>()
        .init_resource::<Count>()
        .add_observer(enter)
        .add_systems(FixedPreUpdate, steer.in_set(NetSystems::Input).run_if(playing))
        .add_systems(FixedUpdate, (churn, shields, stamp).chain().run_if(playing))
        .add_systems(Simulate, drive.run_if(playing));
}

pub(crate) fn playing(playing: Res<Playing>) -> bool {
    playing.0
}

fn enter(player: On<PlayerEntered>, mut count: ResMut<Count>, mut commands: Commands) {
    let mut before = None;
    for _ in 0..ENTITIES {
        before = Some(spawn(&mut commands, &mut count, player.id(), before));
    }
}

fn spawn(commands: &mut Commands<'_, '_>, count: &mut Count, player: PeerId, behind: Option<Entity>) -> Entity {
    let number = count.born;
    count.born += 1;
    let look = Look { name: format!("no. {number}"), hue: number as f32 * 0.7, hits: None, behind };
    let mut entity = commands.spawn((Pos::default(), look, Steer::default(), Born(number), ControlledBy(player)));
    if number.is_multiple_of(STAMPED) {
        entity.insert(Stamp::default());
    }
    entity.id()
}

fn steer(mut mine: Query<(Entity, &mut Steer), With<Mine>>, time: Res<Time<Fixed>>) {
    for (entity, mut steer) in &mut mine {
        let angle = time.elapsed_secs() + entity.index_u32() as f32;
        steer.go = Vec2::from_angle(angle);
    }
}

fn drive(mut entities: Query<(&mut Pos, &Steer), With<Simulated>>, time: Res<Time>) {
    for (mut pos, steer) in &mut entities {
        pos.xy = (pos.xy + steer.go * 120.0 * time.delta_secs()).clamp(Vec2::splat(-HALF), Vec2::splat(HALF));
    }
}

fn churn(owned: Query<(Entity, &ControlledBy, &Born), With<Owned>>, mut count: ResMut<Count>, mut commands: Commands) {
    count.ticks += 1;
    if !count.ticks.is_multiple_of(CHURN) {
        return;
    }
    let mut players: BTreeMap<PeerId, Vec<(u32, Entity)>> = BTreeMap::new();
    for (entity, player, born) in &owned {
        players.entry(player.0).or_default().push((born.0, entity));
    }
    for (player, entities) in players {
        if let Some((_, oldest)) = entities.iter().min() {
            commands.entity(*oldest).despawn();
        }
        spawn(&mut commands, &mut count, player, entities.iter().max().map(|(_, newest)| *newest));
    }
}

fn shields(
    mut owned: Query<(Entity, &Born, &mut Look, Option<&Shield>), With<Owned>>,
    count: Res<Count>,
    mut commands: Commands,
) {
    for (entity, born, mut look, shield) in &mut owned {
        if !(born.0 + count.ticks).is_multiple_of(SHIELD) {
            continue;
        }
        if shield.is_some() {
            commands.entity(entity).remove::<Shield>();
            look.hits = Some(look.hits.map_or(1, |hits| hits.wrapping_add(1)));
        } else {
            commands.entity(entity).insert(Shield { left: (count.ticks % 200) as u8 });
        }
    }
}

fn stamp(mut owned: Query<&mut Stamp, With<Owned>>) {
    for mut stamp in &mut owned {
        stamp.at = wall_millis();
    }
}
