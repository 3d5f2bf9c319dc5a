use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use super::*;
use crate::PathKind;

/// One way of the path.
const DELAY: Duration = Duration::from_millis(25);
/// A frame of a game.
const FRAME: Duration = Duration::from_millis(16);

/// Two sides, and a path between them that loses, delays and repeats; time goes by when something is due.
struct World {
    now: Instant,
    sides: [Connection; 2],
    /// By when they arrive: number, to which side, bytes.
    wire: BinaryHeap<Reverse<(Instant, u64, usize, Vec<u8>)>>,
    sent: u64,
    /// Of 1,000.
    loss: u64,
    jitter: u64,
    twice: bool,
    random: u64,
    events: [Vec<(Instant, Event)>; 2],
    received: [Vec<(Instant, Lane, Bytes)>; 2],
}

fn address(side: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1 + side as u8], 5000))
}

impl World {
    /// Both know their addresses; signaling takes no time, and nothing has been said.
    fn new(seed: u64, loss: u64) -> Self {
        let now = Instant::now();
        let identity = || Arc::new(Identity::new().expect("a certificate"));
        let sides = [true, false].map(|offers| Connection::new(now, identity(), offers).expect("randomness"));
        let mut world = Self {
            now,
            sides,
            wire: BinaryHeap::new(),
            sent: 0,
            loss,
            jitter: 0,
            twice: false,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            events: Default::default(),
            received: Default::default(),
        };
        for side in 0..2 {
            let local = Local { kind: PathKind::Host, address: address(side), base: address(side), rank: 0 };
            world.sides[side].add_local(now, local);
        }
        world
    }

    /// Offer and answer, with `change` of what is said.
    fn signal(&mut self, change: impl Fn(usize, String) -> String) {
        let offer = change(0, self.sides[0].describe().write(1));
        self.sides[1].accept(self.now, &offer).expect("an offer");
        let answer = change(1, self.sides[1].describe().write(2));
        self.sides[0].accept(self.now, &answer).expect("an answer");
        for side in 0..2 {
            let local = Local { kind: PathKind::Host, address: address(side), base: address(side), rank: 0 };
            let told = self.sides[side].tell(&local);
            let Some(Remote::Known(remote)) = Remote::read(&told) else { panic!("{told}") };
            let now = self.now;
            self.sides[1 - side].add_remote(now, remote);
        }
    }

    fn connected(seed: u64, loss: u64) -> Self {
        let mut world = Self::new(seed, loss);
        world.signal(|_, sdp| sdp);
        assert!(world.until(Duration::from_secs(20), Self::is_open), "{:?}", world.events);
        world
    }

    fn is_open(&self) -> bool {
        self.events.iter().all(|events| events.iter().any(|(_, event)| *event == Event::Open))
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 16
    }

    fn send(&mut self, side: usize, lane: Lane, bytes: Bytes) {
        self.sides[side].send(self.now, lane, &bytes);
        self.drain();
    }

    /// Takes what the sides have to say.
    fn drain(&mut self) {
        for side in 0..2 {
            while let Some(transmit) = self.sides[side].poll_transmit() {
                assert_eq!((transmit.from, transmit.to), (address(side), address(1 - side)));
                assert!(transmit.bytes.len() <= 1300, "{}", transmit.bytes.len());
                for _ in 0..1 + u64::from(self.twice) {
                    if self.random() % 1000 < self.loss {
                        continue;
                    }
                    let late = if self.jitter > 0 { self.random() % self.jitter } else { 0 };
                    self.sent += 1;
                    let at = self.now + DELAY + Duration::from_micros(late);
                    self.wire.push(Reverse((at, self.sent, 1 - side, transmit.bytes.to_vec())));
                }
            }
            while let Some(event) = self.sides[side].poll_event() {
                self.events[side].push((self.now, event));
            }
            while let Some((lane, bytes)) = self.sides[side].receive() {
                self.received[side].push((self.now, lane, bytes));
            }
        }
    }

    /// Lets time pass until `end`.
    fn run(&mut self, end: Instant) {
        self.until_at(end, |_| false);
    }

    fn until(&mut self, most: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + most;
        self.until_at(end, done)
    }

    fn until_at(&mut self, end: Instant, done: impl Fn(&Self) -> bool) -> bool {
        loop {
            self.drain();
            if done(self) {
                return true;
            }
            let arrival = self.wire.peek().map(|Reverse((at, ..))| *at);
            let [one, other] = &mut self.sides;
            let timers = [one.poll_timeout(), other.poll_timeout()];
            let Some(due) = timers.into_iter().flatten().chain(arrival).min().filter(|due| *due <= end) else {
                self.now = end;
                return false;
            };
            self.now = self.now.max(due);
            if arrival.is_some_and(|at| at <= self.now)
                && let Some(Reverse((_, _, to, bytes))) = self.wire.pop()
            {
                self.sides[to].handle_input(self.now, address(to), address(1 - to), &bytes);
            }
            for (side, timer) in timers.into_iter().enumerate() {
                if timer.is_some_and(|timer| timer <= self.now) {
                    self.sides[side].handle_timeout(self.now);
                }
            }
        }
    }

    /// When the side was told that both channels are open.
    fn opened_after(&self, since: Instant, side: usize) -> Duration {
        let open = self.events[side].iter().find(|(_, event)| *event == Event::Open).expect("open");
        open.0 - since
    }
}

/// The share `part` of them, sorted.
fn share(mut of: Vec<Duration>, part: f64) -> Duration {
    of.sort();
    of[((of.len() - 1) as f64 * part) as usize]
}

#[test]
fn a_connection_takes_no_more_than_the_round_trips_it_needs() {
    let mut world = World::new(1, 0);
    let begun = world.now;
    world.signal(|_, sdp| sdp);
    assert!(world.until(Duration::from_secs(5), World::is_open), "{:?}", world.events);
    // One of ICE, three of DTLS, and one and a half of SCTP, which begins half a one before DTLS ends on the other side.
    for side in 0..2 {
        let took = world.opened_after(begun, side);
        assert!(took <= DELAY * 2 * 11 / 2 + Duration::from_millis(5), "{side}: {took:?}");
    }
    assert!(world.until(Duration::from_secs(1), |world| {
        world.events.iter().all(|events| events.iter().any(|(_, event)| *event == Event::Reached))
    }));
    for side in 0..2 {
        let path = world.sides[side].path(world.now).expect("chosen");
        assert_eq!((path.kind, path.rtt), (PathKind::Host, Some(DELAY * 2)));
        assert_eq!(path.remote, format!("udp {} host", address(1 - side)));
    }
}

#[test]
fn it_is_made_all_the_same_where_packets_are_lost_late_or_come_twice() {
    let mut took = Vec::new();
    for seed in 0..150 {
        let mut world = World::new(seed, [50, 100, 200][seed as usize % 3]);
        world.jitter = [0, 5_000, 30_000][seed as usize / 3 % 3];
        world.twice = seed % 4 == 3;
        let begun = world.now;
        world.signal(|_, sdp| sdp);
        assert!(world.until(Duration::from_secs(8), World::is_open), "seed {seed}: {:?}", world.events);
        took.extend([world.opened_after(begun, 0), world.opened_after(begun, 1)]);
    }
    let (half, most) = (share(took.clone(), 0.5), share(took.clone(), 0.98));
    assert!(half <= Duration::from_millis(600), "{half:?}");
    assert!(most <= Duration::from_secs(3), "{most:?}");
}

/// Nobody but who has the certificate that was named is let in, whoever begins.
#[test]
fn another_certificate_than_the_one_that_was_named_is_refused() {
    for liar in 0..2 {
        for active in 0..2 {
            let mut world = World::new(3, 0);
            let other = Fingerprint::of(b"somebody else").to_string();
            let own = [0, 1].map(|side| world.sides[side].identity.fingerprint().to_string());
            world.signal(|side, mut sdp| {
                if side == 0 && active == 0 {
                    sdp = sdp.replace("a=setup:actpass", "a=setup:active");
                }
                if side == liar { sdp.replace(&own[side], &other) } else { sdp }
            });
            assert!(!world.until(Duration::from_secs(15), |world| {
                world.events.iter().flatten().any(|(_, event)| *event == Event::Open)
            }));
            let failed = world.events[1 - liar]
                .iter()
                .any(|(_, event)| matches!(event, Event::Failed(why) if why.contains("another certificate")));
            assert!(failed, "{liar} {active}: {:?}", world.events);
            world.send(liar, Lane::Reliable, Bytes::from_static(b"let me in"));
            world.run(world.now + Duration::from_secs(1));
            assert!(world.received.iter().all(Vec::is_empty));
        }
    }
}

/// `bytes` every frame each way, and how long each took.
fn stream(world: &mut World, bytes: usize, seconds: u64) -> (usize, [Vec<Duration>; 2]) {
    let end = world.now + Duration::from_secs(seconds);
    let began = world.now;
    let mut sent = 0;
    while world.now < end {
        for side in 0..2 {
            let mut datagram = vec![0; bytes];
            let at = (world.now - began).as_micros() as u64;
            datagram[..8].copy_from_slice(&at.to_le_bytes());
            world.send(side, Lane::Unreliable, datagram.into());
        }
        sent += 1;
        let next = world.now + FRAME;
        world.run(next);
    }
    world.run(end + Duration::from_secs(1));
    let took = [0, 1].map(|side| {
        let came = world.received[side].iter().filter(|(_, lane, _)| *lane == Lane::Unreliable);
        came.map(|(at, _, bytes)| {
            let sent: [u8; 8] = bytes[..8].try_into().expect("eight");
            *at - (began + Duration::from_micros(u64::from_le_bytes(sent)))
        })
        .collect()
    });
    (sent, took)
}

/// What `rtc-sctp` 0.21 held back for seconds (RFC 9260, section 7.2.3: a window of one packet after a timeout).
#[test]
fn datagrams_are_not_held_back_where_many_are_lost() {
    for (seed, bytes) in [(1, 480), (2, 480), (3, 1150)] {
        let mut world = World::connected(seed, 100);
        let (sent, took) = stream(&mut world, bytes, 60);
        for took in took {
            assert!(took.len() * 100 >= sent * 88, "{} of {sent}", took.len());
            let (p99, most) = (share(took.clone(), 0.99), share(took, 1.0));
            assert!(p99 <= DELAY + FRAME, "p99 {p99:?}");
            assert!(most <= DELAY + UNRELIABLE_AT_MOST, "{most:?}");
        }
    }
}

/// How long a datagram may wait here.
const UNRELIABLE_AT_MOST: Duration = Duration::from_millis(64);

#[test]
fn reliable_messages_arrive_once_and_in_order_and_soon_where_many_are_lost() {
    let mut world = World::connected(5, 100);
    let began = world.now;
    for number in 0..300u32 {
        world.send(0, Lane::Reliable, Bytes::copy_from_slice(&number.to_le_bytes()));
        let next = began + Duration::from_millis(200) * (number + 1);
        world.run(next);
    }
    world.run(world.now + Duration::from_secs(5));
    let came: Vec<u32> = world.received[1]
        .iter()
        .map(|(_, lane, bytes)| {
            assert_eq!(*lane, Lane::Reliable);
            u32::from_le_bytes(bytes[..].try_into().expect("four"))
        })
        .collect();
    assert_eq!(came, (0..300).collect::<Vec<_>>());
    let took = world.received[1]
        .iter()
        .zip(0u32..)
        .map(|((at, ..), number)| *at - (began + Duration::from_millis(200) * number));
    let p98 = share(took.collect(), 0.98);
    assert!(p98 <= Duration::from_millis(500), "{p98:?}");
}

#[test]
fn bulk_gets_through_beside_datagrams_and_does_not_hold_them_up() {
    let mut world = World::connected(6, 20);
    let mut left = 200;
    let mut took = 0;
    let began = world.now;
    while left > 0 {
        while left > 0 && world.sides[0].has_room() {
            world.send(0, Lane::Reliable, vec![left as u8; 16 * 1024].into());
            left -= 1;
        }
        world.send(0, Lane::Unreliable, Bytes::from_static(b"state"));
        took += 1;
        world.run(world.now + Duration::from_millis(5));
        assert!(world.now - began < Duration::from_secs(60), "{left} are left");
    }
    assert!(world.until(Duration::from_secs(20), |world| world.sides[0].is_idle()));
    let of = |lane: Lane| world.received[1].iter().filter(|(_, it, _)| *it == lane).count();
    assert_eq!(of(Lane::Reliable), 200);
    assert!(of(Lane::Unreliable) * 10 >= took * 9, "{} of {took}", of(Lane::Unreliable));
}

#[test]
fn messages_of_every_size_come_as_they_were() {
    let mut world = World::connected(7, 0);
    let sizes = [0, 1, 63, 1150, 1151, 16 * 1024];
    for size in sizes {
        world.send(1, Lane::Reliable, vec![7; size].into());
        world.send(1, Lane::Unreliable, vec![8; size.min(1150)].into());
    }
    world.run(world.now + Duration::from_secs(1));
    let of = |lane: Lane| -> Vec<Bytes> {
        world.received[0].iter().filter(|(_, it, _)| *it == lane).map(|(.., bytes)| bytes.clone()).collect()
    };
    assert_eq!(of(Lane::Reliable), sizes.map(|size| vec![7; size]));
    assert_eq!(of(Lane::Unreliable), sizes.map(|size| vec![8; size.min(1150)]));
}

#[test]
fn who_ends_it_is_heard_and_what_was_acked_is_not_lost() {
    let mut world = World::connected(8, 0);
    for number in 0..20 {
        world.send(0, Lane::Reliable, vec![number; 1000].into());
    }
    assert!(world.until(Duration::from_secs(2), |world| world.sides[0].is_idle()));
    let now = world.now;
    world.sides[0].close(now);
    assert!(world.until(Duration::from_millis(100), |world| {
        world.events[1].iter().any(|(_, event)| *event == Event::Closed)
    }));
    assert_eq!(world.received[1].len(), 20);
    assert!(world.sides[0].poll_timeout().is_none() && world.sides[1].poll_timeout().is_none());
}

#[test]
fn a_peer_that_falls_silent_is_given_up() {
    let mut world = World::connected(9, 0);
    world.run(world.now + Duration::from_secs(2));
    world.loss = 1000;
    let silent = world.now;
    assert!(world.until(Duration::from_secs(30), |world| {
        world.events.iter().all(|events| matches!(events.last(), Some((_, Event::Failed(_)))))
    }));
    let after = world.now - silent;
    assert!(after > Duration::from_secs(10) && after < Duration::from_secs(20), "{after:?}");
}

/// Rubbish, before, during and after the handshake, does no harm; neither do pieces of what was really sent.
#[test]
fn what_somebody_else_sends_does_no_harm() {
    let mut world = World::new(10, 0);
    let mut rubbish = Vec::new();
    for first in [0u8, 1, 2, 3, 20, 21, 22, 23, 24, 63, 64, 128, 255] {
        for length in [1usize, 12, 13, 14, 20, 25, 26, 60, 1200] {
            let mut bytes: Vec<u8> = (0..length).map(|_| world.random() as u8).collect();
            bytes[0] = first;
            // A record that looks like one, with anything in it.
            if length > 13 {
                bytes[1..11].copy_from_slice(&[0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9]);
                bytes[11..13].copy_from_slice(&((length - 13) as u16).to_be_bytes());
            }
            rubbish.push(bytes);
        }
    }
    // An alert in the clear ends a handshake, as it must; so that is not among it.
    rubbish.retain(|bytes| bytes[0] != 21);
    world.signal(|_, sdp| sdp);
    let mut open = false;
    for _ in 0..400 {
        let at = world.random() as usize % rubbish.len();
        for side in 0..2 {
            let (now, bytes) = (world.now, rubbish[at].clone());
            world.sides[side].handle_input(now, address(side), address(1 - side), &bytes);
            world.sides[side].handle_input(now, address(side), SocketAddr::from(([203, 0, 113, 9], 9)), &bytes);
        }
        world.run(world.now + Duration::from_millis(5));
        open |= world.is_open();
    }
    assert!(open, "{:?}", world.events);
    world.send(0, Lane::Reliable, Bytes::from_static(b"still"));
    world.run(world.now + Duration::from_millis(200));
    assert_eq!(world.received[1].len(), 1);
    assert!(world.events.iter().flatten().all(|(_, event)| !matches!(event, Event::Failed(_))), "{:?}", world.events);
}

#[test]
fn a_description_is_taken_once_and_only_if_it_fits_ours() {
    let mut world = World::new(11, 0);
    let offer = world.sides[0].describe().write(1);
    let now = world.now;
    assert!(matches!(world.sides[0].accept(now, &offer), Err(AcceptError::SameSetup)));
    world.signal(|_, sdp| sdp);
    assert!(matches!(world.sides[1].accept(now, &offer), Err(AcceptError::Again)));
    assert!(matches!(world.sides[1].accept(now, "v=0"), Err(AcceptError::Description(_))));
}
