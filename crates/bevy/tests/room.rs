//! Is the room's state what it says, do notices come when they should, and do mistakes say what they are?

#[path = "common/world.rs"]
mod world;

use bevy_app::prelude::*;
use bevy_coplay::{Conditions, NetDiagnosticsPlugin, RoomError, prelude::*};
use bevy_ecs::prelude::*;
use bevy_state::prelude::*;
use world::*;

/// What was noticed, as a short text each.
type Notice = String;

fn noticing(app: &mut App) {
    types(app);
    log::<PeerJoined, Notice, _>(app, |peer: On<PeerJoined>, all: Query<&Peer>, mut log: ResMut<Log<Notice>>| {
        assert_eq!(all.get(peer.peer).expect("its entity is there").id, peer.id);
        log.0.push(format!("{} joined", peer.id));
    });
    app.add_observer(|peer: On<PeerLeft>, all: Query<&Peer>, mut log: ResMut<Log<Notice>>| {
        assert_eq!(all.get(peer.peer).expect("its entity is there").id, peer.id);
        log.0.push(format!("{} {}", peer.id, peer.reason));
    })
    .add_observer(|player: On<PlayerEntered>, mut log: ResMut<Log<Notice>>, mut commands: Commands| {
        log.0.push(format!("player {}", player.id()));
        commands.spawn((Health(player.slot()), ControlledBy(player.id())));
    })
    .add_observer(|failed: On<RoomFailed>, mut log: ResMut<Log<Notice>>| {
        log.0.push(failed.error.to_string());
    })
    .add_systems(OnEnter(RoomState::Offline), |mut log: ResMut<Log<Notice>>| log.0.push("offline".into()))
    .add_systems(OnEnter(RoomState::Joining), |mut log: ResMut<Log<Notice>>| log.0.push("joining".into()))
    .add_systems(OnEnter(RoomState::Joined), |mut log: ResMut<Log<Notice>>| log.0.push("in".into()));
}

fn notices(net: &mut TestNet, peer: usize) -> Vec<Notice> {
    core::mem::take(&mut net.app(peer).world_mut().resource_mut::<Log<Notice>>().0)
}

#[test]
fn a_mesh_tells_who_comes_and_goes() {
    let mut net = TestNet::mesh(2, noticing);
    net.run_secs(0.5);
    let (a, b) = (me(net.app(0)), me(net.app(1)));
    assert_eq!(notices(&mut net, 0), ["joining".into(), format!("player {a}"), "in".into(), format!("{b} joined")]);
    let first = notices(&mut net, 1);
    assert_eq!(
        first.iter().filter(|notice| notice.starts_with("player")).collect::<Vec<_>>(),
        [&format!("player {b}")]
    );
    assert!(first.contains(&format!("{a} joined")), "{first:?}");
    let room = net.app(1).world().resource::<Room>();
    assert_eq!((room.me(), room.leader(), room.is_leader(), room.topology()), (b, Some(a), false, Topology::Mesh));
    assert!(room.tick() > 0.0 && room.slot() == Some(1));
    net.end(0);
    net.run_secs(0.5);
    assert_eq!(notices(&mut net, 1), [format!("{a} left the room")]);
    assert_eq!(all::<Health>(net.app(1)), [Health(1)]);
    assert!(net.app(1).world().resource::<Room>().is_leader());
}

#[test]
fn when_the_host_leaves_the_session_is_over() {
    let mut net = TestNet::host(3, noticing);
    net.run_secs(0.5);
    let guest = net.app(1).world_mut().spawn((Health(77), Shared)).id();
    net.run_secs(0.5);
    let (host, other, me_then) = (me(net.app(0)), me(net.app(2)), me(net.app(1)));
    assert_eq!(all::<Health>(net.app(0)).len(), 4);
    notices(&mut net, 1);
    net.end(0);
    net.run_secs(0.5);
    assert_eq!(state(net.app(1)), RoomState::Offline);
    let told = notices(&mut net, 1);
    assert!(told.contains(&format!("{host} the host left: the session is over")), "{told:?}");
    assert!(told.contains(&format!("{other} the host left: the session is over")), "{told:?}");
    assert!(told.iter().any(|notice| notice.contains("out of the session: the host left")), "{told:?}");
    assert_eq!(told.last().unwrap(), "offline");
    // What was its own is still there, and is local.
    assert_eq!(all::<Health>(net.app(1)), [Health(77)]);
    let own = net.app(1).world().entity(guest);
    assert!(own.contains::<Owned>() && !own.contains::<NetEntity>());
    assert_ne!(me(net.app(1)), me_then);
    assert_eq!(count::<With<Peer>>(net.app(1)), 0);
    assert!(net.app(1).world().resource::<Room>().is_leader());
}

#[test]
fn who_leaves_keeps_its_own_and_can_come_again() {
    for topology in [Topology::Mesh, Topology::Host] {
        let mut net = TestNet::new(topology, noticing);
        net.add();
        net.add();
        net.run_secs(1.0);
        net.app(1).world_mut().spawn((Health(50), Shared));
        net.run_secs(0.5);
        let everything = same(&mut net).len();
        assert_eq!(everything, 3);
        notices(&mut net, 1);
        net.app(1).world_mut().trigger(LeaveRoom);
        net.run_secs(0.5);
        assert_eq!(state(net.app(1)), RoomState::Offline);
        // In a mesh its player is its own; under a host it is the host's.
        let own = if topology == Topology::Mesh { vec![Health(1), Health(50)] } else { vec![Health(50)] };
        let mut kept = all::<Health>(net.app(1));
        kept.sort_by_key(|health| health.0);
        assert_eq!(kept, own);
        assert_eq!(count::<With<Mine>>(net.app(1)), own.len() - 1, "its player is still its own");
        assert_eq!(all::<Health>(net.app(0)), [Health(0)]);
        net.rejoin(1);
        net.run_secs(1.0);
        assert_eq!(state(net.app(1)), RoomState::Joined);
        assert_eq!(same(&mut net).len(), everything);
        assert_eq!(count::<With<Mine>>(net.app(1)), 1);
        let entered = notices(&mut net, 1).iter().filter(|notice| notice.starts_with("player")).count();
        assert_eq!(entered, 0, "it enters once");
    }
}

#[test]
fn an_offline_game_goes_online_as_it_is() {
    for topology in [Topology::Mesh, Topology::Host] {
        let mut net = TestNet::new(topology, noticing);
        let (a, b) = (net.add_offline(), net.add_offline());
        net.run_secs(0.5);
        for peer in [a, b] {
            let local = me(net.app(peer));
            assert_eq!(notices(&mut net, peer), ["offline".into(), format!("player {local}")]);
            assert_eq!(count::<(With<Mine>, With<Owned>)>(net.app(peer)), 1);
            assert!(net.app(peer).world().resource::<Room>().is_leader());
            net.rejoin(peer);
            net.run_secs(0.5);
        }
        net.run_secs(0.5);
        assert_eq!(same(&mut net).len(), 2, "one each");
        for peer in [a, b] {
            assert_eq!(count::<With<Mine>>(net.app(peer)), 1);
            let own = format!("player {}", me(net.app(peer)));
            assert!(!notices(&mut net, peer).contains(&own), "nobody enters its own game again");
        }
    }
}

#[test]
fn a_peer_that_dies_is_unresponsive_then_gone() {
    let mut net = TestNet::mesh(3, noticing);
    net.run_secs(0.5);
    let dead = me(net.app(2));
    notices(&mut net, 0);
    net.kill(2);
    net.run_secs(1.0);
    assert_eq!(count::<With<Unresponsive>>(net.app(0)), 0);
    net.run_secs(3.0);
    assert_eq!(count::<(With<Peer>, With<Unresponsive>)>(net.app(0)), 1);
    assert_eq!(notices(&mut net, 0), Vec::<String>::new());
    net.run_secs(10.0);
    assert!(notices(&mut net, 0)[0].starts_with(&dead.to_string()));
    assert_eq!(count::<With<Peer>>(net.app(0)), 1);
    assert_eq!(all::<Health>(net.app(1)), [Health(0), Health(1)]);
}

#[test]
fn paths_are_measured() {
    let mut net = TestNet::host(3, types)
        .with(Conditions { latency: core::time::Duration::from_millis(50), ..Conditions::PERFECT });
    net.run_secs(15.0);
    for peer in 0..2 {
        let world = net.app(peer).world_mut();
        let direct: Vec<_> = world.query::<&PeerPath>().iter(world).filter(|path| path.kind.is_some()).collect();
        assert!(!direct.is_empty() && direct.iter().all(|path| path.kind == Some(PathKind::Memory)));
        for path in direct {
            assert!((0.095..0.15).contains(&path.rtt.as_secs_f64()), "{path:?}");
            assert!(path.bytes_sent > 100 && path.bytes_received > 100 && path.loss < 0.01, "{path:?}");
        }
    }
    let store = net.app(0).world().resource::<bevy_diagnostic::DiagnosticsStore>();
    let measured = |path| store.get_measurement(&path).unwrap().value;
    assert!((95.0..150.0).contains(&measured(NetDiagnosticsPlugin::RTT)));
    assert!(measured(NetDiagnosticsPlugin::BYTES_IN) > 10.0);
    assert!(measured(NetDiagnosticsPlugin::BYTES_OUT) > 10.0);
}

/// Two builds of a game that differ in one field.
mod builds {
    use super::*;

    pub(super) mod old {
        use super::*;
        #[derive(Component, Networked, Clone)]
        #[net(name = "game::Armor")]
        pub(crate) struct Armor {
            #[net(range = 0..=100)]
            pub(crate) plates: u8,
        }
    }

    pub(super) mod new {
        use super::*;
        #[derive(Component, Networked, Clone)]
        #[net(name = "game::Armor")]
        pub(crate) struct Armor {
            #[net(range = 0..=200)]
            pub(crate) plates: u8,
        }
    }
}

#[test]
fn games_that_differ_do_not_play_together_and_say_where() {
    let mut first = true;
    let mut net = TestNet::new(Topology::Mesh, move |app| {
        app.init_resource::<Log<RoomError>>();
        app.add_observer(|failed: On<RoomFailed>, mut log: ResMut<Log<RoomError>>| log.0.push(failed.error.clone()));
        log::<PeerRefused, Notice, _>(app, |refused: On<PeerRefused>, mut log: ResMut<Log<Notice>>| {
            log.0.push(refused.reason.to_string());
        });
        if core::mem::take(&mut first) {
            app.add_net::<builds::old::Armor>();
        } else {
            app.add_net::<builds::new::Armor>();
        }
    });
    net.add();
    net.add();
    net.run_secs(3.0);
    assert_eq!((state(net.app(0)), state(net.app(1))), (RoomState::Joined, RoomState::Offline));
    let errors = logged::<RoomError>(net.app(1));
    let [error] = &errors[..] else { panic!("{errors:?}") };
    for text in [error.to_string(), logged::<Notice>(net.app(0)).join("")] {
        for part in ["N0001", "game::Armor", "plates", "0..=100", "0..=200"] {
            assert!(text.contains(part), "`{part}` is in: {text}");
        }
    }
}

#[test]
#[should_panic(expected = "N0006")]
fn types_are_added_before_the_start() {
    let mut net = TestNet::mesh(1, types);
    net.app(0).add_net::<builds::new::Armor>();
}

#[test]
#[should_panic(expected = "N0004")]
fn names_are_unique() {
    TestNet::mesh(1, |app| _ = app.add_net::<(builds::old::Armor, builds::new::Armor)>());
}

#[test]
fn a_type_may_be_added_by_several_plugins() {
    let mut net = TestNet::mesh(2, |app| _ = app.add_plugins((types, |app: &mut App| types(app))));
    net.app(0).world_mut().spawn((Health(1), Shared));
    net.run_secs(0.3);
    assert_eq!(all::<Health>(net.app(1)), [Health(1)]);
}

#[test]
fn a_value_that_is_too_large_is_not_sent_and_hurts_nobody() {
    let mut net = TestNet::mesh(2, types);
    let entity = net.app(0).world_mut().spawn((Label("small".into()), Health(1), Shared)).id();
    net.run_secs(0.3);
    net.app(0).world_mut().get_mut::<Label>(entity).unwrap().0 = "x".repeat(100_000);
    net.app(0).world_mut().get_mut::<Health>(entity).unwrap().0 = 2;
    let text = "y".repeat(100_000);
    net.app(0).world_mut().commands().net_trigger(Say { number: 1, about: None, text });
    net.run_secs(0.3);
    assert_eq!(all::<Label>(net.app(1)), [Label("small".into())]);
    assert_eq!(all::<Health>(net.app(1)), [Health(2)]);
}

#[test]
fn the_leader_sends_away_and_nobody_else_can() {
    for topology in [Topology::Mesh, Topology::Host] {
        let mut net = TestNet::new(topology, noticing);
        for _ in 0..3 {
            net.add();
            net.run_secs(0.5);
        }
        let kicked = me(net.app(2));
        // Nor does it hurt offline.
        let offline = net.add_offline();
        for peer in [1, offline] {
            net.app(peer).world_mut().trigger(KickPeer(kicked));
            net.run_secs(0.5);
            assert_eq!(state(net.app(2)), RoomState::Joined);
        }
        for peer in 0..3 {
            notices(&mut net, peer);
        }
        net.app(0).world_mut().trigger(KickPeer(PeerId::from_u128(99)));
        net.app(0).world_mut().trigger(KickPeer(kicked));
        net.run_secs(0.5);
        for peer in [0, 1] {
            assert_eq!(
                notices(&mut net, peer),
                [format!("{kicked} removed by the leader of the room")],
                "{topology:?}"
            );
        }
        assert_eq!(state(net.app(2)), RoomState::Offline);
        let told = notices(&mut net, 2);
        assert!(told.contains(&"out of the session: removed by the leader of the room".into()), "{told:?}");
    }
}

#[test]
fn a_name_that_no_room_can_have_is_told_and_no_room_is_made() {
    let mut net = TestNet::new(Topology::Mesh, noticing);
    net.add();
    net.run_secs(1.0);
    for name in ["", "attic/2", "\u{1F697}"] {
        notices(&mut net, 0);
        net.app(0).world_mut().trigger(JoinRoom::room(name));
        net.run_secs(0.5);
        assert_eq!(state(net.app(0)), RoomState::Offline);
        let told = notices(&mut net, 0);
        assert!(told.iter().any(|notice| notice.starts_with("N0009") && notice.contains("A-Z a-z 0-9")), "{told:?}");
    }
    // The same at start, without a panic.
    let mut app = App::new();
    app.add_plugins((TaskPoolPlugin::default(), CoplayPlugins::room("")));
    log::<RoomFailed, RoomError, _>(&mut app, |failed: On<RoomFailed>, mut log: ResMut<Log<RoomError>>| {
        log.0.push(failed.error.clone());
    });
    app.finish();
    app.cleanup();
    app.update();
    app.update();
    assert_eq!(state(&app), RoomState::Offline);
    assert!(matches!(logged::<RoomError>(&app)[..], [RoomError::Name(_)]));
}
