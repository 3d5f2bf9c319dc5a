//! Whatever is called in whatever order, and however often the link breaks: a blob arrives whole and equal once, or both
//! sides are told that it failed.

use std::collections::BTreeMap;

use bytes::Bytes;
use coplay_proto::{
    bulk::{Blob, BlobId, BulkConfig, Fact, Failure, Input, Refusal},
    conditioner::Conditions,
    rng::Rng,
};
use proptest::prelude::*;

use crate::pair::{Pair, Policy, cases, content, ms};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// What became of one blob that was sent, by the name that only it has.
#[derive(Debug, Default)]
struct Fate {
    bytes: Bytes,
    /// The ends that its sender was told of.
    sender: Vec<Fact>,
    /// Its offers, and the ends that the receiver was told of, link by link.
    receiver: Vec<Fact>,
    offered: usize,
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn a_blob_arrives_whole_and_once_or_fails_on_both_sides(seed in any::<u64>()) {
        let rng = &mut Rng::new(seed);
        let config = BulkConfig {
            max_size: 150_000,
            max_incoming: 1 + rng.below(4) as usize,
            max_whole: [0, 50_000, 1 << 20][rng.below(3) as usize],
            receive_window: 20_000 << rng.below(4),
            queue: 4 + rng.below(8) as usize,
            window: 10_000 << rng.below(6),
            ..BulkConfig::default()
        };
        let bandwidth = Some(100_000 << rng.below(5));
        let conditions = Conditions { latency: ms(rng.below(60)), jitter: ms(rng.below(10)), bandwidth, ..Conditions::PERFECT };
        let mut pair = Pair::with(conditions, config);
        for side in &mut pair.sides {
            side.policy = [Policy::Whole, Policy::Stream, Policy::Ask][rng.below(3) as usize];
            side.takes = rng.chance(0.5);
        }
        let mut fates: [BTreeMap<u64, Fate>; 2] = Default::default();
        let mut numbers: [Vec<u64>; 2] = Default::default();
        // By side: where in its facts this link began, and how the peer's numbers map to the sender's.
        let mut read = [0, 0];
        let mut names: [BTreeMap<u64, u64>; 2] = Default::default();
        for step in 0..60 {
            let side = rng.below(2) as usize;
            match rng.below(12) {
                0..=3 if pair.connected => {
                    let size = [0, 1, 1_023, 5_000, 40_000, 120_000, 160_000][rng.below(7) as usize];
                    let bytes = content(size, rng.next_u64());
                    // It is sent under its number, which is its name, too.
                    let number = numbers.iter().map(Vec::len).sum::<usize>() as u64 + 1;
                    let sent = pair.send(side, Blob::new(number.to_string(), bytes.clone()));
                    prop_assert_eq!(sent, number);
                    numbers[side].push(number);
                    fates[side].insert(number, Fate { bytes, ..Fate::default() });
                }
                4 => {
                    if let Some(&number) = numbers[side].get(rng.below(numbers[side].len() as u64) as usize) {
                        pair.give(side, Input::Cancel(BlobId::Out(number)));
                    }
                }
                5 => pair.give(side, Input::Cancel(BlobId::In(rng.below(6)))),
                6 => {
                    let offers = pair.offers(side);
                    for offer in offers.iter().rev().take(3) {
                        if rng.chance(0.7) {
                            pair.accept(side, offer, rng.chance(0.3));
                        } else {
                            pair.give(side, Input::Refuse(offer.number, Refusal::Unwanted));
                        }
                    }
                }
                7 => pair.take(side, rng.below(20) as usize),
                8 if rng.chance(0.4) && pair.connected => pair.disconnect(),
                9 if !pair.connected => {
                    note(&pair, &mut read, &mut names, &mut fates);
                    names = Default::default();
                    pair.connect();
                }
                _ => {}
            }
            pair.run(ms(rng.below(200)));
            let _ = step;
            prop_assert_eq!(pair.sides.each_ref().map(|side| side.malformed), [None, None], "both are honest");
        }
        if rng.chance(0.5) {
            // All is answered and taken, and there is time.
            for _ in 0..200 {
                for side in [0, 1] {
                    for offer in pair.offers(side) {
                        pair.accept(side, &offer, false);
                    }
                    pair.take(side, usize::MAX);
                }
                pair.run(ms(500));
            }
        } else if pair.connected {
            pair.disconnect();
        }
        note(&pair, &mut read, &mut names, &mut fates);
        for (number, fate) in fates.iter().flatten() {
            let [end] = &fate.sender[..] else { panic!("blob {number} ends {:?}", fate.sender) };
            let arrived = fate.receiver.iter().filter(|end| matches!(end, Fact::Received { .. })).count();
            // Each offer that the receiver was told of has its end there.
            prop_assert_eq!(fate.receiver.len(), fate.offered, "blob {}: {:?}", number, fate.receiver);
            match end {
                Fact::Sent { .. } => prop_assert_eq!(arrived, 1),
                // The word that all is there may be lost with the link, or come when the sender has cancelled it.
                Fact::Failed { failure: Failure::Disconnected | Failure::Cancelled, .. } => prop_assert!(arrived <= 1),
                end => prop_assert_eq!(arrived, 0, "{:?}", end),
            }
        }
    }
}

/// Notes what the sides were told since, and that what arrived is what was sent.
fn note(pair: &Pair, read: &mut [usize; 2], names: &mut [BTreeMap<u64, u64>; 2], fates: &mut [BTreeMap<u64, Fate>; 2]) {
    for side in [0, 1] {
        let mut chunks: BTreeMap<u64, (u64, Vec<u8>)> = BTreeMap::new();
        for (_, fact) in &pair.sides[side].facts[read[side]..] {
            match (fact, fact.blob()) {
                (Fact::Offered(offer), _) => {
                    let number = offer.name.parse().unwrap();
                    names[side].insert(offer.number, number);
                    fates[1 - side].get_mut(&number).unwrap().offered += 1;
                }
                (Fact::Chunk { number, offset, bytes }, _) => {
                    let (next, all) = chunks.entry(*number).or_insert((*offset, Vec::new()));
                    assert_eq!(*next, *offset);
                    *next += bytes.len() as u64;
                    all.extend_from_slice(bytes);
                }
                (fact, BlobId::In(number)) if fact.is_last() => {
                    let fate = fates[1 - side].get_mut(&names[side][&number]).unwrap();
                    fate.receiver.push(fact.clone());
                    match fact {
                        Fact::Received { bytes: Some(bytes), .. } => assert_eq!(*bytes, fate.bytes),
                        Fact::Received { bytes: None, .. } => {
                            let all = chunks.remove(&number).map(|(_, all)| all).unwrap_or_default();
                            assert!(
                                fate.bytes.ends_with(&all),
                                "the chunks are its end, and its beginning came before"
                            );
                        }
                        _ => {}
                    }
                }
                (fact, BlobId::Out(number)) if fact.is_last() => {
                    fates[side].get_mut(&number).unwrap().sender.push(fact.clone());
                }
                _ => {}
            }
        }
        read[side] = pair.sides[side].facts.len();
    }
}
