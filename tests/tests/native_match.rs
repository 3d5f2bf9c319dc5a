//! Do two games come to the same world over real WebRTC, by a signaling server in this process?
#![cfg(not(target_arch = "wasm32"))]

use std::{
    thread,
    time::{Duration, Instant},
};

use bevy_app::{App, TaskPoolPlugin};
use bevy_coplay::prelude::*;
use bevy_ecs::prelude::*;
use bevy_math::Vec2;
use bevy_state::app::StatesPlugin;
use bevy_time::TimePlugin;
use coplay_signaling::{Config, Signaling};

/// For anything that is to happen on one machine, a busy one included.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of a frame of the games.
const FRAME: Duration = Duration::from_millis(4);
/// How many entities each player has.
const ENTITIES: usize = 5;

#[derive(Component, Networked, Clone, Debug, Default)]
struct Pos {
    #[net(step = 0.01, range = -512.0..=512.0)]
    xy: Vec2,
}

#[derive(Component, NetInput, Clone, Debug, Default)]
struct Go {
    #[net(step = 0.01, range = -1.0..=1.0)]
    by: Vec2,
}

#[derive(NetEvent, Clone, Debug)]
struct Said {
    number: u32,
}

/// What came, from whom.
#[derive(Resource, Default)]
struct Heard(Vec<(PeerId, u32)>);

#[derive(Resource, Default)]
struct Left(usize);

fn game(url: &str, topology: Topology) -> App {
    let room = CoplayPlugins::room("match").signaling(url);
    let mut app = App::new();
    app.add_plugins((
        TaskPoolPlugin::default(),
        TimePlugin,
        StatesPlugin,
        if topology == Topology::Host { room.host() } else { room.mesh() },
    ));
    app.add_net::<(Pos, Go, Said)>()
        .init_resource::<Heard>()
        .init_resource::<Left>()
        .add_observer(|player: On<PlayerEntered>, mut commands: Commands| {
            for _ in 0..ENTITIES {
                commands.spawn((Pos::default(), Go::default(), ControlledBy(player.id())));
            }
        })
        .add_observer(|said: On<Received<Said>>, mut heard: ResMut<Heard>| heard.0.push((said.from, said.number)))
        .add_observer(|_: On<PeerLeft>, mut left: ResMut<Left>| left.0 += 1)
        .add_observer(|failed: On<RoomFailed>| panic!("{}", failed.error))
        .add_systems(Simulate, |mut moved: Query<(&mut Pos, &Go), With<Simulated>>| {
            for (mut pos, go) in &mut moved {
                if go.by != Vec2::ZERO {
                    pos.xy += go.by;
                }
            }
        });
    app.finish();
    app.cleanup();
    app
}

/// Runs the games frame by frame until this is so.
fn until(what: &str, games: &mut [App], mut so: impl FnMut(&mut [App]) -> bool) {
    let start = Instant::now();
    while !so(games) {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        games.iter_mut().for_each(App::update);
        thread::park_timeout(FRAME);
    }
}

fn count<F: bevy_ecs::query::QueryFilter>(app: &mut App) -> usize {
    app.world_mut().query_filtered::<(), F>().iter(app.world()).count()
}

fn steer(app: &mut App, by: Vec2) {
    let world = app.world_mut();
    for mut go in world.query_filtered::<&mut Go, With<Mine>>().iter_mut(world) {
        go.by = by;
    }
}

fn me(app: &App) -> PeerId {
    app.world().resource::<Room>().me()
}

fn two_games_become_one_world(topology: Topology) {
    let signaling = Signaling::spawn(Config::local()).expect("it starts");
    let url = signaling.url();
    let mut games = [game(&url, topology)];
    until("the first has entered", &mut games, |games| count::<With<Mine>>(&mut games[0]) == ENTITIES);
    let [first] = games;
    let mut games = [first, game(&url, topology)];
    until("both have everything", &mut games, |games| {
        games
            .iter_mut()
            .all(|game| count::<With<Shared>>(game) == 2 * ENTITIES && count::<With<Mine>>(game) == ENTITIES)
    });

    for number in 0..10 {
        for (index, game) in games.iter_mut().enumerate() {
            steer(game, Vec2::from_angle(index as f32 + number as f32));
            game.world_mut().commands().net_trigger(Said { number });
        }
        until("everything was heard", &mut games, |games| {
            games.iter().all(|game| game.world().resource::<Heard>().0.len() == 2 * (number as usize + 1))
        });
    }
    let speakers = [me(&games[0]), me(&games[1])];
    for game in &games {
        for speaker in speakers {
            let heard = &game.world().resource::<Heard>().0;
            let numbers: Vec<_> =
                heard.iter().filter(|(from, _)| *from == speaker).map(|(_, number)| *number).collect();
            assert_eq!(numbers, (0..10).collect::<Vec<_>>(), "each event once and in order");
        }
    }

    games.iter_mut().for_each(|game| steer(game, Vec2::ZERO));
    until("the worlds are equal", &mut games, |games| {
        let [one, other] = games else { unreachable!("there are two") };
        bevy_coplay::snapshot(one.world_mut()) == bevy_coplay::snapshot(other.world_mut())
    });
    let moved = |game: &mut App| {
        let world = game.world_mut();
        world.query::<&Pos>().iter(world).filter(|pos| pos.xy.length() > 0.1).count()
    };
    assert_eq!(games.each_mut().map(moved), [2 * ENTITIES; 2], "everything has moved, and is where it is on both");

    let [first, second] = games;
    drop(second);
    let mut games = [first];
    until("who left is gone with all that was its own", &mut games, |games| {
        games[0].world().resource::<Left>().0 == 1 && count::<With<Shared>>(&mut games[0]) == ENTITIES
    });
}

#[test]
fn two_games_become_one_world_in_a_mesh() {
    two_games_become_one_world(Topology::Mesh);
}

#[test]
fn two_games_become_one_world_under_a_host() {
    two_games_become_one_world(Topology::Host);
}
