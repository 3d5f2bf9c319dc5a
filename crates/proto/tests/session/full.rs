//! What becomes of events for which there is no room: an error for who sends, nothing lost, and no end of the link.

use bytes::Bytes;
use coplay_proto::{
    PeerId, Topology,
    conditioner::Conditions,
    link::UNRELIABLE_QUEUE,
    session::{Fact, MAX_UNRELIABLE_EVENT, SendError, Target, TypeId},
    sim_net::SimNet,
};

use crate::support::{HONK, QUIP, SECOND, SPARK, WHIFF, room};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// A path that a megabyte takes ten seconds to get through.
const SLOW: Conditions = Conditions { bandwidth: Some(100_000), queue: 50_000, ..Conditions::WIFI };

fn event(number: u32) -> Bytes {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(20_000, 7);
    bytes.into()
}

fn heard(net: &mut SimNet, at: PeerId) -> Vec<(PeerId, TypeId, u32)> {
    let event = |fact| match fact {
        Fact::Event { from, event, value } => Some((from, event, u32::from_le_bytes(value[..4].try_into().unwrap()))),
        Fact::Left { .. } | Fact::Closed(_) | Fact::Astray { .. } => panic!("{fact:?}"),
        _ => None,
    };
    net.facts(at).into_iter().filter_map(event).collect()
}

#[test]
fn a_full_queue_is_an_error_nothing_is_lost_and_nobody_is_cut_off() {
    for topology in [Topology::Host, Topology::Mesh] {
        for (from, to) in [(0, 1), (1, 2)] {
            let (mut net, peers) = room(topology, 3);
            let (from, to) = (peers[from], peers[to]);
            net.set_conditions(SLOW);
            let full = if topology == Topology::Host && from != peers[0] { peers[0] } else { to };
            let (mut sent, mut refused) = (Vec::new(), 0);
            for number in 0..240 {
                match net.act(from, |session| session.send(Target::Peer(to), HONK, event(number))) {
                    Ok(()) => sent.push(number),
                    Err(error) => {
                        assert_eq!(error, SendError::QueueFull { peer: full, limit: 1 << 20 });
                        refused += 1;
                    }
                }
                net.run_for(SECOND / 20);
            }
            assert!(refused > 60 && sent.len() > 60, "{refused} of 240 refused");
            net.run_for(SECOND * 25);
            assert_eq!(net.act(from, |session| session.send(Target::Peer(to), HONK, event(400))), Ok(()));
            sent.push(400);
            net.run_for(SECOND * 2);
            for peer in &peers {
                let expected = if *peer == to { &sent[..] } else { &[] };
                let numbers: Vec<u32> = heard(&mut net, *peer).into_iter().map(|(.., number)| number).collect();
                assert_eq!(numbers, expected, "{topology:?}");
                assert_eq!(net.session(*peer).members().count(), 3);
            }
        }
    }
}

#[test]
fn an_event_for_all_goes_to_all_or_to_nobody() {
    let (mut net, peers) = room(Topology::Mesh, 3);
    net.set_conditions(SLOW);
    // One of the two is behind.
    while net.act(peers[0], |session| session.send(Target::Peer(peers[1]), SPARK, event(0))).is_ok() {}
    let full = net.act(peers[0], |session| session.send(Target::Everyone, HONK, event(1)));
    assert_eq!(full, Err(SendError::QueueFull { peer: peers[1], limit: 1 << 20 }));
    assert_eq!(net.act(peers[0], |session| session.send(Target::Peer(peers[2]), HONK, event(2))), Ok(()));
    net.run_for(SECOND * 30);
    assert_eq!(heard(&mut net, peers[0]), [], "it did not come back to the sender either");
    assert_eq!(heard(&mut net, peers[2]), [(peers[0], HONK, 2)]);
    assert!(heard(&mut net, peers[1]).iter().all(|(_, event, _)| *event == SPARK));
}

#[test]
fn all_channels_have_one_bound() {
    let (mut net, peers) = room(Topology::Host, 2);
    net.set_conditions(SLOW);
    let mut sent = 0;
    for number in 0.. {
        let kind = [HONK, QUIP, SPARK][number % 3];
        if net.act(peers[0], |session| session.send(Target::Others, kind, event(0))).is_err() {
            break;
        }
        sent += 1;
    }
    assert_eq!(sent, (1 << 20) / 20_016, "{sent}");
    assert!(net.session(peers[0]).queued(peers[1]) <= 1 << 20);
}

#[test]
fn what_may_be_lost_has_a_bound_of_its_own_and_an_error_too() {
    let (mut net, peers) = room(Topology::Mesh, 2);
    let limit = UNRELIABLE_QUEUE;
    let small = Bytes::from(vec![0; 500]);
    let send = |net: &mut SimNet| net.act(peers[0], |session| session.send(Target::Others, WHIFF, small.clone()));
    net.act(peers[0], |session| {
        let mut sent = 0;
        let full = loop {
            match session.send(Target::Others, WHIFF, small.clone()) {
                Ok(()) => sent += 1,
                Err(full) => break full,
            }
        };
        assert_eq!(full, SendError::QueueFull { peer: peers[1], limit });
        assert!((30..33).contains(&sent), "{sent}");
        assert_eq!(session.send(Target::Others, HONK, small.clone()), Ok(()), "others have room");
    });
    net.run_for(SECOND / 10);
    assert_eq!(send(&mut net), Ok(()));
    let large = Bytes::from(vec![0; MAX_UNRELIABLE_EVENT + 1]);
    let too_large = SendError::TooLarge { size: MAX_UNRELIABLE_EVENT + 1, limit: MAX_UNRELIABLE_EVENT };
    assert_eq!(net.act(peers[0], |session| session.send(Target::Others, WHIFF, large)), Err(too_large));
}

#[test]
fn who_is_slow_but_takes_something_is_never_cut_off() {
    let (mut net, peers) = room(Topology::Host, 2);
    net.set_conditions(Conditions { bandwidth: Some(30_000), queue: 20_000, ..Conditions::WIFI });
    for number in 0..900 {
        let _ = net.act(peers[0], |session| session.send(Target::Others, HONK, event(number)));
        net.run_for(SECOND / 10);
    }
    let numbers: Vec<u32> = heard(&mut net, peers[1]).into_iter().map(|(.., number)| number).collect();
    assert!(numbers.len() > 50 && numbers.is_sorted(), "{}", numbers.len());
}
