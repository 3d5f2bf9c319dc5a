//! What a peer that means harm can do to a link: close it, and nothing else.

use std::time::Duration;

use bytes::Bytes;
use coplay_proto::{
    Channel, Lane,
    conditioner::Conditions,
    link::{CloseReason, Input, Link, LinkConfig, LinkEvent, MAX_DATAGRAM, MAX_MESSAGE, Output},
    rng::Rng,
};
use proptest::prelude::*;

use crate::pair::{Pair, cases, delayed, ms};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Datagrams of a lively talk, as an honest peer sends them, each with when.
fn talk(seed: u64) -> Vec<(Duration, Bytes)> {
    let mut pair = Pair::new(Conditions { loss: 0.1, ..delayed(20) }, seed);
    for index in 0..20_u8 {
        pair.state(0, vec![index; 300]);
        pair.message(0, Channel::Events, vec![index; 1 << (index % 14)]);
        pair.message(1, Channel::Control, vec![index; 40]);
        pair.run(ms(10));
    }
    pair.close(0);
    pair.run(ms(500));
    pair.sent[0].clone()
}

/// Drives a link that gets these, and checks that it stays within its bounds.
fn suffer(datagrams: impl IntoIterator<Item = (Duration, Bytes)>) -> Option<CloseReason> {
    let config = LinkConfig { receive_queue: MAX_MESSAGE, ..LinkConfig::default() };
    let mut link = Link::new(Duration::ZERO, config, 1);
    let (mut untaken, mut closed) = (0, None);
    for (now, bytes) in datagrams {
        link.handle(now, Input::Received(Lane::Unreliable, bytes)).expect("only what is to be sent is refused");
        let mut outputs = 0;
        while let Some(output) = link.poll() {
            outputs += 1;
            assert!(outputs < 2_000, "one datagram makes a link say {outputs} things");
            match output {
                Output::Event(LinkEvent::Message(_, bytes)) => untaken += bytes.len(),
                Output::Event(LinkEvent::Closed(reason)) => closed = Some(reason),
                _ => assert!(closed.is_none(), "nothing comes after the end"),
            }
        }
        assert!(untaken <= 2 * MAX_MESSAGE, "nothing is delivered that nobody takes");
        if let Some(deadline) = link.deadline() {
            assert!(deadline > now, "a link that has done its work rests");
        }
    }
    closed
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn random_bytes(seed in any::<u64>()) {
        let mut rng = Rng::new(seed);
        let datagrams = (0..20).map(|index| {
            let mut bytes: Vec<u8> = (0..rng.below(MAX_DATAGRAM as u64 + 100)).map(|_| rng.next_u64() as u8).collect();
            // Half of them get past the first byte.
            if let Some(first) = bytes.first_mut().filter(|_| rng.chance(0.5)) {
                *first = 0x10 | rng.below(8) as u8;
            }
            (ms(index), Bytes::from(bytes))
        });
        suffer(datagrams.collect::<Vec<_>>());
    }

    #[test]
    fn an_honest_peers_datagrams_cut_off(seed in 0_u64..8, cut in any::<u64>()) {
        let mut rng = Rng::new(cut);
        suffer(talk(seed).into_iter().map(|(now, bytes)| {
            let length = if rng.chance(0.1) { rng.below(bytes.len() as u64) as usize } else { bytes.len() };
            (now, bytes.slice(..length))
        }));
    }

    #[test]
    fn an_honest_peers_datagrams_with_other_bits(seed in 0_u64..8, other in any::<u64>()) {
        let mut rng = Rng::new(other);
        suffer(talk(seed).into_iter().map(|(now, bytes)| {
            let mut bytes = bytes.to_vec();
            for _ in 0..rng.below(3) {
                // Rather in the headers than in what is carried.
                let reach = if rng.chance(0.7) { bytes.len().min(24) } else { bytes.len() };
                let at = rng.below(reach as u64) as usize;
                bytes[at] ^= 1 << rng.below(8);
            }
            (now, bytes.into())
        }));
    }

    #[test]
    fn an_honest_peers_datagrams_in_any_order_and_number(seed in 0_u64..8, order in any::<u64>()) {
        let mut rng = Rng::new(order);
        let datagrams = talk(seed);
        let shuffled = (0..datagrams.len() * 3).map(|index| {
            let (_, bytes) = &datagrams[rng.below(datagrams.len() as u64) as usize];
            (ms(index as u64), bytes.clone())
        });
        let closed = suffer(shuffled.collect::<Vec<_>>());
        // Its acks are for datagrams of another link, which this one never sent.
        let cannot = CloseReason::Malformed("an ack is for what was not sent");
        prop_assert!(closed.is_none() || closed == Some(CloseReason::Goodbye) || closed == Some(cannot));
    }
}

#[test]
fn what_no_coplay_peer_sends_closes_the_link_and_says_what_it_was() {
    let mut pair = Pair::new(delayed(20), 1);
    pair.run(ms(1_000));
    pair.give(0, Input::Received(Lane::Unreliable, "hello there".into())).unwrap();
    pair.run(ms(1_000));
    let why = "a datagram is not of this version of coplay's link";
    assert_eq!(pair.closed(0), Some((ms(1_000), CloseReason::Malformed(why))));
    assert_eq!(pair.closed(1), Some((ms(1_020), CloseReason::Goodbye)), "an honest peer need not wait for its silence");
}

#[test]
fn a_flood_of_pieces_that_never_become_whole_is_held_within_bounds() {
    // Fragment 0 of 2 of ever new messages, numbered from 1, so that none can be delivered: each 1,131 bytes.
    let config = LinkConfig { receive_queue: 200_000, ..LinkConfig::default() };
    let mut link = Link::new(Duration::ZERO, config, 1);
    let mut kept = 0;
    for number in 1..1_024_u16 {
        let mut bytes = vec![0x11];
        bytes.extend(number.to_le_bytes());
        bytes.extend([3, 0xf0, 0x08, 1]);
        bytes.extend(number.to_le_bytes());
        bytes.extend([0, 2]);
        bytes.resize(MAX_DATAGRAM - 8, 7);
        link.handle(ms(u64::from(number)), Input::Received(Lane::Unreliable, bytes.into())).unwrap();
        let acks = std::iter::from_fn(|| link.poll()).filter_map(|output| match output {
            Output::Transmit(_, bytes) => Some(bytes),
            Output::Event(LinkEvent::Closed(reason)) => panic!("{reason}"),
            Output::Event(_) => None,
        });
        // The lowest of the ack bits: whether the newest one was accepted.
        kept += acks.last().map_or(0, |ack| usize::from(ack[5] & 1));
    }
    assert_eq!(kept, 200_000 / 1_131);
}

#[test]
fn a_message_too_far_ahead_closes_the_link() {
    let bytes = [0x11, 1, 0, 2, 4, 0, 0x00, 0x04, 9];
    let closed = suffer([(ms(1), Bytes::copy_from_slice(&bytes))]);
    assert_eq!(closed, Some(CloseReason::Malformed("a message is too far ahead of those before it")));
    let bytes = [0x11, 1, 0, 2, 4, 0, 0xff, 0x03, 9];
    assert_eq!(suffer([(ms(1), Bytes::copy_from_slice(&bytes))]), None);
}
