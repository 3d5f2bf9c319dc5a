//! What becomes of links when processes die or stop, networks change, and signaling breaks? Real processes over real sockets.
//!
//! Each peer has a game that sends the others numbered events all the time. Times are those of the defaults: unresponsive
//! after 2 s, gone after 10; there is a second or two more for a busy machine.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::print_stderr, reason = "what is skipped, and what the processes of a test said that failed")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use coplay_signaling::{Config, Running, Signaling, Stun};

use actor::Actor;
use spaces::Spaces;
use wire::Wire;

mod actor;
mod game;
mod spaces;
#[path = "../common/wire.rs"]
mod wire;

/// For what takes no time but that of a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// No test: what the tests start.
#[test]
#[ignore = "the others start it"]
fn actor() {
    actor::act();
}

fn server() -> Running {
    Signaling::spawn(Config::local().stun(Stun::Off)).expect("it starts")
}

/// Peers that are all connected, and their ids.
fn met<const N: usize>(peers: [Actor; N], since: Instant) -> ([Actor; N], [String; N]) {
    let ids = peers.each_ref().map(|peer| peer.id(since));
    for peer in &peers {
        for id in ids.iter().filter(|id| **id != peer.id(since)) {
            peer.says(since, &format!("opened {id}"), PATIENCE);
        }
    }
    (peers, ids)
}

/// Whether a hears b, and more and more of it.
fn hears_more(a: &Actor, b: &str) {
    let (_, before) = a.counts(b);
    let end = Instant::now() + PATIENCE;
    while a.counts(b).1 < before + 10 {
        assert!(Instant::now() < end, "nothing comes of {b} any more");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Both are told to send no more; then all that was sent has come, once and in order, over the one link that there was.
fn all_came(peers: &mut [Actor; 2], ids: &[String; 2], since: Instant) {
    for peer in &mut *peers {
        peer.order("hush");
    }
    let end = Instant::now() + PATIENCE;
    loop {
        let [(a_sent, a_got), (b_sent, b_got)] = [peers[0].counts(&ids[1]), peers[1].counts(&ids[0])];
        if (a_sent, b_sent) == (b_got, a_got) && a_sent > 0 && b_sent > 0 {
            break;
        }
        assert!(Instant::now() < end, "{a_sent} -> {b_got}, {b_sent} -> {a_got}");
        thread::sleep(Duration::from_millis(20));
    }
    for peer in peers {
        assert!(!peer.has_said(since, "broken") && !peer.has_said(since, "closed"), "{:?}", peer.said(since));
        let opened = peer.said(since).iter().filter(|(_, said)| said.starts_with("opened")).count();
        assert_eq!(opened, 1, "it is the same link");
    }
}

#[test]
fn a_peer_that_is_killed_is_noticed_in_2_seconds_and_gone_after_10_and_the_others_play_on() {
    let (server, start) = (server(), Instant::now());
    let url = format!("{}/killed", server.url());
    let (peers, ids) = met(["a", "b", "c"].map(|name| Actor::peer(name, &url)), start);
    thread::sleep(s(1));
    let killed = Instant::now();
    peers[2].signal("-KILL");
    for peer in &peers[..2] {
        let (at, _) = peer.says(killed, &format!("unresponsive {}", ids[2]), s(5));
        assert!(at - killed < Duration::from_millis(3_200), "{:?}", at - killed);
    }
    hears_more(&peers[0], &ids[1]);
    hears_more(&peers[1], &ids[0]);
    for peer in &peers[..2] {
        let (at, said) = peer.says(killed, &format!("closed {}", ids[2]), s(14));
        assert!((s(9)..s(13)).contains(&(at - killed)), "{:?} {said}", at - killed);
    }
    for (peer, other) in [(&peers[0], &ids[1]), (&peers[1], &ids[0])] {
        hears_more(peer, other);
        assert!(!peer.has_said(start, &format!("closed {other}")) && !peer.has_said(start, "broken"));
        assert!(!peer.has_said(start, &format!("unresponsive {other}")));
    }
}

#[test]
fn a_peer_that_stands_still_for_5_seconds_goes_on_and_nothing_is_lost() {
    let (server, start) = (server(), Instant::now());
    let url = format!("{}/stopped", server.url());
    let (mut peers, ids) = met(["a", "b"].map(|name| Actor::peer(name, &url)), start);
    thread::sleep(s(1));
    let stopped = Instant::now();
    peers[1].signal("-STOP");
    peers[0].says(stopped, "unresponsive", Duration::from_millis(3_200));
    thread::sleep(s(5).saturating_sub(stopped.elapsed()));
    let woken = Instant::now();
    peers[1].signal("-CONT");
    peers[0].says(woken, "responsive", s(3));
    // The move to another connection, if one was begun, is over by then.
    thread::sleep(s(2));
    all_came(&mut peers, &ids, start);
}

#[test]
#[ignore = "a minute: cargo xtask life"]
fn a_peer_that_stands_still_for_60_seconds_is_out_and_can_come_again() {
    let (server, start) = (server(), Instant::now());
    let url = format!("{}/stopped-long", server.url());
    let (mut peers, ids) = met(["a", "b"].map(|name| Actor::peer(name, &url)), start);
    thread::sleep(s(1));
    let stopped = Instant::now();
    peers[1].signal("-STOP");
    let (at, _) = peers[0].says(stopped, &format!("closed {}", ids[1]), s(14));
    assert!(at - stopped > s(9));
    thread::sleep(s(60).saturating_sub(stopped.elapsed()));
    let woken = Instant::now();
    peers[1].signal("-CONT");
    peers[1].says(woken, &format!("closed {}", ids[0]), s(13));
    peers[1].order("rejoin");
    peers[1].says(woken, &format!("opened {}", ids[0]), PATIENCE);
    hears_more(&peers[1], &ids[0]);
}

#[test]
fn signaling_that_breaks_in_the_game_is_not_missed_and_a_newcomer_can_join_when_it_is_back() {
    let runtime = tokio::runtime::Runtime::new().expect("it starts");
    let (server, start) = (server(), Instant::now());
    let wire = runtime.block_on(Wire::to(server.local_addr())).expect("a port is free");
    let url = format!("ws://{}/game", wire.address);
    let (mut peers, ids) = met(["a", "b"].map(|name| Actor::peer(name, &url)), start);
    let broken = Instant::now();
    wire.block(true);
    for peer in &peers {
        peer.says(broken, "signaling Lost", s(3));
    }
    while broken.elapsed() < s(4) {
        hears_more(&peers[0], &ids[1]);
        hears_more(&peers[1], &ids[0]);
    }
    let newcomer = Actor::peer("c", &url);
    wire.block(false);
    let third = newcomer.id(broken);
    for (peer, id) in peers.iter().zip(&ids) {
        peer.says(broken, &format!("opened {third}"), PATIENCE);
        newcomer.says(broken, &format!("opened {id}"), PATIENCE);
    }
    for (peer, other) in [(&peers[0], &ids[1]), (&peers[1], &ids[0])] {
        hears_more(peer, other);
        assert!(!peer.has_said(start, "closed") && !peer.has_said(start, "broken"), "{:?}", peer.said(start));
        assert!(!peer.has_said(start, "unresponsive"), "signaling is no part of the game");
    }
    peers[0].order("leave");
    let left = Instant::now();
    newcomer.says(left, &format!("closed {}", ids[0]), s(3));
}

#[test]
fn signaling_that_breaks_before_two_are_connected_costs_them_the_time_that_it_is_away() {
    let runtime = tokio::runtime::Runtime::new().expect("it starts");
    let (server, start) = (server(), Instant::now());
    let wire = runtime.block_on(Wire::to(server.local_addr())).expect("a port is free");
    let first = Actor::peer("a", &format!("ws://{}/begun", wire.address));
    let id = first.id(start);
    wire.block(true);
    first.says(start, "signaling Lost", s(3));
    // It is offered to by a, which is told of it when it is back.
    let second = Actor::peer("b", &format!("{}/begun", server.url()));
    second.id(start);
    thread::sleep(s(2));
    wire.block(false);
    second.says(start, &format!("opened {id}"), s(10));
}

#[test]
fn a_peer_that_never_answers_is_told_of_within_8_seconds_also_if_signaling_goes() {
    let (server, start) = (server(), Instant::now());
    let first = Actor::peer("a", &format!("{}/mute", server.url()));
    first.id(start);
    // A WebSocket, and nothing more.
    let mut mute = TcpStream::connect(server.local_addr()).expect("it listens");
    let request = "GET /mute HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    mute.write_all(request.as_bytes()).expect("it takes it");
    let joined = Instant::now();
    let _ = mute.read(&mut [0; 512]).expect("it answers");
    thread::sleep(s(1));
    drop(server);
    first.says(joined, "signaling Lost", s(3));
    let (at, said) = first.says(joined, "closed", s(12));
    assert!(at - joined < Duration::from_millis(8_500), "{:?}", at - joined);
    assert!(said.contains("never answered"), "{said}");
}

#[test]
fn a_peer_that_leaves_one_network_for_another_plays_on_over_the_same_link() {
    leaves_one_network_for_another("any", None);
}

#[test]
fn a_peer_that_leaves_one_network_for_another_keeps_the_port_that_all_its_peers_share() {
    leaves_one_network_for_another("one", Some(5000));
}

fn leaves_one_network_for_another(test: &str, port: Option<u16>) {
    let Some(spaces) = Spaces::make(test) else { return };
    let start = Instant::now();
    let server = Actor::server_in(&format!("{}:3536", spaces::SERVER), &spaces.name("hub"));
    server.says(start, "listens", PATIENCE);
    let url = format!("ws://{}:3536/moving", spaces::SERVER);
    let a = Actor::peer_in("a", &url, &spaces.name("a"), port);
    a.id(start);
    let b = Actor::peer_in("b", &url, &spaces.name("b"), port);
    let (mut peers, ids) = met([a, b], start);
    // Any, where none is given.
    let port = port.map_or_else(String::new, |port| format!("{port} "));
    let at = |ip: &str| format!("path {} host udp {ip}:{port}", ids[1]);
    peers[0].says(start, &at("10.77.1.2"), PATIENCE);
    peers[0].order("blob");
    peers[1].says(start, "blob of", PATIENCE);
    let left = Instant::now();
    spaces.wifi_down();
    thread::sleep(s(1));
    spaces.lte_up();
    peers[0].says(left, &at("10.77.2.2"), s(9));
    let mended = left.elapsed().as_secs_f64();
    eprintln!("figure: on another path {mended:.1} s after the network went, 1 s of which there was none");
    hears_more(&peers[0], &ids[1]);
    hears_more(&peers[1], &ids[0]);
    peers[1].says(start, &format!("blob of {} whole", ids[0]), PATIENCE);
    assert!(!peers.iter().any(|peer| peer.has_said(start, "blob failed")));
    all_came(&mut peers, &ids, start);
}
