//! Do unmodified `matchbox_socket` peers meet and talk through our signaling, with each other and with ours?
#![cfg(not(target_arch = "wasm32"))]

use std::time::Duration;

use coplay_proto::Lane;
use coplay_signaling::{Config, Running, Signaling};
use coplay_socket::Dialect;
use matchbox_socket::{ChannelConfig, Packet, PeerId, PeerState, RtcIceServerConfig, WebRtcSocket};
use tokio::time::{Instant, interval};

use self::peer::Peer;

#[path = "common/peer.rs"]
mod peer;

/// For anything that is to happen on one machine, a busy one included.
const PATIENCE: Duration = Duration::from_secs(30);

/// As our peers count them: [`Lane::Unreliable`] is channel 0, [`Lane::Reliable`] channel 1.
const UNRELIABLE: usize = 0;
const RELIABLE: usize = 1;

fn server() -> Running {
    Signaling::spawn(Config::local()).expect("it starts")
}

/// An unmodified peer, with the two channels that ours have.
fn matchbox(url: &str) -> WebRtcSocket {
    let (socket, message_loop) = WebRtcSocket::builder(url)
        .ice_server(RtcIceServerConfig { urls: vec![], ..Default::default() })
        .add_channel(ChannelConfig::unreliable())
        .add_channel(ChannelConfig::reliable())
        .build();
    tokio::spawn(message_loop);
    socket
}

/// Looks until there is something: matchbox sockets can only be polled.
async fn poll<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let (start, mut every) = (Instant::now(), interval(Duration::from_millis(5)));
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        every.tick().await;
    }
}

async fn connected(socket: &mut WebRtcSocket) -> PeerId {
    let is_there = |(peer, state)| (state == PeerState::Connected).then_some(peer);
    poll("a peer", || socket.update_peers().into_iter().find_map(is_there)).await
}

async fn received(socket: &mut WebRtcSocket, channel: usize, many: usize) -> Vec<Packet> {
    let mut packets = Vec::new();
    poll("packets", || {
        packets.extend(socket.channel_mut(channel).receive().into_iter().map(|(_, packet)| packet));
        (packets.len() >= many).then_some(())
    })
    .await;
    packets
}

fn words(speaker: &str) -> Vec<Packet> {
    (0..20).map(|number| format!("{speaker} {number}").into_bytes().into()).collect()
}

/// Says twenty words each on the reliable channel; all come, in order.
async fn talk(one: &mut WebRtcSocket, other: &mut WebRtcSocket) {
    let (second, first) = (connected(one).await, connected(other).await);
    for word in words("one") {
        one.channel_mut(RELIABLE).send(word, second);
    }
    for word in words("other") {
        other.channel_mut(RELIABLE).send(word, first);
    }
    assert_eq!(received(other, RELIABLE, 20).await, words("one"));
    assert_eq!(received(one, RELIABLE, 20).await, words("other"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_unmodified_peers_talk_in_a_room_of_ours() {
    let server = server();
    let url = format!("{}/room", server.url());
    let (mut one, mut other) = (matchbox(&url), matchbox(&url));
    talk(&mut one, &mut other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unmodified_peers_are_matched_two_by_two() {
    let server = server();
    let url = format!("{}/quick?next=2", server.url());
    let mut sockets: Vec<_> = (0..4).map(|_| matchbox(&url)).collect();
    let mut partners = Vec::new();
    for socket in &mut sockets {
        let partner = connected(socket).await;
        partners.push((socket.id().expect("it is in the room"), partner));
    }
    for (peer, partner) in &partners {
        assert!(partners.contains(&(*partner, *peer)), "{peer} has a partner that has another");
    }
    for socket in &mut sockets {
        assert_eq!(socket.connected_peers().count(), 1, "a match is of two");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_matched_peers_talk() {
    let server = server();
    let url = format!("{}/quick?next=2", server.url());
    let (mut one, mut other) = (matchbox(&url), matchbox(&url));
    talk(&mut one, &mut other).await;
}

/// Who comes first is offered to or offers: both ways round are to work.
async fn ours_and_theirs_talk(ours_first: bool) {
    let server = server();
    let url = format!("{}/room", server.url());
    let (mut ours, mut theirs) = if ours_first {
        let mut ours = Peer::connect(&url, Dialect::Coplay);
        ours.entered().await;
        (ours, matchbox(&url))
    } else {
        let mut theirs = matchbox(&url);
        poll("its id", || theirs.id()).await;
        (Peer::connect(&url, Dialect::Coplay), theirs)
    };
    let their_id = ours.opened(None).await;
    let our_id = connected(&mut theirs).await;
    for word in words("ours") {
        ours.send(their_id, Lane::Reliable, word);
    }
    assert_eq!(received(&mut theirs, RELIABLE, 20).await, words("ours"));
    for word in words("theirs") {
        theirs.channel_mut(RELIABLE).send(word, our_id);
    }
    for word in words("theirs") {
        assert_eq!(ours.received(their_id, Lane::Reliable).await[..], word[..]);
    }
    // On one machine nothing is lost on the way while so little is sent.
    ours.send(their_id, Lane::Unreliable, b"unreliable".to_vec());
    assert_eq!(*received(&mut theirs, UNRELIABLE, 1).await[0], *b"unreliable");
    theirs.channel_mut(UNRELIABLE).send(Packet::from_static(b"answer"), our_id);
    assert_eq!(ours.received(their_id, Lane::Unreliable).await[..], *b"answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmodified_peer_talks_with_ours_that_was_there_first() {
    ours_and_theirs_talk(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_talks_with_an_unmodified_peer_that_was_there_first() {
    ours_and_theirs_talk(false).await;
}
