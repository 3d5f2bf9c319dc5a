//! Blobs arrive whole, within limits, and fairly; and both sides are told how it ended.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use coplay_proto::{
    bulk::{Blob, BlobId, BulkConfig, Digest, Fact, Failure, Input, MAX_METADATA, Refusal, Source, Unsendable},
    conditioner::Conditions,
};

use crate::pair::{Pair, Policy, content, ms};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// 20 ms each way, 4 MB/s.
const FAIR: Conditions = Conditions { latency: ms(20), bandwidth: Some(4_000_000), ..Conditions::PERFECT };

#[test]
fn a_blob_arrives_whole_and_both_sides_see_it_come() {
    let mut pair = Pair::new(FAIR);
    let bytes = content(1_000_000, 1);
    let number = pair.send(0, Blob::new("level", bytes.clone()).metadata("a hill"));
    assert!(pair.run_until(ms(2_000), |pair| pair.is_sent(0, number)));
    let [offer] = &pair.offers(1)[..] else { panic!("one offer") };
    assert_eq!((offer.name.as_str(), offer.size, &offer.metadata[..]), ("level", 1_000_000, &b"a hill"[..]));
    assert_eq!(offer.digest, Digest::of(&bytes));
    assert_eq!(pair.received(1), [bytes]);
    for (side, blob) in [(0, BlobId::Out(number)), (1, BlobId::In(0))] {
        let progress: Vec<u64> = pair
            .told(side, blob)
            .into_iter()
            .filter_map(|fact| match fact {
                Fact::Progress { bytes, size, .. } => {
                    assert_eq!(*size, 1_000_000);
                    Some(*bytes)
                }
                _ => None,
            })
            .collect();
        assert_eq!(progress[0], 0);
        assert!(progress.is_sorted() && (3..=12).contains(&progress.len()), "{progress:?}");
    }
    // A quarter of a second for a megabyte by 4 MB/s, and the round trips to begin with.
    let (at, _) = pair.end(0, BlobId::Out(number)).unwrap();
    assert!(at < ms(1_500), "{at:?}");
}

#[test]
fn a_blob_comes_in_chunks_if_the_receiver_wants_it_so_or_it_is_too_large() {
    let bytes = content(500_000, 2);
    for (policy, max_whole) in [(Policy::Stream, 1 << 20), (Policy::Whole, 499_999)] {
        let mut pair = Pair::with(FAIR, BulkConfig { max_whole, ..BulkConfig::default() });
        pair.sides[1].policy = policy;
        let number = pair.send(0, Blob::new("replay", bytes.clone()));
        assert!(pair.run_until(ms(2_000), |pair| pair.is_sent(0, number)));
        assert_eq!(pair.chunks(1, 0), (0, bytes.to_vec()));
        assert!(matches!(pair.end(1, BlobId::In(0)), Some((_, Fact::Received { bytes: None, .. }))));
    }
}

#[test]
fn an_empty_blob_is_a_blob() {
    let mut pair = Pair::new(FAIR);
    let number = pair.send(0, Blob::new("nothing", ""));
    assert!(pair.run_until(ms(200), |pair| pair.is_sent(0, number)));
    assert_eq!(pair.received(1), [Bytes::new()]);
}

/// Bytes that nobody holds: each is known by its place. Notes how much was read at once at most.
#[derive(Clone)]
struct Endless {
    size: u64,
    largest: Arc<Mutex<usize>>,
    fails_at: u64,
}

impl Endless {
    fn new(size: u64) -> Self {
        Self { size, largest: Arc::default(), fails_at: u64::MAX }
    }

    fn byte(at: u64) -> u8 {
        (at ^ (at >> 8) ^ (at >> 16)) as u8
    }
}

impl Source for Endless {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, most: usize) -> Result<Bytes, String> {
        let mut largest = self.largest.lock().unwrap();
        *largest = most.max(*largest);
        if offset + most as u64 > self.fails_at {
            return Err("the disk is gone".into());
        }
        // Less than is asked for, as a file may do.
        Ok((offset..offset + most.div_ceil(2) as u64).map(Self::byte).collect())
    }
}

#[test]
fn a_source_is_read_piece_by_piece() {
    let size = 5_000_000;
    let mut pair = Pair::new(FAIR);
    pair.sides[1].policy = Policy::Stream;
    let source = Endless::new(size);
    let number = pair.send(0, Blob::from_source("film", source.clone()));
    assert!(pair.run_until(ms(5_000), |pair| pair.is_sent(0, number)));
    let (_, all) = pair.chunks(1, 0);
    assert!(all.len() as u64 == size && all.iter().enumerate().all(|(at, byte)| *byte == Endless::byte(at as u64)));
    assert_eq!(*source.largest.lock().unwrap(), 256 * 1024, "no more than that is in memory");
}

#[test]
fn a_source_that_fails_is_told_on_both_sides() {
    for (digest, fails_at) in [(None, 100_000), (Some(Digest::of(b"")), 100_000)] {
        let mut pair = Pair::new(FAIR);
        let source = Endless { fails_at, ..Endless::new(200_000) };
        let mut blob = Blob::from_source("film", source);
        if let Some(digest) = digest {
            blob = blob.digest(digest);
        }
        let number = pair.send(0, blob);
        pair.run(ms(1_000));
        assert_eq!(pair.failure(0, BlobId::Out(number)), Some(Failure::Unreadable("the disk is gone".into())));
        let there = pair.failure(1, BlobId::In(0));
        // Without a digest it was read before it was offered.
        assert_eq!(matches!(there, Some(Failure::Unreadable(_))), digest.is_some(), "{there:?}");
    }
}

#[test]
fn what_is_not_what_was_offered_is_damaged_on_both_sides() {
    for policy in [Policy::Whole, Policy::Stream] {
        let mut pair = Pair::new(FAIR);
        pair.sides[1].policy = policy;
        let number = pair.send(0, Blob::new("level", content(100_000, 3)).digest(Digest::of(b"another")));
        pair.run(ms(1_000));
        assert_eq!(pair.failure(0, BlobId::Out(number)), Some(Failure::Damaged));
        assert_eq!(pair.failure(1, BlobId::In(0)), Some(Failure::Damaged));
        assert_eq!(pair.received(1).len(), 0);
    }
}

#[test]
fn the_receiver_says_how_large_and_how_many() {
    let config = BulkConfig { max_size: 1_000, max_incoming: 2, ..BulkConfig::default() };
    let mut pair = Pair::with(FAIR, config.clone());
    let large = pair.send(0, Blob::new("large", vec![0; 1_001]));
    pair.run(ms(200));
    let failure = pair.failure(0, BlobId::Out(large));
    assert_eq!(failure, Some(Failure::Refused(Refusal::TooLarge { limit: 1_000 })));
    // More than it takes at once: they wait for each other, and all arrive.
    let numbers: Vec<u64> = (0..6).map(|n| pair.send(0, Blob::new("small", vec![n; 1_000]))).collect();
    assert!(pair.run_until(ms(3_000), |pair| numbers.iter().all(|number| pair.is_sent(0, *number))));
    let mut received = pair.received(1);
    received.sort();
    assert_eq!(received, (0..6).map(|n| vec![n; 1_000]).collect::<Vec<_>>());
    // Where none is taken at all, waiting does not help.
    let mut pair = Pair::with(FAIR, BulkConfig { max_incoming: 0, ..config });
    let none = pair.send(0, Blob::new("small", "x"));
    pair.run(ms(200));
    assert_eq!(pair.failure(0, BlobId::Out(none)), Some(Failure::Refused(Refusal::TooMany { limit: 0 })));
}

#[test]
fn what_is_refused_fails_on_both_sides_with_the_reason() {
    for refusal in [Refusal::Unwanted, Refusal::Busy] {
        let mut pair = Pair::new(FAIR);
        pair.sides[1].policy = Policy::Ask;
        let number = pair.send(0, Blob::new("level", "x"));
        pair.run(ms(100));
        pair.give(1, Input::Refuse(0, refusal));
        pair.run(ms(100));
        assert_eq!(pair.failure(0, BlobId::Out(number)), Some(Failure::Refused(refusal)));
        assert_eq!(pair.failure(1, BlobId::In(0)), Some(Failure::Cancelled));
    }
}

#[test]
fn either_side_may_cancel_at_any_time() {
    // In line, being read, offered, under way, all sent; and by the receiver when it has heard of it.
    for (at, canceller) in [0, 15, 30, 45, 70, 120, 200].into_iter().flat_map(|at| [(at, 0), (at, 1)]) {
        let mut pair = Pair::new(FAIR);
        let number = pair.send(0, Blob::new("level", content(600_000, 4)));
        let other = pair.send(0, Blob::new("other", content(300_000, 5)));
        pair.run(ms(at));
        pair.give(canceller, Input::Cancel([BlobId::Out(number), BlobId::In(0)][canceller]));
        pair.run(ms(2_000));
        assert!(pair.is_sent(0, other), "the other one is not hurt");
        let ends = [pair.failure(0, BlobId::Out(number)), pair.failure(1, BlobId::In(0))];
        match (canceller, pair.is_sent(0, number)) {
            // It was over, or the receiver had not heard of it.
            (_, true) => assert!(ends == [None, None] && pair.received(1).len() == 2, "{at} {ends:?}"),
            (0, false) => {
                assert_eq!(ends[0], Some(Failure::Cancelled));
                assert!(matches!(ends[1], Some(Failure::CancelledByPeer) | None), "{at} {ends:?}");
            }
            (_, false) => assert_eq!(ends, [Some(Failure::CancelledByPeer), Some(Failure::Cancelled)], "{at}"),
        }
        assert_eq!(pair.sides.each_ref().map(|side| side.malformed), [None, None]);
    }
}

#[test]
fn several_share_the_path_fairly_and_a_small_one_does_not_wait_for_a_large_one() {
    let mut pair = Pair::new(FAIR);
    let large: Vec<u64> = (0..3).map(|n| pair.send(0, Blob::new("large", content(1_000_000, n)))).collect();
    pair.run(ms(300));
    let small = pair.send(0, Blob::new("small", content(20_000, 9)));
    let begun = pair.now;
    assert!(pair.run_until(ms(5_000), |pair| large.iter().all(|number| pair.is_sent(0, *number))));
    let ends: Vec<Duration> = large.iter().map(|&number| pair.end(0, BlobId::Out(number)).unwrap().0).collect();
    let (first, last) = (*ends.iter().min().unwrap(), *ends.iter().max().unwrap());
    assert!(last - first < last / 10, "{ends:?}");
    let (at, _) = pair.end(0, BlobId::Out(small)).unwrap();
    assert!(at - begun < ms(400), "{:?}", at - begun);
}

#[test]
fn both_directions_go_at_once() {
    let mut pair = Pair::new(FAIR);
    let [there, back] = [content(1_000_000, 1), content(1_000_000, 2)];
    let numbers = [pair.send(0, Blob::new("a", there.clone())), pair.send(1, Blob::new("b", back.clone()))];
    assert!(pair.run_until(ms(2_000), |pair| pair.is_sent(0, numbers[0]) && pair.is_sent(1, numbers[1])));
    assert_eq!((pair.received(1), pair.received(0)), (vec![there], vec![back]));
}

#[test]
fn what_the_game_does_not_take_does_not_come() {
    let config = BulkConfig { receive_window: 100_000, ..BulkConfig::default() };
    let mut pair = Pair::with(FAIR, config);
    (pair.sides[1].policy, pair.sides[1].takes) = (Policy::Stream, false);
    let bytes = content(1_000_000, 6);
    let number = pair.send(0, Blob::new("replay", bytes.clone()));
    pair.run(ms(3_000));
    let waiting = pair.chunks(1, 0).1.len();
    assert!((98_000..=100_000).contains(&waiting), "{waiting}");
    assert!(pair.sides[1].untaken < 100, "and not in many small pieces: {}", pair.sides[1].untaken);
    // Now it takes one after the other, slowly.
    while !pair.is_sent(0, number) {
        let before = pair.chunks(1, 0).1.len();
        for _ in 0..10 {
            pair.take(1, 1);
            pair.run(ms(20));
        }
        assert!(pair.sides[1].untaken == 0 || pair.chunks(1, 0).1.len() > before || before > 0);
        assert!(pair.now < Duration::from_secs(60));
    }
    assert_eq!(pair.chunks(1, 0), (0, bytes.to_vec()));
}

#[test]
fn ends_that_the_game_does_not_take_count_as_blobs() {
    let config = BulkConfig { max_incoming: 2, ..BulkConfig::default() };
    let mut pair = Pair::with(FAIR, config);
    pair.sides[1].takes = false;
    let numbers: Vec<u64> = (0..4).map(|n| pair.send(0, Blob::new("small", vec![n; 10]))).collect();
    pair.run(ms(1_000));
    assert_eq!(pair.received(1).len(), 2);
    pair.take(1, usize::MAX);
    let more = pair.send(0, Blob::new("small", "x"));
    pair.run(ms(1_000));
    assert!(pair.is_sent(0, more));
    let failed = numbers.iter().filter(|&&number| pair.failure(0, BlobId::Out(number)).is_some()).count();
    let sent = numbers.iter().filter(|&&number| pair.is_sent(0, number)).count();
    assert_eq!(failed + sent, 4, "none is forgotten");
}

#[test]
fn the_line_is_bounded_and_what_cannot_be_said_is_not_sent() {
    let mut pair = Pair::with(FAIR, BulkConfig { queue: 5, ..BulkConfig::default() });
    let numbers: Vec<u64> = (0..6).map(|_| pair.send(0, Blob::new("small", content(10_000, 1)))).collect();
    let full = Failure::Unsendable(Unsendable::QueueFull { limit: 5 });
    assert_eq!(pair.failure(0, BlobId::Out(numbers[5])), Some(full));
    let nameless = pair.send(0, Blob::new("", "x"));
    assert!(matches!(pair.failure(0, BlobId::Out(nameless)), Some(Failure::Unsendable(_))));
    pair.run(ms(2_000));
    assert!(numbers[..5].iter().all(|&number| pair.is_sent(0, number)));
    let wordy = pair.send(0, Blob::new("x", "x").metadata(vec![0; MAX_METADATA + 1]));
    assert_eq!(pair.failure(0, BlobId::Out(wordy)), Some(Failure::Unsendable(Unsendable::Metadata)));
    pair.disconnect();
    let late = pair.send(0, Blob::new("x", "x"));
    assert_eq!(pair.failure(0, BlobId::Out(late)), Some(Failure::Disconnected));
}
