//! The rules, the same on every peer, with a window or without.

use bevy::prelude::*;
use bevy_coplay::prelude::*;

/// Half of the rink.
pub const RINK: Vec2 = Vec2::new(480.0, 270.0);
/// Of a player.
pub const RADIUS: f32 = 30.0;
/// For so many seconds nobody can give the potato back.
const PAUSE: f32 = 1.0;

/// A player.
#[derive(Component, Networked, Clone)]
#[require(Speed)]
pub struct Skater {
    pub color: Color,
}

/// Where it is. On the other peers' screens it moves smoothly.
#[derive(Component, Networked, Clone, Default)]
#[net(interpolate)]
pub struct Pos {
    #[net(step = 0.1, range = -512.0..=512.0)]
    pub at: Vec2,
}

/// Which way its player pushes.
#[derive(Component, NetInput, Clone, Default)]
pub struct Push(pub Vec2);

/// How fast it slides. Nobody has to know but who moves it, so it is not networked.
#[derive(Component, Default)]
pub struct Speed(pub Vec2);

/// The potato, and who has it. It belongs to the leader of the room.
#[derive(Component, Networked, Clone, Default)]
pub struct Potato {
    pub holder: Option<Entity>,
}

/// Told to everyone: the potato was handed on.
#[derive(NetEvent, Clone)]
pub struct Passed {
    pub to: Option<Entity>,
}

pub fn plugin(app: &mut App) {
    app.add_net::<(Skater, Pos, Push, Potato, Passed)>()
        .add_observer(enter)
        .add_observer(|peer: On<PeerJoined>| info!("joined: {}", peer.id))
        .add_observer(announce)
        .add_systems(Simulate, (slide, keep_one_potato, pass).chain());
}

/// Called where the player's entities are to be made: on the host, or in a mesh on its own peer.
fn enter(player: On<PlayerEntered>, mut commands: Commands) {
    let way = Vec2::from_angle(0.6 + 2.4 * f32::from(player.slot()));
    let skater = (Skater { color: player.color() }, Pos { at: way * 150.0 }, Speed(way * 200.0), Push::default());
    commands.spawn((skater, ControlledBy(player.id())));
}

fn slide(mut skaters: Query<(&mut Pos, &mut Speed, &Push), With<Simulated>>, time: Res<Time>) {
    let seconds = time.delta_secs();
    for (mut pos, mut speed, push) in &mut skaters {
        speed.0 = (speed.0 + push.0.clamp_length_max(1.0) * 600.0 * seconds).clamp_length_max(350.0);
        let (at, wall) = (pos.at + speed.0 * seconds, RINK - RADIUS);
        // The walls are springs: behind them, it goes back.
        speed.0 = Vec2::select(at.abs().cmpgt(wall), speed.0.abs() * -at.signum(), speed.0);
        pos.at = at.clamp(-wall, wall);
    }
}

/// When another one leads, after the old leader left or when two games have met, there is still one potato.
fn keep_one_potato(room: Res<Room>, ours: Query<Entity, (With<Potato>, With<Owned>)>, mut commands: Commands) {
    let keep = usize::from(room.is_leader());
    ours.iter().skip(keep).for_each(|potato| commands.entity(potato).despawn());
    if ours.iter().len() < keep {
        commands.spawn((Potato::default(), Shared));
    }
}

fn pass(
    mut potatoes: Query<&mut Potato, With<Simulated>>,
    skaters: Query<(Entity, &Pos), With<Skater>>,
    (mut pause, time): (Local<f32>, Res<Time>),
    mut commands: Commands,
) {
    *pause -= time.delta_secs();
    for mut potato in &mut potatoes {
        let Some((holder, here)) = potato.holder.and_then(|holder| skaters.get(holder).ok()) else {
            potato.holder = skaters.iter().next().map(|(first, _)| first);
            continue;
        };
        let mut others = skaters.iter().filter(|(other, _)| *other != holder);
        if let Some((to, _)) = others.find(|(_, pos)| pos.at.distance(here.at) < 2.0 * RADIUS)
            && *pause <= 0.0
        {
            *pause = PAUSE;
            potato.holder = Some(to);
            commands.net_trigger(Passed { to: Some(to) });
        }
    }
}

fn announce(passed: On<Received<Passed>>, players: Query<&ControlledBy>) {
    if let Some(player) = passed.to.and_then(|to| players.get(to).ok()) {
        info!("the potato goes to {}", player.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Resource, Default)]
    struct Heard(u32);

    fn game(app: &mut App) {
        app.add_plugins(plugin).init_resource::<Heard>();
        app.add_observer(|_passed: On<Received<Passed>>, mut heard: ResMut<Heard>| heard.0 += 1);
    }

    fn places(app: &mut App) -> Vec<Vec2> {
        let world = app.world_mut();
        world.query::<&Pos>().iter(world).map(|pos| pos.at).collect()
    }

    /// Who has each potato that a peer knows of.
    fn holders(app: &mut App) -> Vec<Option<PeerId>> {
        let world = app.world_mut();
        let potatoes: Vec<_> = world.query::<&Potato>().iter(world).map(|potato| potato.holder).collect();
        let player = |holder: Entity| world.get::<ControlledBy>(holder).map(|by| by.0);
        potatoes.into_iter().map(|holder| holder.and_then(player)).collect()
    }

    // Peers of one game in one process: the same each time, and a minute of play takes no minute.
    #[test]
    fn who_bumps_into_somebody_hands_the_potato_on() {
        for mut net in [TestNet::mesh(3, game), TestNet::host(3, game)] {
            net.run_secs(60.0);
            let heard = net.app(0).world().resource::<Heard>().0;
            assert!(heard > 3, "in a minute it was passed {heard} times");
            let holder = holders(net.app(0));
            assert!(holder.len() == 1 && holder[0].is_some(), "{holder:?}");
            for peer in 0..3 {
                let places = places(net.app(peer));
                assert!(places.len() == 3 && places.iter().all(|at| at.abs().cmple(RINK).all()), "{places:?}");
            }
        }
    }

    #[test]
    fn everyone_hears_of_it_and_sees_the_same() {
        let mut net = TestNet::mesh(2, game);
        for _ in 0..600 {
            net.run_secs(0.1);
            if net.app(0).world().resource::<Heard>().0 == 1 {
                break;
            }
        }
        net.run_secs(0.5);
        for peer in 0..2 {
            assert_eq!(net.app(peer).world().resource::<Heard>().0, 1);
        }
        assert_eq!(holders(net.app(0)), holders(net.app(1)));
    }

    #[test]
    fn the_potato_outlives_its_owner() {
        let mut net = TestNet::mesh(3, game);
        net.run_secs(1.0);
        net.end(0);
        net.run_secs(2.0);
        for peer in 1..3 {
            let holder = holders(net.app(peer));
            assert!(holder.len() == 1 && holder[0].is_some(), "{holder:?}");
            assert_eq!(places(net.app(peer)).len(), 2);
        }
        net.add_late();
        net.run_secs(1.0);
        assert_eq!(holders(net.app(3)).len(), 1);
    }
}
