//! Channels of events: what is lost of one holds up no other, each keeps its promise, and none keeps out another.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use coplay_proto::{
    Channel, EventChannel,
    conditioner::Conditions,
    link::{Input, LinkEvent, MAX_UNRELIABLE, Refused, UNRELIABLE_QUEUE},
    rng::Rng,
};
use proptest::prelude::*;

use crate::pair::{Pair, cases, delayed, ms};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const fn named(number: u8) -> Channel {
    Channel::Named(EventChannel::new(number).unwrap())
}

const CHANNELS: [Channel; 6] =
    [Channel::Control, Channel::Events, named(0), named(14), Channel::Unordered, Channel::Unreliable];

const HARSH: Conditions =
    Conditions { latency: ms(30), jitter: ms(10), loss: 0.2, duplication: 0.1, reordering: 0.1, ..Conditions::PERFECT };

/// A message whose first bytes say which it is, as large as may be in this channel.
fn message(rng: &mut Rng, channel: Channel, number: u32) -> Bytes {
    let most = match rng.below(8) {
        _ if channel == Channel::Unreliable => MAX_UNRELIABLE as u64 - 4,
        0 => 20_000,
        1 => 2_000,
        _ => 60,
    };
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(4 + rng.below(most + 1) as usize, number as u8);
    bytes.into()
}

fn number(bytes: &Bytes) -> u32 {
    u32::from_le_bytes(bytes[..4].try_into().unwrap())
}

fn each_keeps_its_promise(conditions: Conditions, seed: u64) {
    let mut pair = Pair::new(conditions, seed);
    let mut rng = Rng::new(seed);
    let mut given: BTreeMap<(usize, Channel), Vec<Bytes>> = BTreeMap::new();
    for number in 0..150 {
        let (side, channel) = (rng.below(2) as usize, CHANNELS[rng.below(CHANNELS.len() as u64) as usize]);
        let bytes = message(&mut rng, channel, number);
        match pair.give(side, Input::Message(channel, bytes.clone())) {
            Ok(()) => given.entry((side, channel)).or_default().push(bytes),
            Err(refused) => assert!(matches!(refused, Refused::QueueFull { .. }), "{refused}"),
        }
        pair.run(Duration::from_micros(rng.below(20_000)));
    }
    let quiet = pair.run_until(Duration::from_secs(60), |pair| pair.links.iter().all(|link| link.queued() == 0));
    assert!(quiet, "not all is acked in a minute");
    pair.run(ms(500));
    for ((side, channel), given) in given {
        let mut got = pair.messages(1 - side, channel);
        match channel {
            Channel::Unreliable => {
                let mut numbers: Vec<u32> = got.iter().map(number).collect();
                numbers.sort_unstable();
                assert!(numbers.is_sorted_by(|one, next| one < next), "each at most once: {numbers:?}");
                assert!(got.iter().all(|bytes| given.contains(bytes)));
                continue;
            }
            Channel::Unordered => got.sort_by_key(number),
            _ => {}
        }
        assert!(got == given, "{} of {} messages of {channel:?} came", got.len(), given.len());
    }
    assert_eq!((pair.closed(0), pair.closed(1)), (None, None));
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn each_channel_keeps_its_promise_whatever_the_path_does(seed in any::<u64>()) {
        each_keeps_its_promise(HARSH, seed);
    }

    #[test]
    fn each_channel_keeps_its_promise_through_a_narrow_place(seed in any::<u64>()) {
        each_keeps_its_promise(Conditions { bandwidth: Some(200_000), queue: 32 * 1024, ..HARSH }, seed);
    }
}

/// When the other side got this message.
fn came(pair: &Pair, channel: Channel, what: &'static str) -> Option<Duration> {
    pair.said(1, &LinkEvent::Message(channel, what.into()))
}

#[test]
fn what_is_lost_of_one_channel_holds_up_no_other() {
    let mut pair = Pair::new(delayed(30), 1);
    pair.run(ms(2_000));
    pair.paths[0].set(Conditions { loss: 1.0, ..delayed(30) });
    pair.message(0, Channel::Events, "lost");
    pair.message(0, named(3), "lost, too");
    pair.message(0, Channel::Unordered, "lost as well");
    pair.run(ms(2));
    pair.paths[0].set(delayed(30));
    let at = pair.now;
    for channel in [Channel::Events, named(3), named(4), Channel::Unordered, Channel::Unreliable] {
        pair.message(0, channel, "behind");
    }
    pair.run(ms(1_000));
    for channel in [named(4), Channel::Unordered, Channel::Unreliable] {
        assert_eq!(came(&pair, channel, "behind"), Some(at + ms(30)), "{channel:?} does not wait");
    }
    for (channel, lost) in [(Channel::Events, "lost"), (named(3), "lost, too")] {
        let repeated = came(&pair, channel, lost).expect("it is repeated");
        assert!(repeated > at + ms(60), "{channel:?}: {repeated:?}");
        assert_eq!(came(&pair, channel, "behind"), Some(repeated), "{channel:?} keeps its order");
    }
    assert!(came(&pair, Channel::Unordered, "lost as well") > Some(at + ms(60)));
}

#[test]
fn a_flood_in_one_channel_does_not_keep_out_another() {
    let mut pair = Pair::new(delayed(10), 1);
    pair.run(ms(1_000));
    (0..100).for_each(|index| pair.message(0, Channel::Events, vec![index; 10_000]));
    pair.run(ms(20));
    let at = pair.now;
    pair.message(0, named(0), "chat");
    pair.message(0, Channel::Unordered, "loose");
    pair.message(0, Channel::Unreliable, "once");
    pair.run(ms(4_000));
    for (channel, what) in [(named(0), "chat"), (Channel::Unordered, "loose"), (Channel::Unreliable, "once")] {
        let took = came(&pair, channel, what).expect("it came") - at;
        assert!(took < ms(50), "{channel:?} took {took:?}");
    }
    assert_eq!(pair.messages(1, Channel::Events).len(), 100);
}

#[test]
fn a_side_that_takes_nothing_of_one_channel_is_bounded_over_all_of_them() {
    let mut pair = Pair::new(delayed(5), 1);
    pair.consumes = false;
    let mut given = 0;
    for round in 0..400_u32 {
        for channel in [Channel::Events, named(0), named(1), Channel::Unordered, Channel::Unreliable] {
            let bytes = if channel == Channel::Unreliable { 1_000 } else { 30_000 };
            given += usize::from(pair.give(0, Input::Message(channel, vec![round as u8; bytes].into())).is_ok());
        }
        pair.run(ms(20));
    }
    let got: usize = pair.events[1]
        .iter()
        .map(|(_, event)| if let LinkEvent::Message(_, bytes) = event { bytes.len() } else { 0 })
        .sum();
    assert!((1 << 20..(1 << 20) + 30_000).contains(&got), "{got} bytes of {given} messages wait to be taken");
    assert_eq!(pair.closed(1), None);
}

#[test]
fn what_may_be_lost_is_never_late_and_its_queue_is_full_with_an_error() {
    let narrow = Conditions { bandwidth: Some(20_000), queue: 8 * 1024, ..delayed(10) };
    let mut pair = Pair::new(narrow, 1);
    pair.run(ms(500));
    let mut sent: BTreeMap<u32, Duration> = BTreeMap::new();
    let mut full = 0;
    for number in 0..2_000_u32 {
        let mut bytes = number.to_le_bytes().to_vec();
        bytes.resize(400, 7);
        match pair.give(0, Input::Message(Channel::Unreliable, bytes.into())) {
            Ok(()) => _ = sent.insert(number, pair.now),
            Err(refused) => {
                assert_eq!(refused, Refused::QueueFull { limit: UNRELIABLE_QUEUE });
                full += 1;
            }
        }
        pair.run(ms(3));
    }
    assert!(full > 100, "{full}");
    let mut heard = 0;
    for (at, event) in &pair.events[1] {
        if let LinkEvent::Message(Channel::Unreliable, bytes) = event {
            heard += 1;
            let late = *at - sent[&number(bytes)];
            // A quarter of a second here, and what the path keeps.
            assert!(late < ms(250 + 10 + 8 * 1024 * 1000 / 20_000 + 60), "{late:?}");
        }
    }
    assert!(heard > 100 && heard < sent.len(), "{heard} of {}", sent.len());
    let too_large = pair.give(0, Input::Message(Channel::Unreliable, vec![0; MAX_UNRELIABLE + 1].into()));
    assert_eq!(too_large, Err(Refused::TooLarge { size: MAX_UNRELIABLE + 1, limit: MAX_UNRELIABLE }));
}

#[test]
fn a_goodbye_waits_for_what_all_channels_said_before() {
    for conditions in [delayed(30), HARSH] {
        let mut pair = Pair::new(conditions, 3);
        pair.run(ms(1_000));
        let channels = (0..15).map(named).chain([Channel::Events, Channel::Unordered]);
        channels.clone().for_each(|channel| pair.message(0, channel, "last words"));
        pair.close(0);
        pair.run(ms(3_000));
        for channel in channels {
            assert_eq!(pair.messages(1, channel).len(), 1, "{channel:?}");
        }
        assert!(pair.closed(0).is_some() && pair.closed(1).is_some());
    }
}
