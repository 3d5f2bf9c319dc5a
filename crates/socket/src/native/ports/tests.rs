use std::net::Ipv4Addr;

use tokio::task::yield_now;

use super::*;
use crate::native::rtc::connection::Transmit;

/// So many ports in a row that were free a moment ago.
fn free(count: u16) -> RangeInclusive<u16> {
    let is_free = |port| std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
    let row = || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a port");
        let first = socket.local_addr().expect("bound").port();
        drop(socket);
        let last = first.checked_add(count - 1)?;
        (first..=last).all(is_free).then_some(first..=last)
    };
    std::iter::repeat_with(row).flatten().next().expect("there are some")
}

fn at(sockets: &Sockets) -> Vec<SocketAddr> {
    sockets.hosts().map(|local| local.address).collect()
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[tokio::test]
async fn all_attempts_share_the_first_free_port_of_the_range() {
    let range = free(3);
    let other = std::net::UdpSocket::bind(("127.0.0.1", *range.start())).expect("free a moment ago");
    let ports = Ports::new(Some(range.clone()));
    let one = ports.sockets("one").await.expect("two are free");
    assert!(at(&one).contains(&loopback(range.start() + 1)), "{:?} of {range:?}", at(&one));
    assert!(at(&one).iter().all(|address| address.port() == range.start() + 1));
    // It stays with it, though a better one is free now.
    drop(other);
    let next = ports.sockets("next").await.expect("the same");
    assert_eq!(at(&one), at(&next));
    drop((one, next));
    assert_eq!(at(&ports.sockets("last").await.expect("the same"))[0].port(), range.start() + 1);
}

#[tokio::test]
async fn without_a_range_each_attempt_has_ports_of_its_own() {
    let ports = Ports::new(None);
    let (one, other) = (ports.sockets("one").await.expect("any"), ports.sockets("other").await.expect("any"));
    assert!(!at(&one).is_empty());
    assert!(at(&one).iter().all(|address| address.port() != 0 && !at(&other).contains(address)));
}

#[tokio::test(start_paused = true)]
async fn of_two_sockets_with_one_port_the_second_is_told_so_unless_the_first_is_just_dropped() {
    let range = free(1);
    let first = Ports::new(Some(range.clone()));
    let attempt = first.sockets("one").await.expect("free");
    let second = Ports::new(Some(range.clone()));
    let why = second.sockets("other").await.expect_err("it is taken");
    assert!(why.contains("udp_ports") && why.contains(&range.end().to_string()), "{why}");
    let (waiting, ()) = tokio::join!(second.sockets("other"), async {
        sleep(PATIENCE / 2).await;
        drop((first, attempt));
    });
    assert_eq!(at(&waiting.expect("given back while it was waited for"))[0].port(), *range.start());
    let none = Ports::new(Some(0..=0)).sockets("none").await.expect_err("0 is no port");
    assert!(none.contains("udp_ports"), "{none}");
}

/// Waits until the tasks whose sockets were given up are gone.
async fn given_up(address: SocketAddr) {
    for _ in 0..1000 {
        if std::net::UdpSocket::bind(address).is_ok() {
            return;
        }
        yield_now().await;
    }
    panic!("{address} is still bound");
}

/// Only Linux has all of 127.0.0.0/8.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn addresses_that_come_are_bound_at_the_same_port_and_those_that_go_are_given_up_once_nobody_uses_them() {
    let range = free(1);
    let ips = |hosts: &[u8]| hosts.iter().map(|host| Ipv4Addr::new(127, 7, 7, *host).into()).collect::<Vec<IpAddr>>();
    let ports = Ports::new(Some(range.clone()));
    let share = |hosts: &[u8]| ports.share(range.clone(), &ips(hosts)).expect("free");
    let at = |listening: &[Listening]| listening.iter().map(|it| it.local.address).collect::<Vec<_>>();
    let addresses =
        |hosts: &[u8]| ips(hosts).into_iter().map(|ip| SocketAddr::new(ip, *range.start())).collect::<Vec<_>>();
    let before = share(&[1, 2]);
    assert_eq!(at(&before), addresses(&[1, 2]));
    let after = share(&[2, 3]);
    assert_eq!(at(&after), addresses(&[2, 3]));
    let [gone, ..] = addresses(&[1])[..] else { unreachable!() };
    assert!(std::net::UdpSocket::bind(gone).is_err(), "the attempt before may still use it");
    assert!(Arc::ptr_eq(&share(&[1])[0].socket, &before[0].socket), "and finds it when the address is back");
    drop(before);
    share(&[2, 3]);
    given_up(gone).await;
    // Somebody else took the port there meanwhile: the other addresses do.
    let _other = std::net::UdpSocket::bind(gone).expect("given up");
    assert_eq!(at(&share(&[1, 3])), addresses(&[3]));
}

/// The answer of ICE to a check, to whoever sees no more than its header, and the beginning of a record of DTLS.
const ANSWER: [u8; 20] = [1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
const HELLO: [u8; 14] = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1];

#[tokio::test]
async fn what_comes_to_the_port_is_read_by_whom_it_is_for() {
    let range = free(1);
    let ports = Ports::new(Some(range.clone()));
    let (mut one, mut other) =
        (ports.sockets("one").await.expect("free"), ports.sockets("other").await.expect("shared"));
    let here = loopback(*range.start());
    let [mut near, mut far] = [(); 2].map(|()| std::net::UdpSocket::bind("127.0.0.1:0").expect("a port"));
    for (sockets, peer) in [(&mut one, &mut near), (&mut other, &mut far)] {
        let to = peer.local_addr().expect("bound");
        assert!(sockets.send(&Transmit { from: here, to, bytes: ANSWER[..].into() }));
        let mut buffer = [0; 64];
        assert_eq!(peer.recv_from(&mut buffer).expect("it came"), (ANSWER.len(), here));
        peer.send_to(&HELLO, here).expect("it goes");
    }
    let mut buffer = [0; DATAGRAM];
    for (sockets, peer) in [(&mut one, &near), (&mut other, &far)] {
        let source = sockets.readable().await;
        let (size, to, from) = sockets.receive(source, &mut buffer).expect("it came");
        assert_eq!((&buffer[..size], to, from), (&HELLO[..], here, peer.local_addr().expect("bound")));
        let next = sockets.receive(source, &mut buffer).expect_err("it was one");
        assert_eq!(next.kind(), io::ErrorKind::WouldBlock);
    }
    assert!(!one.send(&Transmit { from: loopback(1), to: here, bytes: HELLO[..].into() }), "from no socket of ours");
}

#[tokio::test]
async fn relays_are_asked_for_from_a_socket_that_nobody_shares_and_the_peer_is_not_told_of() {
    let range = free(1);
    let ports = Ports::new(Some(range.clone()));
    let (mut one, mut other) =
        (ports.sockets("one").await.expect("free"), ports.sockets("other").await.expect("shared"));
    let server = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let to = server.local_addr().expect("bound");
    let here = loopback(*range.start());
    assert_eq!((one.base(to, false), other.base(to, false)), (Some(here), Some(here)));
    let bases = [&mut one, &mut other].map(|sockets| sockets.base(to, true).expect("any port"));
    assert!(bases[0] != bases[1] && !bases.contains(&here), "{bases:?}");
    assert_eq!(one.base(to, true), Some(bases[0]), "one does for all servers");
    assert!(at(&one).iter().all(|address| address.port() == here.port()));
    assert_eq!(one.rank(bases[0]), one.rank(here));
    assert!(one.send(&Transmit { from: bases[0], to, bytes: HELLO[..].into() }));
    let mut buffer = [0; DATAGRAM];
    assert_eq!(server.recv_from(&mut buffer).expect("it came"), (HELLO.len(), bases[0]));
    server.send_to(&ANSWER, bases[0]).expect("it goes");
    let source = one.readable().await;
    assert_eq!(one.receive(source, &mut buffer).expect("it came"), (ANSWER.len(), bases[0], to));
    // Alone, any socket will do.
    let mut alone = Ports::new(None).sockets("alone").await.expect("any");
    assert_eq!(alone.base(to, true), alone.base(to, false));
}
