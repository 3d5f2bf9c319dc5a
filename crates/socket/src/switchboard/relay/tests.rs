//! Do both sides open by whatever hello gets through, and does nothing spoiled get in?

use super::*;

const A: PeerId = PeerId::from_u128(1);
const B: PeerId = PeerId::from_u128(2);
const NOW: Duration = Duration::ZERO;

fn side(me: PeerId, peer: PeerId) -> Relay {
    Relay::new(NOW, Attempt { peer, number: 1 }, me, "room".into(), false).expect("random")
}

/// Has a hello heard, and says whether that one opened by it and answers.
fn greet(from: &mut Relay, to: &mut Relay) -> (bool, bool) {
    let frame = RelayFrame::read(from.hello(NOW)).expect("a frame");
    let greeted = to.greeted(NOW, &frame.body);
    assert!(!greeted.anew && !greeted.direct);
    (greeted.opened, greeted.reply)
}

fn open() -> (Relay, Relay) {
    let (mut a, mut b) = (side(A, B), side(B, A));
    assert_eq!(greet(&mut a, &mut b), (false, true));
    assert_eq!(greet(&mut b, &mut a), (true, true));
    assert_eq!(greet(&mut a, &mut b), (true, false), "it has heard that A is open, and says no more");
    (a, b)
}

/// The body of what was sent, and its kind.
fn body(frame: Option<Bytes>) -> (FrameKind, Bytes) {
    let frame = RelayFrame::read(frame.expect("a frame")).expect("a frame");
    (frame.kind, frame.body)
}

#[test]
fn a_hello_that_is_lost_is_made_up_for() {
    // Both at once.
    let (mut a, mut b) = (side(A, B), side(B, A));
    let (first_of_a, first_of_b) = (body(Some(a.hello(NOW))), body(Some(b.hello(NOW))));
    assert!(b.greeted(NOW, &first_of_a.1).reply && a.greeted(NOW, &first_of_b.1).reply);
    assert_eq!(greet(&mut a, &mut b), (true, true));
    assert_eq!(greet(&mut b, &mut a), (true, false));
    // The last one is lost: B asks again.
    let (mut a, mut b) = (side(A, B), side(B, A));
    greet(&mut a, &mut b);
    greet(&mut b, &mut a);
    a.hello(NOW);
    assert!(a.is_open() && !b.is_open());
    assert_eq!(greet(&mut b, &mut a), (false, true));
    assert_eq!(greet(&mut a, &mut b), (true, false));
}

#[test]
fn who_begins_anew_is_noticed() {
    let (mut a, _b) = open();
    let mut again = side(B, A);
    let (_, hello) = body(Some(again.hello(NOW)));
    assert!(a.greeted(NOW, &hello).anew);
    let (_, direct) = body(Some(direct(A)));
    assert!(!a.greeted(NOW, &direct).direct, "that was from before it was open");
    assert!(side(A, B).greeted(NOW, &direct).direct);
}

#[test]
fn datagrams_come_over_with_their_lane_and_reliable_ones_once() {
    let (mut a, mut b) = open();
    a.out.push(NOW, DATAGRAM, Bytes::from_static(b"reliable"));
    let (kind, sealed) = body(a.next(NOW));
    assert_eq!(b.take(NOW, kind, &sealed), Ok(Heard::Datagram(Lane::Reliable, "reliable".into())));
    assert_eq!(b.take(NOW, kind, &sealed), Ok(Heard::Nothing), "a copy");
    a.out.rewind(NOW);
    let (kind, sealed) = body(a.next(NOW));
    assert_eq!(b.take(NOW, kind, &sealed), Ok(Heard::Nothing), "said again");
    let (kind, sealed) = body(b.ack());
    assert_eq!(a.take(NOW, kind, &sealed), Ok(Heard::Nothing));
    assert!(a.out.is_empty());
    let (kind, sealed) = body(b.unreliable(b"unreliable"));
    assert_eq!(a.take(NOW, kind, &sealed), Ok(Heard::Datagram(Lane::Unreliable, "unreliable".into())));
    for (what, heard) in [(READY, Heard::Ready), (MOVED, Heard::Moved), (FAREWELL, Heard::Farewell("why".into()))] {
        a.out.push(NOW, what, Bytes::from_static(b"why"));
        let (kind, sealed) = body(a.next(NOW));
        assert_eq!(b.take(NOW, kind, &sealed), Ok(heard));
    }
}

#[test]
fn what_cannot_be_opened_is_passed_over_and_then_the_peer_is_given_up() {
    let (mut a, mut b) = open();
    for n in 0..MAX_BAD - 1 {
        let garbage = vec![7; n as usize];
        assert_eq!(b.take(NOW, FrameKind::Unreliable, &garbage), Ok(Heard::Nothing));
    }
    let (kind, sealed) = body(a.unreliable(b"x"));
    assert!(matches!(b.take(NOW, kind, &sealed), Ok(Heard::Datagram(..))), "it hurts nothing else");
    assert!(b.take(NOW, FrameKind::Unreliable, b"garbage").is_err());
}

#[test]
fn what_the_peer_seals_need_not_make_sense() {
    for (kind, plain) in [
        (FrameKind::Unreliable, vec![]),
        (FrameKind::Unreliable, vec![0; 4]),
        (FrameKind::Unreliable, vec![0, 0, 0, 9, ACK]),
        (FrameKind::Unreliable, vec![0, 0, 0, 0, 9]),
        (FrameKind::Unreliable, vec![0; 5 + MAX_UNRELIABLE + 1]),
        (FrameKind::Reliable, vec![0; 8]),
        (FrameKind::Reliable, vec![0, 0, 0, 0, 9, 0, 0, 0, 0]),
        (FrameKind::Reliable, vec![0; 9 + MAX_RELIABLE + 1]),
    ] {
        let (_, mut b) = open();
        assert!(b.read(NOW, kind, &plain).is_err(), "{kind:?} {plain:.20?}");
    }
    for body in [&b""[..], &[VERSION, 0], &[VERSION + 1; 66], &[VERSION; 67]] {
        assert_eq!(side(A, B).greeted(NOW, body), Greeted::default());
        assert!(!asks(body));
    }
    let mut longest = side(A, B);
    longest.sealed = open().0.sealed;
    longest.out.push(NOW, DATAGRAM, vec![0; MAX_RELIABLE].into());
    let frame = longest.next(NOW).expect("a frame");
    assert_eq!(frame.len(), MAX_RELIABLE + OVERHEAD);
    assert!(RelayFrame::read(frame).is_some(), "the server takes it");
}
