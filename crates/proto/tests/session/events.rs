//! Events: each channel in order and once, whatever the paths do; to whom they are; after the state that they speak of.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use coplay_proto::{
    NetId, PeerId, Topology,
    conditioner::Conditions,
    rng::Rng,
    session::{Astray, Fact, SendError, Target, TypeId},
    sim_net::SimNet,
};
use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed},
};

use crate::{
    game::conditions,
    support::{HEALTH, HONK, POS, QUIP, RANT, SECOND, SPARK, WHIFF, config, number, room, value},
};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const TOPOLOGIES: [Topology; 2] = [Topology::Mesh, Topology::Host];
const TICK: Duration = Duration::from_nanos(16_666_667);
const HARSH: Conditions = Conditions {
    latency: Duration::from_millis(40),
    jitter: Duration::from_millis(20),
    loss: 0.15,
    duplication: 0.1,
    reordering: 0.1,
    ..Conditions::PERFECT
};

/// What a peer heard: from whom, what, and the number.
fn heard(facts: &[Fact]) -> Vec<(PeerId, TypeId, u32)> {
    let event = |fact: &Fact| match fact {
        Fact::Event { from, event, value } => Some((*from, *event, number(value))),
        _ => None,
    };
    facts.iter().filter_map(event).collect()
}

fn astray(facts: &[Fact]) -> Vec<(PeerId, NetId, Astray)> {
    let astray = |fact: &Fact| match fact {
        Fact::Astray { from, entity, astray, .. } => Some((*from, *entity, *astray)),
        _ => None,
    };
    facts.iter().filter_map(astray).collect()
}

/// Whatever is sent: in the order of its channel, all that is reliable and nothing twice.
fn everyone_hears_everyone(topology: Topology, conditions: Conditions, seed: u64) {
    let mut net = SimNet::new(seed, Conditions::LAN);
    let mut peers = Vec::new();
    for _ in 0..3 {
        peers.push(net.enter_led(config(topology)));
        net.run_for(SECOND / 2);
    }
    net.set_conditions(conditions);
    let mut rng = Rng::new(seed);
    let mut sent: BTreeMap<(PeerId, TypeId), Vec<u32>> = BTreeMap::new();
    for number in 0..120 {
        let from = peers[rng.below(3) as usize];
        let event = [HONK, QUIP, RANT, SPARK, WHIFF][rng.below(5) as usize];
        net.act(from, |session| session.send(Target::Everyone, event, value(number))).unwrap();
        sent.entry((from, event)).or_default().push(number);
        if rng.chance(0.5) {
            net.run_for(Duration::from_millis(rng.below(40)));
        }
    }
    net.run_for(SECOND * 20);
    for peer in &peers {
        let facts = net.facts(*peer);
        assert_eq!(astray(&facts), []);
        for ((from, event), sent) in &sent {
            let got = heard(&facts).into_iter().filter(|heard| (heard.0, heard.1) == (*from, *event));
            let mut got: Vec<u32> = got.map(|(.., number)| number).collect();
            if [SPARK, WHIFF].contains(event) {
                got.sort_unstable();
            }
            if *event == WHIFF && peer != from {
                assert!(got.is_sorted_by(|one, next| one < next), "at most once");
                assert!(got.iter().all(|number| sent.contains(number)));
            } else {
                assert_eq!(&got, sent, "{peer} of {from}, {event:?}, {topology:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, rng_seed: RngSeed::Fixed(3), ..Config::with_cases(12) })]

    #[test]
    fn each_channel_comes_once_and_in_order(conditions in conditions(), seed in any::<u64>(), host in any::<bool>()) {
        everyone_hears_everyone(if host { Topology::Host } else { Topology::Mesh }, conditions, seed);
    }
}

#[test]
fn a_channel_that_waits_for_an_entity_holds_up_no_other() {
    for topology in TOPOLOGIES {
        let (mut net, peers) = room(topology, 3);
        net.set_conditions(Conditions { latency: TICK, ..Conditions::PERFECT });
        let [from, owner, to] = peers[..] else { panic!("three") };
        let entity = if topology == Topology::Mesh {
            // Where these two have no link, it never comes.
            net.sever(owner, to);
            net.act(owner, |session| session.spawn(None)).unwrap()
        } else {
            // More than can be told in time comes before it.
            let entities = net.act(from, |session| {
                let entities: Vec<NetId> = (0..600).map(|_| session.spawn(None).unwrap()).collect();
                for entity in &entities {
                    session.write(*entity, POS, Bytes::from(vec![7; 1_000])).unwrap();
                    session.write(*entity, HEALTH, Bytes::from(vec![7; 1_000])).unwrap();
                }
                entities
            });
            entities[599]
        };
        net.run_for(SECOND / 2);
        net.facts(to);
        net.act(from, |session| {
            session.send_about(Target::Others, QUIP, value(0), &[entity]).unwrap();
            for (number, event) in [(1, QUIP), (2, HONK), (3, RANT), (4, SPARK), (5, WHIFF)] {
                session.send(Target::Others, event, value(number)).unwrap();
            }
        });
        let numbers = |net: &mut SimNet| {
            let mut numbers: Vec<u32> = heard(&net.facts(to)).into_iter().map(|(.., number)| number).collect();
            numbers.sort_unstable();
            numbers
        };
        net.run_for(SECOND / 5);
        assert_eq!(numbers(&mut net), [2, 3, 4, 5], "{topology:?}");
        net.run_for(SECOND * 3);
        assert_eq!(numbers(&mut net), [0, 1], "{topology:?}");
    }
}

/// The newest value of POS that facts have told of an entity, when each event came; and what came astray.
fn at_each_event(facts: &[Fact], entity: NetId) -> Vec<(u32, Option<u32>)> {
    let mut newest = None;
    let mut events = Vec::new();
    for fact in facts {
        match fact {
            Fact::Written { entity: of, component, value, .. } if (*of, *component) == (entity, POS) => {
                newest = Some(number(value));
            }
            Fact::Despawned(of) if *of == entity => newest = None,
            Fact::Event { value, .. } => events.push((number(value), newest)),
            _ => {}
        }
    }
    events
}

#[test]
fn an_event_comes_after_the_state_that_it_speaks_of() {
    for topology in TOPOLOGIES {
        for event in [HONK, QUIP, SPARK] {
            // A guest, a host, a member of a mesh: who owns the entity sends.
            for from in 0..2 {
                let (mut net, peers) = room(topology, 3);
                let from = peers[from];
                net.set_conditions(HARSH);
                let entity = net.act(from, |session| session.spawn(None)).unwrap();
                for number in 0..60 {
                    net.act(from, |session| {
                        session.write(entity, POS, value(number)).unwrap();
                        session.write(entity, HEALTH, value(number / 7)).unwrap();
                        session.send_about(Target::Others, event, value(number), &[entity]).unwrap();
                    });
                    // Two values of one tick would look the same.
                    net.run_for(TICK * (2 + number % 3));
                }
                net.run_for(SECOND * 5);
                for peer in peers.iter().filter(|peer| **peer != from) {
                    let facts = net.facts(*peer);
                    assert_eq!(astray(&facts), []);
                    let events = at_each_event(&facts, entity);
                    let numbers: BTreeSet<u32> = events.iter().map(|(number, _)| *number).collect();
                    assert_eq!((events.len(), numbers.len()), (60, 60), "each once");
                    for (number, known) in events {
                        assert!(known >= Some(number), "{topology:?}: {known:?} was known at {number}");
                    }
                }
            }
        }
    }
}

#[test]
fn without_waiting_an_event_would_come_before_its_state() {
    // What the test above is worth: the same, when the event does not say what it is about.
    let (mut net, peers) = room(Topology::Mesh, 2);
    net.set_conditions(HARSH);
    let entity = net.act(peers[0], |session| session.spawn(None)).unwrap();
    for number in 0..150 {
        net.act(peers[0], |session| {
            session.write(entity, POS, value(number)).unwrap();
            session.send(Target::Others, HONK, value(number)).unwrap();
        });
        net.run_for(TICK);
    }
    net.run_for(SECOND * 5);
    let early =
        at_each_event(&net.facts(peers[1]), entity).iter().filter(|(number, known)| *known < Some(*number)).count();
    assert!(early > 20, "{early}");
}

#[test]
fn an_event_about_the_entity_of_another_comes_after_what_the_sender_knew_of_it() {
    for topology in TOPOLOGIES {
        let (mut net, peers) = room(topology, 4);
        let (owner, from, to) = (peers[1], peers[2], peers[3]);
        let entity = net.act(owner, |session| session.spawn(None)).unwrap();
        net.set_conditions(HARSH);
        for number in 0..60 {
            net.act(owner, |session| session.write(entity, POS, value(number)).unwrap());
            let known = net.session(from).value(entity, POS).map(crate::support::number);
            if let Some(known) = known {
                net.act(from, |session| session.send_about(Target::Peer(to), HONK, value(known), &[entity])).unwrap();
            }
            net.run_for(TICK * 2);
        }
        net.run_for(SECOND * 5);
        let facts = net.facts(to);
        assert_eq!(astray(&facts), []);
        let events = at_each_event(&facts, entity);
        assert!(events.len() > 40, "{topology:?}: {}", events.len());
        for (number, known) in events {
            assert!(known >= Some(number), "{topology:?}: {known:?} was known at {number}");
        }
    }
}

#[test]
fn who_joins_late_hears_of_the_entity_first() {
    for topology in TOPOLOGIES {
        let (mut net, peers) = room(topology, 2);
        let entities: Vec<NetId> = (0..120)
            .map(|number| {
                net.act(peers[1], |session| {
                    let entity = session.spawn(None).unwrap();
                    session.write(entity, POS, value(number)).unwrap();
                    session.write(entity, HEALTH, Bytes::from(vec![7; 900])).unwrap();
                    entity
                })
            })
            .collect();
        net.run_for(SECOND * 2);
        let late = net.enter_led(config(topology));
        let last = entities[119];
        assert!(net.run_until(SECOND * 5, |net| net.session(peers[1]).members().count() == 3));
        net.run_for(TICK * 4);
        let sent = net.act(peers[1], |session| session.send_about(Target::Peer(late), HONK, value(119), &[last]));
        sent.or_else(|_| {
            net.run_for(SECOND / 5);
            net.act(peers[1], |session| session.send_about(Target::Peer(late), HONK, value(119), &[last]))
        })
        .unwrap();
        net.run_for(SECOND * 5);
        let facts = net.facts(late);
        assert_eq!(astray(&facts), []);
        assert_eq!(at_each_event(&facts, last), [(119, Some(119))], "{topology:?}");
    }
}

#[test]
fn what_takes_too_long_to_come_is_not_waited_for_without_end() {
    for topology in TOPOLOGIES {
        let (mut net, peers) = room(topology, 2);
        net.set_conditions(Conditions { latency: TICK, ..Conditions::PERFECT });
        let entities: Vec<NetId> = (0..600)
            .map(|_| {
                net.act(peers[0], |session| {
                    let entity = session.spawn(None).unwrap();
                    session.write(entity, POS, Bytes::from(vec![7; 1_000])).unwrap();
                    session.write(entity, HEALTH, Bytes::from(vec![7; 1_000])).unwrap();
                    entity
                })
            })
            .collect();
        // A world of 1.2 MB, of which 256 kB a second are told.
        let last = entities[599];
        net.act(peers[0], |session| {
            session.send_about(Target::Others, HONK, value(1), &[last]).unwrap();
            session.send_about(Target::Seeing(last), QUIP, value(2), &[]).unwrap();
            session.send(Target::Others, HONK, value(3)).unwrap();
        });
        net.run_for(Duration::from_millis(1_900));
        assert_eq!(heard(&net.facts(peers[1])), [], "they wait");
        net.run_for(Duration::from_millis(300));
        let facts = net.facts(peers[1]);
        assert_eq!(heard(&facts), [(peers[0], HONK, 1), (peers[0], HONK, 3)], "{topology:?}");
        let mut lost = astray(&facts);
        lost.sort_by_key(|(.., astray)| *astray == Astray::Unseen);
        assert_eq!(lost, [(peers[0], last, Astray::Early), (peers[0], last, Astray::Unseen)]);
    }
}

#[test]
fn what_is_gone_meanwhile_is_not_waited_for() {
    for topology in TOPOLOGIES {
        let (mut net, peers) = room(topology, 3);
        let entity = net.act(peers[0], |session| {
            let entity = session.spawn(None).unwrap();
            session.write(entity, POS, value(1)).unwrap();
            entity
        });
        net.run_for(SECOND);
        // Both at once: nobody can have heard of the end when sending.
        net.act(peers[0], |session| session.despawn(entity).unwrap());
        net.act(peers[1], |session| {
            session.send_about(Target::Others, HONK, value(1), &[entity]).unwrap();
            session.send_about(Target::Seeing(entity), QUIP, value(2), &[]).unwrap();
            session.send(Target::Others, HONK, value(3)).unwrap();
        });
        net.run_for(SECOND / 2);
        let facts = net.facts(peers[0]);
        assert_eq!(heard(&facts), [(peers[1], HONK, 1), (peers[1], HONK, 3)], "{topology:?}");
        assert_eq!(astray(&facts), [(peers[1], entity, Astray::Unseen)]);
        // And who sends when it knows is told so.
        let gone = net.act(peers[0], |session| session.send(Target::Seeing(entity), HONK, value(4)));
        assert_eq!(gone, Err(SendError::Gone(entity)));
        // The third one hears what is for all at once, too.
        let third = heard(&net.facts(peers[2]));
        assert!(third.contains(&(peers[1], HONK, 1)) && third.contains(&(peers[1], HONK, 3)));
    }
}

#[test]
fn what_was_said_of_an_entity_that_its_owner_ends_right_away_is_heard() {
    for topology in TOPOLOGIES {
        let (mut net, peers) = room(topology, 3);
        net.set_conditions(HARSH);
        for number in 0..40 {
            net.act(peers[1], |session| {
                let entity = session.spawn(None).unwrap();
                session.write(entity, POS, value(number)).unwrap();
                session.send_about(Target::Others, HONK, value(number), &[entity]).unwrap();
                if number % 2 == 0 {
                    session.despawn(entity).unwrap();
                }
            });
            net.run_for(TICK * 3);
        }
        net.run_for(SECOND * 5);
        for peer in [peers[0], peers[2]] {
            let facts = net.facts(peer);
            let numbers: Vec<u32> = heard(&facts).into_iter().map(|(.., number)| number).collect();
            assert_eq!(numbers, (0..40).collect::<Vec<_>>(), "{topology:?}");
            assert_eq!(astray(&facts), []);
        }
    }
}

#[test]
fn last_words_are_heard_although_what_they_are_about_goes_with_the_leaver() {
    for topology in TOPOLOGIES {
        let (mut net, peers) = room(topology, 3);
        net.facts(peers[2]);
        net.act(peers[1], |session| {
            let entity = session.spawn(None).unwrap();
            session.write(entity, POS, value(1)).unwrap();
            session.send_about(Target::Others, HONK, value(1), &[entity]).unwrap();
        });
        net.leave(peers[1]);
        net.run_for(SECOND * 3);
        for peer in [peers[0], peers[2]] {
            let facts = net.facts(peer);
            assert_eq!(heard(&facts), [(peers[1], HONK, 1)], "{topology:?}");
            let left = facts.iter().position(|fact| matches!(fact, Fact::Left { .. })).expect("it left");
            let said = facts.iter().position(|fact| matches!(fact, Fact::Event { .. })).expect("it was heard");
            assert!(said < left);
        }
    }
}

#[test]
fn who_sees_an_entity_hears_what_is_for_them_whoever_sends_it() {
    for topology in TOPOLOGIES {
        for owner in 0..3 {
            for from in 0..3 {
                let (mut net, peers) = room(topology, 3);
                let entity = net.act(peers[owner], |session| session.spawn(None)).unwrap();
                if owner != from {
                    net.run_for(SECOND);
                }
                for peer in &peers {
                    net.facts(*peer);
                }
                net.act(peers[from], |session| session.send(Target::Seeing(entity), HONK, value(1))).unwrap();
                net.run_for(SECOND / 2);
                for peer in &peers {
                    let facts = net.facts(*peer);
                    assert_eq!(heard(&facts), [(peers[from], HONK, 1)], "{topology:?}: {owner} {from}");
                    assert_eq!(astray(&facts), []);
                }
            }
        }
    }
}

#[test]
fn who_does_not_see_an_entity_does_not_hear_what_is_for_those_who_do() {
    // The owner and the third one have no link, so that it never hears of the entity.
    let (mut net, peers) = room(Topology::Mesh, 3);
    let [leader, owner, blind] = peers[..] else { panic!("three") };
    net.sever(owner, blind);
    let entity = net.act(owner, |session| session.spawn(None)).unwrap();
    net.run_for(SECOND);
    net.facts(blind);
    net.act(leader, |session| {
        session.send(Target::Seeing(entity), HONK, value(1)).unwrap();
        session.send(Target::Others, QUIP, value(2)).unwrap();
    });
    net.run_for(SECOND * 3);
    let mut seeing = heard(&net.facts(owner));
    seeing.sort_unstable();
    assert_eq!(seeing, [(leader, HONK, 1), (leader, QUIP, 2)]);
    let facts = net.facts(blind);
    assert_eq!(heard(&facts), [(leader, QUIP, 2)]);
    assert_eq!(astray(&facts), [(leader, entity, Astray::Unseen)]);
}
