//! Do blobs go on when another connection takes the place of theirs, with nothing lost, doubled or heard of by the game?

use coplay_proto::{
    bulk::{Blob, BlobId, BulkConfig, Fact, Failure, Input, Refusal},
    conditioner::Conditions,
    rng::Rng,
};

use crate::pair::{Pair, Policy, content, ms};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn path() -> Conditions {
    Conditions { latency: ms(20), bandwidth: Some(2_000_000), ..Conditions::PERFECT }
}

#[test]
fn whenever_it_happens_each_blob_arrives_once_and_is_begun_once() {
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let mut pair = Pair::with(path(), BulkConfig { max_incoming: 3, ..BulkConfig::default() });
        pair.sides[1].policy = if seed % 2 == 0 { Policy::Whole } else { Policy::Stream };
        pair.sides[0].policy = Policy::Whole;
        let mut numbers = [Vec::new(), Vec::new()];
        for side in [0, 1] {
            for n in 0..5 {
                let bytes = content(rng.below(60_000) as usize, seed * 100 + n);
                numbers[side].push((pair.send(side, Blob::new(format!("{n}"), bytes.clone())), bytes));
            }
        }
        for _ in 0..rng.below(8) + 1 {
            pair.run(ms(rng.below(60)));
            pair.replace();
        }
        pair.run(ms(20_000));
        for side in [0, 1] {
            assert_eq!(pair.sides[side].malformed, None, "seed {seed}");
            for (number, _) in &numbers[side] {
                assert!(pair.is_sent(side, *number), "seed {seed}: {:?}", pair.end(side, BlobId::Out(*number)));
            }
            let facts = &pair.sides[1 - side].facts;
            let whole: Vec<_> = facts.iter().filter(|(_, fact)| matches!(fact, Fact::Received { .. })).collect();
            assert_eq!(whole.len(), numbers[side].len(), "seed {seed}: each once");
            let mut came = pair.received(1 - side);
            if came.is_empty() {
                came = chunks(facts);
            }
            let mut wanted: Vec<_> = numbers[side].iter().map(|(_, bytes)| bytes.clone()).collect();
            came.sort();
            wanted.sort();
            assert!(came == wanted, "seed {seed}: {:?}", came.iter().map(bytes::Bytes::len).collect::<Vec<_>>());
        }
    }
}

/// What came in chunks, each of which belongs where the one before ended.
fn chunks(facts: &[(std::time::Duration, Fact)]) -> Vec<bytes::Bytes> {
    let mut blobs = std::collections::BTreeMap::<u64, Vec<u8>>::new();
    for (_, fact) in facts {
        match fact {
            Fact::Chunk { number, offset, bytes } => {
                let blob = blobs.entry(*number).or_default();
                assert_eq!(*offset, blob.len() as u64);
                blob.extend_from_slice(bytes);
            }
            Fact::Received { number, .. } => _ = blobs.entry(*number).or_default(),
            _ => {}
        }
    }
    blobs.into_values().map(Into::into).collect()
}

#[test]
fn what_is_here_is_not_sent_again() {
    let mut pair = Pair::new(path());
    let number = pair.send(0, Blob::new("film", content(1_000_000, 1)));
    let sent = |pair: &Pair| pair.sides[0].sent.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    assert!(pair.run_until(ms(5_000), |pair| sent(pair) > 400_000));
    assert!(!pair.is_sent(0, number));
    pair.replace();
    pair.run(ms(20_000));
    assert!(pair.is_sent(0, number));
    assert!(sent(&pair) < 1_100_000, "{}", sent(&pair));
}

#[test]
fn what_was_said_last_is_known_all_the_same() {
    // Taken back, refused, or cancelled, and the word is lost.
    let mut pair = Pair::new(path());
    pair.sides[1].policy = Policy::Ask;
    let gone = pair.send(0, Blob::new("gone", content(10_000, 1)));
    let refused = pair.send(0, Blob::new("refused", content(10_000, 2)));
    let cancelled = pair.send(0, Blob::new("cancelled", content(100_000, 3)));
    pair.run(ms(100));
    let offers: Vec<_> = pair.sides[1].facts.iter().map(|(_, fact)| fact.clone()).collect();
    let [Fact::Offered(_), Fact::Offered(second), Fact::Offered(third)] = &offers[..] else { panic!("{offers:?}") };
    pair.accept(1, third, false);
    pair.run(ms(50));
    pair.give(0, Input::Cancel(BlobId::Out(gone)));
    pair.give(1, Input::Refuse(second.number, Refusal::Busy));
    pair.give(1, Input::Cancel(BlobId::In(third.number)));
    pair.replace();
    pair.run(ms(1_000));
    assert_eq!(pair.failure(1, BlobId::In(0)), Some(Failure::CancelledByPeer));
    assert_eq!(pair.failure(0, BlobId::Out(refused)), Some(Failure::Refused(Refusal::Busy)));
    assert_eq!(pair.failure(0, BlobId::Out(cancelled)), Some(Failure::CancelledByPeer));
    // And accepted meanwhile.
    let number = pair.send(0, Blob::new("late", content(10_000, 4)));
    pair.run(ms(100));
    let Some((_, Fact::Offered(late))) = pair.sides[1].facts.last().cloned() else {
        panic!("{:?}", pair.sides[1].facts)
    };
    pair.sides[0].bulk.handle(pair.now, Input::Anew);
    pair.sides[1].bulk.handle(pair.now, Input::Anew);
    pair.accept(1, &late, false);
    pair.run(ms(1_000));
    assert!(pair.is_sent(0, number));
    assert!(pair.sides.iter().all(|side| side.malformed.is_none()));
}

#[test]
fn who_had_not_heard_of_the_link_before_is_offered_everything_all_the_same() {
    let mut pair = Pair::new(path());
    let early = pair.send(0, Blob::new("early", content(10_000, 1)));
    pair.run(ms(5));
    // What was offered is lost, and only here anything was said at all.
    pair.lose();
    pair.sides[0].bulk.handle(pair.now, Input::Anew);
    let late = pair.send(0, Blob::new("late", content(10_000, 2)));
    pair.run(ms(1_000));
    assert!(pair.is_sent(0, early) && pair.is_sent(0, late));
    assert!(pair.sides.iter().all(|side| side.malformed.is_none()));
}
