//! The rules of ships and bolts, the same on every peer: who owns a ship decides what happens to it.
//!
//! A bolt is told of once: where it started and where it goes. Every peer flies it from there by itself. The owner of
//! a ship says when it was hit; the owner of a bolt takes it away. So nobody waits for anybody, under a host or not.

use bevy::prelude::*;
use bevy_coplay::prelude::*;

use crate::{chat::Say, options::Options};

/// Half the size of the arena, in world units.
pub const HALF: Vec2 = Vec2::new(800.0, 450.0);
pub const SHIP_RADIUS: f32 = 26.0;
pub const BOLT_SPEED: f32 = 900.0;
pub const FULL_SHIELD: u8 = 4;

const BOLT_SECONDS: f32 = 1.3;
const THRUST: f32 = 1500.0;
const DRAG: f32 = 3.0;
const RELOAD: f32 = 0.28;
const RAPID_RELOAD: f32 = 0.11;
const DOWN_SECONDS: f32 = 1.6;

/// Who flies a ship, and how well.
#[derive(Component, Networked, Clone, Debug)]
#[require(Drift, Guns)]
pub struct Pilot {
    pub name: String,
    pub color: Color,
    pub score: u16,
    #[net(range = 0..=4)]
    pub shield: u8,
    /// Shot down, and back in a moment.
    pub down: bool,
}

/// Where a ship is and where it points.
#[derive(Component, Networked, Clone, Debug, Default)]
#[net(interpolate)]
pub struct Body {
    #[net(step = 0.1, range = -1000.0..=1000.0)]
    pub at: Vec2,
    #[net(step = 0.01, range = -1.0..=1.0)]
    pub aim: Vec2,
}

/// What the pilot wants.
#[derive(Component, NetInput, Clone, Debug, Default)]
pub struct Steer {
    #[net(step = 0.05, range = -1.0..=1.0)]
    pub go: Vec2,
    #[net(step = 0.01, range = -1.0..=1.0)]
    pub aim: Vec2,
    pub fire: bool,
}

/// A shot: where it was fired, where it goes, and by whom.
#[derive(Component, Networked, Clone, Debug)]
#[require(Flight)]
pub struct Bolt {
    pub by: Option<Entity>,
    #[net(step = 0.1, range = -1000.0..=1000.0)]
    pub start: Vec2,
    #[net(step = 0.001, range = -1.0..=1.0)]
    pub direction: Vec2,
    pub color: Color,
}

impl Bolt {
    /// Where it is when it has flown for so many seconds; `None` beyond the walls.
    pub fn at(&self, seconds: f32) -> Option<Vec2> {
        let at = self.start + self.direction * BOLT_SPEED * seconds;
        at.abs().cmple(HALF).all().then_some(at)
    }
}

/// How long a bolt has flown on this peer's screen, in seconds.
#[derive(Component, Default)]
pub struct Flight {
    pub seconds: f32,
    /// It has hit a ship of ours; its owner will take it away.
    spent: bool,
}

/// A ship's speed; only its owner knows.
#[derive(Component, Default)]
pub struct Drift(pub Vec2);

/// A ship's timers, in seconds; only its owner has them.
#[derive(Component, Default)]
pub struct Guns {
    reload: f32,
    pub rapid: f32,
    back_in: f32,
}

/// A bolt met a ship. Said by the ship's owner, to everyone.
#[derive(NetEvent, Clone, Debug)]
pub struct Hit {
    pub bolt: Option<Entity>,
    pub by: Option<Entity>,
    pub victim: Option<Entity>,
    pub at: Vec2,
    /// The victim's last shield.
    pub down: bool,
}

/// A player's name, told to everyone when its ship appears.
#[derive(NetEvent, Clone, Debug)]
pub struct Introduce {
    pub name: String,
}

/// Dice that need no crate: a small xorshift.
#[derive(Resource)]
pub struct Dice(u64);

impl Dice {
    /// A number from 0 to 1.
    pub fn roll(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1_u64 << 24) as f32
    }

    /// A place in the arena.
    pub fn place(&mut self) -> Vec2 {
        (Vec2::new(self.roll(), self.roll()) * 2.0 - 1.0) * (HALF - 90.0)
    }
}

pub fn plugin(app: &mut App) {
    // What is said, too: all peers of a room have to share the same types, whether or not they have a window to show it.
    app.add_net::<(Pilot, Body, Steer, Bolt, Hit, Introduce, Say)>()
        .insert_resource(Dice(0x9E37_79B9_7F4A_7C15))
        .add_observer(enter)
        .add_observer(introduce)
        .add_observer(name)
        .add_observer(hit)
        .add_observer(|peer: On<PeerJoined>| info!("joined: {}", peer.id))
        .add_observer(|peer: On<PeerLeft>| info!("{} {}", peer.id, peer.reason))
        .add_systems(OnEnter(RoomState::Joined), shake_dice)
        .add_systems(Simulate, (fly, bump, shoot, fly_bolts, meet_bolts, come_back).chain())
        .add_systems(Update, stop);
}

/// A ship of this colour, somewhere.
pub fn ship(name: String, color: Color, dice: &mut Dice) -> impl Bundle {
    let pilot = Pilot { name, color, score: 0, shield: FULL_SHIELD, down: false };
    (pilot, Body { at: dice.place(), aim: Vec2::Y }, Steer::default(), Shared)
}

fn enter(
    player: On<PlayerEntered>,
    options: Res<Options>,
    room: Res<Room>,
    mut dice: ResMut<Dice>,
    mut commands: Commands,
) {
    // A headless peer has nobody at its keys: it is a host, or a home for bots.
    if options.headless && player.id() == room.me() {
        return;
    }
    let name = format!("Player {}", player.slot() + 1);
    commands.spawn((ship(name, player.color(), &mut dice), ControlledBy(player.id())));
}

fn introduce(_mine: On<Add, Mine>, options: Res<Options>, mut commands: Commands) {
    if let Some(name) = &options.name {
        commands.net_trigger(Introduce { name: name.clone() });
    }
}

fn name(introduced: On<Received<Introduce>>, mut pilots: Query<(&mut Pilot, &ControlledBy), With<Owned>>) {
    for (mut pilot, _) in pilots.iter_mut().filter(|(_, by)| by.0 == introduced.from) {
        pilot.name = introduced.name.chars().take(16).collect();
    }
}

// Not every peer is to roll the same.
fn shake_dice(room: Res<Room>, mut dice: ResMut<Dice>) {
    let me = room.me().as_u128();
    dice.0 ^= (me >> 64) as u64 ^ me as u64 | 1;
}

fn fly(mut ships: Query<(&mut Body, &mut Drift, &Steer, &Pilot), With<Simulated>>, time: Res<Time>) {
    let seconds = time.delta_secs();
    for (mut body, mut drift, steer, pilot) in &mut ships {
        if pilot.down {
            continue;
        }
        let speed = (drift.0 + steer.go.clamp_length_max(1.0) * THRUST * seconds) * (1.0 - DRAG * seconds);
        let wall = HALF - SHIP_RADIUS;
        let at = body.at + speed * seconds;
        // Walls give back half of the speed.
        drift.0 = Vec2::select(at.abs().cmpgt(wall), speed * -0.5, speed);
        let next = Body { at: at.clamp(-wall, wall), aim: steer.aim.try_normalize().unwrap_or(body.aim) };
        if next.at.distance_squared(body.at) > 0.0001 || next.aim != body.aim {
            *body = next;
        }
    }
}

fn bump(mut ships: Query<(Entity, &Body, &mut Drift, &Pilot), With<Simulated>>, all: Query<(Entity, &Body, &Pilot)>) {
    for (me, body, mut drift, _) in ships.iter_mut().filter(|(.., pilot)| !pilot.down) {
        for (_, other, _) in all.iter().filter(|(other, _, pilot)| *other != me && !pilot.down) {
            let apart = body.at - other.at;
            if apart.length() < SHIP_RADIUS * 2.0 {
                drift.0 += apart.try_normalize().unwrap_or(Vec2::X) * 120.0;
            }
        }
    }
}

fn shoot(
    mut ships: Query<(Entity, &Body, &Steer, &Pilot, &mut Guns), With<Simulated>>,
    time: Res<Time>,
    mut commands: Commands,
) {
    for (ship, body, steer, pilot, mut guns) in &mut ships {
        guns.reload -= time.delta_secs();
        guns.rapid -= time.delta_secs();
        if steer.fire && !pilot.down && guns.reload <= 0.0 {
            guns.reload = if guns.rapid > 0.0 { RAPID_RELOAD } else { RELOAD };
            let start = (body.at + body.aim * (SHIP_RADIUS + 8.0)).clamp(-HALF, HALF);
            commands.spawn((Bolt { by: Some(ship), start, direction: body.aim, color: pilot.color }, Shared));
        }
    }
}

fn fly_bolts(mut bolts: Query<(Entity, &Bolt, &mut Flight, Has<Owned>)>, time: Res<Time>, mut commands: Commands) {
    for (entity, bolt, mut flight, owned) in &mut bolts {
        flight.seconds += time.delta_secs();
        if owned && (flight.seconds > BOLT_SECONDS || bolt.at(flight.seconds).is_none()) {
            commands.entity(entity).despawn();
        }
    }
}

fn meet_bolts(
    mut ships: Query<(Entity, &Body, &mut Pilot, &mut Drift, &mut Guns), With<Simulated>>,
    mut bolts: Query<(Entity, &Bolt, &mut Flight)>,
    mut commands: Commands,
) {
    for (ship, body, mut pilot, mut drift, mut guns) in &mut ships {
        for (entity, bolt, mut flight) in &mut bolts {
            let Some(at) = bolt.at(flight.seconds) else { continue };
            let misses = flight.spent || flight.seconds > BOLT_SECONDS || at.distance(body.at) > SHIP_RADIUS + 6.0;
            if pilot.down || bolt.by == Some(ship) || misses {
                continue;
            }
            flight.spent = true;
            drift.0 += bolt.direction * 220.0;
            pilot.shield = pilot.shield.saturating_sub(1);
            let down = pilot.shield == 0;
            if down {
                pilot.down = true;
                guns.back_in = DOWN_SECONDS;
            }
            commands.net_trigger(Hit { bolt: Some(entity), by: bolt.by, victim: Some(ship), at, down });
        }
    }
}

fn come_back(
    mut ships: Query<(&mut Pilot, &mut Body, &mut Drift, &mut Guns), With<Simulated>>,
    mut dice: ResMut<Dice>,
    time: Res<Time>,
) {
    for (mut pilot, mut body, mut drift, mut guns) in ships.iter_mut().filter(|(pilot, ..)| pilot.down) {
        guns.back_in -= time.delta_secs();
        if guns.back_in <= 0.0 {
            pilot.down = false;
            pilot.shield = FULL_SHIELD;
            body.at = dice.place();
            drift.0 = Vec2::ZERO;
        }
    }
}

fn hit(
    hit: On<Received<Hit>>,
    bolts: Query<(), (With<Bolt>, With<Owned>)>,
    mut pilots: Query<&mut Pilot, With<Owned>>,
    mut commands: Commands,
) {
    if let Some(bolt) = hit.bolt.filter(|bolt| bolts.contains(*bolt)) {
        commands.entity(bolt).despawn();
    }
    if hit.down
        && let Some(mut pilot) = hit.by.and_then(|by| pilots.get_mut(by).ok())
    {
        pilot.score = pilot.score.saturating_add(3);
    }
}

fn stop(options: Res<Options>, time: Res<Time<Real>>, mut exit: MessageWriter<AppExit>) {
    if options.seconds.is_some_and(|seconds| time.elapsed_secs() > seconds) {
        exit.write(AppExit::Success);
    }
}
