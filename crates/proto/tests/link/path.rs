//! What a link measures, and what it sends when there is nothing to say.

use std::time::Duration;

use coplay_proto::{
    Channel, Lane,
    conditioner::Conditions,
    link::{Cause, Input, LinkConfig, LinkEvent, Quality},
};

use crate::pair::{Pair, delayed, ms};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn an_idle_link_sends_keep_alives_and_their_acks_and_nothing_else() {
    let mut pair = Pair::new(Conditions { jitter: ms(5), ..delayed(30) }, 1);
    pair.run(Duration::from_secs(60));
    for side in [0, 1] {
        let sent = &pair.sent[side];
        assert!(sent.iter().all(|(_, bytes)| bytes.len() <= 11), "they carry nothing");
        assert!(sent.len() <= 60 * 5, "{} datagrams in a minute", sent.len());
        let longest = sent.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap();
        assert!(longest <= ms(250), "{longest:?} between two datagrams");
        assert_eq!(pair.said(side, &LinkEvent::Unresponsive), None);
        let figures = pair.links[side].figures();
        assert_eq!(figures.bytes_sent, sent.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>());
        assert!(figures.bytes_received > 0);
    }
}

/// The round trip that both sides measure when both, one, or none of them sends frames.
fn measured(senders: &[usize], frame: Duration) -> [Duration; 2] {
    let mut pair = Pair::new(delayed(40), 9);
    while pair.now < Duration::from_secs(5) {
        for side in senders {
            pair.state(*side, "frame");
        }
        pair.run(frame);
    }
    [0, 1].map(|side| pair.links[side].figures().rtt)
}

#[test]
fn the_time_that_an_ack_is_held_back_is_no_part_of_the_round_trip() {
    for senders in [&[][..], &[0], &[1], &[0, 1]] {
        for frame in [ms(7), ms(16), ms(33)] {
            for rtt in measured(senders, frame) {
                let off = rtt.abs_diff(ms(80));
                assert!(off < Duration::from_micros(20), "{rtt:?} with frames of {frame:?} from {senders:?}");
            }
        }
    }
}

#[test]
fn jitter_and_loss_are_measured() {
    let mut pair = Pair::new(Conditions { jitter: ms(8), loss: 0.1, ..delayed(40) }, 4);
    let (mut losses, mut jitters) = (Vec::new(), Vec::new());
    for turn in 0..3_000 {
        pair.state(0, "frame");
        pair.state(1, "frame");
        pair.run(ms(16));
        if turn > 200 {
            let figures = pair.links[0].figures();
            losses.push(f64::from(figures.loss));
            jitters.push(figures.jitter);
        }
    }
    let loss = losses.iter().sum::<f64>() / losses.len() as f64;
    assert!((loss - 0.1).abs() < 0.02, "{loss}");
    assert!(losses.iter().all(|loss| *loss < 0.25));
    let jitter = jitters.iter().sum::<Duration>() / jitters.len() as u32;
    assert!((ms(2)..ms(10)).contains(&jitter), "{jitter:?}");
    let rtt = pair.links[0].figures().rtt;
    assert!(rtt.abs_diff(ms(80)) < ms(8), "{rtt:?}");
}

#[test]
fn losses_are_told_by_their_direction() {
    let mut pair = Pair::new(delayed(40), 4);
    pair.paths[0].set(Conditions { loss: 0.2, ..delayed(40) });
    for _ in 0..600 {
        pair.state(0, "frame");
        pair.state(1, "frame");
        pair.run(ms(16));
    }
    let [one, other] = [0, 1].map(|side| pair.links[side].figures());
    assert!((0.08..0.35).contains(&one.loss) && one.loss_received < f32::EPSILON, "{one:?}");
    assert!((0.08..0.35).contains(&other.loss_received) && other.loss < f32::EPSILON, "{other:?}");
    assert_eq!((one.quality, one.cause), (Quality::Poor, Some(Cause::Loss)));
    assert_eq!((other.quality, other.cause), (Quality::Poor, Some(Cause::LossReceived)));
}

#[test]
fn a_silent_peer_is_a_lost_path() {
    let mut pair = Pair::new(delayed(20), 4);
    pair.run(ms(1_000));
    assert_eq!(pair.links[0].figures().quality, Quality::Good);
    pair.paths[1].set(Conditions { loss: 1.0, ..delayed(20) });
    pair.run(ms(3_000));
    let figures = pair.links[0].figures();
    assert_eq!((figures.quality, figures.cause), (Quality::Lost, Some(Cause::Silence)));
    let told = pair.events[0]
        .iter()
        .any(|(_, event)| matches!(event, LinkEvent::Figures(figures) if figures.quality == Quality::Lost));
    assert!(told);
}

#[test]
fn a_path_without_loss_shows_none() {
    let mut pair = Pair::new(Conditions { jitter: ms(8), ..delayed(40) }, 4);
    for index in 0..500_u32 {
        pair.state(0, "frame");
        if index % 3 == 0 {
            pair.message(1, Channel::Events, "event");
        }
        pair.run(ms(16));
        for side in [0, 1] {
            assert!(pair.links[side].figures().loss < f32::EPSILON, "at {:?}", pair.now);
        }
    }
}

#[test]
fn figures_are_told_about_four_times_a_second() {
    let mut pair = Pair::new(delayed(40), 4);
    pair.run(Duration::from_secs(10));
    let told: Vec<_> = pair.events[0]
        .iter()
        .filter_map(|(at, event)| if let LinkEvent::Figures(figures) = event { Some((*at, *figures)) } else { None })
        .collect();
    assert!((20..=40).contains(&told.len()), "{}", told.len());
    assert!(told.windows(2).all(|pair| pair[1].0 - pair[0].0 >= ms(250)));
    assert_eq!(told.last().unwrap().1.rtt.as_millis(), 80);
}

#[test]
fn what_one_side_sends_costs_the_other_few_acks() {
    let mut pair = Pair::new(delayed(20), 4);
    pair.run(ms(1_000));
    let before = pair.sent[1].len();
    for _ in 0..600 {
        pair.state(0, vec![0; 200]);
        pair.run(Duration::from_micros(16_667));
    }
    let acks = pair.sent[1].len() - before;
    assert!((150..=210).contains(&acks), "{acks} acks for 600 frames in 10 s");
}

#[test]
fn the_reliable_lane_only_says_that_the_peer_is_there() {
    let mut pair = Pair::with(LinkConfig::default(), Conditions { loss: 1.0, ..delayed(20) }, 4);
    pair.run(ms(1_500));
    pair.give(0, Input::Received(Lane::Reliable, "anything at all".into())).unwrap();
    pair.run(ms(1_999));
    assert_eq!(pair.said(0, &LinkEvent::Unresponsive), None);
    assert_eq!(pair.said(1, &LinkEvent::Unresponsive), Some(ms(2_000)));
    pair.run(ms(1));
    assert_eq!(pair.said(0, &LinkEvent::Unresponsive), Some(ms(3_500)));
    assert_eq!(pair.closed(0), None);
}
