//! Does the server relay between those that are to be connected and want it, within its limits, and between nobody else?

use std::time::Duration;

use bytes::Bytes;
use coplay_proto::{
    PeerId,
    signal::{
        Signal, SignalError, Welcome,
        lobby::{Credentials, RoomCommand},
        relay::{FrameKind, MAX_FRAME, RelayFrame, RelayOffer},
    },
};
use coplay_signaling::{Config, Limits, Rate, RelayLimits, Running, Stun};
use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Client, candidate, http, plain, soon, start};

const KINDS: [FrameKind; 3] = [FrameKind::Hello, FrameKind::Unreliable, FrameKind::Reliable];

fn relaying(relay: Option<RelayLimits>) -> Running {
    let limits = Limits { relay, ..Limits::default() };
    start(Config { limits, ..Config::local().stun(Stun::Off) })
}

/// A peer that takes relayed frames.
async fn enter(server: &Running, path: &str) -> (Client, Box<Welcome>) {
    let credentials = Credentials { relays: true, ..Credentials::default() };
    Client::from(server, path, &credentials, "127.0.0.1").await.unwrap()
}

/// Two of them in a room, all that signaling says to them already heard.
async fn two(server: &Running) -> (Client, Client) {
    let (mut one, _) = enter(server, "/room").await;
    let (other, _) = enter(server, "/room").await;
    one.next().await;
    (one, other)
}

fn frame(peer: PeerId, kind: FrameKind, body: impl Into<Bytes>) -> RelayFrame {
    RelayFrame { peer, kind, body: body.into() }
}

impl Client {
    async fn relay(&mut self, peer: PeerId, kind: FrameKind, body: impl Into<Bytes>) {
        self.binary(frame(peer, kind, body).write()).await;
    }

    async fn binary(&mut self, frame: Bytes) {
        self.socket.send(Message::Binary(frame)).await.unwrap();
    }

    /// The next relayed frame, whatever signaling says before it.
    async fn relayed(&mut self) -> RelayFrame {
        loop {
            match soon("a frame", self.socket.next()).await {
                Some(Ok(Message::Binary(frame))) => return RelayFrame::read(frame).unwrap(),
                Some(Ok(Message::Close(_)) | Err(_)) | None => panic!("closed, and no frame"),
                Some(Ok(_)) => (),
            }
        }
    }

    /// What of so many frames comes before a signal that is sent after them.
    async fn relayed_before_a_signal(&mut self) -> Vec<RelayFrame> {
        let mut frames = Vec::new();
        loop {
            match soon("a frame", self.socket.next()).await {
                Some(Ok(Message::Binary(frame))) => frames.push(RelayFrame::read(frame).unwrap()),
                Some(Ok(Message::Text(text))) if text.contains("Signal") => return frames,
                Some(Ok(Message::Close(_)) | Err(_)) | None => panic!("closed"),
                Some(Ok(_)) => (),
            }
        }
    }
}

/// What comes of so many frames, the others of which the server drops for this reason.
async fn passed(other: &mut Client, server: &Running, sent: u64, why: &str) -> Vec<RelayFrame> {
    let mut frames = Vec::new();
    while frames.len() as u64 + metric(server, &format!("relay_dropped_total{{why=\"{why}\"}}")).await < sent {
        if let Ok(frame) = timeout(Duration::from_millis(100), other.relayed()).await {
            frames.push(frame);
        }
    }
    frames
}

/// The value of a metric.
async fn metric(server: &Running, name: &str) -> u64 {
    let text = http(server, "/metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("coplay_{name} ")));
    line.map_or(0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn frames_of_every_kind_come_with_their_true_sender() {
    let server = plain();
    let (mut one, mut other) = two(&server).await;
    for kind in KINDS {
        for body in [vec![], vec![1, 2, 3], vec![9; MAX_FRAME - 17]] {
            one.relay(other.me, kind, body.clone()).await;
            assert_eq!(other.relayed().await, frame(one.me, kind, body.clone()));
            other.relay(one.me, kind, body.clone()).await;
            assert_eq!(one.relayed().await, frame(other.me, kind, body));
        }
    }
    assert_eq!(metric(&server, "relay_pairs_total").await, 1);
    assert_eq!(metric(&server, "relayed_frames_total").await, 18);
    assert!(metric(&server, "relayed_bytes_total{via=\"websocket\"}").await >= 6 * MAX_FRAME as u64);
}

#[tokio::test]
async fn a_welcome_says_whether_and_how_much_is_relayed() {
    let offer = |limits: RelayLimits| RelayOffer { bytes: limits.peer.bytes, frames: limits.peer.frames };
    let server = plain();
    assert_eq!(enter(&server, "/room").await.1.relay, Some(offer(RelayLimits::default())));
    let (_quiet, welcome) = Client::coplay(&server, "/room").await;
    assert_eq!(welcome.relay, None, "it did not ask");
    let off = relaying(None);
    assert_eq!(enter(&off, "/room").await.1.relay, None);
}

#[tokio::test]
async fn peers_that_did_not_ask_may_send_no_binary_frame() {
    let server = plain();
    for mut client in [Client::coplay(&server, "/room").await.0, Client::stock(&server, "/other").await] {
        client.binary(frame(PeerId::from_u128(5), FrameKind::Reliable, "x").write()).await;
        assert_eq!(client.closed().await, Some(4400));
    }
    let off = relaying(None);
    let (mut client, _) = enter(&off, "/room").await;
    client.binary(frame(PeerId::from_u128(5), FrameKind::Reliable, "x").write()).await;
    assert!(matches!(client.dismissed().await, (SignalError::Malformed { .. }, 4400)));
}

#[tokio::test]
async fn what_cannot_be_relayed_closes_who_sent_it() {
    let server = plain();
    let (one, mut other) = two(&server).await;
    for bad in [
        Bytes::new(),
        vec![0; 16].into(),
        vec![7; 17].into(),
        vec![0; MAX_FRAME + 1].into(),
        frame(one.me, FrameKind::Refused, "").write(),
    ] {
        let (mut client, _) = enter(&server, "/room").await;
        client.binary(bad).await;
        assert_eq!(client.closed().await, Some(4400));
    }
    let (mut client, _) = enter(&server, "/room").await;
    client.relay(client.me, FrameKind::Hello, "to oneself").await;
    assert_eq!(client.closed().await, Some(4400));
    one_to_other(one, &mut other).await;
}

async fn one_to_other(mut one: Client, other: &mut Client) {
    one.relay(other.me, FrameKind::Reliable, "still well").await;
    assert_eq!(other.relayed().await.body, "still well");
}

#[tokio::test]
async fn strangers_get_nothing_and_who_says_hello_to_one_is_told() {
    let server = plain();
    let (mut one, mut other) = two(&server).await;
    let (mut elsewhere, _) = enter(&server, "/elsewhere").await;
    let (quiet, _) = Client::coplay(&server, "/room").await;
    let stock = Client::stock(&server, "/room").await;
    for to in [elsewhere.me, quiet.me, stock.me, PeerId::from_u128(7)] {
        for kind in [FrameKind::Unreliable, FrameKind::Reliable, FrameKind::Hello] {
            one.relay(to, kind, "who are you").await;
        }
        assert_eq!(one.relayed().await, frame(to, FrameKind::Refused, ""), "and of the others not a word");
    }
    one.relay(other.me, FrameKind::Hello, "hello").await;
    assert_eq!(other.relayed().await.body, "hello");
    // They have heard nothing: what comes next is what was sent last.
    let (mut friend, _) = enter(&server, "/elsewhere").await;
    friend.relay(elsewhere.me, FrameKind::Hello, "hello").await;
    assert_eq!(elsewhere.relayed().await.body, "hello");
    quiet.leave().await;
    assert_eq!(metric(&server, "relay_dropped_total{why=\"stranger\"}").await, 12);
}

#[tokio::test]
async fn guests_of_a_host_room_do_not_reach_each_other() {
    let server = plain();
    let (mut host, _) = enter(&server, "/room?topology=host").await;
    let (mut one, _) = enter(&server, "/room").await;
    let (mut other, _) = enter(&server, "/room").await;
    one.relay(other.me, FrameKind::Hello, "psst").await;
    assert_eq!(one.relayed().await, frame(other.me, FrameKind::Refused, ""));
    one.relay(host.me, FrameKind::Hello, "hello").await;
    assert_eq!(host.relayed().await, frame(one.me, FrameKind::Hello, "hello"));
    host.relay(other.me, FrameKind::Hello, "hello").await;
    assert_eq!(other.relayed().await.peer, host.me);
}

#[tokio::test]
async fn who_was_kicked_or_left_is_relayed_to_no_more() {
    let server = plain();
    let (mut one, mut other) = two(&server).await;
    one.relay(other.me, FrameKind::Hello, "hello").await;
    other.relayed().await;
    let kicked = other.me;
    one.tell(&coplay_proto::signal::ClientMessage::Room(RoomCommand::Kick(kicked))).await;
    assert!(matches!(other.dismissed().await, (SignalError::Kicked { .. }, 4403)));
    one.relay(kicked, FrameKind::Reliable, "are you there").await;
    one.relay(kicked, FrameKind::Hello, "are you there").await;
    assert_eq!(one.relayed().await, frame(kicked, FrameKind::Refused, ""));
}

#[tokio::test]
async fn what_is_above_the_rate_is_dropped_and_signals_pass() {
    let peer = Rate { frames: 10, bytes: 1_000_000 };
    let server = relaying(Some(RelayLimits { peer, ..RelayLimits::default() }));
    let (mut one, mut other) = two(&server).await;
    for n in 0..200_u8 {
        one.relay(other.me, FrameKind::Reliable, vec![n]).await;
    }
    one.signal(other.me, candidate()).await;
    // Signals go first: there are no more frames before it than there were to be.
    let mut frames = other.relayed_before_a_signal().await;
    let before = frames.len() as u64;
    frames.extend(passed(&mut other, &server, 200 - before, "rate").await);
    // Two seconds' worth at once, and what time it took.
    assert!((20..100).contains(&frames.len()), "{}", frames.len());
    assert!(frames.iter().zip(0..20).all(|(frame, n)| frame.body[0] == n), "the first came in order");
}

#[tokio::test]
async fn all_together_have_a_limit_too() {
    let total = Rate { frames: 10, bytes: 1_000_000 };
    let server = relaying(Some(RelayLimits { total, ..RelayLimits::default() }));
    let (mut one, mut other) = two(&server).await;
    for _ in 0..200_u8 {
        one.relay(other.me, FrameKind::Unreliable, "x").await;
    }
    let frames = passed(&mut other, &server, 200, "total").await;
    assert!((20..100).contains(&frames.len()), "{}", frames.len());
}

#[tokio::test]
async fn who_sends_far_more_than_it_may_is_closed() {
    let peer = Rate { frames: 1, bytes: 1 };
    let server = relaying(Some(RelayLimits { peer, ..RelayLimits::default() }));
    let (mut one, other) = two(&server).await;
    let frame = frame(other.me, FrameKind::Unreliable, vec![0; 1000]).write();
    for _ in 0..10_000 {
        if one.socket.feed(Message::Binary(frame.clone())).await.is_err() {
            break;
        }
    }
    let _ = one.socket.flush().await;
    assert!(matches!(one.closed().await, Some(4429) | None));
    assert!(metric(&server, "refusals_total{error=\"too_much\"}").await >= 1);
}

#[tokio::test]
async fn a_receiver_that_does_not_read_holds_a_bounded_part_and_its_signals_are_safe() {
    let generous = Rate { frames: 100_000, bytes: 100_000_000 };
    let limits = RelayLimits { peer: generous, total: generous, queue_bytes: 64 * 1024 };
    let server = relaying(Some(limits));
    let (mut one, mut other) = two(&server).await;
    // Far more than the kernel holds for it.
    let sent = 4_000_u32;
    for n in 0..sent {
        let mut body = n.to_be_bytes().to_vec();
        body.resize(8_000, 0);
        let kind = if n % 10 == 0 { FrameKind::Reliable } else { FrameKind::Unreliable };
        one.relay(other.me, kind, body).await;
    }
    one.signal(other.me, Signal::IceCandidate("null".into())).await;
    let frames = other.relayed_before_a_signal().await;
    assert!(frames.len() < sent as usize - 100, "{} of {sent}", frames.len());
    let numbers: Vec<u32> =
        frames.iter().map(|frame| u32::from_be_bytes(frame.body[..4].try_into().unwrap())).collect();
    assert!(numbers.is_sorted(), "in order, whatever was dropped");
    assert!(metric(&server, "relay_dropped_total{why=\"queue\"}").await > 100);
}

#[tokio::test]
async fn frames_wait_for_who_lost_its_connection() {
    let server = plain();
    let credentials = Credentials { relays: true, resumable: true, ..Credentials::default() };
    let (mut one, _) = enter(&server, "/room").await;
    let (lost, welcome) = Client::from(&server, "/room", &credentials, "127.0.0.1").await.unwrap();
    let peer = lost.me;
    drop(lost);
    // The end of the connection is older than what comes now.
    enter(&server, "/room").await.0.leave().await;
    one.relay(peer, FrameKind::Reliable, "while you were away").await;
    let again = Credentials { resume: welcome.resume.clone(), ..credentials };
    let (mut back, welcome) = Client::from(&server, "/room", &again, "127.0.0.1").await.unwrap();
    assert!(welcome.resumed && welcome.relay.is_some());
    assert_eq!(back.relayed().await, frame(one.me, FrameKind::Reliable, "while you were away"));
    back.relay(one.me, FrameKind::Reliable, "thank you").await;
    assert_eq!(one.relayed().await.body, "thank you");
}

#[tokio::test]
async fn menus_take_no_frames() {
    let server = plain();
    for path in ["/-/lobbies", "/-/match?game=g&version=1&size=2"] {
        let mut client = Client::open(&server, path, true).await.unwrap();
        client.binary(frame(PeerId::from_u128(5), FrameKind::Hello, "x").write()).await;
        assert_eq!(client.closed().await, Some(4400), "{path}");
    }
}
