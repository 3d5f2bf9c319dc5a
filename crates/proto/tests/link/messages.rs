//! Messages arrive exactly once, in order, soon, and bounded.

use std::time::Duration;

use bytes::Bytes;
use coplay_proto::{
    Channel,
    conditioner::{Bursts, Conditions},
    link::{Input, LinkConfig, LinkEvent, MAX_MESSAGE, MAX_STATE, Refused},
    rng::Rng,
};
use proptest::prelude::*;

use crate::pair::{Pair, cases, delayed, ms};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const HARSH: Conditions =
    Conditions { latency: ms(30), jitter: ms(10), loss: 0.2, duplication: 0.1, reordering: 0.1, ..Conditions::PERFECT };

/// A message whose bytes say which it is, and that it is whole.
fn message(rng: &mut Rng) -> Bytes {
    let size = match rng.below(4) {
        0 => rng.below(4),
        1 => rng.below(100),
        2 => rng.below(5_000),
        _ => rng.below(MAX_MESSAGE as u64 + 1),
    };
    let mut content = rng.fork();
    (0..size).map(|_| content.next_u64() as u8).collect()
}

/// Two sides tell each other so many messages within a few seconds; what each channel of each side was given.
fn talk(pair: &mut Pair, rng: &mut Rng, count: usize) -> [[Vec<Bytes>; 2]; 2] {
    let mut given: [[Vec<Bytes>; 2]; 2] = Default::default();
    for _ in 0..count {
        let (side, channel) = (rng.below(2) as usize, rng.below(2) as usize);
        let bytes = message(rng);
        match pair.give(side, Input::Message([Channel::Control, Channel::Events][channel], bytes.clone())) {
            Ok(()) => given[side][channel].push(bytes),
            Err(refused) => assert!(matches!(refused, Refused::QueueFull { .. }), "{refused}"),
        }
        if rng.chance(0.5) {
            pair.state(side, vec![7; rng.below(MAX_STATE as u64 + 1) as usize]);
        }
        pair.run(Duration::from_micros(rng.below(40_000)));
    }
    given
}

fn arrives(conditions: Conditions, seed: u64) {
    let mut pair = Pair::new(conditions, seed);
    let given = talk(&mut pair, &mut Rng::new(seed), 60);
    assert!(given.iter().flatten().all(|messages| !messages.is_empty()), "a test of something");
    let quiet = pair.run_until(Duration::from_secs(120), |pair| pair.links.iter().all(|link| link.queued() == 0));
    assert!(quiet, "not all is acked in two minutes: {:?}", [pair.links[0].queued(), pair.links[1].queued()]);
    pair.run(ms(500));
    for side in [0, 1] {
        for (channel, given) in [Channel::Control, Channel::Events].into_iter().zip(&given[side]) {
            let got = pair.messages(1 - side, channel);
            assert!(got == *given, "{} of {} messages of {channel:?} came", got.len(), given.len());
        }
        assert_eq!(pair.closed(side), None);
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn exactly_once_and_in_order_whatever_the_path_does(seed in any::<u64>()) {
        arrives(HARSH, seed);
    }

    #[test]
    fn exactly_once_and_in_order_through_bursts_and_a_narrow_place(seed in any::<u64>()) {
        let bursts = Some(Bursts { begin: 0.02, end: 0.1, loss: 0.9 });
        arrives(Conditions { bursts, bandwidth: Some(300_000), queue: 32 * 1024, ..HARSH }, seed);
    }
}

#[test]
fn same_seed_same_trace() {
    let trace = |seed| {
        let mut pair = Pair::new(HARSH, seed);
        talk(&mut pair, &mut Rng::new(seed), 20);
        pair.run(ms(2_000));
        (pair.sent, pair.events)
    };
    assert!(trace(1) == trace(1));
    assert!(trace(1) != trace(2));
}

/// How long lone messages take, of 40 bytes and one each half second, and nothing else is sent.
fn delays(conditions: Conditions, seed: u64, count: usize) -> Vec<Duration> {
    let mut pair = Pair::new(conditions, seed);
    pair.run(ms(3_000));
    let mut given = Vec::new();
    for index in 0..count {
        given.push(pair.now);
        pair.message(0, Channel::Events, vec![index as u8; 40]);
        pair.run(ms(500));
    }
    pair.run(ms(5_000));
    let came = pair.events[1].iter().filter(|(_, event)| matches!(event, LinkEvent::Message(..)));
    let mut delays: Vec<_> = came.zip(&given).map(|((at, _), given)| *at - *given).collect();
    assert_eq!(delays.len(), count);
    delays.sort_unstable();
    delays
}

#[test]
fn a_lone_message_that_is_lost_comes_within_about_two_round_trips() {
    let delays = delays(Conditions { jitter: ms(5), loss: 0.02, ..delayed(30) }, 7, 2_000);
    let share = |share: f64| delays[(delays.len() as f64 * share) as usize];
    assert!(share(0.5) <= ms(32), "{:?}", share(0.5));
    // One in fifty is lost once, one in 2,500 twice.
    let late = delays.iter().filter(|delay| **delay > ms(36)).count();
    assert!((20..80).contains(&late), "{late} were lost");
    assert!(share(0.999) <= ms(150), "{:?}", share(0.999));
    assert!(delays[delays.len() - 1] <= ms(400), "{:?}", delays[delays.len() - 1]);
}

#[test]
fn nothing_is_repeated_on_a_path_that_loses_nothing() {
    let mut pair = Pair::new(Conditions { jitter: ms(5), ..delayed(30) }, 3);
    pair.run(ms(2_000));
    let before: u64 = pair.links[0].figures().bytes_sent;
    for index in 0..200_u8 {
        pair.message(0, Channel::Events, vec![index; 400]);
        pair.run(ms(50));
    }
    let each = (pair.links[0].figures().bytes_sent - before) / 200;
    assert!((400..440).contains(&each), "{each} bytes for each message of 400");
    assert_eq!(pair.messages(1, Channel::Events).len(), 200);
}

#[test]
fn nothing_of_a_burst_is_repeated_on_a_path_that_loses_nothing() {
    let mut pair = Pair::new(delayed(30), 3);
    pair.run(ms(2_000));
    let before = pair.links[0].figures().bytes_sent;
    (0..16).for_each(|index| pair.message(0, Channel::Events, vec![index; 60_000]));
    assert!(pair.run_until(ms(3_000), |pair| pair.links[0].queued() == 0));
    let sent = pair.links[0].figures().bytes_sent - before;
    let fragments = 16 * 60_000_u64.div_ceil(1_131);
    assert!(sent <= 960_000 + fragments * 19, "{sent} bytes for 960,000 in {fragments} fragments");
    assert!(pair.links[0].figures().loss < f32::EPSILON);
}

#[test]
fn what_is_handed_over_in_one_turn_shares_a_datagram() {
    let mut pair = Pair::new(delayed(10), 1);
    pair.run(ms(1_000));
    let before = pair.sent[0].len();
    pair.state(0, vec![1; 500]);
    pair.message(0, Channel::Control, "one");
    pair.message(0, Channel::Events, "two");
    pair.message(0, Channel::Events, "three");
    pair.run(ms(15));
    assert_eq!(pair.sent[0].len(), before + 1);
    assert_eq!(pair.sent[0][before].1.len(), 11 + 3 + 500 + 3 * 5 + 11);
    assert_eq!(pair.said(1, &LinkEvent::State(vec![1; 500].into())), Some(ms(1_010)));
    assert_eq!(pair.said(1, &LinkEvent::Message(Channel::Events, "three".into())), Some(ms(1_010)));
}

#[test]
fn a_state_of_the_most_bytes_goes_with_what_fits_no_more() {
    let mut pair = Pair::new(delayed(10), 1);
    pair.run(ms(1_000));
    pair.state(0, vec![1; MAX_STATE]);
    pair.message(0, Channel::Events, "next");
    pair.run(ms(15));
    assert_eq!(pair.said(1, &LinkEvent::State(vec![1; MAX_STATE].into())), Some(ms(1_010)));
    assert_eq!(pair.said(1, &LinkEvent::Message(Channel::Events, "next".into())), Some(ms(1_010)));
}

#[test]
fn a_full_send_queue_is_an_error_and_loses_nothing() {
    let config = LinkConfig { send_queue: 200_000, ..LinkConfig::default() };
    let mut pair = Pair::with(config, delayed(20), 1);
    let mut accepted = 0;
    let refused = loop {
        match pair.give(0, Input::Message(Channel::Events, vec![accepted; 60_000].into())) {
            Ok(()) => accepted += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!((accepted, refused), (3, Refused::QueueFull { limit: 200_000 }));
    assert_eq!(pair.links[0].queued(), 180_000);
    assert!(pair.run_until(ms(2_000), |pair| pair.links[0].queued() == 0));
    pair.message(0, Channel::Events, vec![3; 60_000]);
    pair.run(ms(2_000));
    let got: Vec<u8> = pair.messages(1, Channel::Events).iter().map(|bytes| bytes[0]).collect();
    assert_eq!(got, [0, 1, 2, 3]);
}

#[test]
fn what_is_too_large_is_refused_with_its_limit() {
    let mut pair = Pair::new(delayed(20), 1);
    let message = Input::Message(Channel::Events, vec![0; MAX_MESSAGE + 1].into());
    assert_eq!(pair.give(0, message), Err(Refused::TooLarge { size: MAX_MESSAGE + 1, limit: MAX_MESSAGE }));
    let state = Input::State(vec![0; MAX_STATE + 1].into());
    assert_eq!(pair.give(0, state), Err(Refused::TooLarge { size: MAX_STATE + 1, limit: MAX_STATE }));
    pair.message(0, Channel::Events, vec![7; MAX_MESSAGE]);
    pair.run(ms(1_000));
    assert!(pair.messages(1, Channel::Events) == [Bytes::from(vec![7; MAX_MESSAGE])]);
}

#[test]
fn a_session_that_takes_nothing_holds_the_peer_back_until_it_does() {
    let config = LinkConfig { send_queue: 8 << 20, receive_queue: 200_000, ..LinkConfig::default() };
    let mut pair = Pair::with(config, delayed(20), 5);
    pair.consumes = false;
    (0..100).for_each(|index| pair.message(0, Channel::Events, vec![index; 10_000]));
    (0..10).for_each(|index| pair.message(0, Channel::Control, vec![index; 10]));
    pair.run(Duration::from_secs(8));
    let got = pair.messages(1, Channel::Events).len();
    assert_eq!(got, 20, "as many as fit the receive queue");
    assert!(pair.links[0].queued() > 600_000, "the rest waits where it comes from: {}", pair.links[0].queued());
    let before = pair.sent[0].len();
    pair.run(ms(2_000));
    assert!(pair.sent[0].len() - before < 40, "and is not sent in vain: {}", pair.sent[0].len() - before);
    let since = pair.now;
    for (_, event) in pair.events[1].clone() {
        if let LinkEvent::Message(_, bytes) = event {
            pair.give(1, Input::Consumed(bytes.len())).unwrap();
        }
    }
    pair.consumes = true;
    assert!(pair.run_until(ms(10_000), |pair| pair.links[0].queued() == 0));
    let resumed = pair.events[1].iter().find(|(at, event)| *at > since && matches!(event, LinkEvent::Message(..)));
    assert!(resumed.unwrap().0 - since <= ms(100), "{:?}", resumed.unwrap().0 - since);
    let got: Vec<u8> = pair.messages(1, Channel::Events).iter().map(|bytes| bytes[0]).collect();
    assert_eq!(got, (0..100).collect::<Vec<u8>>());
    assert_eq!(pair.messages(1, Channel::Control).len(), 10);
}

#[test]
fn numbers_go_on_when_their_bits_have_gone_round() {
    let mut pair = Pair::new(Conditions { loss: 0.05, reordering: 0.05, ..delayed(5) }, 11);
    for index in 0..70_000_u32 {
        pair.message(0, Channel::Events, index.to_le_bytes().to_vec());
        pair.run(ms(2));
        pair.events[0].clear();
        pair.sent = Default::default();
    }
    pair.run(ms(1_000));
    let expected: Vec<Bytes> = (0..70_000_u32).map(|index| index.to_le_bytes().to_vec().into()).collect();
    assert!(pair.messages(1, Channel::Events) == expected);
    assert!(pair.paths[0].sent() > 70_000);
    assert!((ms(10)..ms(14)).contains(&pair.links[0].figures().rtt), "{:?}", pair.links[0].figures());
}

#[test]
fn a_mebibyte_goes_through_a_narrow_place_without_stopping_the_state() {
    let narrow = Conditions { bandwidth: Some(500_000), queue: 64 * 1024, ..delayed(30) };
    let mut pair = Pair::new(narrow, 1);
    pair.run(ms(1_000));
    (0..16).for_each(|index| pair.message(0, Channel::Events, vec![index; 60_000]));
    let mut frames = 0;
    while pair.links[0].queued() > 0 && pair.now < Duration::from_secs(20) {
        pair.state(0, vec![0; 100]);
        frames += 1;
        pair.run(ms(16));
    }
    assert!(pair.now < ms(5_000), "960 kB at 500 kB/s take 2 s and not {:?}", pair.now - ms(1_000));
    let states = pair.events[1].iter().filter(|(_, event)| matches!(event, LinkEvent::State(_))).count();
    assert!(states * 10 > frames * 8, "{states} of {frames} frames came");
    assert_eq!(pair.messages(1, Channel::Events).len(), 16);
}

#[test]
fn empty_messages_are_messages() {
    let mut pair = Pair::new(Conditions { loss: 0.3, ..delayed(20) }, 2);
    (0..3_000).for_each(|_| pair.message(0, Channel::Events, ""));
    pair.message(0, Channel::Events, "end");
    pair.run(Duration::from_secs(20));
    let got = pair.messages(1, Channel::Events);
    assert_eq!((got.len(), got.last()), (3_001, Some(&Bytes::from("end"))));
}
