//! What a room goes through, one scenario at a time: who leads, who is let in, who is turned away, who is gone.

use bytes::Bytes;
use coplay_proto::{
    Channel, PeerId, Term, Topology,
    conditioner::Conditions,
    link::{CloseReason, LinkEvent},
    session::{DisconnectReason, Fact, Input, SessionConfig},
    signal::Leader,
    sim_net::SimNet,
};

use crate::support::{POS, SECOND, config, room, schema, value};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn joined(facts: &[Fact]) -> Vec<PeerId> {
    facts.iter().filter_map(|fact| if let Fact::Joined { peer, .. } = fact { Some(*peer) } else { None }).collect()
}

fn closed(facts: &[Fact]) -> Option<DisconnectReason> {
    facts.iter().find_map(|fact| if let Fact::Closed(reason) = fact { Some(reason.clone()) } else { None })
}

fn refused(facts: &[Fact], by: PeerId) -> Option<DisconnectReason> {
    facts.iter().find_map(|fact| match fact {
        Fact::Refused(peer, reason) if *peer == by => Some(reason.clone()),
        _ => None,
    })
}

fn count(net: &SimNet, peer: PeerId) -> usize {
    net.session(peer).members().count()
}

#[test]
fn by_the_word_of_signaling_the_first_leads_and_all_join() {
    for topology in [Topology::Mesh, Topology::Host] {
        let (mut net, peers) = room(topology, 4);
        for peer in &peers {
            let facts = net.facts(*peer);
            assert!(matches!(facts[0], Fact::Admitted(_)), "{:?}", facts[0]);
            assert_eq!(facts[1], Fact::Leader(peers[0]));
            let mut others = joined(&facts);
            others.sort();
            let expected: Vec<PeerId> = peers.iter().copied().filter(|other| other != peer).collect();
            assert_eq!(others, expected, "{topology:?}");
            assert_eq!(net.session(*peer).leader(), Some(peers[0]));
        }
    }
}

#[test]
fn without_a_word_one_peer_founds_and_the_others_ask_it() {
    for topology in [Topology::Mesh, Topology::Host] {
        let mut net = SimNet::new(3, Conditions::WIFI);
        let peers: Vec<PeerId> = (0..3).map(|_| net.enter(config(topology))).collect();
        net.run_for(SECOND);
        assert!(peers.iter().all(|peer| net.session(*peer).me().is_none()), "nobody founds before the time");
        net.run_for(2 * SECOND);
        for peer in &peers {
            assert_eq!(net.session(*peer).leader(), Some(peers[0]), "the lowest id founds");
            assert_eq!(count(&net, *peer), 3);
            assert_eq!(closed(&net.facts(*peer)), None);
        }
    }
}

#[test]
fn two_sessions_that_meet_become_one() {
    let mut net = SimNet::new(5, Conditions::WIFI);
    let small = net.enter_alone(config(Topology::Mesh), None);
    net.run_for(3 * SECOND);
    let large = net.enter_alone(config(Topology::Mesh), None);
    let member = net.enter_alone(config(Topology::Mesh), None);
    net.connect(large, member);
    net.run_for(3 * SECOND);
    assert_eq!((count(&net, small), count(&net, large)), (1, 2));
    let lost = net.act(small, |session| session.spawn(None)).unwrap();
    let kept = net.act(large, |session| session.spawn(None)).unwrap();
    for peer in [small, large, member] {
        net.facts(peer);
    }
    net.connect(small, large);
    net.connect(small, member);
    net.run_for(3 * SECOND);
    for peer in [small, large, member] {
        assert_eq!(net.session(peer).leader(), Some(large), "more members absorb fewer");
        assert_eq!(count(&net, peer), 3);
        assert!(net.session(peer).contains(kept));
        assert!(!net.session(peer).contains(lost) || lost == kept);
    }
    let facts = net.facts(small);
    assert_eq!(facts[0], Fact::Closed(DisconnectReason::Absorbed));
    assert!(matches!(facts[1], Fact::Admitted(_)));
    assert_eq!(closed(&net.facts(large)), None);
    assert_eq!(closed(&net.facts(member)), None);
}

#[test]
fn in_a_mesh_the_longest_member_takes_over() {
    for goodbye in [true, false] {
        let (mut net, peers) = room(Topology::Mesh, 4);
        for peer in &peers {
            net.facts(*peer);
        }
        let car = net.act(peers[0], |session| session.spawn(None)).unwrap();
        net.run_for(SECOND);
        if goodbye {
            net.leave(peers[0]);
        } else {
            net.kill(peers[0]);
        }
        net.run_for(if goodbye { SECOND } else { 12 * SECOND });
        for peer in &peers[1..] {
            let session = net.session(*peer);
            assert_eq!((session.leader(), session.term().unwrap().0), (Some(peers[1]), 2));
            assert_eq!(count(&net, *peer), 3);
            let facts = net.facts(*peer);
            let gone = facts.iter().position(|fact| *fact == Fact::Despawned(car)).expect("its car went with it");
            let left = facts.iter().position(|fact| matches!(fact, Fact::Left { peer, .. } if *peer == peers[0]));
            assert!(left.is_some_and(|left| gone < left));
            assert!(facts.contains(&Fact::Leader(peers[1])));
        }
        let late = net.enter_led(config(Topology::Mesh));
        net.run_for(2 * SECOND);
        assert_eq!(count(&net, late), 4, "the new leader admits");
        assert_eq!(count(&net, peers[3]), 4);
    }
}

#[test]
fn two_leaders_in_a_row_can_go() {
    let (mut net, peers) = room(Topology::Mesh, 4);
    net.kill(peers[0]);
    net.kill(peers[1]);
    net.run_for(15 * SECOND);
    for peer in &peers[2..] {
        assert_eq!(net.session(*peer).leader(), Some(peers[2]));
        assert!(net.session(*peer).members().any(|(member, _)| member == peers[3]));
    }
    net.run_for(15 * SECOND);
    assert_eq!(count(&net, peers[2]), 2, "whom the new leader has no link to is declared gone");
    assert_eq!(count(&net, peers[3]), 2);
}

#[test]
fn a_lost_link_between_two_members_is_no_leave() {
    let (mut net, peers) = room(Topology::Mesh, 3);
    let car = net.act(peers[1], |session| session.spawn(None)).unwrap();
    net.run_for(SECOND);
    net.facts(peers[2]);
    net.sever(peers[1], peers[2]);
    let during = net.act(peers[1], |session| {
        session.write(car, POS, value(5)).unwrap();
        session.spawn(None).unwrap()
    });
    net.run_for(SECOND);
    assert_eq!(net.facts(peers[2]), [Fact::Responsive(peers[1], false)]);
    assert_eq!(count(&net, peers[2]), 3);
    net.act(peers[1], |session| session.despawn(car).unwrap());
    net.run_for(SECOND);
    assert!(net.session(peers[2]).contains(car), "cannot know yet");
    net.heal(peers[1], peers[2]);
    net.run_for(SECOND);
    assert!(net.session(peers[2]).is_gone(car));
    assert!(net.session(peers[2]).contains(during));
    let facts = net.facts(peers[2]);
    assert!(facts.contains(&Fact::Responsive(peers[1], true)));
    assert!(joined(&facts).is_empty());
}

#[test]
fn whoever_alone_loses_the_leader_is_told_that_it_is_out() {
    let (mut net, peers) = room(Topology::Mesh, 4);
    net.facts(peers[1]);
    net.sever(peers[0], peers[1]);
    net.run_for(2 * SECOND);
    assert_eq!(closed(&net.facts(peers[1])), Some(DisconnectReason::Declared));
    for peer in [peers[0], peers[2], peers[3]] {
        assert_eq!((net.session(peer).leader(), count(&net, peer)), (Some(peers[0]), 3));
    }
}

#[test]
fn when_the_host_goes_the_session_is_over() {
    for goodbye in [true, false] {
        let (mut net, peers) = room(Topology::Host, 3);
        if goodbye {
            net.leave(peers[0]);
        } else {
            net.kill(peers[0]);
        }
        net.run_for(12 * SECOND);
        for peer in &peers[1..] {
            assert_eq!(closed(&net.facts(*peer)), Some(DisconnectReason::HostLeft));
            assert_eq!(net.session(*peer).me(), None);
        }
    }
}

#[test]
fn whoever_leaves_is_gone_everywhere_with_what_it_owned() {
    for topology in [Topology::Mesh, Topology::Host] {
        let (mut net, peers) = room(topology, 3);
        let own = net.act(peers[2], |session| session.spawn(None)).unwrap();
        let controlled = net.act(peers[0], |session| session.spawn(Some(peers[2]))).unwrap();
        net.run_for(SECOND);
        net.facts(peers[1]);
        net.leave(peers[2]);
        net.run_for(SECOND);
        for peer in &peers[..2] {
            assert!(!net.session(*peer).contains(own));
            assert!(net.session(*peer).is_gone(own));
            assert!(net.session(*peer).contains(controlled));
            assert_eq!(net.session(*peer).controller(controlled), None);
        }
        let facts = net.facts(peers[1]);
        let expected = [
            |fact: &Fact| matches!(fact, Fact::Despawned(_)),
            |fact: &Fact| matches!(fact, Fact::Controller(_, None)),
            |fact: &Fact| matches!(fact, Fact::Left { .. }),
        ];
        for matches in expected {
            assert_eq!(facts.iter().filter(|fact| matches(fact)).count(), 1, "{topology:?} {facts:?}");
        }
        assert_eq!(closed(&net.facts(peers[2])), Some(DisconnectReason::Local));
    }
}

#[test]
fn a_full_session_turns_peers_away_and_says_so() {
    let mut net = SimNet::new(9, Conditions::WIFI);
    let small = || SessionConfig { max_players: 2, ..config(Topology::Host) };
    let peers: Vec<PeerId> = (0..3).map(|_| net.enter_led(small())).collect();
    net.run_for(3 * SECOND);
    assert_eq!(count(&net, peers[0]), 2);
    let out = if net.session(peers[1]).me().is_none() { peers[1] } else { peers[2] };
    let facts = net.facts(out);
    assert_eq!(closed(&facts), Some(DisconnectReason::Full(2)));
    assert_eq!(refused(&facts, peers[0]), Some(DisconnectReason::Full(2)));
    assert_eq!(refused(&net.facts(peers[0]), out), Some(DisconnectReason::Full(2)));
}

#[test]
fn whoever_is_kicked_is_told_and_gone() {
    for topology in [Topology::Mesh, Topology::Host] {
        let (mut net, peers) = room(topology, 3);
        net.act(peers[1], |session| session.kick(peers[2]));
        net.run_for(SECOND);
        assert_eq!(count(&net, peers[2]), 3, "only the leader kicks");
        net.act(peers[0], |session| session.kick(peers[2]));
        net.run_for(SECOND);
        assert_eq!(closed(&net.facts(peers[2])), Some(DisconnectReason::Kicked));
        let left = net.facts(peers[1]).into_iter().find_map(|fact| match fact {
            Fact::Left { peer, reason, .. } => Some((peer, reason)),
            _ => None,
        });
        assert_eq!(left, Some((peers[2], DisconnectReason::Kicked)));
    }
}

#[test]
fn other_types_are_told_on_both_sides_and_no_other_link_is_hurt() {
    let (mut net, peers) = room(Topology::Mesh, 2);
    let mut other = config(Topology::Mesh);
    other.schema = schema(&[("game::Health", "u16")]);
    let stranger = net.enter_led(other);
    net.run_for(2 * SECOND);
    for (peer, with) in [(peers[0], stranger), (stranger, peers[0])] {
        let facts = net.facts(peer);
        let reason = refused(&facts, with).expect("was refused");
        assert!(matches!(reason, DisconnectReason::Schema(_)));
        let text = reason.to_string();
        assert!(text.starts_with("N0001"), "{text}");
        // The type, its field, and what it is on one of the sides.
        for part in ["`game::Health`", "`value`", "`u16`"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
    assert!(net.session(stranger).me().is_none());
    assert_eq!((count(&net, peers[0]), count(&net, peers[1])), (2, 2));
    assert_plays(&mut net, &peers);
}

#[test]
fn another_version_is_told_whatever_else_it_says() {
    let (mut net, peers) = room(Topology::Mesh, 2);
    let stranger = PeerId::from_u128(u128::MAX);
    net.tell(peers[0], Input::Link(stranger, LinkEvent::Opened));
    let greeting = Bytes::from_static(&[0, 0x02, 0x01, 77, 78, 79]);
    net.tell(peers[0], Input::Link(stranger, LinkEvent::Message(Channel::Control, greeting)));
    let reason = DisconnectReason::Version { ours: 1, theirs: 0x102 };
    assert!(reason.to_string().starts_with("N0002"));
    assert_eq!(refused(&net.facts(peers[0]), stranger), Some(reason));
    assert_plays(&mut net, &peers);
}

#[test]
fn another_topology_is_told_on_both_sides() {
    let (mut net, peers) = room(Topology::Mesh, 2);
    let stranger = net.enter_led(config(Topology::Host));
    net.run_for(2 * SECOND);
    let reason = |ours, theirs| Some(DisconnectReason::Topology { ours, theirs });
    assert_eq!(refused(&net.facts(peers[0]), stranger), reason(Topology::Mesh, Topology::Host));
    assert_eq!(closed(&net.facts(stranger)), reason(Topology::Host, Topology::Mesh));
    assert_plays(&mut net, &peers);
}

#[test]
fn a_peer_that_says_nothing_is_turned_away() {
    let (mut net, peers) = room(Topology::Mesh, 2);
    let mute = PeerId::from_u128(u128::MAX);
    net.tell(peers[0], Input::Link(mute, LinkEvent::Opened));
    net.run_for(6 * SECOND);
    assert_eq!(refused(&net.facts(peers[0]), mute), Some(DisconnectReason::NoHandshake));
    assert_plays(&mut net, &peers);
}

#[test]
fn whoever_cannot_reach_the_leader_gives_up() {
    let mut net = SimNet::new(2, Conditions::WIFI);
    let alone = net.enter_alone(config(Topology::Mesh), Some(Leader { peer: PeerId::from_u128(77), term: Term(1) }));
    net.run_for(29 * SECOND);
    assert_eq!(closed(&net.facts(alone)), None);
    net.run_for(2 * SECOND);
    assert_eq!(closed(&net.facts(alone)), Some(DisconnectReason::Unreachable));
}

#[test]
fn a_host_that_cannot_be_reached_is_named_at_once() {
    let mut net = SimNet::new(2, Conditions::WIFI);
    let host = PeerId::from_u128(77);
    let guest = net.enter_alone(config(Topology::Host), Some(Leader { peer: host, term: Term(1) }));
    let reason = CloseReason::Failed("no path was found".into());
    net.tell(guest, Input::Link(host, LinkEvent::Closed(reason.clone())));
    assert_eq!(closed(&net.facts(guest)), Some(DisconnectReason::Link(reason)));
}

#[test]
fn a_host_whose_link_fails_before_it_answers_is_named_at_once() {
    let mut net = SimNet::new(2, Conditions { latency: SECOND, ..Conditions::PERFECT });
    let host = net.enter_led(config(Topology::Host));
    let guest = net.enter_led(config(Topology::Host));
    net.run_for(SECOND);
    net.sever(host, guest);
    assert!(matches!(closed(&net.facts(guest)), Some(DisconnectReason::Link(CloseReason::Failed(_)))));
}

#[test]
fn whoever_gets_another_id_of_signaling_begins_anew() {
    let mut net = SimNet::new(2, Conditions::WIFI);
    let alone = net.enter_led(config(Topology::Host));
    let car = net.act(alone, |session| session.spawn(None)).unwrap();
    net.facts(alone);
    let me = PeerId::from_u128(99);
    net.tell(alone, Input::Entered { me, leader: Some(Leader { peer: me, term: Term(3) }) });
    assert!(matches!(
        net.facts(alone)[..],
        [Fact::Closed(DisconnectReason::Absorbed), Fact::Admitted(_), Fact::Leader(leader)] if leader == me
    ));
    assert!(!net.session(alone).contains(car));
    assert_eq!(net.session(alone).founder().map(|(founder, _)| founder), Some(me));
}

/// The others of a room do not notice that one was turned away.
fn assert_plays(net: &mut SimNet, peers: &[PeerId]) {
    let car = net.act(peers[0], |session| session.spawn(None)).unwrap();
    net.act(peers[0], |session| session.write(car, POS, value(42)).unwrap());
    net.run_for(SECOND);
    for peer in peers {
        assert_eq!(net.session(*peer).value(car, POS), Some(&value(42)));
    }
}
