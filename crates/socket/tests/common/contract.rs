//! What must every socket do, whatever it is made of? The same cases for each, native and in the browser.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use coplay_proto::{
    Lane, PeerId,
    link::CloseReason,
    signal::{ClientMessage, ServerMessage, Signal},
};
use coplay_socket::{
    Dialect, MAX_RELIABLE, MAX_UNRELIABLE, Path, Rendezvous, SendError, Signaller, SignallerEvent, Socket,
    SocketConfig, SocketEvent,
};

pub(crate) use blobs::*;
pub(crate) use handshakes::*;

#[path = "blobs.rs"]
mod blobs;
#[path = "changes.rs"]
mod changes;
#[path = "handshakes.rs"]
mod handshakes;

/// The longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the cases need of the place they run in.
#[allow(async_fn_in_trait, reason = "the cases run on one thread")]
pub(crate) trait Platform {
    /// A socket that enters the room that all of this platform's sockets enter.
    fn enter(&self) -> Box<dyn Socket>;
    /// The time, which may be virtual.
    fn now(&self) -> Duration;
    /// Lets time pass and others run, a little.
    async fn turn(&self);
    /// The room, for platforms whose sockets need signals to connect.
    fn rendezvous(&self) -> Option<&Rendezvous>;
    /// How large a blob is that takes a while, but not long.
    fn blob(&self) -> usize {
        1 << 20
    }
    /// The settings of its sockets, for cases that change some of them.
    fn config(&self) -> SocketConfig {
        SocketConfig::default()
    }
}

/// A socket and what came out of it.
pub(crate) struct Peer {
    pub(crate) socket: Box<dyn Socket>,
    pub(crate) me: Option<PeerId>,
    pub(crate) open: BTreeSet<PeerId>,
    pub(crate) closed: BTreeMap<PeerId, CloseReason>,
    pub(crate) received: Vec<(PeerId, Lane, Bytes)>,
}

impl Peer {
    pub(crate) fn new(socket: Box<dyn Socket>) -> Self {
        Self { socket, me: None, open: BTreeSet::new(), closed: BTreeMap::new(), received: Vec::new() }
    }

    pub(crate) fn id(&self) -> PeerId {
        self.me.expect("entered")
    }

    pub(crate) fn pump(&mut self, now: Duration) {
        while let Some(event) = self.socket.poll(now) {
            match event {
                SocketEvent::Entered(entered) => {
                    assert!(entered.members.contains(&entered.me), "{entered:?}");
                    self.me = Some(entered.me);
                }
                SocketEvent::Opened(peer) => assert!(self.open.insert(peer), "opened twice"),
                SocketEvent::Closed(peer, reason) => {
                    self.open.remove(&peer);
                    self.closed.insert(peer, reason);
                }
                SocketEvent::Received(peer, lane, bytes) => {
                    assert!(self.open.contains(&peer), "received from {peer}, which is not open");
                    self.received.push((peer, lane, bytes));
                }
                SocketEvent::Failed(error) => panic!("{error}"),
                SocketEvent::Leader(_) | SocketEvent::Room(_) | SocketEvent::Signaling(_) | SocketEvent::Mended(_) => {}
            }
        }
    }

    /// What came from a peer on a lane.
    pub(crate) fn from(&self, peer: PeerId, lane: Lane) -> Vec<Bytes> {
        let those = self.received.iter().filter(|(from, on, _)| *from == peer && *on == lane);
        those.map(|(_, _, bytes)| bytes.clone()).collect()
    }
}

/// Turns all peers until `done`; panics, saying `what` was waited for, if that takes too long.
pub(crate) async fn until<P: Platform>(
    platform: &P,
    what: &str,
    peers: &mut [&mut Peer],
    mut done: impl FnMut(&mut [&mut Peer]) -> bool,
) {
    let end = platform.now() + PATIENCE;
    loop {
        for peer in &mut *peers {
            peer.pump(platform.now());
        }
        if done(peers) {
            return;
        }
        assert!(platform.now() < end, "waited in vain: {what}");
        platform.turn().await;
    }
}

/// Peers that are all connected with each other.
pub(crate) async fn connected<P: Platform, const N: usize>(platform: &P) -> [Peer; N] {
    meet(platform, std::array::from_fn(|_| Peer::new(platform.enter()))).await
}

/// The same with these peers.
pub(crate) async fn meet<P: Platform, const N: usize>(platform: &P, mut peers: [Peer; N]) -> [Peer; N] {
    let mut all: Vec<&mut Peer> = peers.iter_mut().collect();
    until(platform, "all connected", &mut all, |all| all.iter().all(|peer| peer.open.len() == N - 1)).await;
    let ids: BTreeSet<PeerId> = peers.iter().map(Peer::id).collect();
    assert_eq!(ids.len(), N, "each has an id of its own");
    for peer in &peers {
        assert!(peer.open.iter().all(|other| ids.contains(other)) && !peer.open.contains(&peer.id()));
    }
    peers
}

/// Both lanes between `a` and `b` work in both directions. An unreliable datagram may be lost, so it is said again.
pub(crate) async fn talk<P: Platform>(platform: &P, a: &mut Peer, b: &mut Peer) {
    let (a_id, b_id) = (a.id(), b.id());
    a.received.clear();
    b.received.clear();
    a.socket.send(b_id, Lane::Reliable, Bytes::from_static(b"a reliable")).expect("open");
    b.socket.send(a_id, Lane::Reliable, Bytes::from_static(b"b reliable")).expect("open");
    until(platform, "both lanes deliver", &mut [a, b], |peers| {
        let [a, b] = peers else { unreachable!() };
        let _ = a.socket.send(b_id, Lane::Unreliable, Bytes::from_static(b"a unreliable"));
        let _ = b.socket.send(a_id, Lane::Unreliable, Bytes::from_static(b"b unreliable"));
        [(&b, a_id, "a"), (&a, b_id, "b")].into_iter().all(|(to, from, name)| {
            to.from(from, Lane::Reliable) == [format!("{name} reliable")]
                && to.from(from, Lane::Unreliable).contains(&Bytes::from(format!("{name} unreliable")))
        })
    })
    .await;
}

pub(crate) async fn opens_and_delivers_on_both_lanes(platform: &impl Platform) {
    let [mut a, mut b] = connected(platform).await;
    talk(platform, &mut a, &mut b).await;
}

pub(crate) async fn reliable_datagrams_arrive_once_and_in_order(platform: &impl Platform) {
    const COUNT: u32 = 900;
    let [mut a, mut b] = connected(platform).await;
    let (a_id, b_id) = (a.id(), b.id());
    // Small and large ones in turn, and far more than fits into any queue at once.
    let datagram = |n: u32| {
        let mut bytes = vec![n as u8; if n.is_multiple_of(3) { MAX_RELIABLE } else { 4 }];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        Bytes::from(bytes)
    };
    let mut next = 0;
    let mut full = false;
    until(platform, "all reliable datagrams", &mut [&mut a, &mut b], |peers| {
        let [a, b] = peers else { unreachable!() };
        while next < COUNT {
            match a.socket.send(b_id, Lane::Reliable, datagram(next)) {
                Ok(()) => next += 1,
                Err(error) => {
                    assert_eq!(error, SendError::Full);
                    full = true;
                    break;
                }
            }
        }
        b.received.len() >= COUNT as usize
    })
    .await;
    assert!(full, "nothing bounds what waits to be sent");
    let expected: Vec<Bytes> = (0..COUNT).map(datagram).collect();
    assert!(b.from(a_id, Lane::Reliable) == expected, "once each and in order");
}

pub(crate) async fn datagrams_up_to_the_lanes_limits_arrive(platform: &impl Platform) {
    let [mut a, mut b] = connected(platform).await;
    let (a_id, b_id) = (a.id(), b.id());
    for (lane, most) in [(Lane::Unreliable, MAX_UNRELIABLE), (Lane::Reliable, MAX_RELIABLE)] {
        let largest = Bytes::from((0..most).map(|n| (n % 251) as u8).collect::<Vec<u8>>());
        let too_large = Bytes::from(vec![0; most + 1]);
        let refused = a.socket.send(b_id, lane, too_large);
        assert_eq!(refused, Err(SendError::TooLarge { bytes: most + 1, most }));
        until(platform, "the largest datagram", &mut [&mut a, &mut b], |peers| {
            let [a, b] = peers else { unreachable!() };
            if lane == Lane::Unreliable || b.from(a_id, lane).is_empty() {
                let _ = a.socket.send(b_id, lane, largest.clone());
            }
            !b.from(a_id, lane).is_empty()
        })
        .await;
        assert!(b.from(a_id, lane).iter().all(|bytes| *bytes == largest));
    }
}

pub(crate) async fn nothing_is_sent_to_unknown_peers(platform: &impl Platform) {
    let [mut a, b] = connected(platform).await;
    let stranger = PeerId::from_u128(0x5eed);
    for lane in [Lane::Unreliable, Lane::Reliable] {
        let refused = a.socket.send(stranger, lane, Bytes::from_static(b"hello?"));
        assert_eq!(refused, Err(SendError::UnknownPeer));
    }
    a.socket.disconnect(stranger);
    assert_eq!(a.socket.path(stranger), None);
    drop(b);
}

pub(crate) async fn disconnecting_one_peer_leaves_the_others(platform: &impl Platform) {
    let [mut a, mut b, mut c] = connected(platform).await;
    let (a_id, b_id) = (a.id(), b.id());
    a.socket.disconnect(b_id);
    until(platform, "closed on both sides", &mut [&mut a, &mut b, &mut c], |peers| {
        let [a, b, _] = peers else { unreachable!() };
        a.closed.contains_key(&b_id) && b.closed.contains_key(&a_id)
    })
    .await;
    assert_eq!(a.closed[&b_id], CloseReason::Local);
    assert_eq!(b.closed[&a_id], CloseReason::Goodbye);
    assert_eq!(a.socket.send(b_id, Lane::Reliable, Bytes::from_static(b"late")), Err(SendError::UnknownPeer));
    talk(platform, &mut a, &mut c).await;
    talk(platform, &mut b, &mut c).await;
    assert!(c.closed.is_empty());
}

pub(crate) async fn a_dropped_socket_is_closed_on_every_other(platform: &impl Platform) {
    let [a, mut b, mut c] = connected(platform).await;
    let a_id = a.id();
    drop(a);
    until(platform, "closed on both others", &mut [&mut b, &mut c], |peers| {
        peers.iter().all(|peer| peer.closed.contains_key(&a_id))
    })
    .await;
    assert_eq!(b.closed[&a_id], CloseReason::Goodbye);
    talk(platform, &mut b, &mut c).await;
}

pub(crate) async fn what_was_sent_before_a_disconnect_arrives(platform: &impl Platform) {
    let [mut a, mut b] = connected(platform).await;
    let (a_id, b_id) = (a.id(), b.id());
    a.socket.send(b_id, Lane::Reliable, Bytes::from_static(b"goodbye")).expect("open");
    a.socket.disconnect(b_id);
    until(platform, "closed on both sides", &mut [&mut a, &mut b], |peers| {
        peers.iter().all(|peer| !peer.closed.is_empty())
    })
    .await;
    assert_eq!(b.from(a_id, Lane::Reliable), [&b"goodbye"[..]]);
}

pub(crate) async fn the_path_is_reported(platform: &impl Platform) {
    let [mut a, mut b] = connected(platform).await;
    talk(platform, &mut a, &mut b).await;
    let (a_id, b_id) = (a.id(), b.id());
    until(platform, "a path on both sides", &mut [&mut a, &mut b], |peers| {
        let [a, b] = peers else { unreachable!() };
        a.socket.path(b_id).is_some() && b.socket.path(a_id).is_some()
    })
    .await;
    let path = a.socket.path(b_id).expect("reported");
    let Path { local, remote, bytes_sent, bytes_received, .. } = path;
    assert!(!local.is_empty() && !remote.is_empty());
    assert!(bytes_sent >= 10 && bytes_received >= 10, "{bytes_sent} {bytes_received}");
}

/// Someone in the room who is no socket, and says what it likes.
pub(crate) struct Intruder {
    line: Box<dyn Signaller>,
    pub(crate) me: Option<PeerId>,
}

impl Intruder {
    pub(crate) fn enter(rendezvous: &Rendezvous) -> Self {
        let mut line = rendezvous.signaller();
        line.dial(Dialect::Matchbox.into());
        let mut intruder = Self { line, me: None };
        // What follows are offers, which come as soon as they may.
        if let Some(ServerMessage::IdAssigned(me)) = intruder.hear() {
            intruder.me = Some(me);
        }
        intruder
    }

    pub(crate) fn hear(&mut self) -> Option<ServerMessage> {
        loop {
            if let SignallerEvent::Message(message) = self.line.poll()? {
                return Some(message);
            }
        }
    }

    pub(crate) fn say(&mut self, receiver: PeerId, data: Signal) {
        self.line.send(ClientMessage::Signal { receiver, data });
    }
}

/// Descriptions that are none, from not at all to nearly.
pub(crate) fn garbage() -> Vec<String> {
    let head = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";
    vec![
        String::new(),
        "v=0".into(),
        "\0\u{ffff}v=0".into(),
        "x".repeat(100_000),
        format!("{head}m=application\r\na=fingerprint:"),
        format!("{head}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=fingerprint:sha-256 zz\r\n"),
        format!(
            "{head}a=fingerprint:sha-256 {}\r\na=ice-ufrag:\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n\
             c=IN IP4 0.0.0.0\r\na=mid:0\r\na=sctp-port:999999\r\na=setup:nobody\r\n",
            ["00"; 32].join(":"),
        ),
        format!("{head}m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=fingerprint:sha-256 00\r\nm=application 0 x y\r\n"),
    ]
}

/// Candidates that are none.
pub(crate) fn garbage_candidates() -> Vec<String> {
    vec![
        String::new(),
        "null".into(),
        "{}".into(),
        "[1,2".into(),
        r#"{"candidate":"candidate:nonsense","sdpMid":"0","sdpMLineIndex":0}"#.into(),
        r#"{"candidate":"candidate:1 1 udp 1 999.999.999.999 99999999 typ host","sdpMid":"9","sdpMLineIndex":70000}"#
            .into(),
        r#"{"candidate":"candidate:1 1 udp 1 127.0.0.1 9 typ host"}"#.into(),
        "y".repeat(10_000),
    ]
}

/// Signals that make no sense, from one who is in the room and from one who is not known: no open link suffers.
pub(crate) async fn garbage_signals_hurt_no_other_link(platform: &impl Platform) {
    let Some(rendezvous) = platform.rendezvous() else { return };
    let [mut a, mut b] = connected(platform).await;
    let (a_id, b_id) = (a.id(), b.id());
    for sdp in garbage() {
        let mut intruder = Intruder::enter(rendezvous);
        let it = intruder.me.expect("entered");
        for to in [a_id, b_id] {
            for candidate in garbage_candidates() {
                intruder.say(to, Signal::IceCandidate(candidate));
            }
            // `a` and `b` are to offer, so an offer is not theirs to take; the answer goes to their own offers.
            intruder.say(to, Signal::Offer(sdp.clone()));
        }
        let mut offered = BTreeSet::new();
        until(platform, "an offer from both", &mut [&mut a, &mut b], |_| {
            while let Some(message) = intruder.hear() {
                if let ServerMessage::Signal { sender, data: Signal::Offer(_) } = message {
                    offered.insert(sender);
                    intruder.say(sender, Signal::Answer(sdp.clone()));
                    intruder.say(sender, Signal::Answer(sdp.clone()));
                    for candidate in garbage_candidates() {
                        intruder.say(sender, Signal::IceCandidate(candidate));
                    }
                }
            }
            offered.len() == 2
        })
        .await;
        until(platform, "the intruder is closed", &mut [&mut a, &mut b], |peers| {
            peers.iter().all(|peer| matches!(peer.closed.get(&it), Some(CloseReason::Failed(_))))
        })
        .await;
    }
    talk(platform, &mut a, &mut b).await;
    assert!(a.open.contains(&b_id) && b.open.contains(&a_id));
}

/// The same to who is to answer: offers that are none, from one that was in the room before.
pub(crate) async fn garbage_offers_hurt_no_other_link(platform: &impl Platform) {
    let Some(rendezvous) = platform.rendezvous() else { return };
    let mut intruder = Intruder::enter(rendezvous);
    let it = intruder.me.expect("entered");
    let [mut a, mut b] = connected(platform).await;
    let to = a.id();
    for sdp in garbage() {
        for candidate in garbage_candidates() {
            intruder.say(to, Signal::IceCandidate(candidate));
        }
        intruder.say(to, Signal::Offer(sdp));
        a.closed.clear();
        until(platform, "the garbage is refused", &mut [&mut a, &mut b], |peers| {
            matches!(peers[0].closed.get(&it), Some(CloseReason::Failed(_)))
        })
        .await;
    }
    // An answer, and candidates, that nothing was asked for.
    intruder.say(to, Signal::Answer(garbage().pop().expect("some")));
    talk(platform, &mut a, &mut b).await;
}

/// One that enters and is silent is given up, with a reason that says what to do; the others do not wait for it.
pub(crate) async fn a_silent_peer_is_given_up(platform: &impl Platform) {
    let Some(rendezvous) = platform.rendezvous() else { return };
    let [mut a, mut b] = connected(platform).await;
    let mut intruder = Intruder::enter(rendezvous);
    let it = intruder.me.expect("entered");
    until(platform, "the silent peer is given up", &mut [&mut a, &mut b], |peers| {
        peers.iter().all(|peer| peer.closed.contains_key(&it))
    })
    .await;
    let CloseReason::Failed(reason) = &a.closed[&it] else { panic!("{:?}", a.closed[&it]) };
    assert!(reason.contains("never answered") && reason.contains("2 attempts"), "{reason}");
    let offers = std::iter::from_fn(|| intruder.hear())
        .filter(
            |message| matches!(message, ServerMessage::Signal { sender, data: Signal::Offer(_) } if *sender == a.id()),
        )
        .count();
    assert_eq!(offers, 2, "it was tried again");
    talk(platform, &mut a, &mut b).await;
}

/// Who leaves signaling stays connected; who comes afterwards is not met, and nobody is hurt.
pub(crate) async fn links_live_on_without_signaling(platform: &impl Platform) {
    let Some(rendezvous) = platform.rendezvous() else { return };
    let [mut a, mut b] = connected(platform).await;
    let (a_id, b_id) = (a.id(), b.id());
    rendezvous.cut(a_id);
    talk(platform, &mut a, &mut b).await;
    assert!(a.closed.is_empty() && b.closed.is_empty());
    b.socket.disconnect(a_id);
    until(platform, "closed on both sides", &mut [&mut a, &mut b], |peers| {
        peers.iter().all(|peer| !peer.closed.is_empty())
    })
    .await;
    // Now that nobody knows it by its old id, it comes back under a new one.
    until(platform, "connected again", &mut [&mut a, &mut b], |peers| {
        let [a, b] = peers else { unreachable!() };
        a.open.contains(&b_id) && b.open.contains(&a.id())
    })
    .await;
    assert_ne!(a.id(), a_id);
    talk(platform, &mut a, &mut b).await;
}
