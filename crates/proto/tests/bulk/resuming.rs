//! A link that breaks: what is offered again goes on where it was.

use coplay_proto::{
    bulk::{Blob, BlobId, Digest, Fact, Failure},
    conditioner::Conditions,
};

use crate::pair::{Pair, Policy, content, ms};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const FAIR: Conditions = Conditions { latency: ms(20), bandwidth: Some(2_000_000), ..Conditions::PERFECT };

/// The progress that a blob began with.
fn begun(pair: &Pair, side: usize, blob: BlobId) -> Option<u64> {
    pair.told(side, blob).into_iter().find_map(|fact| match fact {
        Fact::Progress { bytes, .. } => Some(*bytes),
        _ => None,
    })
}

#[test]
fn what_is_offered_again_goes_on_where_it_was() {
    let bytes = content(2_000_000, 1);
    for policy in [Policy::Whole, Policy::Stream] {
        let mut pair = Pair::new(FAIR);
        pair.sides[1].policy = policy;
        let blob = Blob::new("level", bytes.clone());
        let first = pair.send(0, blob.clone());
        pair.run(ms(700));
        pair.disconnect();
        assert_eq!(pair.failure(0, BlobId::Out(first)), Some(Failure::Disconnected));
        assert_eq!(pair.failure(1, BlobId::In(0)), Some(Failure::Disconnected));
        let (_, before) = pair.chunks(1, 0);
        let facts = pair.sides[1].facts.len();
        pair.run(ms(30_000));
        pair.connect();
        let again = pair.send(0, blob);
        assert!(pair.run_until(ms(5_000), |pair| pair.is_sent(0, again)));
        let offset = begun(&pair, 0, BlobId::Out(again)).unwrap();
        assert!(offset > 500_000, "{offset}");
        assert!(pair.bytes_sent(0) < 2_300_000, "{}", pair.bytes_sent(0));
        if policy == Policy::Whole {
            assert_eq!(pair.received(1), std::slice::from_ref(&bytes));
        } else {
            pair.sides[1].facts.drain(..facts);
            let (from, after) = pair.chunks(1, 0);
            assert_eq!((from, before.len() as u64), (offset, offset));
            assert!([before, after].concat() == bytes);
        }
    }
}

#[test]
fn what_was_kept_too_long_or_is_another_begins_anew() {
    let bytes = content(1_000_000, 1);
    for (pause, name, other) in [(130_000, "level", false), (1_000, "another", false), (1_000, "level", true)] {
        let mut pair = Pair::new(FAIR);
        pair.send(0, Blob::new("level", bytes.clone()));
        pair.run(ms(300));
        pair.disconnect();
        pair.run(ms(pause));
        pair.connect();
        let bytes = if other { content(1_000_000, 2) } else { bytes.clone() };
        let again = pair.send(0, Blob::new(name, bytes.clone()));
        assert!(pair.run_until(ms(5_000), |pair| pair.is_sent(0, again)));
        assert_eq!(begun(&pair, 0, BlobId::Out(again)), Some(0));
        assert_eq!(pair.received(1), [bytes]);
    }
}

#[test]
fn a_beginning_that_somebody_spoiled_costs_one_try() {
    let bytes = content(1_000_000, 1);
    let mut pair = Pair::new(FAIR);
    // Other bytes, offered as those.
    pair.send(0, Blob::new("level", content(1_000_000, 2)).digest(Digest::of(&bytes)));
    pair.run(ms(300));
    pair.disconnect();
    pair.connect();
    let again = pair.send(0, Blob::new("level", bytes.clone()));
    pair.run(ms(3_000));
    assert_eq!(pair.failure(0, BlobId::Out(again)), Some(Failure::Damaged));
    let third = pair.send(0, Blob::new("level", bytes.clone()));
    assert!(pair.run_until(ms(3_000), |pair| pair.is_sent(0, third)));
    assert_eq!(pair.received(1), [bytes]);
}
