//! Does the program of the README do what it says, in a mesh, under a host and offline?

use bevy_app::{TaskPoolPlugin, prelude::*};
use bevy_color::prelude::*;
use bevy_coplay::{Conditions, prelude::*, snapshot};
use bevy_ecs::prelude::*;
use bevy_math::prelude::*;
use bevy_time::prelude::*;

#[derive(Component, Networked, Clone, Default)]
#[net(interpolate)]
struct Pos {
    #[net(step = 0.01, range = -512.0..=512.0)]
    xy: Vec2,
}

#[derive(Component, Networked, Clone, Default)]
struct Tint(Color);

#[derive(Component, NetInput, Clone, Default)]
struct Move(Vec2);

#[derive(NetEvent, Clone)]
struct Honk {
    by: Option<Entity>,
}

/// Which keys this peer's player holds down.
#[derive(Resource, Default)]
struct Keys {
    arrow: Vec2,
    space: bool,
}

/// The x of the cars that were heard to honk, and by whom.
#[derive(Resource, Default)]
struct Heard(Vec<(PeerId, Option<f32>)>);

#[derive(Resource, Default)]
struct Entered(Vec<PlayerEntered>);

fn game(app: &mut App) {
    app.add_net::<(Pos, Tint, Move, Honk)>()
        .init_resource::<Keys>()
        .init_resource::<Heard>()
        .init_resource::<Entered>()
        .add_observer(enter)
        .add_observer(hear)
        .add_systems(FixedPreUpdate, read_keys.in_set(NetSystems::Input))
        .add_systems(Simulate, drive)
        .add_systems(Update, honk);
}

fn enter(player: On<PlayerEntered>, mut entered: ResMut<Entered>, mut commands: Commands) {
    entered.0.push(*player.event());
    let start = Vec2::new(0.0, f32::from(player.slot()) * 10.0);
    commands.spawn((Pos { xy: start }, Tint(player.color()), Move::default(), ControlledBy(player.id())));
}

fn read_keys(keys: Res<Keys>, mut mine: Query<&mut Move, With<Mine>>) {
    for mut go in &mut mine {
        go.0 = keys.arrow;
    }
}

fn drive(mut cars: Query<(&mut Pos, &Move), With<Simulated>>, time: Res<Time>) {
    for (mut pos, go) in &mut cars {
        pos.xy += go.0 * 5.0 * time.delta_secs();
    }
}

fn honk(mut keys: ResMut<Keys>, mine: Query<Entity, With<Mine>>, mut commands: Commands) {
    if core::mem::take(&mut keys.space) {
        commands.net_trigger(Honk { by: mine.iter().next() });
    }
}

fn hear(honk: On<Received<Honk>>, cars: Query<&Pos>, mut heard: ResMut<Heard>) {
    heard.0.push((honk.from, honk.by.map(|car| cars.get(car).expect("it is here by now").xy.y)));
}

/// The cars, from the lowest to the highest slot.
fn cars(app: &mut App) -> Vec<Vec2> {
    let world = app.world_mut();
    let mut cars: Vec<_> = world.query::<&Pos>().iter(world).map(|pos| pos.xy).collect();
    cars.sort_by(|a, b| a.y.total_cmp(&b.y));
    cars
}

fn me(app: &App) -> PeerId {
    app.world().resource::<Room>().me()
}

fn entered(app: &App) -> Vec<(PeerId, u16)> {
    app.world().resource::<Entered>().0.iter().map(|player| (player.id(), player.slot())).collect()
}

/// Drives and honks, and looks at what everybody sees of it.
fn play(net: &mut TestNet) {
    net.run_secs(1.0);
    for index in 0..3 {
        net.app(index).world_mut().resource_mut::<Keys>().arrow = Vec2::X;
        net.run_secs(1.0);
        net.app(index).world_mut().resource_mut::<Keys>().arrow = Vec2::ZERO;
    }
    net.app(1).world_mut().resource_mut::<Keys>().space = true;
    net.run_secs(2.0);
    let honker = me(net.app(1));
    let all: Vec<_> = (0..3).map(|index| snapshot(net.app(index).world_mut())).collect();
    for index in 0..3 {
        let seen = cars(net.app(index));
        assert_eq!(seen.len(), 3, "peer {index} sees {seen:?}");
        for (slot, car) in seen.iter().enumerate() {
            assert!((car.x - 5.0).abs() < 0.5, "each has driven for a second, peer {index} sees {seen:?}");
            assert!((car.y - slot as f32 * 10.0).abs() < 0.01);
        }
        assert_eq!(all[index], all[0]);
        let heard = &net.app(index).world().resource::<Heard>().0;
        assert_eq!(heard.len(), 1);
        assert_eq!(heard[0].0, honker);
        assert!((heard[0].1.expect("it named a car") - 10.0).abs() < 0.01);
        let world = net.app(index).world_mut();
        assert_eq!(world.query_filtered::<(), With<Mine>>().iter(world).count(), 1);
    }
}

#[test]
fn in_a_mesh_everyone_sees_the_same() {
    let mut net = TestNet::mesh(3, game);
    play(&mut net);
    for index in 0..3 {
        let app = net.app(index);
        let slot = app.world().resource::<Room>().slot().unwrap();
        assert_eq!(entered(app), [(me(app), slot)], "the player enters on its own peer");
        let world = app.world_mut();
        let owned = world.query_filtered::<Has<Mine>, With<Owned>>().iter(world).collect::<Vec<_>>();
        assert_eq!(owned, [true]);
    }
}

#[test]
fn under_a_host_everyone_sees_the_same() {
    let mut net = TestNet::host(3, game);
    play(&mut net);
    let players: Vec<_> = (0..3).map(|index| me(net.app(index))).collect();
    let host = net.app(0);
    let mut all = entered(host);
    all.sort_by_key(|(_, slot)| *slot);
    assert_eq!(all, [(players[0], 0), (players[1], 1), (players[2], 2)], "all players enter on the host");
    let world = host.world_mut();
    assert_eq!(world.query_filtered::<(), With<Simulated>>().iter(world).count(), 3);
    for index in 1..3 {
        let app = net.app(index);
        assert_eq!(entered(app), []);
        let world = app.world_mut();
        assert_eq!(world.query_filtered::<(), With<Owned>>().iter(world).count(), 0);
    }
}

#[test]
fn over_a_bad_network_it_is_still_so() {
    play(&mut TestNet::host(3, game).with(Conditions::CELLULAR));
    play(&mut TestNet::mesh(3, game).with(Conditions::CELLULAR));
}

#[test]
fn offline_it_is_the_same_game() {
    let mut app = App::new();
    let tick = TestNet::tick();
    app.add_plugins((TaskPoolPlugin::default(), bevy_time::TimePlugin, bevy_state::app::StatesPlugin))
        .insert_resource(bevy_time::TimeUpdateStrategy::ManualDuration(tick))
        .add_plugins(CoplayPlugins::offline())
        .add_plugins(game);
    app.world_mut().resource_mut::<Keys>().arrow = Vec2::X;
    for frame in 0..61 {
        app.world_mut().resource_mut::<Keys>().space = frame == 30;
        app.update();
    }
    let cars = cars(&mut app);
    assert!((cars[0].x - 5.0).abs() < 0.5 && cars.len() == 1, "{cars:?}");
    assert_eq!(entered(&app), [(me(&app), 0)]);
    assert_eq!(app.world().resource::<Heard>().0, [(me(&app), Some(0.0))]);
}
