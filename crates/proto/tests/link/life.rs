//! How a link ends: goodbyes, silence, and what is neither.

use std::time::Duration;

use bytes::Bytes;
use coplay_proto::{
    Channel,
    conditioner::Conditions,
    link::{CloseReason, Input, Link, LinkConfig, LinkEvent, Output, Refused},
};
use proptest::prelude::*;

use crate::pair::{Pair, cases, delayed, ms};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Nothing comes through any more.
const CUT: Conditions = Conditions { loss: 1.0, ..Conditions::PERFECT };

#[test]
fn a_silent_peer_is_unresponsive_and_then_gone_at_the_times_set() {
    let mut pair = Pair::new(delayed(0), 1);
    pair.run(ms(1_000));
    let heard = pair.sent[1].last().unwrap().0;
    pair.paths[1].set(CUT);
    pair.run(Duration::from_secs(20));
    assert_eq!(pair.said(0, &LinkEvent::Unresponsive), Some(heard + ms(2_000)));
    assert_eq!(pair.closed(0), Some((heard + ms(10_000), CloseReason::Silent(ms(10_000)))));
    assert_eq!(pair.said(1, &LinkEvent::Unresponsive), None, "the other direction still works");
    assert_eq!(pair.closed(1).unwrap().1, CloseReason::Goodbye, "and brings the news");
    assert_eq!(pair.links[0].deadline(), None);
    assert_eq!(pair.give(0, Input::State("frame".into())), Err(Refused::Closed));
    assert_eq!(pair.give(0, Input::Message(Channel::Events, "event".into())), Err(Refused::Closed));
}

#[test]
fn a_peer_that_was_never_heard_is_silent_too() {
    let config = LinkConfig { unresponsive: ms(700), grace: ms(3_000), ..LinkConfig::default() };
    let mut pair = Pair::with(config, CUT, 1);
    pair.run(ms(5_000));
    assert_eq!(pair.said(0, &LinkEvent::Unresponsive), Some(ms(700)));
    assert_eq!(pair.closed(0), Some((ms(3_000), CloseReason::Silent(ms(3_000)))));
}

#[test]
fn a_peer_that_is_heard_again_is_responsive_and_gets_what_waited() {
    let mut pair = Pair::new(delayed(20), 1);
    pair.run(ms(1_000));
    pair.paths.iter_mut().for_each(|path| path.set(CUT));
    pair.message(0, Channel::Events, vec![7; 30_000]);
    pair.run(ms(6_000));
    for side in [0, 1] {
        assert!(pair.said(side, &LinkEvent::Unresponsive).is_some());
        assert_eq!(pair.said(side, &LinkEvent::Responsive), None);
    }
    pair.paths.iter_mut().for_each(|path| path.set(delayed(20)));
    pair.run(ms(2_000));
    for side in [0, 1] {
        let again = pair.said(side, &LinkEvent::Responsive).unwrap();
        assert!(again < ms(7_300), "{again:?}");
        let events: Vec<&LinkEvent> =
            pair.events[side].iter().filter(|(at, _)| *at == again).map(|(_, event)| event).collect();
        assert_eq!(events.first(), Some(&&LinkEvent::Responsive), "comes before what was heard");
        assert_eq!(pair.closed(side), None);
    }
    assert!(pair.messages(1, Channel::Events) == [Bytes::from(vec![7; 30_000])]);
}

#[test]
fn who_was_asleep_takes_that_for_no_silence_of_the_peer() {
    let mut pair = Pair::new(delayed(20), 1);
    pair.run(ms(1_000));
    // A laptop lid, a debugger, a tab in the background: nobody called for a minute.
    let link = &mut pair.links[0];
    link.handle(ms(61_000), Input::Elapsed).unwrap();
    let outputs: Vec<Output> = std::iter::from_fn(|| link.poll()).collect();
    assert!(outputs.iter().any(|output| matches!(output, Output::Transmit(..))), "it says that it is there");
    assert!(!outputs.contains(&Output::Event(LinkEvent::Unresponsive)));
    assert!(!link.is_closed());
    // From here on it listens, and silence is silence.
    let mut closed = None;
    while let Some(deadline) = link.deadline() {
        link.handle(deadline, Input::Elapsed).unwrap();
        closed = std::iter::from_fn(|| link.poll()).last();
    }
    assert_eq!(closed, Some(Output::Event(LinkEvent::Closed(CloseReason::Silent(ms(10_000))))));
}

#[test]
fn a_goodbye_closes_both_within_a_round_trip() {
    let mut pair = Pair::new(delayed(30), 1);
    pair.run(ms(1_000));
    pair.close(0);
    assert_eq!(pair.give(0, Input::Message(Channel::Events, "late".into())), Err(Refused::Closed));
    pair.run(ms(2_000));
    assert_eq!(pair.closed(1), Some((ms(1_030), CloseReason::Goodbye)));
    assert_eq!(pair.closed(0), Some((ms(1_060), CloseReason::Local)));
}

#[test]
fn a_goodbye_goes_out_at_once_for_a_program_that_ends() {
    let mut pair = Pair::new(delayed(30), 1);
    pair.run(ms(1_000));
    let link = &mut pair.links[0];
    link.handle(ms(1_000), Input::Message(Channel::Events, "last words".into())).unwrap();
    link.handle(ms(1_000), Input::Close).unwrap();
    let mut datagrams = std::iter::from_fn(|| link.poll());
    let Some(Output::Transmit(lane, bytes)) = datagrams.next() else { panic!("a datagram is to be sent") };
    assert_eq!(datagrams.next(), None, "and all is in it");
    let other = &mut pair.links[1];
    other.handle(ms(1_030), Input::Received(lane, bytes)).unwrap();
    let outputs: Vec<Output> = std::iter::from_fn(|| other.poll()).collect();
    let [message, ack, closed] = outputs.as_slice() else { panic!("{outputs:?}") };
    assert_eq!(*message, Output::Event(LinkEvent::Message(Channel::Events, "last words".into())));
    assert!(matches!(ack, Output::Transmit(..)));
    assert_eq!(*closed, Output::Event(LinkEvent::Closed(CloseReason::Goodbye)));
}

#[test]
fn a_goodbye_to_nobody_ends_by_itself() {
    let mut pair = Pair::new(delayed(30), 1);
    pair.run(ms(1_000));
    pair.paths.iter_mut().for_each(|path| path.set(CUT));
    let before = pair.sent[0].len();
    pair.close(0);
    pair.run(ms(2_000));
    let (at, reason) = pair.closed(0).unwrap();
    assert_eq!(reason, CloseReason::Local);
    assert!(at < ms(1_300), "{at:?}");
    assert_eq!(pair.sent[0].len() - before, 5, "said five times");
    let mut pair = Pair::new(delayed(30), 1);
    pair.run(ms(1_000));
    pair.paths.iter_mut().for_each(|path| path.set(CUT));
    pair.message(0, Channel::Events, "unheard");
    pair.close(0);
    pair.run(ms(2_000));
    assert_eq!(pair.closed(0), Some((ms(2_000), CloseReason::Local)), "waits a second for what is not acked");
}

#[test]
fn two_that_say_goodbye_at_once_both_close() {
    let mut pair = Pair::new(delayed(30), 1);
    pair.run(ms(1_000));
    pair.message(0, Channel::Events, vec![1; 5_000]);
    pair.message(1, Channel::Events, vec![1; 5_000]);
    pair.close(0);
    pair.close(1);
    pair.run(ms(2_000));
    assert_eq!(pair.closed(0), Some((ms(1_030), CloseReason::Local)));
    assert_eq!(pair.closed(1), Some((ms(1_030), CloseReason::Local)));
}

#[test]
fn a_closed_link_says_nothing_more() {
    let mut pair = Pair::new(delayed(30), 1);
    pair.run(ms(1_000));
    pair.close(0);
    pair.run(ms(1_000));
    let (sent, events) = (pair.sent[1].clone(), pair.events[1].clone());
    for (_, bytes) in pair.sent[0].clone() {
        pair.give(1, Input::Received(coplay_proto::Lane::Unreliable, bytes)).unwrap();
    }
    pair.give(1, Input::Consumed(5)).unwrap();
    pair.close(1);
    pair.run(Duration::from_secs(30));
    assert!(pair.sent[1] == sent && pair.events[1] == events);
    assert!(pair.links.iter().all(Link::is_closed));
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn what_was_said_before_a_goodbye_is_heard_before_it(seed in any::<u64>(), count in 0_u8..20, size in 0_usize..4_000) {
        let mut pair = Pair::new(Conditions { jitter: ms(5), loss: 0.1, duplication: 0.05, reordering: 0.05, ..delayed(30) }, seed);
        pair.run(ms(1_000));
        (0..count).for_each(|index| pair.message(0, Channel::Control, vec![index; size]));
        pair.close(0);
        pair.run(ms(3_000));
        prop_assert_eq!(pair.closed(0).map(|(_, reason)| reason), Some(CloseReason::Local));
        prop_assert_eq!(pair.closed(1).map(|(_, reason)| reason), Some(CloseReason::Goodbye));
        prop_assert_eq!(pair.messages(1, Channel::Control).len(), usize::from(count));
        let last = pair.events[1].iter().rposition(|(_, event)| !matches!(event, LinkEvent::Figures(_)));
        prop_assert!(matches!(pair.events[1][last.unwrap()].1, LinkEvent::Closed(_)));
    }
}
