//! What becomes of a room in which somebody sends more than goes through, or ticks at another pace.

use bytes::Bytes;
use coplay_proto::{
    PeerId, Topology,
    session::{DisconnectReason, Fact, MAX_EVENT, SendError, Target, WriteError},
    sim_net::SimNet,
};

use crate::support::{HONK, POS, SECOND, config, room, value};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Sends events to a peer whose game stands still, until there is room for no more, and lets time go on until that has
/// been so for too long.
fn flood(net: &mut SimNet, from: PeerId, to: PeerId) {
    net.stand_still(to, true);
    let mut full = 0;
    while full < 3 {
        let value = Bytes::from(vec![0; MAX_EVENT]);
        match net.act(from, |session| session.send(Target::Peer(to), HONK, value)) {
            Ok(()) => full = 0,
            Err(error) => {
                assert_eq!(error, SendError::QueueFull { peer: to, limit: 1 << 20 });
                full += 1;
                net.run_for(SECOND);
            }
        }
    }
    net.run_for(SECOND * 5);
    assert!(net.session(from).me().is_some(), "not before its time");
    net.run_for(SECOND * 6);
    net.stand_still(to, false);
    net.run_for(SECOND);
}

fn closed(facts: &[Fact]) -> Option<DisconnectReason> {
    facts.iter().find_map(|fact| if let Fact::Closed(reason) = fact { Some(reason.clone()) } else { None })
}

fn left(facts: &[Fact]) -> Vec<(PeerId, DisconnectReason)> {
    let left = |fact: &Fact| match fact {
        Fact::Left { peer, reason, .. } => Some((*peer, reason.clone())),
        _ => None,
    };
    facts.iter().filter_map(left).collect()
}

#[test]
fn who_takes_nothing_of_what_the_leader_sends_is_cut_off_and_the_others_are_told_why() {
    for topology in [Topology::Host, Topology::Mesh] {
        let (mut net, peers) = room(topology, 3);
        let [leader, slow, other] = peers[..] else { panic!("three") };
        flood(&mut net, leader, slow);
        for peer in [leader, other] {
            assert_eq!(left(&net.facts(peer)), [(slow, DisconnectReason::TooSlow)], "{topology:?}");
            assert_eq!(net.session(peer).members().count(), 2);
        }
    }
}

#[test]
fn who_sends_a_leader_that_takes_nothing_is_out_and_knows_why() {
    for topology in [Topology::Host, Topology::Mesh] {
        let (mut net, peers) = room(topology, 3);
        let [leader, flooding, other] = peers[..] else { panic!("three") };
        flood(&mut net, flooding, leader);
        assert_eq!(closed(&net.facts(flooding)), Some(DisconnectReason::TooSlow), "{topology:?}");
        for peer in [leader, other] {
            let gone: Vec<PeerId> = left(&net.facts(peer)).into_iter().map(|(peer, _)| peer).collect();
            assert_eq!(gone, [flooding], "{topology:?}");
            assert_eq!(net.session(peer).leader(), Some(leader));
        }
    }
}

#[test]
fn two_others_of_a_mesh_lose_their_link_and_nobody_leaves() {
    let (mut net, peers) = room(Topology::Mesh, 3);
    let [_, flooding, slow] = peers[..] else { panic!("three") };
    flood(&mut net, flooding, slow);
    for (peer, with) in [(flooding, slow), (slow, flooding)] {
        let facts = net.facts(peer);
        assert!(facts.contains(&Fact::Responsive(with, false)));
        assert_eq!((closed(&facts), left(&facts)), (None, vec![]));
        assert_eq!(net.session(peer).members().count(), 3);
    }
}

#[test]
fn another_tick_rate_is_told_on_both_sides() {
    for topology in [Topology::Host, Topology::Mesh] {
        let (mut net, peers) = room(topology, 2);
        let mut other = config(topology);
        other.tick_rate = 30;
        let stranger = net.enter_led(other);
        net.run_for(2 * SECOND);
        let reason = |ours, theirs| DisconnectReason::TickRate { ours, theirs };
        assert!(net.facts(peers[0]).contains(&Fact::Refused(stranger, reason(60, 30))));
        assert_eq!(closed(&net.facts(stranger)), Some(reason(30, 60)));
        let text = reason(60, 30).to_string();
        assert!(text.starts_with("N0008") && text.contains("30") && text.contains("60"), "{text}");
        assert_eq!(net.session(peers[0]).members().count(), 2);
    }
}

#[test]
fn one_owner_cannot_write_without_end() {
    use coplay_proto::session::{MAX_ENTITIES, MAX_STATE_BYTES, MAX_VALUE, TypeId};
    let (mut net, peers) = room(Topology::Mesh, 1);
    net.act(peers[0], |session| {
        let full = Err(WriteError::StateFull { limit: MAX_STATE_BYTES });
        let large = Bytes::from(vec![7; MAX_VALUE]);
        let entities: Vec<_> = (0..MAX_ENTITIES).map(|_| session.spawn(None).expect("there is room")).collect();
        for entity in &entities {
            session.write(*entity, POS, large.clone()).expect("there is room");
        }
        assert_eq!(session.write(entities[0], TypeId(1), value(1)), full);
        assert_eq!(session.write(entities[0], POS, value(1)), Ok(()), "what is smaller than before always fits");
        assert_eq!(session.write(entities[1], TypeId(1), value(1)), Ok(()));
        assert_eq!(session.write(entities[0], POS, large.clone()), full);
        session.despawn(entities[2]).expect("it is ours");
        assert_eq!(session.write(entities[0], POS, large), Ok(()), "there is room again");
    });
}
