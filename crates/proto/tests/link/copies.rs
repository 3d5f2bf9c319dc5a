//! What a lost message costs: not a round trip, and at most three times the bytes.

use std::time::Duration;

use coplay_proto::{
    Channel,
    conditioner::{Bursts, Conditions},
    link::LinkEvent,
};

use crate::pair::{Pair, delayed, ms};

/// The bytes of each message.
const SIZE: usize = 64;
/// What one of them takes alone in a datagram: header with ack, part, channel, number.
const ONE_SEND: usize = 11 + 2 + 3 + SIZE;
/// Two homes some way apart: a round trip of 60 ms.
const PATH: Conditions = Conditions { jitter: ms(5), ..delayed(30) };

const fn lossy(loss: f64) -> Conditions {
    Conditions { loss, ..PATH }
}

/// 2 % in runs of about four datagrams.
const BURSTS: Conditions =
    Conditions { bursts: Some(Bursts { begin: 0.02 / 0.98 * 0.25, end: 0.25, loss: 1.0 }), ..PATH };

/// What messages of one side took.
struct Outcome {
    /// The shortest first.
    delays: Vec<Duration>,
    /// Bytes sent for each, as a multiple of [`ONE_SEND`].
    bytes: f64,
}

impl Outcome {
    fn share(&self, share: f64) -> Duration {
        self.delays[((self.delays.len() - 1) as f64 * share) as usize]
    }

    /// How much later than the middle one.
    fn late(&self, share: f64) -> Duration {
        self.share(share) - self.share(0.5)
    }
}

/// So many messages one way, one each interval. `state`: bytes of each frame of 60 a second, both ways.
fn talk(conditions: Conditions, interval: Duration, count: u32, state: usize, seed: u64) -> Outcome {
    let frame = Duration::from_micros(16_667);
    let mut pair = Pair::new(conditions, seed);
    let (mut given, mut next) = (Vec::new(), Duration::from_secs(20));
    let mut before = 0;
    let mut frames = 0;
    while given.len() < count as usize {
        if pair.now >= next {
            if given.is_empty() {
                before = pair.links[0].figures().bytes_sent;
                frames = 0;
            }
            let mut message = (given.len() as u32).to_le_bytes().to_vec();
            message.resize(SIZE, 7);
            pair.message(0, Channel::Events, message);
            given.push(pair.now);
            next += interval;
        }
        if state > 0 {
            pair.state(0, vec![1; state]);
            pair.state(1, vec![1; state]);
            frames += 1;
            pair.run(frame);
        } else {
            pair.run(next - pair.now);
        }
        pair.sent = Default::default();
    }
    pair.run(ms(3_000));
    let mut bytes = (pair.links[0].figures().bytes_sent - before) as f64;
    bytes -= f64::from(frames) * (state + 3 + 11) as f64;
    let came: Vec<(Duration, u32)> = pair.events[1]
        .iter()
        .filter_map(|(at, event)| match event {
            LinkEvent::Message(_, bytes) => Some((*at, u32::from_le_bytes(bytes[..4].try_into().unwrap()))),
            _ => None,
        })
        .collect();
    assert!(came.iter().map(|(_, number)| *number).eq(0..count), "each came, once, in order");
    let mut delays: Vec<Duration> = came.iter().zip(&given).map(|((at, _), given)| *at - *given).collect();
    delays.sort_unstable();
    let outcome = Outcome { delays, bytes: bytes / f64::from(count) / ONE_SEND as f64 };
    println!(
        "{:5.1} % {:6} each {interval:?} state {state:3}: p50 {:?} p90 {:?} p99 {:?} p99.9 {:?} max {:?}, {:.2} sends",
        conditions.loss * 100.0,
        if conditions.bursts.is_some() { "bursts" } else { "" },
        outcome.share(0.5),
        outcome.share(0.9),
        outcome.share(0.99),
        outcome.share(0.999),
        outcome.share(1.0),
        outcome.bytes,
    );
    outcome
}

const LONE: Duration = ms(200);
const STEADY: Duration = ms(50);
/// 500 bytes, 60 times a second: 30 kB/s.
const STATE: usize = 500;

/// The same for lone and steady messages, alone and beside state.
fn each(conditions: Conditions, check: impl Fn(&Outcome)) {
    for (interval, count, state) in
        [(LONE, 20_000, 0), (STEADY, 20_000, 0), (LONE, 5_000, STATE), (STEADY, 10_000, STATE)]
    {
        let outcome = talk(conditions, interval, count, state, 5);
        assert!((ms(28)..ms(34)).contains(&outcome.share(0.5)), "{:?}", outcome.share(0.5));
        assert!(outcome.bytes <= 3.0, "{} times the bytes", outcome.bytes);
        check(&outcome);
    }
}

#[test]
fn at_two_percent_loss_one_in_a_hundred_comes_a_gap_late_and_one_in_a_thousand_not_much_later() {
    each(lossy(0.02), |outcome| {
        assert!(outcome.late(0.99) <= ms(35), "{:?}", outcome.late(0.99));
        assert!(outcome.late(0.999) <= ms(120), "{:?}", outcome.late(0.999));
        assert!(outcome.bytes < 2.5, "{}", outcome.bytes);
    });
}

#[test]
fn at_ten_percent_loss_one_in_a_hundred_comes_less_than_a_round_trip_late() {
    each(lossy(0.1), |outcome| assert!(outcome.late(0.99) <= ms(60), "{:?}", outcome.late(0.99)));
}

#[test]
fn at_five_percent_loss_it_is_in_between() {
    each(lossy(0.05), |outcome| assert!(outcome.late(0.99) <= ms(40), "{:?}", outcome.late(0.99)));
}

#[test]
fn bursts_take_the_first_copies_but_not_all() {
    each(BURSTS, |outcome| assert!(outcome.late(0.99) <= ms(100), "{:?}", outcome.late(0.99)));
}

#[test]
fn without_losses_nothing_is_copied() {
    each(PATH, |outcome| {
        assert!(outcome.late(1.0) <= ms(6), "{:?}", outcome.late(1.0));
        assert!(outcome.bytes < 1.3, "{}: keep-alives and acks", outcome.bytes);
    });
}

#[test]
fn a_path_that_is_so_short_that_a_repeat_is_as_fast_has_no_copies() {
    let short = Conditions { latency: ms(2), jitter: Duration::ZERO, loss: 0.05, ..Conditions::PERFECT };
    let outcome = talk(short, STEADY, 5_000, 0, 3);
    assert!(outcome.bytes < 1.3, "{}", outcome.bytes);
    assert!(outcome.late(0.99) <= ms(35), "{:?}", outcome.late(0.99));
}

#[test]
fn large_messages_are_not_copied() {
    let mut pair = Pair::new(lossy(0.05), 4);
    for _ in 0..300 {
        pair.message(0, Channel::Control, "wakes the losses");
        pair.run(ms(20));
    }
    let before = pair.links[0].figures().bytes_sent;
    for _ in 0..300 {
        pair.message(0, Channel::Events, vec![1; 5_000]);
        pair.run(ms(100));
    }
    pair.run(ms(2_000));
    let each = (pair.links[0].figures().bytes_sent - before) as f64 / 300.0;
    assert!(each < 5_000.0 * 1.25, "{each} bytes for 5,000");
    assert_eq!(pair.messages(1, Channel::Events).len(), 300);
}
