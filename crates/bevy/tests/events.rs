//! Does every event come to everyone it is for, once and in order, and does it name what it named where it was sent?

#[path = "common/world.rs"]
mod world;

use bevy_app::prelude::*;
use bevy_coplay::{Conditions, prelude::*};
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
fn whom_the_host_itself_sends_too_much_is_out_and_all_are_told_why() {
    let mut net = TestNet::host(3, parting);
    net.set_conditions_of(2, SLOW);
    let slow = me(net.app(2));
    flood(&mut net, 0, 2.0);
    for peer in [0, 1] {
        assert_eq!(logged::<Parted>(net.app(peer)), [(slow, DisconnectReason::TooSlow)], "peer {peer}");
        assert_eq!(logged::<Heard>(net.app(peer)).len(), 1_600);
    }
    let [why] = &logged::<String>(net.app(2))[..] else { panic!("one reason") };
    assert_eq!(why, &format!("out of the session: {}", DisconnectReason::TooSlow));
    let heard: Vec<_> = logged::<Heard>(net.app(2)).iter().map(|heard| heard.1).collect();
    assert_eq!(heard, (0..heard.len() as u32).collect::<Vec<_>>(), "up to then nothing is left out");
}
