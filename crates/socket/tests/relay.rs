//! Do native sockets connect by the embedded TURN server, and by the ports and addresses that they are given?
#![cfg(not(target_arch = "wasm32"))]

use std::{
    collections::BTreeSet,
    net::{SocketAddr, UdpSocket},
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use bytes::Bytes;
use coplay_proto::{
    Lane, PeerId,
    link::CloseReason,
    signal::{IceServer, ServerMessage, Signal},
};
use coplay_signaling::{Config, EmbeddedTurn, Signaling};
use coplay_socket::{
    Dialect, IceTransportPolicy, PathKind, Rendezvous, Signaller, SignallerEvent, Socket, SocketConfig, SocketEvent,
    connect, connect_by, now,
};

/// The defaults, but for a machine that is busy with other tests.
fn patient(url: &str) -> SocketConfig {
    SocketConfig { handshake_timeout: Duration::from_secs(20), ..SocketConfig::new(url) }
}

/// Waits until something holds, or fails.
async fn until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(ready) = ready() {
            return ready;
        }
        assert!(Instant::now() < end, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The next event that `pick` takes.
async fn next<T>(socket: &mut dyn Socket, what: &str, mut pick: impl FnMut(SocketEvent) -> Option<T>) -> T {
    until(what, || std::iter::from_fn(|| socket.poll(now())).find_map(&mut pick)).await
}

async fn opened(socket: &mut dyn Socket) -> PeerId {
    next(socket, "a peer", |event| match event {
        SocketEvent::Opened(peer) => Some(peer),
        SocketEvent::Closed(_, reason) => panic!("{reason:?}"),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn two_sockets_that_may_only_relay_play_through_the_embedded_turn_server() {
    let server = Signaling::spawn(Config::local().embedded_turn(EmbeddedTurn::default())).expect("a server");
    let url = format!("{}/room", server.url());
    let config = || SocketConfig { ice_transport_policy: IceTransportPolicy::Relay, ..patient(&url) };
    let (mut one, mut other) = (connect(config()), connect(config()));
    let (there, here) = tokio::join!(opened(&mut *one), opened(&mut *other));
    for (from, to, text) in [(0, 1, "hello"), (1, 0, "hello yourself")] {
        let ends: [(&mut dyn Socket, PeerId); 2] = [(&mut *one, there), (&mut *other, here)];
        let mut ends = ends.map(Some);
        let (sender, peer) = ends[from].take().expect("untaken");
        let (receiver, _) = ends[to].take().expect("untaken");
        sender.send(peer, Lane::Reliable, Bytes::from_static(text.as_bytes())).expect("open");
        let heard = next(receiver, "the text", |event| match event {
            SocketEvent::Received(_, Lane::Reliable, bytes) => Some(bytes),
            _ => None,
        })
        .await;
        assert_eq!(heard, text);
    }
    for (socket, peer) in [(&one, there), (&other, here)] {
        let path = until("a path", || socket.path(peer)).await;
        assert_eq!(path.kind, PathKind::Relay, "{path:?}");
        assert!(path.local.ends_with("relay"), "{path:?}");
    }
    let stats = server.relays().expect("it is on").stats();
    assert!(stats.bytes_from_clients > 1000 && stats.bytes_to_clients > 1000, "{stats:?}");
    drop((one, other));
    until("closed connections give their allocations back", || {
        (server.relays().expect("it is on").stats().allocations == 0).then_some(())
    })
    .await;
}

/// So many ports in a row that were free a moment ago.
fn free_ports(count: u16) -> RangeInclusive<u16> {
    let row = || {
        let first = UdpSocket::bind("0.0.0.0:0").expect("a port").local_addr().expect("bound").port();
        let last = first.checked_add(count - 1)?;
        (first..=last).all(|port| UdpSocket::bind(("0.0.0.0", port)).is_ok()).then_some(first..=last)
    };
    std::iter::repeat_with(row).flatten().next().expect("there are some")
}

/// A member of the room who is no socket, and hears what the others say to it.
struct Listener(Box<dyn Signaller>);

impl Listener {
    fn enter(rendezvous: &Rendezvous) -> Self {
        let mut line = rendezvous.signaller();
        line.dial(Dialect::Matchbox.into());
        Self(line)
    }

    /// The candidates that come until `wanted` holds, as (address, port, kind).
    async fn candidates(&mut self, wanted: impl Fn(&BTreeSet<Candidate>) -> bool) -> BTreeSet<Candidate> {
        let mut heard = BTreeSet::new();
        until("candidates", || {
            while let Some(event) = self.0.poll() {
                if let SignallerEvent::Message(ServerMessage::Signal { data: Signal::IceCandidate(json), .. }) = event {
                    heard.extend(read(&json));
                }
            }
            wanted(&heard).then(|| heard.clone())
        })
        .await
    }
}

type Candidate = (String, u16, String);

fn read(json: &str) -> Option<Candidate> {
    let init: serde_json::Value = serde_json::from_str(json).ok()?;
    let words: Vec<_> = init["candidate"].as_str()?.split(' ').collect();
    Some((words[4].to_owned(), words[5].parse().ok()?, words[7].to_owned()))
}

#[tokio::test]
async fn a_socket_keeps_to_one_of_its_ports_and_says_when_none_is_free() {
    let rendezvous = Rendezvous::new();
    let ports = free_ports(1);
    let config = || SocketConfig { udp_ports: Some(ports.clone()), handshake_attempts: 1, ..patient("") };
    let mut host = connect_by(config(), rendezvous.signaller());
    next(&mut *host, "the room", |event| matches!(event, SocketEvent::Entered(_)).then_some(())).await;
    // Another game on this machine that was told the same; as soon as it is there, the host needs the port.
    let mut late = connect_by(config(), rendezvous.signaller());
    next(&mut *late, "the room", |event| matches!(event, SocketEvent::Entered(_)).then_some(())).await;
    let join = || connect_by(patient(""), rendezvous.signaller());
    let (mut one, mut other) = (join(), join());
    let (first, second) = (opened(&mut *host).await, opened(&mut *host).await);
    assert_ne!(first, second);
    for peer in [first, second] {
        let local = until("a path", || host.path(peer)).await.local;
        let port = local.split(' ').nth(1).and_then(|address| address.rsplit_once(':')).expect("udp IP:PORT kind").1;
        assert!(ports.contains(&port.parse().expect("a port")), "{local} and {ports:?}");
    }
    // Who makes the offer knows first.
    let why = next(&mut *late, "a refusal", |event| match event {
        SocketEvent::Closed(_, CloseReason::Failed(why)) => Some(why),
        SocketEvent::Opened(peer) => panic!("{peer} at a port that is taken"),
        _ => None,
    })
    .await;
    assert!(why.contains("udp_ports"), "{why}");
    drop((late, one.poll(now()), other.poll(now())));
}

#[tokio::test]
async fn a_socket_tells_peers_of_its_external_address() {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
    if socket.connect("192.0.2.1:9").is_err() {
        // A machine without a network is behind no NAT.
        return;
    }
    let rendezvous = Rendezvous::new();
    let ports = free_ports(1);
    let config = SocketConfig {
        udp_ports: Some(ports.clone()),
        external_ips: vec!["198.51.100.7".parse().expect("an address")],
        ..patient("")
    };
    let mut host = connect_by(config, rendezvous.signaller());
    next(&mut *host, "the room", |event| matches!(event, SocketEvent::Entered(_)).then_some(())).await;
    let external = ("198.51.100.7".to_owned(), *ports.start(), "srflx".to_owned());
    // Each is told of the same address and port.
    let mut listeners = [(); 3].map(|()| Listener::enter(&rendezvous));
    for listener in &mut listeners {
        let heard = listener.candidates(|heard| heard.contains(&external)).await;
        assert!(heard.iter().all(|(_, port, _)| port == ports.start()), "{heard:?}");
    }
}

/// A STUN server that sees each who asks at another address: 203.0.113.1, and so on.
fn fanciful_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("bound");
    std::thread::spawn(move || {
        let mut asked: Vec<Vec<u8>> = Vec::new();
        let mut request = [0; 2048];
        // Until the test is over.
        while let Ok((size, from)) = socket.recv_from(&mut request) {
            let Some(header) = request[..size].first_chunk::<20>().filter(|header| header[..2] == [0, 1]) else {
                continue;
            };
            let transaction = header[8..].to_vec();
            let number = asked.iter().position(|known| *known == transaction).unwrap_or_else(|| {
                asked.push(transaction.clone());
                asked.len() - 1
            });
            // XOR-MAPPED-ADDRESS (RFC 8489, section 14.2).
            let [high, low] = (from.port() ^ 0x2112).to_be_bytes();
            let ip = [203 ^ 0x21, 0x12, 113 ^ 0xa4, (number as u8 + 1) ^ 0x42];
            let attribute = [&[0, 0x20, 0, 8, 0, 1, high, low][..], &ip].concat();
            let answer = [&[1, 1, 0, 12][..], &header[4..], &attribute].concat();
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}

#[tokio::test]
async fn attempts_that_share_a_port_each_learn_how_a_server_sees_it() {
    let rendezvous = Rendezvous::new();
    let ports = free_ports(1);
    let stun = IceServer { urls: vec![format!("stun:{}", fanciful_server())], ..IceServer::default() };
    let config = SocketConfig { udp_ports: Some(ports.clone()), ice_servers: vec![stun], ..patient("") };
    let mut host = connect_by(config, rendezvous.signaller());
    next(&mut *host, "the room", |event| matches!(event, SocketEvent::Entered(_)).then_some(())).await;
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let mut listener = Listener::enter(&rendezvous);
        let reflexive = |heard: &BTreeSet<Candidate>| {
            let mut all = heard.iter().filter(|(_, _, kind)| kind == "srflx");
            all.next().map(|(ip, port, _)| (ip.clone(), *port))
        };
        let heard = listener.candidates(|heard| reflexive(heard).is_some()).await;
        let (ip, port) = reflexive(&heard).expect("just now");
        assert_eq!(port, *ports.start());
        assert!(ip.starts_with("203.0.113.") && seen.insert(ip), "each asked for itself: {seen:?}");
    }
}
