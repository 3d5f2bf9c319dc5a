use proptest::prelude::*;

use super::{
    packet::made::{indication, record, refusal, request, success},
    *,
};

const HERE: SocketAddr = address(1, 5000);
const HANDSHAKE: [u8; 2] = [22, 0];
const DATA: [u8; 2] = [23, 1];

const fn address(host: u8, port: u16) -> SocketAddr {
    SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::new(192, 0, 2, host), port))
}

/// How many datagrams came for it.
fn got(seat: &mut Seat) -> usize {
    std::iter::from_fn(|| seat.arrived.try_recv().ok()).count()
}

/// For which of them these bytes are that come from there.
fn takers<const N: usize>(demux: &Demux, seats: [&mut Seat; N], from: SocketAddr, bytes: &[u8]) -> [usize; N] {
    demux.arrived(HERE, from, bytes);
    seats.map(got)
}

/// Answers a request from there, as ICE does once it has verified it.
fn answer(seat: &mut Seat, to: SocketAddr) {
    seat.sends(to, &success(0));
}

fn dtls([content, epoch]: [u8; 2]) -> Vec<u8> {
    record(content, epoch)
}

#[test]
fn a_response_is_for_who_asked_wherever_it_comes_from() {
    let demux = Demux::default();
    let (mut a, mut b) = (demux.enter("a"), demux.enter("b"));
    a.sends(address(9, 1), &request(1, "x:a"));
    b.sends(address(9, 1), &request(2, "x:b"));
    assert_eq!(takers(&demux, [&mut a, &mut b], address(9, 1), &success(1)), [1, 0]);
    assert_eq!(takers(&demux, [&mut a, &mut b], address(9, 1), &success(2)), [0, 1]);
    assert_eq!(takers(&demux, [&mut a, &mut b], address(8, 1), &refusal(2)), [0, 1]);
    assert_eq!(takers(&demux, [&mut a, &mut b], address(9, 1), &success(3)), [0, 0]);
}

#[test]
fn a_request_is_for_whom_it_names() {
    let demux = Demux::default();
    let (mut a, mut b) = (demux.enter("aaaa"), demux.enter("bbbb"));
    assert_eq!(takers(&demux, [&mut a, &mut b], address(9, 1), &request(1, "aaaa:xxxx")), [1, 0]);
    assert_eq!(takers(&demux, [&mut a, &mut b], address(9, 1), &request(2, "bbbb:xxxx")), [0, 1]);
    for name in ["", ":", "aaa:xxxx", "aaaab:xxxx", "xxxx:aaaa"] {
        assert_eq!(takers(&demux, [&mut a, &mut b], address(9, 1), &request(3, name)), [0, 0], "{name:?}");
    }
    let Arrived { here, from, bytes } = {
        demux.arrived(HERE, address(9, 2), &request(4, "aaaa:xxxx"));
        a.arrived.try_recv().expect("it came")
    };
    assert_eq!((here, from, &bytes[..]), (HERE, address(9, 2), &request(4, "aaaa:xxxx")[..]));
}

#[test]
fn dtls_is_for_whom_its_address_was_verified_and_a_strangers_for_nobody() {
    let demux = Demux::default();
    let (mut a, mut b) = (demux.enter("a"), demux.enter("b"));
    let takers = |a: &mut Seat, b: &mut Seat, host, bytes: &[u8]| takers(&demux, [a, b], address(host, 7), bytes);
    assert_eq!(takers(&mut a, &mut b, 10, &dtls(HANDSHAKE)), [0, 0], "nobody knows it");
    answer(&mut a, address(10, 7));
    b.sends(address(11, 7), &dtls(HANDSHAKE));
    for packet in [dtls(HANDSHAKE), dtls(DATA), indication(5)] {
        assert_eq!(takers(&mut a, &mut b, 10, &packet), [1, 0]);
        assert_eq!(takers(&mut a, &mut b, 11, &packet), [0, 1]);
        assert_eq!(takers(&mut a, &mut b, 12, &packet), [0, 0]);
    }
    // The port is part of it.
    demux.arrived(HERE, address(10, 8), &dtls(DATA));
    assert_eq!(got(&mut a), 0);
}

#[test]
fn only_what_the_attempt_sends_makes_an_address_its_own() {
    let demux = Demux::default();
    let (mut a, mut b) = (demux.enter("a"), demux.enter("b"));
    let there = address(10, 7);
    answer(&mut a, there);
    // Whoever names b, or answers it, from there: until ICE has verified that, and b answers.
    b.sends(there, &request(1, "x:b"));
    assert_eq!(takers(&demux, [&mut a, &mut b], there, &request(2, "b:x")), [0, 1]);
    assert_eq!(takers(&demux, [&mut a, &mut b], there, &success(1)), [0, 1]);
    b.sends(there, &refusal(2));
    for packet in [dtls(HANDSHAKE), dtls(DATA), indication(3)] {
        assert_eq!(takers(&demux, [&mut a, &mut b], there, &packet), [1, 0]);
    }
}

#[test]
fn a_connection_carries_on_while_another_is_made_between_the_same_ports() {
    let demux = Demux::default();
    let there = address(10, 7);
    let (mut old, mut new) = (demux.enter("old"), demux.enter("new"));
    answer(&mut old, there);
    old.secured();
    answer(&mut new, there);
    // It answers checks, too, as before.
    answer(&mut old, there);
    let both = |old: &mut Seat, new: &mut Seat, bytes: &[u8]| takers(&demux, [old, new], there, bytes);
    assert_eq!(both(&mut old, &mut new, &dtls(HANDSHAKE)), [0, 1]);
    assert_eq!(both(&mut old, &mut new, &dtls(DATA)), [1, 0], "the other has no keys yet");
    new.secured();
    assert_eq!(both(&mut old, &mut new, &dtls(DATA)), [1, 1], "each drops what it has no keys for");
    assert_eq!(both(&mut old, &mut new, &dtls(HANDSHAKE)), [0, 1], "which may come again");
    drop(old);
    assert_eq!(takers(&demux, [&mut new], there, &dtls(DATA)), [1]);
    // Nor does one that ends in vain cost the other its address.
    let failed = demux.enter("failed");
    demux.table().has(failed.number, there);
    drop(failed);
    assert_eq!(takers(&demux, [&mut new], there, &dtls(HANDSHAKE)), [1]);
}

#[test]
fn who_has_a_connection_of_its_own_cannot_end_anothers_by_forging_its_address() {
    let demux = Demux::default();
    let there = address(10, 7);
    let (mut open, mut forger) = (demux.enter("open"), demux.enter("forger"));
    answer(&mut open, there);
    open.secured();
    // Its request is authentic, and its sender's address is not its own.
    answer(&mut forger, there);
    for _ in 0..3 {
        let [taken, _] = takers(&demux, [&mut open, &mut forger], there, &dtls(DATA));
        assert_eq!(taken, 1);
        forger.secured();
    }
}

#[test]
fn an_attempt_that_ends_leaves_nothing() {
    let demux = Demux::default();
    let mut stays = demux.enter("stays");
    answer(&mut stays, address(1, 1));
    let mut seat = demux.enter("goes");
    for number in 0..5 {
        seat.sends(address(2, 2), &request(number, "x:goes"));
        answer(&mut seat, address(3, number as u16));
    }
    answer(&mut seat, address(1, 1));
    drop(seat);
    let table = demux.table();
    assert_eq!((table.attempts.len(), table.ufrags.len(), table.transactions.len()), (1, 1, 0));
    assert_eq!(table.addresses.iter().collect::<Vec<_>>(), [(&address(1, 1), &vec![stays.number])]);
}

#[test]
fn what_is_kept_of_an_attempt_is_bounded_and_the_oldest_is_forgotten() {
    let demux = Demux::default();
    let mut a = demux.enter("a");
    for number in 0..=TRANSACTIONS as u32 {
        a.sends(address(9, 1), &request(number, "x:a"));
        // Asked again, it counts once.
        a.sends(address(9, 1), &request(number, "x:a"));
    }
    assert_eq!(takers(&demux, [&mut a], address(9, 1), &success(0)), [0]);
    assert_eq!(takers(&demux, [&mut a], address(9, 1), &success(1)), [1]);
    assert_eq!(demux.table().transactions.len(), TRANSACTIONS);
    let used = address(200, 1);
    answer(&mut a, used);
    for port in 0..ADDRESSES as u16 {
        answer(&mut a, address(10, port));
        a.sends(used, &dtls(DATA));
    }
    assert_eq!(takers(&demux, [&mut a], used, &dtls(DATA)), [1], "it is in use");
    assert_eq!(takers(&demux, [&mut a], address(10, 0), &dtls(DATA)), [0]);
    assert_eq!(takers(&demux, [&mut a], address(10, 1), &dtls(DATA)), [1]);
    assert_eq!(demux.table().addresses.len(), ADDRESSES);
    for _ in 0..QUEUE + 9 {
        demux.arrived(HERE, used, &dtls(DATA));
    }
    assert_eq!(got(&mut a), QUEUE);
}

#[test]
fn a_flood_for_one_leaves_the_others_their_room() {
    let demux = Demux::default();
    let (mut a, mut b) = (demux.enter("a"), demux.enter("b"));
    for _ in 0..2 * QUEUE {
        demux.arrived(HERE, address(9, 1), &request(1, "a:x"));
    }
    assert_eq!(takers(&demux, [&mut a, &mut b], address(9, 1), &request(2, "b:x")), [QUEUE, 1]);
}

proptest! {
    /// Whatever comes changes nothing that is kept.
    #[test]
    fn what_comes_changes_nothing(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..32)) {
        let demux = Demux::default();
        let mut a = demux.enter("a");
        answer(&mut a, address(10, 7));
        for bytes in &datagrams {
            demux.arrived(HERE, address(10, 7), bytes);
            demux.arrived(HERE, address(11, 7), bytes);
        }
        let table = demux.table();
        prop_assert_eq!((table.attempts.len(), table.transactions.len(), table.addresses.len()), (1, 0, 1));
    }
}
