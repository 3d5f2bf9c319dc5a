//! Do all peers of a socket share one port, where it is given one?
#![cfg(not(target_arch = "wasm32"))]

use std::{
    cell::RefCell,
    net::{SocketAddr, UdpSocket},
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use contract::{Peer, Platform, connected, talk, until};
use coplay_proto::{
    Channel, Lane, PeerId,
    link::{LinkConfig, LinkEvent},
    signal::lobby::RoomCommand,
};
use coplay_signaling::{Config, EmbeddedTurn, Running, Signaling};
use coplay_socket::{
    IceTransportPolicy, Network, NetworkEvent, Path, PathKind, Rendezvous, SendError, Socket, SocketConfig,
    SocketEvent, Waker, connect, connect_by, now,
};

#[allow(dead_code, unused_imports, reason = "most of the cases run in another test")]
#[path = "common/contract.rs"]
mod contract;

/// A port that was free a moment ago.
fn free_port() -> RangeInclusive<u16> {
    let port = UdpSocket::bind("0.0.0.0:0").expect("a port").local_addr().expect("bound").port();
    port..=port
}

/// The defaults, but for a machine that is busy with other tests.
fn patient(url: &str) -> SocketConfig {
    SocketConfig { handshake_timeout: Duration::from_secs(20), ..SocketConfig::new(url) }
}

/// A room where the first to come, and every second one after it, has one port for all.
struct Room {
    place: Place,
    policy: IceTransportPolicy,
    ports: RefCell<Vec<Option<u16>>>,
}

enum Place {
    Memory(Rendezvous),
    Server(Running),
}

impl Room {
    fn new(place: Place, policy: IceTransportPolicy) -> Self {
        Self { place, policy, ports: RefCell::default() }
    }

    /// The port of the socket that came so many others after the first.
    fn port(&self, number: usize) -> Option<u16> {
        self.ports.borrow()[number]
    }
}

impl Platform for Room {
    fn enter(&self) -> Box<dyn Socket> {
        let mut ports = self.ports.borrow_mut();
        let udp_ports = ports.len().is_multiple_of(2).then(free_port);
        ports.push(udp_ports.as_ref().map(|ports| *ports.start()));
        let config = |url: &str| SocketConfig { udp_ports, ice_transport_policy: self.policy, ..patient(url) };
        match &self.place {
            Place::Memory(rendezvous) => connect_by(config(""), rendezvous.signaller()),
            Place::Server(server) => connect(config(&format!("{}/room", server.url()))),
        }
    }

    fn now(&self) -> Duration {
        now()
    }

    async fn turn(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    fn rendezvous(&self) -> Option<&Rendezvous> {
        None
    }
}

/// The address in `udp 192.0.2.7:5000 host`.
fn address(side: &str) -> SocketAddr {
    side.split(' ').nth(1).and_then(|address| address.parse().ok()).expect("udp ADDRESS KIND")
}

async fn path(room: &Room, peer: &mut Peer, to: PeerId) -> Path {
    until(room, "a path", &mut [&mut *peer], |peers| peers[0].socket.path(to).is_some()).await;
    peer.socket.path(to).expect("just now")
}

#[tokio::test]
async fn eight_others_meet_a_socket_at_its_one_port() {
    let room = Room::new(Place::Memory(Rendezvous::new()), IceTransportPolicy::All);
    let mut peers: [Peer; 9] = connected(&room).await;
    let [host, others @ ..] = &mut peers;
    for (other, number) in others.iter_mut().zip(1..) {
        talk(&room, host, other).await;
        let (host_id, other_id) = (host.id(), other.id());
        for (peer, to, number) in [(&mut *host, other_id, 0), (&mut *other, host_id, number)] {
            let local = address(&path(&room, peer, to).await.local).port();
            match room.port(number) {
                Some(port) => assert_eq!(local, port, "socket {number}"),
                None => assert_ne!(Some(local), room.port(0)),
            }
        }
    }
    // One leaves, and comes again: the others hear nothing of it, and the port is as good as before.
    let (host_id, gone) = (host.id(), others[0].id());
    others[0].socket.disconnect(host_id);
    until(&room, "closed", &mut [&mut *host], |peers| peers[0].closed.contains_key(&gone)).await;
    let [_, second, third, ..] = others;
    talk(&room, host, second).await;
    talk(&room, host, third).await;
    let mut late = Peer::new(room.enter());
    until(&room, "the late one", &mut [&mut *host, &mut late], |peers| peers[1].open.contains(&host_id)).await;
    talk(&room, host, &mut late).await;
}

#[tokio::test]
async fn relays_of_peers_that_share_a_port_do_not_disturb_each_other() {
    let server = Signaling::spawn(Config::local().embedded_turn(EmbeddedTurn::default())).expect("a server");
    let room = Room::new(Place::Server(server), IceTransportPolicy::Relay);
    let mut peers: [Peer; 3] = connected(&room).await;
    let [host, others @ ..] = &mut peers;
    for other in others {
        talk(&room, host, other).await;
        let path = path(&room, host, other.id()).await;
        assert_eq!((path.kind, path.local.ends_with("relay")), (PathKind::Relay, true), "{path:?}");
    }
}

#[tokio::test]
async fn who_drops_a_socket_and_connects_anew_has_the_same_port_again() {
    let rendezvous = Rendezvous::new();
    let ports = free_port();
    let mut other = Peer::new(connect_by(patient(""), rendezvous.signaller()));
    let room = Room::new(Place::Memory(rendezvous.clone()), IceTransportPolicy::All);
    for _ in 0..3 {
        let config = SocketConfig { udp_ports: Some(ports.clone()), ..patient("") };
        let mut one = Peer::new(connect_by(config, rendezvous.signaller()));
        until(&room, "connected", &mut [&mut one, &mut other], |peers| {
            let [one, other] = peers else { unreachable!() };
            one.open.len() == 1 && one.me.is_some_and(|me| other.open.contains(&me))
        })
        .await;
        talk(&room, &mut one, &mut other).await;
        let path = path(&room, &mut one, other.id()).await;
        assert_eq!(address(&path.local).port(), *ports.start());
    }
}

/// A socket that can be made to doubt its peers, as when it heard nothing of them.
struct Doubting {
    socket: Box<dyn Socket>,
    doubt: Arc<AtomicBool>,
    mended: Arc<AtomicUsize>,
    open: Vec<PeerId>,
}

impl Socket for Doubting {
    fn poll(&mut self, now: Duration) -> Option<SocketEvent> {
        if self.doubt.swap(false, Ordering::Relaxed) {
            for peer in &self.open {
                self.socket.silence(*peer, true);
            }
        }
        let event = self.socket.poll(now);
        match &event {
            Some(SocketEvent::Opened(peer)) => self.open.push(*peer),
            Some(SocketEvent::Mended(_)) => _ = self.mended.fetch_add(1, Ordering::Relaxed),
            _ => {}
        }
        event
    }

    fn send(&mut self, peer: PeerId, lane: Lane, bytes: Bytes) -> Result<(), SendError> {
        self.socket.send(peer, lane, bytes)
    }

    fn buffered(&self, peer: PeerId) -> usize {
        self.socket.buffered(peer)
    }

    fn disconnect(&mut self, peer: PeerId) {
        self.socket.disconnect(peer);
    }

    fn silence(&mut self, peer: PeerId, silent: bool) {
        self.socket.silence(peer, silent);
    }

    fn room_command(&mut self, command: RoomCommand) {
        self.socket.room_command(command);
    }

    fn path(&self, peer: PeerId) -> Option<Path> {
        self.socket.path(peer)
    }

    fn set_waker(&mut self, waker: Waker) {
        self.socket.set_waker(waker);
    }
}

/// A game that sends its peer one number after the other.
struct Game {
    network: Network,
    doubt: Arc<AtomicBool>,
    mended: Arc<AtomicUsize>,
    port: u16,
    peer: Option<PeerId>,
    path: Option<Path>,
    sent: u32,
    got: u32,
}

impl Game {
    fn new(rendezvous: &Rendezvous) -> Self {
        let ports = free_port();
        let port = *ports.start();
        let config = SocketConfig { udp_ports: Some(ports), ..patient("") };
        let (doubt, mended) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let socket = connect_by(config, rendezvous.signaller());
        let socket = Doubting { socket, doubt: doubt.clone(), mended: mended.clone(), open: Vec::new() };
        let network = Network::inline(Box::new(socket), LinkConfig::default());
        Self { network, doubt, mended, port, peer: None, path: None, sent: 0, got: 0 }
    }

    fn mended(&self) -> usize {
        self.mended.load(Ordering::Relaxed)
    }

    /// A frame; sends another number if it is to.
    fn turn(&mut self, send: bool) {
        while let Some(event) = self.network.poll() {
            match event {
                NetworkEvent::Link(peer, LinkEvent::Opened) => self.peer = Some(peer),
                NetworkEvent::Link(peer, LinkEvent::Message(_, bytes)) => {
                    assert_eq!(bytes[..], self.got.to_le_bytes(), "none is lost, and none comes twice");
                    self.got += 1;
                    self.network.consumed(peer, bytes.len());
                }
                NetworkEvent::Link(_, event @ (LinkEvent::Closed(_) | LinkEvent::Unresponsive)) => {
                    panic!("the link is to hold: {event:?}")
                }
                NetworkEvent::Path(_, path) => self.path = Some(path),
                _ => {}
            }
        }
        if let Some(peer) = self.peer.filter(|_| send) {
            let bytes = Bytes::copy_from_slice(&self.sent.to_le_bytes());
            if self.network.message(peer, Channel::Events, bytes).is_ok() {
                self.sent += 1;
            }
        }
        self.network.turn(now());
    }
}

async fn play(what: &str, games: &mut [Game; 2], send: bool, mut done: impl FnMut(&[Game; 2]) -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done(games) {
        assert!(Instant::now() < end, "waited in vain: {what}");
        for game in &mut *games {
            game.turn(send);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_connection_takes_the_place_of_another_between_the_same_two_ports_and_nothing_is_lost() {
    let rendezvous = Rendezvous::new();
    let mut games = [(); 2].map(|()| Game::new(&rendezvous));
    play("the link", &mut games, true, |games| games.iter().all(|game| game.got > 20 && game.path.is_some())).await;
    for doubter in [0, 1] {
        let before = games.each_ref().map(|game| (game.mended(), game.got));
        games[doubter].doubt.store(true, Ordering::Relaxed);
        play("another connection", &mut games, true, |games| {
            games.iter().zip(before).all(|(game, (mended, got))| game.mended() > mended && game.got > got + 20)
        })
        .await;
        // The path that is told next is the new one's.
        for game in &mut games {
            game.path = None;
        }
        play("its path", &mut games, true, |games| games.iter().all(|game| game.path.is_some())).await;
        let [one, other] = games.each_ref().map(|game| {
            let path = game.path.as_ref().expect("just now");
            [&path.local, &path.remote].map(|side| address(side).port())
        });
        assert_eq!(one, [games[0].port, games[1].port]);
        assert_eq!(other, [games[1].port, games[0].port]);
    }
    play("all that was sent", &mut games, false, |[one, other]| (one.got, other.got) == (other.sent, one.sent)).await;
    assert!(games.iter().all(|game| game.sent > 60));
}
