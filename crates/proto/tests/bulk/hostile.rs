//! What a peer that means harm can do to a machine: end the link, and nothing else.

use std::time::Duration;

use bytes::Bytes;
use coplay_proto::{
    bulk::{Blob, BlobId, Bulk, BulkConfig, Fact, Input, MAX_MESSAGE, Output, Shelf},
    conditioner::Conditions,
    rng::Rng,
};
use proptest::prelude::*;

use crate::pair::{Pair, Policy, cases, content, ms};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// The limits of who suffers.
fn config() -> BulkConfig {
    BulkConfig {
        max_incoming: 3,
        max_size: 300_000,
        max_whole: 100_000,
        receive_window: 50_000,
        ..BulkConfig::default()
    }
}

/// Messages of both kinds, as an honest peer sends them: of its own blobs, and about those of the other.
fn talk(seed: u64) -> Vec<Bytes> {
    let mut pair = Pair::with(Conditions { latency: ms(10), ..Conditions::PERFECT }, config());
    pair.sides[0].policy = if seed.is_multiple_of(2) { Policy::Whole } else { Policy::Stream };
    for n in 0..4 {
        pair.send(0, Blob::new(format!("there {n}"), content(30_000 << n, seed + n)));
        pair.send(1, Blob::new(format!("back {n}"), content(30_000 << n, seed + n)));
    }
    pair.run(ms(150));
    pair.give(0, Input::Cancel(BlobId::Out(1)));
    pair.run(ms(2_000));
    pair.sides[0].sent.iter().map(|(_, bytes)| bytes.clone()).collect()
}

/// Drives a machine that gets these, whose game accepts all and takes nothing, and checks that it stays within its bounds.
fn suffer(messages: impl IntoIterator<Item = Bytes>) -> Option<&'static str> {
    let mut now = Duration::ZERO;
    let mut bulk = Bulk::new(now, config());
    for n in 0..4_u64 {
        bulk.handle(now, Input::Send(n, Blob::new("mine", content(30_000 << n, n))));
    }
    let (mut offered, mut waiting, mut facts, mut malformed) = (0, 0, 0, None);
    for bytes in messages {
        now += ms(1);
        bulk.handle(now, Input::Elapsed);
        bulk.handle(now, Input::Received(bytes));
        let mut outputs = 0;
        while let Some(output) = bulk.poll() {
            outputs += 1;
            assert!(outputs < 50, "one message makes a machine say {outputs} things");
            match output {
                Output::Fact(Fact::Offered(offer)) => {
                    offered += 1;
                    let input = Input::Accept { number: offer.number, stream: offer.number % 2 == 0, kept: None };
                    bulk.handle(now, input);
                }
                Output::Fact(Fact::Chunk { bytes, .. }) => {
                    waiting += bytes.len();
                    facts += 1;
                }
                Output::Fact(_) => {}
                Output::Keep(kept) => assert!(kept.received() <= 300_000),
            }
        }
        malformed = bulk.malformed();
        assert!(offered <= 3, "nobody takes what ended, so no more than three are ever told of");
        assert!(waiting <= 3 * 50_000 && facts <= 3 * 50, "{waiting} bytes in {facts} pieces wait");
        for _ in 0..1_000 {
            if bulk.transmit(now).is_none() {
                break;
            }
        }
        assert_eq!(bulk.transmit(now), None, "a machine that has done its work rests");
        assert!(bulk.under_way() <= 1 << 20);
    }
    malformed
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn random_bytes(seed in any::<u64>()) {
        let mut rng = Rng::new(seed);
        let messages = (0..30).map(|_| {
            let mut bytes: Vec<u8> = (0..rng.below(200)).map(|_| rng.next_u64() as u8).collect();
            // Most get past the first byte.
            if let Some(first) = bytes.first_mut().filter(|_| rng.chance(0.9)) {
                *first = 0x10 | [0, 1, 2, 8, 9, 10][rng.below(6) as usize];
            }
            if let Some(number) = bytes.get_mut(1).filter(|_| rng.chance(0.8)) {
                *number = rng.below(5) as u8;
            }
            Bytes::from(bytes)
        });
        suffer(messages.collect::<Vec<_>>());
    }

    #[test]
    fn an_honest_peers_messages_with_other_bits(seed in 0_u64..6, other in any::<u64>()) {
        let mut rng = Rng::new(other);
        suffer(talk(seed).into_iter().map(|bytes| {
            let mut bytes = bytes.to_vec();
            if rng.chance(0.1) {
                let reach = bytes.len().min(12) as u64;
                bytes[rng.below(reach) as usize] ^= 1 << rng.below(8);
            }
            if rng.chance(0.05) {
                bytes.truncate(rng.below(bytes.len() as u64) as usize);
            }
            bytes.into()
        }));
    }

    #[test]
    fn an_honest_peers_messages_in_any_order_and_number(seed in 0_u64..6, order in any::<u64>()) {
        let mut rng = Rng::new(order);
        let messages = talk(seed);
        suffer((0..messages.len() * 2).map(|_| messages[rng.below(messages.len() as u64) as usize].clone()));
    }
}

/// An offer of so many bytes.
fn offer(number: u8, size: u32) -> Bytes {
    let mut bytes = vec![0x10, number];
    let mut left = size;
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes.extend([0; 32]);
    bytes.extend([1, b'x']);
    bytes.into()
}

fn chunk(number: u8, size: usize) -> Bytes {
    [&[0x11, number][..], &vec![0; size]].concat().into()
}

#[test]
fn what_no_peer_does_is_named() {
    let cases: [(&[Bytes], &str); 12] = [
        (&[offer(0, 10), offer(0, 10)], "a blob is offered twice"),
        (&[chunk(0, 2_000)], "a chunk is of a blob that was not offered"),
        (&[offer(1, 2_000), chunk(1, 2_001)], "a blob is longer than it was said to be"),
        (&[offer(1, 9_000), chunk(1, 1_023)], "a chunk is smaller than any may be but the last"),
        (
            &[offer(0, 90_000), chunk(0, 16_000), chunk(0, 16_000), chunk(0, 16_000), chunk(0, 2_001)],
            "more of a blob comes than may",
        ),
        (&[Bytes::from_static(&[0x12, 0, 0])], "a blob is withdrawn that was not offered"),
        (&[Bytes::from_static(&[0x18, 9, 0, 9])], "a blob is accepted that was not offered"),
        (&[Bytes::from_static(&[0x18, 0, 9, 8])], "a blob is accepted beyond its end"),
        (&[Bytes::from_static(&[0x18, 0, 0, 9]), Bytes::from_static(&[0x18, 0, 0, 9])], "a blob is accepted twice"),
        (&[Bytes::from_static(&[0x19, 0, 0, 9])], "a blob has arrived that was not accepted"),
        (
            &[Bytes::from_static(&[0x18, 0, 0, 9]), Bytes::from_static(&[0x19, 0, 100, 9])],
            "more or less of a blob has arrived than was sent",
        ),
        (&[Bytes::from_static(&[0x1a, 0, 0])], "a blob is said to have come before it was sent"),
    ];
    for (messages, what) in cases {
        // An even number comes in chunks, which nobody takes.
        assert_eq!(suffer(messages.iter().cloned()), Some(what));
    }
    assert_eq!(
        suffer([Bytes::from(vec![0x11; MAX_MESSAGE + 1])]),
        Some("a message about blobs is longer than any may be")
    );
}

#[test]
fn what_an_offer_claims_is_not_set_aside() {
    // As much as may be is claimed, accepted, and a little of it sent. What is kept when the link breaks is that little.
    let mut bulk = Bulk::new(ms(0), BulkConfig { max_size: 1 << 40, max_whole: 1 << 40, ..BulkConfig::default() });
    bulk.handle(ms(0), Input::Received(offer(0, u32::MAX)));
    bulk.handle(ms(0), Input::Accept { number: 0, stream: false, kept: None });
    bulk.handle(ms(0), Input::Received(chunk(0, 16_000)));
    bulk.handle(ms(0), Input::Closed);
    let mut shelf = Shelf::default();
    while let Some(output) = bulk.poll() {
        if let Output::Keep(kept) = output {
            shelf.put(ms(0), kept);
        }
    }
    assert!((16_000..=64 * 1024 + 16_000).contains(&shelf.bytes()), "{}", shelf.bytes());
}

#[test]
fn one_who_asks_without_listening_is_cut_off() {
    // Each offer is too large, and has to be answered; the answers are never sent, as the socket is full.
    let mut bulk = Bulk::new(ms(0), config());
    let mut malformed = None;
    for number in 0..5_000_u64 {
        let mut bytes = vec![0x10];
        let mut left = number;
        while left >= 0x80 {
            bytes.push(left as u8 | 0x80);
            left >>= 7;
        }
        bytes.push(left as u8);
        bytes.extend([0xff, 0xff, 0xff, 0x7f]);
        bytes.extend([0; 32]);
        bytes.extend([1, b'x']);
        bulk.handle(ms(number), Input::Received(bytes.into()));
        if let Some(what) = bulk.malformed() {
            malformed.get_or_insert((number, what));
        }
    }
    assert_eq!(malformed, Some((1_024, "more is asked for than is listened to")));
}
