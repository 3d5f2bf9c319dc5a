//! Does the embedded TURN server relay for those who may, and only where it may?

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use coplay_proto::{
    PeerId,
    signal::{ClientMessage, ServerMessage, SignalError, lobby::RoomCommand},
};
use coplay_signaling::{Config, EmbeddedTurn, Occupancy, RelayRate, RelayStats, Running, Stun};
use stun::{agent::TransactionId, message::*, xoraddr::XorMappedAddress};
use tokio::{net::UdpSocket, time::Instant};
use turn::proto::{
    channum::ChannelNumber, lifetime::Lifetime, reqfamily::REQUESTED_FAMILY_IPV6, reqtrans::RequestedTransport,
};

use crate::{client::*, turn_client::*};

fn settings() -> EmbeddedTurn {
    EmbeddedTurn { secrets: vec![SECRET.into()], ..EmbeddedTurn::default() }
}

fn serve(settings: EmbeddedTurn) -> Running {
    start(Config::local().embedded_turn(settings))
}

fn stats(server: &Running) -> RelayStats {
    server.relays().unwrap().stats()
}

/// Waits until the numbers are as wanted, or fails.
async fn settled(server: &Running, what: &str, wanted: impl Fn(RelayStats) -> bool) {
    let start = Instant::now();
    while !wanted(stats(server)) {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}: {:?}", stats(server));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Two clients with an allocation each.
async fn two(server: &Running) -> [(Asker, SocketAddr); 2] {
    let mut one = Asker::new(server, 1).await;
    let mut other = Asker::new(server, 2).await;
    let (at, there) = (one.allocate().await.unwrap(), other.allocate().await.unwrap());
    [(one, at), (other, there)]
}

#[tokio::test]
async fn data_passes_both_ways_between_two_clients_by_indications_and_channels() {
    let server = serve(settings());
    let [(one, at), (other, there)] = two(&server).await;
    let ports = EmbeddedTurn::default().ports;
    assert!(at.ip().is_loopback() && ports.contains(&at.port()) && ports.contains(&there.port()) && at != there);
    one.permit(there).await.unwrap();
    other.permit(at).await.unwrap();
    one.send(there, b"by indication").await;
    assert_eq!(other.hear().await, b"by indication");
    other.bind(0x4000, at).await.unwrap();
    other.send_on(0x4000, b"by channel").await;
    assert_eq!(one.hear().await, b"by channel");
    one.bind(0x4001, there).await.unwrap();
    one.send_on(0x4001, b"and back").await;
    assert_eq!(other.hear().await, b"and back");
    let RelayStats { allocations, allocated, bytes_from_clients, bytes_to_clients, .. } = stats(&server);
    assert_eq!((allocations, allocated, bytes_from_clients, bytes_to_clients), (2, 2, 31, 31));
    let metrics = http(&server, "/metrics").await;
    for line in ["coplay_relayed_bytes_total{via=\"turn\"} 62", "coplay_turn_allocations 2"] {
        assert!(metrics.lines().any(|have| have == line), "{line}: {metrics}");
    }
    one.refresh(600).await.unwrap();
    one.refresh(0).await.unwrap();
    assert_eq!(one.refresh(600).await.unwrap_err(), 437, "it is over");
    assert_eq!(stats(&server).allocations, 1);
}

#[tokio::test]
async fn another_implementation_is_served_with_the_credentials_of_a_welcome() {
    let server = serve(EmbeddedTurn::default());
    let mut ends = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..2 {
        let (client, welcome) = Client::coplay(&server, "/r").await;
        let [ice] = &welcome.ice_servers[..] else { panic!("{:?}", welcome.ice_servers) };
        assert_eq!(ice.urls, [format!("turn:127.0.0.1:{}", server.stun_addr().unwrap().port())]);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = server.stun_addr().unwrap().to_string();
        let config = turn::client::ClientConfig {
            stun_serv_addr: at.clone(),
            turn_serv_addr: at,
            username: ice.username.clone().unwrap(),
            password: ice.credential.clone().unwrap(),
            realm: String::new(),
            software: String::new(),
            rto_in_ms: 0,
            conn: Arc::new(socket),
            vnet: None,
        };
        let turn = turn::client::Client::new(config).await.unwrap();
        turn.listen().await.unwrap();
        ends.push(webrtc_util::Conn::local_addr(&turn.allocate().await.unwrap()).unwrap());
        clients.push((client, turn));
    }
    assert_eq!(stats(&server).allocations, 2);
    assert_eq!(ends.iter().collect::<BTreeSet<_>>().len(), 2, "{ends:?}");
    for (_, turn) in clients {
        turn.close().await.unwrap();
    }
}

#[tokio::test]
async fn credentials_that_do_not_hold_are_refused() {
    let server = serve(EmbeddedTurn { secrets: vec![SECRET.into(), "old".into()], ..settings() });
    let try_with = async |name: String, password: String| {
        Asker::with("127.0.0.1", &server, name, password).await.allocate().await.map(drop)
    };
    let (good, expired, now) = (username(7, 600), username(7, -1), username(7, 0));
    assert_eq!(try_with(good.clone(), password(SECRET, &good)).await, Ok(()));
    assert_eq!(try_with(good.clone(), password("old", &good)).await, Ok(()), "a secret that is being exchanged");
    for (name, password) in [
        (expired.clone(), password(SECRET, &expired)),
        (now.clone(), password(SECRET, &now)),
        (good.clone(), password("south", &good)),
        (good.clone(), String::new()),
        (username(7, 601), password(SECRET, &good)),
        ("someone".into(), password(SECRET, "someone")),
        (format!("{good}0"), password(SECRET, &format!("{good}0"))),
    ] {
        assert_eq!(try_with(name.clone(), password).await, Err(401), "{name}");
    }
    let RelayStats { allocations, refused_credentials, .. } = stats(&server);
    assert_eq!((allocations, refused_credentials), (2, 7));

    let mut asker = Asker::new(&server, 7).await;
    asker.challenge().await;
    asker.nonce = format!("{}0", &asker.nonce[1..]);
    assert_eq!(asker.allocate().await, Err(438), "a nonce that this server did not issue");
    let mut other = Asker::new(&server, 7).await;
    other.challenge().await;
    asker.nonce = other.nonce;
    assert_eq!(asker.allocate().await, Err(438), "a nonce of another client");
}

#[tokio::test]
async fn an_allocation_is_its_makers_alone_and_ends_with_the_credentials() {
    let server = serve(settings());
    let mut asker = Asker::new(&server, 1).await;
    asker.allocate().await.unwrap();
    let (mine, signed) = (asker.username.clone(), asker.password.clone());
    asker.username = username(2, 600);
    asker.password = password(SECRET, &asker.username);
    assert_eq!(asker.refresh(600).await.unwrap_err(), 441, "another peer's credentials");
    asker.username = username(1, -1);
    asker.password = password(SECRET, &asker.username);
    assert_eq!(asker.refresh(600).await.unwrap_err(), 401, "expired");
    (asker.username, asker.password) = (mine, signed);
    asker.refresh(600).await.unwrap();
}

/// For how many seconds an answer grants an allocation.
fn granted(answer: Result<Message, u16>) -> u64 {
    let mut lifetime = Lifetime::default();
    lifetime.get_from(&answer.unwrap()).unwrap();
    lifetime.0.as_secs()
}

#[tokio::test]
async fn an_allocation_is_granted_ten_minutes_at_most_and_not_beyond_the_credentials() {
    let server = serve(settings());
    let lasting = |seconds| Box::new(Lifetime(Duration::from_secs(seconds)));
    let name = username(1, 3000);
    let mut asker = Asker::with("127.0.0.1", &server, name.clone(), password(SECRET, &name)).await;
    asker.challenge().await;
    assert_eq!(granted(asker.say(METHOD_ALLOCATE, vec![udp(), lasting(3599)]).await), 600);
    for (asked, given) in [(3599, 600), (3600, 600), (601, 600), (60, 60)] {
        assert_eq!(granted(asker.refresh(asked).await), given, "{asked}");
    }
    assert_eq!(granted(asker.say(METHOD_REFRESH, Vec::new()).await), 600, "nothing is asked for");
    let name = username(2, 2);
    let mut brief = Asker::with("127.0.0.1", &server, name.clone(), password(SECRET, &name)).await;
    brief.challenge().await;
    let request = brief.request(METHOD_ALLOCATE, vec![udp(), lasting(3599)]);
    let first = granted(outcome(brief.ask(&request).await));
    assert!((1..=2).contains(&first), "{first}");
    assert!(granted(outcome(brief.ask(&request).await)) <= first, "the answer was lost: it is said again");
    settled(&server, "the end of the credentials", |stats| stats.allocations == 1).await;
}

#[tokio::test]
async fn who_is_kicked_loses_what_it_relays_and_nobody_of_another_room_does() {
    let server = serve(EmbeddedTurn::default());
    let enter = async |room: &str| {
        let (client, welcome) = Client::coplay(&server, room).await;
        let ice = welcome.ice_servers.into_iter().next().unwrap();
        let (name, password) = (ice.username.unwrap(), ice.credential.unwrap());
        let mut asker = Asker::with("127.0.0.1", &server, name, password).await;
        asker.allocate().await.unwrap();
        (client, asker)
    };
    let (mut leader, mine) = enter("/r").await;
    let (mut other, theirs) = enter("/r").await;
    let (stranger, elsewhere) = enter("/s").await;
    leader.tell(&ClientMessage::Room(RoomCommand::Kick(stranger.me))).await;
    leader.tell(&ClientMessage::Room(RoomCommand::Kick(other.me))).await;
    // The first command changed nothing, which is told as any other.
    assert!(matches!(other.next().await, ServerMessage::Room(_)));
    assert!(matches!(other.dismissed().await, (SignalError::Kicked { .. }, 4403)));
    settled(&server, "the kicked peer's to be gone", |stats| stats.allocations == 2).await;
    assert_eq!(theirs.refresh(600).await.unwrap_err(), 401);
    mine.refresh(600).await.unwrap();
    elsewhere.refresh(600).await.unwrap();
    // Who just leaves keeps what it has, for links outlive signaling.
    drop(stranger);
    until(&server, Occupancy { rooms: 1, peers: 1 }).await;
    elsewhere.refresh(600).await.unwrap();
}

/// Section 6.2 of what relays are abused for: this host, loopback, private, shared, link-local, metadata, documentation,
/// multicast, broadcast; and for IPv6 the same, with IPv4 in every disguise.
const INWARD: &[&str] = &[
    "0.0.0.0",
    "0.0.0.1",
    "127.0.0.2",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.1",
    "192.0.2.1",
    "198.51.100.1",
    "203.0.113.1",
    "198.18.0.1",
    "192.88.99.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "fe80::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "2002:7f00:1::",
    "2001:db8::1",
];

#[tokio::test]
async fn nothing_is_relayed_into_networks_that_are_not_of_the_internet() {
    let server = serve(settings());
    let mut asker = Asker::new(&server, 1).await;
    let relay = asker.allocate().await.unwrap();
    for ip in INWARD {
        let peer = SocketAddr::new(ip.parse().unwrap(), 80);
        assert_eq!(asker.permit(peer).await.unwrap_err(), 403, "{ip}");
        assert_eq!(asker.bind(0x4000, peer).await.unwrap_err(), 403, "{ip}");
    }
    let good = || address("8.8.8.8:80".parse().unwrap());
    let hidden = vec![good(), address("10.0.0.1:80".parse().unwrap())];
    assert_eq!(asker.say(METHOD_CREATE_PERMISSION, hidden).await.unwrap_err(), 403, "behind one that is allowed");
    assert_eq!(asker.say(METHOD_CREATE_PERMISSION, vec![]).await.unwrap_err(), 400, "for nobody");

    // The relays' own address is permitted, for other relays; whatever else listens there hears nothing.
    let victim = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let target = victim.local_addr().unwrap();
    asker.permit(target).await.unwrap();
    assert_eq!(asker.bind(0x4000, target).await.unwrap_err(), 403);
    asker.send(target, b"into the machine").await;
    asker.send_on(0x4000, b"into the machine").await;
    // The server does one thing after the other: when this is answered, the above has been done.
    asker.refresh(600).await.unwrap();
    victim.send_to(b"marker", target).await.unwrap();
    let mut buffer = [0; 100];
    let (length, _) = soon("the marker", victim.recv_from(&mut buffer)).await.unwrap();
    assert_eq!(&buffer[..length], b"marker", "the first that arrives");

    // Nor does anything come back out.
    let refused = stats(&server).refused_address;
    victim.send_to(b"out of the machine", relay).await.unwrap();
    settled(&server, "an inward datagram is refused", |stats| stats.refused_address > refused).await;
    assert_eq!(stats(&server).bytes_to_clients, 0);
}

#[tokio::test]
async fn private_networks_are_relayed_into_where_that_is_wanted() {
    let server = serve(EmbeddedTurn { allow_private: true, ..settings() });
    let mut asker = Asker::new(&server, 1).await;
    let relay = asker.allocate().await.unwrap();
    let friend = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    asker.permit(friend.local_addr().unwrap()).await.unwrap();
    asker.send(friend.local_addr().unwrap(), b"hello").await;
    let mut buffer = [0; 100];
    let (length, from) = soon("relayed data", friend.recv_from(&mut buffer)).await.unwrap();
    assert_eq!((&buffer[..length], from), (&b"hello"[..], relay));
    friend.send_to(b"hello yourself", relay).await.unwrap();
    assert_eq!(asker.hear().await, b"hello yourself");
    for ip in ["0.0.0.0", "224.0.0.1", "169.254.169.254"] {
        assert_eq!(asker.permit(SocketAddr::new(ip.parse().unwrap(), 80)).await.unwrap_err(), 403, "{ip}");
    }
}

#[tokio::test]
async fn a_permission_for_several_peers_is_one_for_each() {
    let server = serve(EmbeddedTurn { allow_private: true, ..settings() });
    let mut asker = Asker::new(&server, 1).await;
    let relay = asker.allocate().await.unwrap();
    let mut peers = Vec::new();
    for n in 2..5 {
        // Only Linux has all of 127.0.0.0/8.
        let ip = if cfg!(target_os = "linux") { IpAddr::from([127, 0, 0, n]) } else { [127, 0, 0, 1].into() };
        peers.push(UdpSocket::bind((ip, 0)).await.unwrap());
    }
    let all = peers.iter().map(|peer| address(peer.local_addr().unwrap())).collect();
    asker.say(METHOD_CREATE_PERMISSION, all).await.unwrap();
    for (n, peer) in peers.iter().enumerate() {
        let text = format!("from {n}");
        peer.send_to(text.as_bytes(), relay).await.unwrap();
        assert_eq!(asker.hear().await, text.as_bytes());
    }
}

#[tokio::test]
async fn quotas_of_a_peer_and_of_all_are_kept() {
    let server = serve(EmbeddedTurn { peer_allocations: 2, allocations: 3, ..settings() });
    let mut mine = [Asker::new(&server, 1).await, Asker::new(&server, 1).await, Asker::new(&server, 1).await];
    mine[0].allocate().await.unwrap();
    mine[1].allocate().await.unwrap();
    assert_eq!(mine[2].allocate().await, Err(486), "a third of one peer");
    let mut others = [Asker::new(&server, 2).await, Asker::new(&server, 3).await];
    others[0].allocate().await.unwrap();
    assert_eq!(others[1].allocate().await, Err(486), "a fourth of all");
    mine[0].refresh(0).await.unwrap();
    others[1].allocate().await.unwrap();
    let RelayStats { allocations, refused_quota, .. } = stats(&server);
    assert_eq!((allocations, refused_quota), (3, 2));
    assert_eq!(mine[1].allocate().await, Err(437), "a client has one allocation");
}

#[tokio::test]
async fn an_allocation_without_a_port_left_is_refused_and_costs_nothing() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let server = serve(EmbeddedTurn { ports: port..=port, ..settings() });
    let mut asker = Asker::new(&server, 1).await;
    assert_eq!(asker.allocate().await, Err(508));
    assert_eq!(stats(&server).allocations, 0);
    drop(taken);
    assert_eq!(asker.allocate().await.unwrap().port(), port);
}

#[tokio::test]
async fn what_is_not_offered_is_refused_by_its_code() {
    let server = serve(settings());
    let mut asker = Asker::new(&server, 1).await;
    asker.challenge().await;
    let even: Part = Box::<turn::proto::evenport::EvenPort>::default();
    assert_eq!(asker.say(METHOD_ALLOCATE, vec![udp(), even]).await.unwrap_err(), 420);
    assert_eq!(asker.say(METHOD_ALLOCATE, vec![udp(), Box::new(REQUESTED_FAMILY_IPV6)]).await.unwrap_err(), 440);
    assert_eq!(asker.say(METHOD_ALLOCATE, vec![]).await.unwrap_err(), 400);
    let tcp: Part = Box::new(RequestedTransport { protocol: turn::proto::PROTO_TCP });
    assert_eq!(asker.say(METHOD_ALLOCATE, vec![tcp]).await.unwrap_err(), 442);
    assert_eq!(asker.refresh(600).await.unwrap_err(), 437, "without an allocation");
    assert_eq!(asker.permit("8.8.8.8:1".parse().unwrap()).await.unwrap_err(), 437);
    assert_eq!(stats(&server).allocations, 0, "no refusal leaves anything behind");
}

#[tokio::test]
async fn a_lost_answer_is_given_again() {
    let server = serve(settings());
    let mut asker = Asker::new(&server, 1).await;
    asker.challenge().await;
    let request = asker.request(METHOD_ALLOCATE, vec![udp()]);
    let first = relay(&outcome(asker.ask(&request).await).unwrap());
    let again = relay(&outcome(asker.ask(&request).await).unwrap());
    assert_eq!((first, stats(&server).allocated), (again, 1));
}

#[tokio::test]
async fn what_a_kicked_peer_relays_ends_at_once() {
    let server = serve(settings());
    let [(mut one, at), (other, there)] = two(&server).await;
    one.permit(there).await.unwrap();
    other.permit(at).await.unwrap();
    server.relays().unwrap().revoke(PeerId::from_u128(1));
    settled(&server, "the allocation is gone", |stats| stats.allocations == 1).await;
    assert_eq!(one.refresh(600).await.unwrap_err(), 401, "and its credentials hold no more");
    one.nonce.clear();
    assert_eq!(one.allocate().await, Err(401));
    // Its port is nobody's: a socket can be had there again, once the last task let go of it.
    let start = Instant::now();
    while std::net::UdpSocket::bind(at).is_err() {
        assert!(start.elapsed() < Duration::from_secs(10), "{at} is still taken");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    other.refresh(600).await.unwrap();
}

#[tokio::test]
async fn ten_thousand_requests_without_credentials_leave_nothing_and_hold_nobody_up() {
    let server = serve(settings());
    let request = Asker::new(&server, 1).await.request(METHOD_ALLOCATE, vec![udp()]);
    let mut sent = 0;
    for network in 0..50 {
        // Only Linux has all of 127.0.0.0/8 to pretend networks with.
        let ip = if cfg!(target_os = "linux") { IpAddr::from([127, 9, network, 1]) } else { [127, 0, 0, 1].into() };
        let socket = UdpSocket::bind((ip, 0)).await.unwrap();
        for _ in 0..200 {
            socket.send_to(&request.raw, server.stun_addr().unwrap()).await.unwrap();
            sent += 1;
        }
    }
    assert_eq!(sent, 10_000);
    // Who has credentials is served none the less, and by the order of things after the flood.
    let mut asker = Asker::new(&server, 1).await;
    asker.allocate().await.unwrap();
    let RelayStats { allocations, challenges, panics, .. } = stats(&server);
    assert_eq!((allocations, panics), (1, 0));
    assert!((1..10_000).contains(&challenges), "{challenges}");
}

#[tokio::test]
async fn garbage_does_nothing() {
    let server = serve(settings());
    let [(asker, _), (other, there)] = two(&server).await;
    asker.permit(there).await.unwrap();
    asker.bind(0x4000, there).await.unwrap();
    let mut good = vec![
        asker.request(METHOD_REFRESH, vec![Box::new(Lifetime(Duration::from_secs(600)))]).raw,
        asker.request(METHOD_CREATE_PERMISSION, vec![address(there)]).raw,
        asker.request(METHOD_CHANNEL_BIND, vec![Box::new(ChannelNumber(0x4000)), address(there)]).raw,
        vec![0x40, 0, 0, 4, 1, 2, 3, 4],
    ];
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = server.stun_addr().unwrap();
    good.extend([vec![], vec![0; 20], vec![0xff; 1_500], vec![0x40; 1_501], vec![0x80; 65_000]]);
    for packet in &good {
        stranger.send_to(packet, at).await.unwrap();
        for cut in 0..packet.len().min(200) {
            asker.socket.send_to(&packet[..cut], at).await.unwrap();
            let mut flipped = packet.clone();
            flipped[cut] ^= 0x15;
            asker.socket.send_to(&flipped, at).await.unwrap();
            // So that the socket's buffer does not lose what is to be looked at.
            if cut % 50 == 49 {
                asker.refresh(600).await.unwrap();
            }
        }
    }
    asker.refresh(600).await.unwrap();
    let RelayStats { allocations, panics, dropped_malformed, .. } = stats(&server);
    assert_eq!((allocations, panics), (2, 0));
    assert!(dropped_malformed > 500, "{dropped_malformed}");
    drop(other);
}

#[tokio::test]
async fn an_allocation_relays_no_more_than_its_rate() {
    let rate = RelayRate { bytes: 1_000_000, packets: 10 };
    let server = serve(EmbeddedTurn { rate, ..settings() });
    let [(one, at), (other, there)] = two(&server).await;
    other.permit(at).await.unwrap();
    one.bind(0x4000, there).await.unwrap();
    for _ in 0..100 {
        one.send_on(0x4000, b"x").await;
    }
    one.refresh(600).await.unwrap();
    let RelayStats { bytes_from_clients, dropped_rate, .. } = stats(&server);
    // Ten at once, and ten more for each second that this took.
    assert!((10..60).contains(&bytes_from_clients), "{bytes_from_clients}");
    assert!(bytes_from_clients + dropped_rate >= 100, "{bytes_from_clients} and {dropped_rate}");
}

#[tokio::test]
async fn stun_is_answered_on_the_same_port_and_turn_goes_without_it() {
    let server = serve(settings());
    let asker = Asker::new(&server, 1).await;
    let mut request = Message::new();
    let parts: [Part; 2] = [Box::new(TransactionId::new()), Box::new(BINDING_REQUEST)];
    request.build(&parts).unwrap();
    let bound = async {
        asker.socket.send_to(&request.raw, asker.server).await.unwrap();
        let mut buffer = [0; 200];
        let (length, _) = asker.socket.recv_from(&mut buffer).await.unwrap();
        let mut answer = Message::new();
        answer.unmarshal_binary(&buffer[..length]).unwrap();
        let mut seen = XorMappedAddress::default();
        seen.get_from(&answer).unwrap();
        SocketAddr::new(seen.ip, seen.port)
    };
    assert_eq!(soon("an answer", bound).await, asker.socket.local_addr().unwrap());
    assert_eq!(stats(&server).bindings, 1);

    let without = start(Config::local().stun(Stun::Off).embedded_turn(settings()));
    assert_eq!(without.stun_addr(), None);
    let (_, welcome) = Client::coplay(&without, "/r").await;
    let [ice] = &welcome.ice_servers[..] else { panic!("{:?}", welcome.ice_servers) };
    assert!(ice.urls[0].starts_with("turn:127.0.0.1:"), "{ice:?}");
    assert!(plain().relays().is_none());
}

#[tokio::test]
async fn one_address_leaves_something_for_the_others_however_many_peers_it_was() {
    let server = serve(EmbeddedTurn { address_allocations: 2, ..settings() });
    for peer in 1..=4 {
        let allocated = Asker::new(&server, peer).await.allocate().await.map(|_| ());
        assert_eq!(allocated, if peer <= 2 { Ok(()) } else { Err(486) });
    }
    assert_eq!(stats(&server).refused_quota, 2);
    // Only Linux has all of 127.0.0.0/8.
    if cfg!(target_os = "linux") {
        let name = username(5, 600);
        let password = password(SECRET, &name);
        Asker::with("127.0.0.2", &server, name, password).await.allocate().await.unwrap();
    }
}
