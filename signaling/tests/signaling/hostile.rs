//! Does a peer that does what it must not hurt anybody but itself?

use std::time::Duration;

use coplay_proto::{
    PeerId,
    signal::{ServerMessage, Signal, SignalError},
};
use coplay_signaling::{Config, Limits, MAX_MESSAGE, Occupancy, Rate, Running, Stun, Timing};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::Message;

use crate::client::*;

/// A WebSocket of the room `r`, by hand.
const UPGRADE: &[u8] = b"GET /r HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Two peers that mean well.
async fn pair(server: &Running) -> (Client, Client) {
    let (mut a, _) = Client::coplay(server, "/r").await;
    let (b, _) = Client::coplay(server, "/r").await;
    a.hears(ServerMessage::NewPeer(b.me)).await;
    (a, b)
}

/// Lets `mallory` in, and has the others hear of it.
async fn intruder(server: &Running, a: &mut Client, b: &mut Client) -> Client {
    let (mallory, _) = Client::coplay(server, "/r").await;
    a.hears(ServerMessage::NewPeer(mallory.me)).await;
    b.hears(ServerMessage::NewPeer(mallory.me)).await;
    mallory
}

/// The others hear that it is gone, and are as they were.
async fn gone(mallory: PeerId, a: &mut Client, b: &mut Client) {
    a.hears(ServerMessage::PeerLeft(mallory)).await;
    b.hears(ServerMessage::PeerLeft(mallory)).await;
    a.reaches(b).await;
    b.reaches(a).await;
}

#[tokio::test]
async fn a_signal_does_not_leave_its_room() {
    let server = plain();
    let (mut a, mut b) = pair(&server).await;
    let (mut mallory, _) = Client::coplay(&server, "/another-room").await;
    mallory.signal(a.me, offer("v=0")).await;
    mallory.signal(PeerId::from_u128(1), offer("v=0")).await;
    // It is not even told whether that peer exists. What comes back next is the answer to this ping.
    mallory.socket.send(Message::Ping("over?".into())).await.unwrap();
    assert_eq!(mallory.socket.next().await.unwrap().unwrap(), Message::Pong("over?".into()));
    b.reaches(&mut a).await;
}

#[tokio::test]
async fn a_signal_to_oneself_and_a_false_sender_are_of_no_use() {
    let server = plain();
    let (mut a, mut b) = pair(&server).await;
    let mut mallory = intruder(&server, &mut a, &mut b).await;
    let (id, b_id) = (mallory.me, uuid(b.me));
    // It says that b sends this; a is told the truth.
    mallory
        .say(format!(
            r#"{{"Signal":{{"sender":"{b_id}","receiver":"{}","data":{{"IceCandidate":"null"}}}}}}"#,
            uuid(a.me)
        ))
        .await;
    a.hears(ServerMessage::Signal { sender: id, data: Signal::IceCandidate("null".into()) }).await;
    mallory.signal(id, offer("v=0")).await;
    let (error, code) = mallory.dismissed().await;
    assert!(matches!(error, SignalError::Malformed { .. }) && code == 4400, "{error} {code}");
    gone(id, &mut a, &mut b).await;
}

#[tokio::test]
async fn garbage_closes_who_sent_it() {
    let server = plain();
    let (mut a, mut b) = pair(&server).await;
    let a_id = uuid(a.me);
    let to_a = |data: &str| Message::text(format!(r#"{{"Signal":{{"receiver":"{a_id}","data":{data}}}}}"#));
    let garbage = [
        Message::text("garbage"),
        Message::text(""),
        Message::text("{\"Signal\":"),
        Message::text("[".repeat(60_000)),
        Message::text(r#"{"IdAssigned":"00000000-0000-0000-0000-000000000001"}"#),
        Message::binary(vec![0_u8; 100]),
        Message::binary(br#""KeepAlive""#.to_vec()),
        to_a(r#"{"Offer":"this is no SDP"}"#),
        to_a(r#"{"IceCandidate":"this is no JSON"}"#),
        to_a(r#"{"Evil":1}"#),
        to_a("null"),
    ];
    for message in garbage {
        let mut mallory = intruder(&server, &mut a, &mut b).await;
        mallory.socket.send(message.clone()).await.unwrap();
        let (error, code) = mallory.dismissed().await;
        assert!(matches!(error, SignalError::Malformed { .. }) && code == 4400, "{message:.60}: {error} {code}");
        gone(mallory.me, &mut a, &mut b).await;
    }
    // A peer without the subprotocol only sees the code.
    let mut mallory = Client::stock(&server, "/r").await;
    mallory.say("garbage").await;
    assert_eq!(mallory.closed().await, Some(4400));
}

#[tokio::test]
async fn a_megabyte_of_json_is_not_even_read() {
    let server = plain();
    let (mut a, mut b) = pair(&server).await;
    for text in [format!("[{}0]", "0,".repeat(500_000)), format!("\"{}\"", "x".repeat(MAX_MESSAGE))] {
        let mut mallory = intruder(&server, &mut a, &mut b).await;
        // The server may close before it took everything.
        let _ = mallory.socket.send(Message::text(text)).await;
        let _ = mallory.closed().await;
        gone(mallory.me, &mut a, &mut b).await;
    }
    // In many frames of a legal size, none of which ends the message.
    let mut mallory = intruder(&server, &mut a, &mut b).await;
    use tokio_tungstenite::tungstenite::protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    };
    for count in 0..100 {
        let kind = if count == 0 { Data::Text } else { Data::Continue };
        let frame = Frame::message(vec![b' '; 10_000], OpCode::Data(kind), false);
        if mallory.socket.send(Message::Frame(frame)).await.is_err() {
            break;
        }
    }
    let _ = mallory.closed().await;
    gone(mallory.me, &mut a, &mut b).await;
}

#[tokio::test]
async fn what_is_not_a_websocket_after_all_is_closed() {
    let server = plain();
    let (mut a, mut b) = pair(&server).await;
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(UPGRADE).await.unwrap();
    let ServerMessage::NewPeer(mallory) = a.next().await else { panic!("not a newcomer") };
    b.hears(ServerMessage::NewPeer(mallory)).await;
    stream.write_all(&[0xff; 64]).await.unwrap();
    let mut rest = Vec::new();
    let _ = soon("the end", stream.read_to_end(&mut rest)).await;
    gone(mallory, &mut a, &mut b).await;
    // And half a request, and none.
    assert!(raw(&server, "garbage\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    drop(TcpStream::connect(server.local_addr()).await.unwrap());
    a.reaches(&mut b).await;
}

#[tokio::test]
async fn who_asks_and_does_not_wait_leaves_nothing_behind() {
    let server = plain();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
        stream.write_all(UPGRADE).await.unwrap();
    }
    let (last, _) = Client::coplay(&server, "/last").await;
    last.leave().await;
    until(&server, Occupancy::default()).await;
}

#[tokio::test]
async fn a_bad_url_is_answered_with_what_is_wrong_and_hurts_nobody() {
    let server = plain();
    let (mut a, mut b) = pair(&server).await;
    for path in [
        "/r?next=0",
        "/r?next=",
        "/r?next=4294967296",
        "/r?max=0",
        "/r?topology=ring",
        "/a/b",
        "/%00",
        "/r?next=2&existing=1",
    ] {
        let (status, text) = Client::denied(&server, path).await;
        assert_eq!(status, 400, "{path}");
        assert!(text.len() > 20, "{path}: {text}");
        let (error, code) = Client::refused(&server, path).await;
        assert!(matches!(error, SignalError::Malformed { .. }) && code == 4400, "{path}: {error} {code}");
    }
    a.reaches(&mut b).await;
    // What such a request once broke in another server: all joins after it.
    let (_, welcome) = Client::coplay(&server, "/r?next=2").await;
    assert_eq!(welcome.members.len(), 1);
    let long = format!("/{}", "x".repeat(60_000));
    assert!(Client::open(&server, &long, false).await.is_err());
    a.reaches(&mut b).await;
}

#[tokio::test]
async fn who_does_not_read_is_closed_while_others_are_served() {
    let burst = Rate { frames: u32::MAX, bytes: u32::MAX };
    let limits = Limits { burst, ..Limits::default() };
    let timing = Timing { close: Duration::from_secs(20), ..Timing::default() };
    let much = (Limits { queue_bytes: 64 * 1024, ..limits }, Timing { write: Duration::from_secs(60), ..timing });
    let many = (Limits { queue_frames: 4, ..limits }, Timing { write: Duration::from_secs(60), ..timing });
    let long = (
        Limits { queue_bytes: u32::MAX, queue_frames: 100_000, ..limits },
        Timing { write: Duration::from_millis(30), ..timing },
    );
    for (limits, timing) in [much, many, long] {
        let server = start(Config { limits, timing, ..Config::local().stun(Stun::Off) });
        let (mut a, mut b) = pair(&server).await;
        let mut sleeper = intruder(&server, &mut a, &mut b).await;
        // Until it is found out, as much goes to it as the kernel's buffers hold: a few megabytes.
        let large = offer(format!("v=0{}", "x".repeat(16_000)));
        let between = ServerMessage::Signal { sender: a.me, data: offer("v=0 between") };
        for round in 0.. {
            assert!(round < 500, "80 MB wait for a peer that does not read");
            for _ in 0..10 {
                a.signal(sleeper.me, large.clone()).await;
            }
            // The others do not wait for it.
            a.signal(b.me, offer("v=0 between")).await;
            let heard = b.next().await;
            if heard != between {
                assert_eq!(heard, ServerMessage::PeerLeft(sleeper.me));
                b.hears(between).await;
                break;
            }
        }
        a.hears(ServerMessage::PeerLeft(sleeper.me)).await;
        a.reaches(&mut b).await;
        assert_eq!(sleeper.closed().await, Some(1013));
        until(&server, Occupancy { rooms: 1, peers: 2 }).await;
    }
}

#[tokio::test]
async fn who_sends_too_much_is_closed() {
    let limits =
        Limits { burst: Rate { frames: 50, bytes: 10_000 }, rate: Rate { frames: 1, bytes: 1 }, ..Limits::default() };
    let server = start(Config { limits, ..Config::local().stun(Stun::Off) });
    let (mut a, mut b) = pair(&server).await;
    // In frames.
    let mut mallory = intruder(&server, &mut a, &mut b).await;
    for _ in 0..100 {
        if mallory.socket.send(Message::text("\"KeepAlive\"")).await.is_err() {
            break;
        }
    }
    assert_eq!(mallory.dismissed().await, (SignalError::TooMuch, 4429));
    gone(mallory.me, &mut a, &mut b).await;
    // In bytes, to a peer that is none: nobody else hears of it.
    let mut mallory = intruder(&server, &mut a, &mut b).await;
    for _ in 0..4 {
        mallory.signal(PeerId::from_u128(1), offer(format!("v=0{}", "x".repeat(4_000)))).await;
    }
    assert_eq!(mallory.dismissed().await, (SignalError::TooMuch, 4429));
    gone(mallory.me, &mut a, &mut b).await;
    // In pings.
    let mut mallory = intruder(&server, &mut a, &mut b).await;
    for _ in 0..100 {
        if mallory.socket.send(Message::Ping("x".into())).await.is_err() {
            break;
        }
    }
    assert_eq!(mallory.closed().await, Some(4429));
}

#[tokio::test]
async fn who_says_nothing_is_pinged_and_then_closed() {
    let timing = Timing {
        ping_after: Duration::from_millis(40),
        close_after: Duration::from_millis(500),
        close: Duration::from_millis(100),
        ..Timing::default()
    };
    let server = start(Config { timing, ..Config::local().stun(Stun::Off) });
    // Bytes on a socket, so that nothing answers pings of itself.
    let mut silent = TcpStream::connect(server.local_addr()).await.unwrap();
    silent.write_all(UPGRADE).await.unwrap();
    let mut heard = Vec::new();
    let _ = soon("the end", silent.read_to_end(&mut heard)).await;
    let text = String::from_utf8_lossy(&heard).into_owned();
    assert!(text.contains("101 Switching Protocols") && text.contains("IdAssigned"), "{text}");
    let ping = heard.windows(2).position(|two| two == [0x89, 0]).expect("a ping");
    let code = 4408_u16.to_be_bytes();
    let close = heard.windows(4).position(|four| four[0] == 0x88 && four[2..] == code).expect("a close frame");
    assert!(ping < close);
    until(&server, Occupancy::default()).await;

    // Who answers the pings (as every WebSocket library does) stays, although it says nothing else.
    let mut quiet = Client::stock(&server, "/r").await;
    for _ in 0..8 {
        match soon("a ping", quiet.socket.next()).await {
            Some(Ok(Message::Ping(_))) => (),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(server.occupancy(), Occupancy { rooms: 1, peers: 1 });
}

#[tokio::test]
async fn who_connects_and_says_nothing_takes_no_place() {
    let timing = Timing { request: Duration::from_millis(50), ..Timing::default() };
    let limits = Limits { connections: 8, ..Limits::default() };
    let server = start(Config { timing, limits, ..Config::local().stun(Stun::Off) });
    let mut mute = Vec::new();
    for begin in ["", "G", "GET /r HTTP/1.1\r\nHost: "].into_iter().cycle().take(20) {
        let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
        let _ = stream.write_all(begin.as_bytes()).await;
        mute.push(stream);
    }
    for stream in &mut mute {
        let mut nothing = Vec::new();
        let _ = soon("the server to give up", stream.read_to_end(&mut nothing)).await;
    }
    let (mut a, mut b) = pair(&server).await;
    a.reaches(&mut b).await;
}

fn uuid(peer: PeerId) -> uuid::Uuid {
    peer.into()
}
