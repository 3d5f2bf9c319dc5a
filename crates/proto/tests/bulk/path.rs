//! What goes beside blobs on the same path: it is not made to wait.

use std::time::Duration;

use coplay_proto::{
    bulk::{Blob, BlobId, BulkConfig, Input},
    conditioner::Conditions,
};

use crate::pair::{Packet, Pair, Policy, content, ms};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const fn path(bandwidth: u32) -> Conditions {
    Conditions { latency: ms(30), jitter: ms(5), bandwidth: Some(bandwidth), ..Conditions::PERFECT }
}

/// Lets time go on, while a datagram of 120 bytes goes beside each 16 ms. Returns how long 99 of 100 of them took.
fn play(pair: &mut Pair, time: Duration) -> Duration {
    pair.sides[1].pings.clear();
    let until = pair.now + time;
    while pair.now < until {
        let now = pair.now;
        pair.paths[0].push(now, Packet::Ping(now), 120);
        pair.run(ms(16));
    }
    let mut pings = pair.sides[1].pings.clone();
    pings.sort();
    pings[pings.len() * 99 / 100]
}

/// Without a cap on the window, what is sent beside would wait for all of it: the path's queue has no end.
#[test]
fn what_goes_beside_takes_at_most_twice_as_long_and_the_path_is_used() {
    let config = BulkConfig { window: 64 << 20, receive_window: 64 << 20, ..BulkConfig::default() };
    for (bandwidth, least) in [(200_000, 0.7), (1_000_000, 0.8), (5_000_000, 0.8)] {
        let mut pair = Pair::with(path(bandwidth), config.clone());
        let alone = play(&mut pair, ms(5_000));
        let size = bandwidth as usize * 10;
        let mut pair = Pair::with(path(bandwidth), BulkConfig { max_size: 1 << 30, ..config.clone() });
        pair.sides[1].policy = Policy::Stream;
        let number = pair.send(0, Blob::new("level", content(size, 1)));
        let beside = play(&mut pair, ms(9_000));
        assert!(beside <= 2 * alone, "by {bandwidth} bytes a second: {alone:?} alone, {beside:?} beside");
        assert!(pair.run_until(ms(30_000), |pair| pair.is_sent(0, number)));
        let (took, _) = pair.end(0, BlobId::Out(number)).unwrap();
        let rate = size as f64 / took.as_secs_f64();
        assert!(rate > least * f64::from(bandwidth), "{rate} of {bandwidth} bytes a second");
    }
}

#[test]
fn a_path_that_narrows_keeps_its_latency_within_bounds_and_is_used_again_when_it_widens() {
    let mut pair = Pair::with(path(2_000_000), BulkConfig { max_size: 1 << 30, ..BulkConfig::default() });
    pair.sides[1].policy = Policy::Stream;
    pair.send(0, Blob::new("level", content(40_000_000, 1)));
    play(&mut pair, ms(4_000));
    pair.set(path(50_000));
    // What was under way has to get through: at the old rate that was little, at the new one it is three seconds.
    play(&mut pair, ms(6_000));
    let narrow = play(&mut pair, ms(4_000));
    assert!(narrow < ms(150), "{narrow:?}");
    pair.set(path(2_000_000));
    play(&mut pair, ms(3_000));
    let before = pair.bytes_sent(0);
    play(&mut pair, ms(2_000));
    let rate = (pair.bytes_sent(0) - before) as f64 / 2.0;
    assert!(rate > 1_500_000.0, "{rate}");
}

#[test]
fn the_window_is_a_hard_cap() {
    let mut pair = Pair::with(path(50_000_000), BulkConfig { window: 100_000, ..BulkConfig::default() });
    pair.send(0, Blob::new("level", content(8_000_000, 1)));
    let mut most = 0;
    for _ in 0..2_000 {
        pair.run(ms(1));
        most = most.max(pair.sides[0].bulk.under_way());
    }
    assert!((80_000..=100_000).contains(&most), "{most}");
}

#[test]
fn where_the_path_is_budgeted_no_more_goes() {
    let mut pair = Pair::new(path(1_000_000));
    pair.give(0, Input::Path(Some(16_384)));
    pair.send(0, Blob::new("level", content(1_000_000, 1)));
    pair.run(ms(10_000));
    let sent = pair.bytes_sent(0);
    assert!((150_000..175_000).contains(&sent), "{sent}");
    let longest = pair.sides[0].sent.iter().map(|(_, bytes)| bytes.len()).max().unwrap();
    assert!(longest <= 4_200, "{longest}");
    pair.give(0, Input::Path(None));
    pair.run(ms(2_000));
    assert_eq!(pair.received(1).len(), 1, "by another path it goes as fast as that takes it");
}
