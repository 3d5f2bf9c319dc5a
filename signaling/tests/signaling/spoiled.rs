//! Messages of real peers, cut, flipped and spliced: is each passed on whole, or refused, and does only its sender suffer?

use std::cell::Cell;

use coplay_proto::{
    PeerId, Term,
    signal::{ClientMessage, Leader, ServerMessage, Signal, SignalError},
};
use coplay_signaling::{MAX_MESSAGE, Running};
use futures_util::{SinkExt, StreamExt};
use matchbox_protocol::JsonPeerEvent;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngSeed, TestRunner},
};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

use crate::client::*;

#[path = "../../../crates/socket/tests/common/changes.rs"]
mod changes;

use changes::{Change, changed};

const SDP: &str = "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
    m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:4ZcD\r\n\
    a=ice-pwd:2/1muCWoOi3uLifh0NuRHlQC\r\na=ice-options:trickle\r\na=fingerprint:sha-256 D1:2C:BE:AD:C4:F6:64:5C:25:16:11:9C:AF:E7:0F:73:79:36:4E:9C:1E:15:54:39:0C:06:8B:ED:96:86:00:39\r\na=setup:active\r\na=mid:0\r\na=sctp-port:5000\r\n";
const CANDIDATE: &str = r#"{"candidate":"candidate:842163049 1 udp 1677729535 192.0.2.7 46154 typ srflx raddr 10.0.0.7 rport 46154 generation 0 ufrag 4ZcD","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"4ZcD"}"#;

/// What is said, to the first of the two others or to the second, and how it is spoiled: as a whole, and within.
#[derive(Clone, Debug)]
struct Said {
    to: usize,
    signal: Option<Signal>,
    within: Vec<Change>,
    whole: Vec<Change>,
}

impl Said {
    fn text(&self, others: [PeerId; 2]) -> String {
        let spoil = |text: &str, donor| changed(text, donor, &self.within);
        let message = self.signal.as_ref().map_or(ClientMessage::KeepAlive, |signal| ClientMessage::Signal {
            receiver: others[self.to],
            data: match signal {
                Signal::Offer(sdp) => Signal::Offer(spoil(sdp, CANDIDATE)),
                Signal::Answer(sdp) => Signal::Answer(spoil(sdp, CANDIDATE)),
                Signal::IceCandidate(json) => Signal::IceCandidate(spoil(json, SDP)),
            },
        });
        let donor = ClientMessage::Signal { receiver: others[1 - self.to], data: Signal::IceCandidate("null".into()) };
        let [text, donor] = [message, donor].map(|message| serde_json::to_string(&message).unwrap());
        let mut text = changed(&text, &donor, &self.whole);
        text.truncate(text.floor_char_boundary(MAX_MESSAGE));
        text
    }
}

fn said() -> impl Strategy<Value = Said> {
    let signal = prop_oneof![
        Just(None),
        Just(Some(Signal::Offer(SDP.into()))),
        Just(Some(Signal::Answer(SDP.into()))),
        Just(Some(Signal::IceCandidate(CANDIDATE.into()))),
        Just(Some(Signal::IceCandidate("null".into()))),
    ];
    let changes = || {
        let change =
            (any::<u8>(), any::<u16>(), any::<u16>(), any::<u8>()).prop_map(|(a, b, c, d)| Change::new(a, b, c, d));
        prop_oneof![3 => Just(Vec::new()), 1 => vec(change, 1..4)]
    };
    (0..2_usize, signal, changes(), changes()).prop_map(|(to, signal, within, whole)| Said {
        to,
        signal,
        within,
        whole,
    })
}

/// What became of it all.
#[derive(Default)]
struct Outcomes {
    passed_on: Cell<u32>,
    refused: Cell<u32>,
    unheard: Cell<u32>,
}

fn count(cell: &Cell<u32>) {
    cell.set(cell.get() + 1);
}

/// What is passed on is of the shape that `docs/SIGNALING.md` promises.
fn is_well_formed(signal: &Signal) -> bool {
    match signal {
        Signal::Offer(sdp) | Signal::Answer(sdp) => {
            sdp.starts_with("v=0") && sdp.contains("a=fingerprint:") && sdp.len() <= 16 * 1024
        }
        Signal::IceCandidate(json) => {
            let candidate = serde_json::from_str::<Value>(json).unwrap();
            json.len() <= 1024 && (candidate.is_null() || candidate["candidate"].is_string())
        }
    }
}

/// Reads until the end that is due: the marker, or that `mallory` left. Counts what else was passed on.
async fn read_on(reader: &mut Client, mallory: PeerId, left: bool) -> u32 {
    let mut passed_on = 0;
    loop {
        let text = reader.text().await;
        match serde_json::from_str(&text).unwrap() {
            ServerMessage::PeerLeft(peer) if left => {
                assert_eq!(peer, mallory);
                return passed_on;
            }
            ServerMessage::Signal { sender, data } => {
                assert_eq!(sender, mallory);
                text.parse::<JsonPeerEvent>().expect("a stock peer understands it");
                if data == offer("marker") {
                    assert!(!left);
                    return passed_on;
                }
                assert!(is_well_formed(&data), "{data:?}");
                passed_on += 1;
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn tell_all(server: &Running, room: &str, all: &[Said], outcomes: &Outcomes) {
    // Who came first makes the offers to both others.
    let (mut mallory, _) = Client::coplay(server, room).await;
    let (mut a, _) = Client::coplay(server, room).await;
    // One of the two is as unmodified as can be.
    let mut b = Client::stock(server, room).await;
    mallory.hears(ServerMessage::NewPeer(a.me)).await;
    mallory.hears(ServerMessage::NewPeer(b.me)).await;
    a.hears(ServerMessage::NewPeer(b.me)).await;
    let mut told = 0_i32;
    let mut left = false;
    for said in all {
        mallory.say(said.text([a.me, b.me])).await;
        told += 1;
        // What comes back is an answer to this, or why the server closes.
        let _ = mallory.socket.send(Message::Ping("still there?".into())).await;
        match soon("an answer", mallory.socket.next()).await {
            Some(Ok(Message::Pong(_))) => {}
            Some(Ok(Message::Text(text))) => {
                let ServerMessage::Error(SignalError::Malformed { detail }) = serde_json::from_str(&text).unwrap()
                else {
                    panic!("{text}")
                };
                assert!(!detail.is_empty() && detail.len() <= 200, "{detail}");
                assert_eq!(mallory.closed().await, Some(4400));
                left = true;
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    if !left {
        for to in [a.me, b.me] {
            mallory.signal(to, offer("marker")).await;
        }
    }
    for reader in [&mut a, &mut b] {
        for _ in 0..read_on(reader, mallory.me, left).await {
            count(&outcomes.passed_on);
            told -= 1;
        }
    }
    if left {
        count(&outcomes.refused);
        told -= 1;
    }
    assert!(told >= 0, "something was passed on twice, or both passed on and refused");
    (0..told).for_each(|_| count(&outcomes.unheard));
    if left {
        a.hears(ServerMessage::Leader(Leader { peer: a.me, term: Term(2) })).await;
    }
    // The others are as they were.
    a.reaches(&mut b).await;
    b.reaches(&mut a).await;
}

#[test]
fn spoiled_messages_are_passed_on_whole_or_close_who_sent_them() {
    // So many cases, the same each time; or as many new ones as PROPTEST_CASES says.
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let rng_seed = if asked.is_some() { RngSeed::Random } else { RngSeed::Fixed(7) };
    let cases = Config {
        failure_persistence: None,
        max_shrink_iters: 500,
        rng_seed,
        ..Config::with_cases(asked.unwrap_or(150))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (server, rooms, outcomes) = (plain(), Cell::new(0), Outcomes::default());
    let result = TestRunner::new(cases).run(&vec(said(), 1..8), |all| {
        rooms.set(rooms.get() + 1);
        runtime.block_on(tell_all(&server, &format!("/{}", rooms.get()), &all, &outcomes));
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    let Outcomes { passed_on, refused, unheard } = outcomes;
    let all = [passed_on, refused, unheard].map(Cell::into_inner);
    assert!(asked.is_some() || all.iter().all(|&count| count > 20), "it comes to every end: {all:?}");
}
