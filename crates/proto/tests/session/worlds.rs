//! What becomes of a world: late joins, ownership, inputs, events, clocks, and what it all costs.

use std::time::Duration;

use bytes::Bytes;
use coplay_proto::{
    PeerId, Topology,
    conditioner::Conditions,
    session::{Fact, SendError, Session, SessionConfig, Target, WriteError},
    sim_net::SimNet,
};

use crate::support::{
    GLOW, HEALTH, HONK, MOVE, POS, SECOND, config, number, room, settle, value, without_optional, world_of,
};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn whoever_comes_late_gets_everything() {
    for topology in [Topology::Mesh, Topology::Host] {
        let (mut net, peers) = room(topology, 3);
        for peer in &peers {
            for number in 0..100 {
                net.act(*peer, |session| {
                    let entity = session.spawn(Some(peers[1])).unwrap();
                    session.write(entity, POS, value(number)).unwrap();
                    session.write(entity, HEALTH, value(number + 1)).unwrap();
                    if number % 3 == 0 {
                        session.despawn(entity).unwrap();
                    }
                });
            }
        }
        let late = net.enter_led(config(topology));
        net.run_for(4 * SECOND);
        let world = world_of(net.session(late));
        assert_eq!(world.len(), 3 * 66);
        for peer in &peers {
            assert_eq!(world_of(net.session(*peer)), world, "{topology:?}");
        }
    }
}

#[test]
fn optional_types_may_be_missing_on_one_side() {
    let mut net = SimNet::new(2, Conditions::WIFI);
    let rich = net.enter_led(config(Topology::Mesh));
    let mut poor_config = config(Topology::Mesh);
    poor_config.schema = without_optional();
    let poor = net.enter_led(poor_config);
    net.run_for(2 * SECOND);
    let entity = net.act(rich, |session| {
        let entity = session.spawn(None).unwrap();
        session.write(entity, POS, value(1)).unwrap();
        session.write(entity, GLOW, value(2)).unwrap();
        session.send(Target::Others, HONK, value(3)).unwrap();
        entity
    });
    net.run_for(SECOND);
    let pos = net.session(poor).config().schema.index_of("game::Pos").unwrap();
    let honk = net.session(poor).config().schema.index_of("game::Honk").unwrap();
    assert_eq!(net.session(poor).values(entity).collect::<Vec<_>>(), [(pos, &value(1))]);
    assert!(net.facts(poor).contains(&Fact::Event { from: rich, event: honk, value: value(3) }));
}

#[test]
fn events_go_where_they_are_sent_and_keep_their_sender() {
    for topology in [Topology::Mesh, Topology::Host] {
        let (mut net, peers) = room(topology, 3);
        let from = peers[1];
        let heard = |net: &mut SimNet| -> Vec<Vec<PeerId>> {
            net.run_for(SECOND);
            let events = |facts: Vec<Fact>| {
                let event = |fact| if let Fact::Event { from, .. } = fact { Some(from) } else { None };
                facts.into_iter().filter_map(event).collect()
            };
            peers.iter().map(|peer| events(net.facts(*peer))).collect()
        };
        let mut send = |target| {
            net.act(from, |session| session.send(target, HONK, value(1))).unwrap();
            heard(&mut net)
        };
        let (one, none) = (vec![from], vec![]);
        assert_eq!(send(Target::Everyone), [one.clone(), one.clone(), one.clone()]);
        assert_eq!(send(Target::Others), [one.clone(), none.clone(), one.clone()]);
        assert_eq!(send(Target::Host), [one.clone(), none.clone(), none.clone()]);
        assert_eq!(send(Target::Peer(peers[2])), [none.clone(), none.clone(), one.clone()]);
        assert_eq!(send(Target::Peer(from)), [none.clone(), one, none]);
        let nobody = PeerId::from_u128(5);
        let sent = net.act(from, |session| session.send(Target::Peer(nobody), HONK, value(1)));
        assert_eq!(sent, Err(SendError::NoMember(nobody)));
    }
}

#[test]
fn inputs_reach_the_owner_once_each_and_from_the_controller_only() {
    for topology in [Topology::Mesh, Topology::Host] {
        // Owner and controller are both guests under a host, so that it passes the inputs on.
        let (mut net, peers) = room(topology, 3);
        let (owner, controller) = (peers[1], peers[2]);
        let car = net.act(owner, |session| session.spawn(Some(controller))).unwrap();
        net.run_for(SECOND);
        net.facts(owner);
        net.set_conditions(Conditions { loss: 0.2, ..Conditions::WIFI });
        for number in 0..60 {
            net.act(controller, |session| session.input(car, MOVE, value(number / 6)).unwrap());
            net.run_for(SECOND / 60);
        }
        net.run_for(SECOND);
        let inputs: Vec<(Bytes, u32)> = net
            .facts(owner)
            .into_iter()
            .filter_map(|fact| match fact {
                Fact::Controlled { entity, input, value, tick } => {
                    assert_eq!((entity, input), (car, MOVE));
                    Some((value, tick.0))
                }
                _ => None,
            })
            .collect();
        assert_eq!(
            inputs.iter().map(|(value, _)| value.clone()).collect::<Vec<_>>(),
            (0..10).map(value).collect::<Vec<_>>()
        );
        assert!(inputs.is_sorted_by(|(_, one), (_, next)| one < next), "{inputs:?}");
        let denied = net.act(peers[0], |session| session.input(car, MOVE, value(1)));
        assert_eq!(denied, Err(WriteError::NotController(car)));
        // Another owner hears the last value at once.
        net.act(owner, |session| session.grant(car, peers[0]).unwrap());
        net.run_for(SECOND);
        let facts = net.facts(peers[0]);
        let heard = |fact: &Fact| matches!(fact, Fact::Controlled { value: last, .. } if *last == value(9));
        assert!(facts.iter().any(heard), "{topology:?} {facts:?}");
    }
}

#[test]
fn an_entity_can_be_given_away_with_everything_it_has() {
    for topology in [Topology::Mesh, Topology::Host] {
        let (mut net, peers) = room(topology, 4);
        let car = net.act(peers[1], |session| {
            let car = session.spawn(Some(peers[3])).unwrap();
            session.write(car, POS, value(1)).unwrap();
            session.write(car, HEALTH, value(2)).unwrap();
            car
        });
        net.run_for(SECOND);
        net.facts(peers[2]);
        net.act(peers[1], |session| {
            session.write(car, POS, value(3)).unwrap();
            session.remove(car, HEALTH).unwrap();
            session.grant(car, peers[2]).unwrap();
            assert_eq!(session.write(car, POS, value(4)), Err(WriteError::NotOwner(car)));
        });
        net.run_for(SECOND);
        assert!(net.facts(peers[2]).contains(&Fact::Owner(car, peers[2])));
        net.act(peers[2], |session| session.write(car, HEALTH, value(9)).unwrap());
        net.run_for(SECOND);
        for peer in &peers {
            let session = net.session(*peer);
            assert_eq!(session.owner(car), Some(peers[2]), "{topology:?}");
            assert_eq!(session.controller(car), Some(peers[3]));
            assert_eq!(session.values(car).collect::<Vec<_>>(), [(HEALTH, &value(9)), (POS, &value(3))]);
            let denied = net.facts(*peer).into_iter().find(|fact| matches!(fact, Fact::Denied(..)));
            assert_eq!(denied, None);
        }
    }
}

#[test]
fn whoever_gets_an_entity_back_tells_all_of_it() {
    let (mut net, peers) = room(Topology::Mesh, 3);
    let (owner, other, third) = (peers[0], peers[1], peers[2]);
    settle(&mut net);
    let blink = SECOND / 20;
    let car = net.act(owner, |session| {
        let car = session.spawn(None).unwrap();
        session.write(car, POS, value(1)).unwrap();
        car
    });
    net.run_for(SECOND);
    net.act(owner, |session| session.grant(car, other).unwrap());
    net.run_for(SECOND);
    // The first owner hears nothing of the 2, and the third peer nothing of the 1 after it.
    net.cut(owner, other);
    net.act(other, |session| session.write(car, POS, value(2)).unwrap());
    net.run_for(blink);
    assert_eq!(net.session(third).value(car, POS), Some(&value(2)));
    net.cut(other, third);
    net.heal(owner, other);
    net.act(other, |session| session.write(car, POS, value(1)).unwrap());
    net.run_for(blink);
    net.heal(other, third);
    net.act(other, |session| session.grant(car, owner).unwrap());
    net.run_for(2 * SECOND);
    for peer in &peers {
        assert_eq!(net.session(*peer).owner(car), Some(owner));
        assert_eq!(net.session(*peer).value(car, POS), Some(&value(1)), "{peer}");
    }
}

#[test]
fn the_host_takes_back_what_it_gave() {
    let (mut net, peers) = room(Topology::Host, 3);
    let car = net.act(peers[1], |session| session.spawn(None)).unwrap();
    net.run_for(SECOND);
    net.act(peers[0], |session| session.grant(car, peers[0]).unwrap());
    net.act(peers[0], |session| session.write(car, POS, value(7)).unwrap());
    // The former owner does not know yet; what it writes counts for nothing.
    net.act(peers[1], |session| session.write(car, POS, value(8)).unwrap());
    net.act(peers[1], |session| session.write(car, HEALTH, value(9)).unwrap());
    net.run_for(SECOND);
    for peer in &peers {
        let session = net.session(*peer);
        assert_eq!(session.owner(car), Some(peers[0]));
        assert_eq!(session.values(car).collect::<Vec<_>>(), [(POS, &value(7))]);
    }
    assert!(net.facts(peers[1]).contains(&Fact::Removed(car, HEALTH)));
    // It takes it back as it was: what the former owner has changed meanwhile is as before.
    net.act(peers[0], |session| session.grant(car, peers[1]).unwrap());
    net.run_for(SECOND);
    net.act(peers[0], |session| session.grant(car, peers[0]).unwrap());
    net.act(peers[1], |session| session.write(car, POS, value(8)).unwrap());
    net.act(peers[1], |session| session.grant(car, peers[2]).unwrap());
    net.run_for(SECOND);
    for peer in &peers {
        let session = net.session(*peer);
        assert_eq!(session.owner(car), Some(peers[0]));
        assert_eq!(session.values(car).collect::<Vec<_>>(), [(POS, &value(7))]);
    }
}

#[test]
fn clocks_agree() {
    let (mut net, peers) = room(Topology::Mesh, 3);
    net.run_for(10 * SECOND);
    let now = net.now();
    let leader = net.session(peers[0]).tick(now);
    assert!(leader > 60.0 * 11.0);
    for peer in &peers[1..] {
        let error = net.session(*peer).tick(now) - leader;
        assert!(error.abs() < 1.0, "{error} ticks");
    }
}

#[test]
fn what_does_not_change_costs_nothing() {
    let (mut net, peers) = room(Topology::Mesh, 3);
    for number in 0..200 {
        net.act(peers[0], |session| {
            let entity = session.spawn(None).unwrap();
            session.write(entity, POS, value(number)).unwrap();
        });
    }
    settle(&mut net);
    let before = net.bytes_sent(peers[0]);
    net.act(peers[0], |session| {
        for entity in session.entities().collect::<Vec<_>>() {
            let same = session.value(entity, POS).unwrap().clone();
            session.write(entity, POS, same).unwrap();
        }
    });
    net.run_for(10 * SECOND);
    let rate = (net.bytes_sent(peers[0]) - before) / 10;
    assert!(rate < 1000, "{rate} bytes a second to two idle peers");
}

#[test]
fn a_join_does_not_starve_what_moves() {
    let mut net = SimNet::new(4, Conditions { latency: Duration::from_millis(30), ..Conditions::PERFECT });
    let slow = || SessionConfig { budget: 10_000, ..config(Topology::Mesh) };
    let owner = net.enter_led(slow());
    let first = net.act(owner, |session| session.spawn(None).unwrap());
    let peer = net.enter_led(slow());
    net.run_for(SECOND);
    for number in 0..2000 {
        net.act(owner, |session| {
            let entity = session.spawn(None).unwrap();
            session.write(entity, POS, value(number)).unwrap();
        });
    }
    let mut oldest = 0;
    for tick in 0..120_u32 {
        net.act(owner, |session| session.write(first, POS, value(tick)).unwrap());
        net.run_for(SECOND / 60);
        if let (Some(seen), true) = (net.session(peer).value(first, POS), tick > 10) {
            oldest = oldest.max(tick - number(seen));
        }
    }
    assert!(net.session(peer).entities().count() < 1900, "the join takes longer than this");
    assert!(oldest < 12, "what moves was {oldest} ticks old");
    net.run_for(10 * SECOND);
    assert_eq!(net.session(peer).entities().count(), 2001);
}

#[test]
fn values_that_are_too_large_are_refused_where_they_are_written() {
    let (mut net, peers) = room(Topology::Mesh, 1);
    net.act(peers[0], |session: &mut Session| {
        let entity = session.spawn(None).unwrap();
        let large = Bytes::from(vec![0; 1025]);
        assert_eq!(session.write(entity, POS, large), Err(WriteError::TooLarge { size: 1025, limit: 1024 }));
        assert_eq!(session.write(entity, POS, Bytes::from(vec![0; 1024])), Ok(()));
        session.despawn(entity).unwrap();
        assert_eq!(session.write(entity, POS, value(1)), Err(WriteError::Gone(entity)));
    });
}
