//! Does every event come to everyone it is for, once and in order, and does it name what it named where it was sent?

#[path = "common/world.rs"]
mod world;

use bevy_app::prelude::*;
use bevy_coplay::{Conditions, EventCounts, NetDiagnosticsPlugin, Unsent, UnsentError, prelude::*};
use bevy_diagnostic::{Diagnostic, DiagnosticsStore};
use bevy_ecs::prelude::*;
use world::*;

/// From whom, which, and the health of what it is about.
type Heard = (PeerId, u32, Option<u16>);

fn listening(app: &mut App) {
    types(app);
    log::<Received<Say>, Heard, _>(app, |say: On<Received<Say>>, all: Query<&Health>, mut log: ResMut<Log<Heard>>| {
        let about = say.about.map(|about| all.get(about).expect("it is here by now").0);
        log.0.push((say.from, say.number, about));
    });
}

fn say(app: &mut App, target: Target, number: u32, about: Option<Entity>) {
    let mut commands = app.world_mut().commands();
    commands.net_trigger_to(target, Say { number, about, text: "x".repeat(number as usize % 50) });
    app.world_mut().flush();
}

#[test]
fn events_come_once_and_in_order_to_everyone() {
    use Target::Everyone;
    for mut net in [TestNet::mesh(3, listening), TestNet::host(3, listening)] {
        net.set_conditions(Conditions::CELLULAR);
        for number in 0..200 {
            for peer in 0..3 {
                say(net.app(peer), Everyone, number, None);
            }
            net.step(1);
        }
        net.run_secs(5.0);
        let peers: Vec<_> = (0..3).map(|peer| me(net.app(peer))).collect();
        for peer in 0..3 {
            let heard = logged::<Heard>(net.app(peer));
            for from in &peers {
                let numbers: Vec<_> = heard.iter().filter(|heard| heard.0 == *from).map(|heard| heard.1).collect();
                assert_eq!(numbers, (0..200).collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn events_come_to_those_they_are_for() {
    for (mut net, host) in [(TestNet::mesh(3, listening), false), (TestNet::host(3, listening), true)] {
        let peers: Vec<_> = (0..3).map(|peer| me(net.app(peer))).collect();
        say(net.app(1), Target::Everyone, 1, None);
        say(net.app(1), Target::Others, 2, None);
        say(net.app(1), Target::Host, 3, None);
        say(net.app(1), Target::Peer(peers[2]), 4, None);
        say(net.app(1), Target::Peer(peers[1]), 5, None);
        say(net.app(0), Target::Host, 6, None);
        // Not there: nothing happens.
        say(net.app(1), Target::Peer(PeerId::from_u128(99)), 7, None);
        net.run_secs(0.5);
        let heard: Vec<Vec<u32>> =
            (0..3).map(|peer| logged::<Heard>(net.app(peer)).iter().map(|heard| heard.1).collect()).collect();
        let mut sorted = heard.clone();
        sorted[0].sort_unstable();
        assert_eq!(sorted, [vec![1, 2, 3, 6], vec![1, 5], vec![1, 2, 4]], "under a host: {host}");
    }
}

#[test]
fn what_an_event_names_is_there_when_it_comes() {
    for mut net in [TestNet::mesh(3, listening), TestNet::host(3, listening)] {
        net.set_conditions(Conditions::TERRIBLE);
        for number in 0..60 {
            // Made in the same moment.
            let about = net.app(1).world_mut().spawn((Health(number as u16), Shared)).id();
            say(net.app(1), Target::Everyone, number, Some(about));
            net.step(2);
        }
        net.run_secs(10.0);
        let from = me(net.app(1));
        for peer in 0..3 {
            let heard = logged::<Heard>(net.app(peer));
            let numbers: Vec<_> = heard.iter().map(|heard| (heard.0, heard.1)).collect();
            assert_eq!(numbers, (0..60).map(|number| (from, number)).collect::<Vec<_>>());
            let named = heard.iter().filter(|heard| heard.2 == Some(heard.1 as u16)).count();
            // Over such a network a spawn may take longer than an event waits for it.
            assert!(named >= 55, "{named} of 60 knew what they were about");
        }
    }
}

#[test]
fn what_is_gone_is_not_waited_for() {
    let mut net = TestNet::mesh(2, listening);
    let world = net.app(0).world_mut();
    let gone = world.spawn((Health(1), Shared)).id();
    let local = world.spawn(Health(2)).id();
    net.run_secs(0.3);
    let name = id(net.app(0), gone);
    let there = find(net.app(1), name).unwrap();
    net.app(0).world_mut().despawn(gone);
    // The other one does not know yet that it is gone; the first one knows that it is.
    say(net.app(1), Target::Others, 1, Some(there));
    say(net.app(0), Target::Others, 2, Some(gone));
    say(net.app(0), Target::Others, 3, Some(local));
    net.step(3);
    assert_eq!(logged::<Heard>(net.app(0)), [(me(net.app(1)), 1, None)]);
    assert_eq!(logged::<Heard>(net.app(1)), [(me(net.app(0)), 2, None), (me(net.app(0)), 3, None)]);
}

#[test]
fn what_an_event_names_is_waited_for_two_and_a_half_seconds_at_most() {
    let mut net = TestNet::mesh(2, listening);
    // More than can be told in that time is told before it.
    let world = net.app(0).world_mut();
    let last = (0..1_400).map(|_| world.spawn((Label("x".repeat(900)), Shared)).id()).last();
    say(net.app(0), Target::Others, 1, last);
    net.run_secs(2.3);
    assert_eq!(logged::<Heard>(net.app(1)), []);
    net.run_secs(0.4);
    assert_eq!(logged::<Heard>(net.app(1)), [(me(net.app(0)), 1, None)]);
    assert_eq!(net.app(1).world().resource::<EventCounts>().early, 1);
}

#[test]
fn an_observer_may_answer_at_once() {
    let mut net = TestNet::host(3, |app| {
        listening(app);
        app.add_observer(|say: On<Received<Say>>, room: Res<Room>, mut commands: Commands| {
            if say.number == 1 && room.is_leader() {
                let about = commands.spawn((Health(7), Shared)).id();
                commands.net_trigger(Say { number: 2, about: Some(about), text: String::new() });
            }
        });
    });
    say(net.app(2), Target::Everyone, 1, None);
    net.run_secs(0.5);
    let (host, guest) = (me(net.app(0)), me(net.app(2)));
    for peer in 0..3 {
        assert_eq!(logged::<Heard>(net.app(peer)).last(), Some(&(host, 2, Some(7))), "peer {peer}");
        assert!(logged::<Heard>(net.app(peer)).contains(&(guest, 1, None)));
    }
}

#[test]
#[should_panic(expected = "N0007")]
fn an_event_that_was_not_added_is_a_mistake() {
    #[derive(NetEvent, Clone)]
    struct Forgotten;
    let mut net = TestNet::mesh(1, types);
    net.app(0).world_mut().commands().net_trigger(Forgotten);
    net.step(1);
}

/// In order among themselves, apart from [`Say`].
#[derive(NetEvent, Clone, Debug, PartialEq)]
#[net(channel = "chat")]
struct Line(u32);

#[derive(NetEvent, Clone, Debug, PartialEq)]
#[net(unordered)]
struct Loose(u32);

#[derive(NetEvent, Clone, Debug, PartialEq)]
#[net(unreliable)]
struct Sparks(u32);

/// Another type of the same channel.
#[derive(NetEvent, Clone, Debug, PartialEq)]
#[net(channel = "chat")]
struct Typing(u32);

/// Which type, and the number.
type Spoken = (&'static str, u32);

fn chatting(app: &mut App) {
    listening(app);
    app.add_net::<(Line, Typing, Loose, Sparks)>();
    log::<Received<Line>, Spoken, _>(app, |it: On<Received<Line>>, mut log: ResMut<Log<Spoken>>| {
        log.0.push(("line", it.0));
    });
    app.add_observer(|it: On<Received<Typing>>, mut log: ResMut<Log<Spoken>>| log.0.push(("typing", it.0)));
    app.add_observer(|it: On<Received<Loose>>, mut log: ResMut<Log<Spoken>>| log.0.push(("loose", it.0)));
    app.add_observer(|it: On<Received<Sparks>>, mut log: ResMut<Log<Spoken>>| log.0.push(("sparks", it.0)));
}

#[test]
fn channels_keep_their_order_across_types_and_each_its_promise() {
    for mut net in [TestNet::mesh(3, chatting), TestNet::host(3, chatting)] {
        net.set_conditions(Conditions::CELLULAR);
        for number in 0..100 {
            let mut commands = net.app(1).world_mut().commands();
            match number % 2 {
                0 => commands.net_trigger(Line(number)),
                _ => commands.net_trigger(Typing(number)),
            }
            commands.net_trigger(Loose(number));
            commands.net_trigger(Sparks(number));
            say(net.app(1), Target::Everyone, number, None);
            net.step(1);
        }
        net.run_secs(5.0);
        for peer in 0..3 {
            let spoken = logged::<Spoken>(net.app(peer));
            let of = |names: &[&str]| -> Vec<u32> {
                spoken.iter().filter(|(name, _)| names.contains(name)).map(|(_, number)| *number).collect()
            };
            let all: Vec<u32> = (0..100).collect();
            assert_eq!(of(&["line", "typing"]), all, "peer {peer}");
            let mut loose = of(&["loose"]);
            loose.sort_unstable();
            assert_eq!(loose, all, "peer {peer}");
            let mut sparks = of(&["sparks"]);
            sparks.sort_unstable();
            assert!(sparks.is_sorted_by(|one, next| one < next) && sparks.len() > 50, "peer {peer}: {sparks:?}");
            assert_eq!(logged::<Heard>(net.app(peer)).len(), 100);
        }
    }
}

#[test]
fn an_event_for_who_sees_an_entity_comes_to_all_that_do() {
    for mut net in [TestNet::mesh(3, listening), TestNet::host(3, listening)] {
        // Brand-new, and another's.
        let about = net.app(1).world_mut().spawn((Health(7), Shared)).id();
        say(net.app(1), Target::Seeing(about), 1, Some(about));
        net.run_secs(0.5);
        let name = id(net.app(1), about);
        let there = find(net.app(2), name).unwrap();
        say(net.app(2), Target::Seeing(there), 2, Some(there));
        net.run_secs(0.5);
        let (one, two) = (me(net.app(1)), me(net.app(2)));
        for peer in 0..3 {
            assert_eq!(logged::<Heard>(net.app(peer)), [(one, 1, Some(7)), (two, 2, Some(7))], "peer {peer}");
        }
    }
}

#[test]
fn what_an_event_names_is_as_new_as_it_was_when_it_was_sent() {
    for mut net in [TestNet::mesh(3, listening), TestNet::host(3, listening)] {
        let about = net.app(1).world_mut().spawn((Health(0), Shared)).id();
        net.run_secs(1.0);
        net.set_conditions(Conditions::TERRIBLE);
        for number in 0..100 {
            net.app(1).world_mut().get_mut::<Health>(about).unwrap().0 = number as u16;
            say(net.app(1), Target::Others, number, Some(about));
            net.step(1);
        }
        net.run_secs(10.0);
        for peer in [0, 2] {
            let heard = logged::<Heard>(net.app(peer));
            assert_eq!(heard.len(), 100);
            for (_, number, health) in heard {
                assert!(health >= Some(number as u16), "{health:?} at {number}");
            }
            assert_eq!(net.app(peer).world().resource::<EventCounts>().early, 0);
        }
    }
}

/// Sends 1.6 MB of events in 100 frames, while time goes on for so long in all.
fn flood(net: &mut TestNet, from: usize, seconds: f32) {
    for frame in 0..100 {
        for number in 0..16 {
            let number = frame * 16 + number;
            let event = Say { number, about: None, text: "x".repeat(1_000) };
            net.app(from).world_mut().commands().net_trigger(event);
        }
        net.step(1);
    }
    net.run_secs(seconds);
}

const SLOW: Conditions = Conditions {
    latency: core::time::Duration::from_millis(30),
    bandwidth: Some(100_000),
    queue: 40_000,
    ..Conditions::PERFECT
};

fn parting(app: &mut App) {
    listening(app);
    log::<PeerLeft, Parted, _>(app, |left: On<PeerLeft>, mut log: ResMut<Log<Parted>>| {
        log.0.push((left.id, left.reason.clone()));
    });
    log::<RoomFailed, String, _>(app, |failed: On<RoomFailed>, mut log: ResMut<Log<String>>| {
        log.0.push(failed.error.to_string());
    });
}

type Parted = (PeerId, DisconnectReason);

#[test]
fn a_flood_from_one_guest_slows_it_down_and_cuts_off_nobody() {
    let mut net = TestNet::host(4, parting);
    net.set_conditions_of(2, SLOW);
    let flooding = me(net.app(1));
    flood(&mut net, 1, 30.0);
    for peer in 0..4 {
        assert_eq!(logged::<Parted>(net.app(peer)), [], "peer {peer}");
        let heard = logged::<Heard>(net.app(peer));
        assert!(heard.iter().all(|heard| heard.0 == flooding));
        let numbers: Vec<_> = heard.iter().map(|heard| heard.1).collect();
        assert_eq!(numbers, (0..1_600).collect::<Vec<_>>(), "peer {peer}");
    }
}

#[test]
fn a_guest_that_leaves_while_its_events_wait_is_gone_at_once() {
    let mut net = TestNet::host(4, parting);
    net.set_conditions_of(2, SLOW);
    let flooding = me(net.app(1));
    flood(&mut net, 1, 0.0);
    net.end(1);
    net.run_secs(2.0);
    for peer in [0, 3] {
        assert_eq!(logged::<Parted>(net.app(peer)), [(flooding, DisconnectReason::Goodbye)]);
    }
    assert_eq!(state(net.app(2)), RoomState::Joined);
}

#[test]
fn what_the_host_sends_too_much_comes_back_and_nobody_is_out() {
    let mut net = TestNet::host(3, |app| {
        parting(app);
        log::<Unsent<Say>, (u32, UnsentError), _>(
            app,
            |say: On<Unsent<Say>>, mut log: ResMut<Log<(u32, UnsentError)>>| {
                assert_eq!(say.target, Target::Everyone);
                log.0.push((say.event.number, say.error.clone()));
            },
        );
    });
    net.set_conditions_of(2, SLOW);
    let (host, slow) = (me(net.app(0)), me(net.app(2)));
    flood(&mut net, 0, 30.0);
    let unsent = logged::<(u32, UnsentError)>(net.app(0));
    assert!(unsent.len() > 100, "{} of 1,600 came back", unsent.len());
    for (_, error) in &unsent {
        let UnsentError::Refused(bevy_coplay::SendError::QueueFull { peer, .. }) = error else { panic!("{error}") };
        assert_eq!(*peer, slow);
    }
    let back: Vec<u32> = unsent.iter().map(|(number, _)| *number).collect();
    let sent: Vec<u32> = (0..1_600).filter(|number| !back.contains(number)).collect();
    for peer in 0..3 {
        assert_eq!(logged::<Parted>(net.app(peer)), [], "peer {peer}");
        let heard = logged::<Heard>(net.app(peer));
        assert!(heard.iter().all(|heard| heard.0 == host));
        let numbers: Vec<u32> = heard.iter().map(|heard| heard.1).collect();
        assert_eq!(numbers, sent, "all or nobody hears it: peer {peer}");
    }
    assert_eq!(net.app(0).world().resource::<EventCounts>().unsent, back.len() as u64);
    let diagnostics = net.app(0).world().resource::<DiagnosticsStore>();
    let shown = diagnostics.get(&NetDiagnosticsPlugin::EVENTS_UNSENT).and_then(Diagnostic::value);
    assert_eq!(shown, Some(back.len() as f64));
    // There is room again.
    say(net.app(0), Target::Everyone, 9_999, None);
    net.run_secs(1.0);
    assert_eq!(logged::<Heard>(net.app(2)).last().map(|heard| heard.1), Some(9_999));
}
