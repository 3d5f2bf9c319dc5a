//! Do native sockets get on by the WebSockets of our signaling server where WebRTC does not connect them, and back?
#![cfg(not(target_arch = "wasm32"))]

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use bytes::Bytes;
use coplay_proto::{
    Lane, PeerId,
    link::{CloseReason, NoPath},
};
use coplay_signaling::{Config, Limits, Running, Signaling, Stun};
use coplay_socket::{
    IceTransportPolicy, PathKind, RelayPolicy, RoomEvent, SendError, SignalingState, Socket, SocketConfig, SocketEvent,
    connect, now,
};
use wire::Wire;

#[path = "common/wire.rs"]
mod wire;

const PATIENCE: Duration = Duration::from_secs(60);

fn server() -> Running {
    Signaling::spawn(Config::local().stun(Stun::Off)).expect("it starts")
}

/// WebRTC cannot work: only relayed paths are allowed, and there is no TURN server.
fn hopeless(url: String) -> SocketConfig {
    SocketConfig {
        ice_transport_policy: IceTransportPolicy::Relay,
        handshake_timeout: Duration::from_millis(500),
        relay_after: Duration::from_secs(1),
        ..SocketConfig::new(url)
    }
}

/// A socket that sends numbers reliably, as fast as it may, and takes those of the other.
struct Peer {
    socket: Box<dyn Socket>,
    other: Option<PeerId>,
    opened: u32,
    closed: Option<CloseReason>,
    sent: u32,
    received: u32,
    lost: bool,
    resumed: bool,
}

impl Peer {
    fn new(config: SocketConfig) -> Self {
        let socket = connect(config);
        Self { socket, other: None, opened: 0, closed: None, sent: 0, received: 0, lost: false, resumed: false }
    }

    fn turn(&mut self, speaks: bool) {
        while let Some(event) = self.socket.poll(now()) {
            match event {
                SocketEvent::Opened(peer) => {
                    self.opened += 1;
                    self.other = Some(peer);
                }
                SocketEvent::Received(_, Lane::Reliable, bytes) => {
                    let number = u32::from_be_bytes(bytes[..4].try_into().expect("four bytes"));
                    assert_eq!(number, self.received, "once each and in order");
                    self.received += 1;
                }
                SocketEvent::Closed(_, reason) => self.closed = Some(reason),
                SocketEvent::Failed(error) => panic!("{error}"),
                SocketEvent::Signaling(SignalingState::Lost { .. }) => self.lost = true,
                SocketEvent::Room(RoomEvent::Resumed) => self.resumed = true,
                _ => {}
            }
        }
        if let (Some(other), true) = (self.other, speaks) {
            let _ = self.socket.send(other, Lane::Unreliable, Bytes::from_static(b"state"));
            match self.socket.send(other, Lane::Reliable, Bytes::copy_from_slice(&self.sent.to_be_bytes())) {
                Ok(()) => self.sent += 1,
                Err(error) => assert_eq!(error, SendError::Full),
            }
        }
    }

    fn path(&self) -> Option<PathKind> {
        Some(self.socket.path(self.other?)?.kind)
    }
}

/// Turns both until `done`.
async fn until(what: &str, peers: &mut [Peer; 2], speak: bool, mut done: impl FnMut(&[Peer; 2]) -> bool) {
    let end = Instant::now() + PATIENCE;
    loop {
        peers.iter_mut().for_each(|peer| peer.turn(speak));
        if done(peers) {
            return;
        }
        assert!(Instant::now() < end, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
}

/// What was sent has arrived.
async fn settle(peers: &mut [Peer; 2]) {
    let sent = [peers[0].sent, peers[1].sent];
    until("everything to arrive", peers, false, |peers| [peers[1].received, peers[0].received] == sent).await;
    assert!(peers.iter().all(|peer| peer.closed.is_none() && peer.opened == 1));
}

/// The value of a metric.
fn metric(server: &Running, name: &str) -> u64 {
    let mut stream = TcpStream::connect(server.local_addr()).expect("it listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("it takes it");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it answers");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("coplay_{name} ")));
    line.map_or(0, |value| value.parse().expect("a number"))
}

#[tokio::test]
async fn a_pair_that_webrtc_cannot_connect_is_connected_all_the_same() {
    let server = server();
    let url = format!("{}/room", server.url());
    let mut peers = [(); 2].map(|()| Peer::new(hopeless(url.clone())));
    until("both to open", &mut peers, false, |peers| peers.iter().all(|peer| peer.opened == 1)).await;
    assert_eq!(peers[0].path(), Some(PathKind::WebSocket));
    until("a hundred each", &mut peers, true, |peers| peers.iter().all(|peer| peer.received >= 100)).await;
    settle(&mut peers).await;
    let path = peers[0].socket.path(peers[0].other.expect("open")).expect("known");
    assert!(path.bytes_sent >= 400 && path.bytes_received >= 400 && path.rtt.is_some(), "{path:?}");
    let reports = || metric(&server, "connected_ends_total{path=\"websocket\"}");
    until("both to report", &mut peers, false, |_| reports() == 2).await;
    assert!(metric(&server, "relayed_bytes_total{via=\"websocket\"}") > 2_000);
}

#[tokio::test]
async fn a_pair_that_may_not_relay_fails_with_the_reason_and_the_server_hears_of_it() {
    let limits = Limits { relay: None, ..Limits::default() };
    let off = Signaling::spawn(Config { limits, ..Config::local().stun(Stun::Off) }).expect("it starts");
    let on = server();
    for (server, relay) in [(&off, RelayPolicy::Allowed), (&on, RelayPolicy::Never)] {
        let url = format!("{}/room", server.url());
        let mut peers = [(); 2].map(|()| Peer::new(SocketConfig { relay, ..hopeless(url.clone()) }));
        until("both to fail", &mut peers, false, |peers| peers.iter().all(|peer| peer.closed.is_some())).await;
        let Some(CloseReason::NoPath(NoPath::NoRelay(tried))) = &peers[0].closed else {
            panic!("{:?}", peers[0].closed)
        };
        assert!(tried.contains("only relayed paths are allowed"), "{tried}");
        let reports = || metric(server, "failed_ends_total{code=\"no_relay\"}");
        until("both to report", &mut peers, false, |_| reports() == 2).await;
    }
}

#[tokio::test]
async fn a_pair_goes_over_to_webrtc_with_nothing_lost() {
    let server = server();
    let url = format!("{}/room", server.url());
    // By the relay at once, and by WebRTC as soon as it is there.
    let config = || SocketConfig {
        relay_after: Duration::ZERO,
        handshake_timeout: Duration::from_secs(20),
        ..SocketConfig::new(url.clone())
    };
    let mut peers = [(); 2].map(|()| Peer::new(config()));
    let mut relayed = false;
    until("both to have moved", &mut peers, true, |peers| {
        relayed |= peers.iter().any(|peer| peer.path() == Some(PathKind::WebSocket));
        peers.iter().all(|peer| peer.path() == Some(PathKind::Host) && peer.received > 50)
    })
    .await;
    assert!(relayed, "it was relayed at first");
    let before = [peers[0].received, peers[1].received];
    until("a hundred more", &mut peers, true, |peers| {
        peers.iter().zip(before).all(|(peer, before)| peer.received >= before + 100)
    })
    .await;
    settle(&mut peers).await;
    let path = peers[0].socket.path(peers[0].other.expect("open")).expect("known");
    assert!(path.bytes_received >= u64::from(peers[0].received) * 4, "both paths count: {path:?}");
    // And it is over with the relay.
    let frames = metric(&server, "relayed_frames_total");
    let more = peers[0].received + 100;
    until("a hundred more", &mut peers, true, |peers| peers[0].received >= more).await;
    assert!(metric(&server, "relayed_frames_total") <= frames + 4, "an ack perhaps");
}

#[tokio::test]
async fn a_signaling_connection_that_breaks_costs_a_relayed_pair_nothing() {
    let server = server();
    let wire = Wire::to(server.local_addr()).await.expect("a port is free");
    let only = |url| SocketConfig { relay: RelayPolicy::Only, ..SocketConfig::new(url) };
    let mut peers =
        [Peer::new(only(format!("ws://{}/room", wire.address))), Peer::new(only(format!("{}/room", server.url())))];
    for _ in 0..3 {
        let more = [peers[0].received + 50, peers[1].received + 50];
        until("fifty each", &mut peers, true, |peers| peers.iter().zip(more).all(|(peer, more)| peer.received >= more))
            .await;
        (peers[0].lost, peers[0].resumed) = (false, false);
        wire.cut();
        until("the seat to be taken again", &mut peers, true, |peers| peers[0].lost && peers[0].resumed).await;
    }
    settle(&mut peers).await;
}
