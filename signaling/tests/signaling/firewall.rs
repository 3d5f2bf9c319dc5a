//! Do peers get the signals of a handshake, in its order, and nothing else?

use coplay_proto::signal::{ServerMessage, Signal, SignalError};
use coplay_signaling::{Config, MAX_CANDIDATES, Stun};

use crate::client::*;

#[tokio::test]
async fn only_who_was_told_of_the_other_offers_and_each_offer_is_answered_once() {
    let server = plain();
    let (mut a, _) = Client::coplay(&server, "/r").await;
    let mut b = Client::stock(&server, "/r").await;
    a.hears(ServerMessage::NewPeer(b.me)).await;
    // None of these arrives; the sender stays, for it may be a matter of timing.
    b.signal(a.me, offer("not b's to make")).await;
    b.signal(a.me, answer("to nothing")).await;
    b.reaches(&mut a).await;
    a.signal(b.me, answer("not a's to make")).await;
    for round in ["first", "again"] {
        a.signal(b.me, offer(round)).await;
        b.hears(ServerMessage::Signal { sender: a.me, data: offer(round) }).await;
        b.signal(a.me, answer(round)).await;
        b.signal(a.me, answer("twice")).await;
        a.hears(ServerMessage::Signal { sender: b.me, data: answer(round) }).await;
        b.reaches(&mut a).await;
    }
    let text = http(&server, "/metrics").await;
    for line in [
        "coplay_signals_total{kind=\"offer\"} 2",
        "coplay_signals_total{kind=\"answer\"} 2",
        "coplay_signals_dropped_total{why=\"role\"} 2",
        "coplay_signals_dropped_total{why=\"answered\"} 3",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[tokio::test]
async fn a_handshake_has_so_many_candidates_and_a_new_one_has_as_many_again() {
    let server = plain();
    let (mut a, _) = Client::coplay(&server, "/r").await;
    let (mut b, _) = Client::coplay(&server, "/r").await;
    a.hears(ServerMessage::NewPeer(b.me)).await;
    for round in ["first", "again"] {
        a.signal(b.me, offer(round)).await;
        b.hears(ServerMessage::Signal { sender: a.me, data: offer(round) }).await;
        for _ in 0..MAX_CANDIDATES {
            b.reaches(&mut a).await;
        }
        b.signal(a.me, candidate()).await;
        b.signal(a.me, answer(round)).await;
        a.hears(ServerMessage::Signal { sender: b.me, data: answer(round) }).await;
    }
}

#[tokio::test]
async fn a_signal_of_the_wrong_shape_closes_who_sent_it_and_reaches_nobody() {
    let server = plain();
    let (mut a, _) = Client::coplay(&server, "/r").await;
    let Signal::Offer(sdp) = offer("x") else { panic!() };
    let bad = [
        Signal::Answer("v=0\r\n".into()),
        // An unmodified native peer panics on it.
        Signal::Answer(sdp.replace("actpass", "active").replace("o=- 1 1 IN IP4 0.0.0.0", "o=x")),
        Signal::Answer(sdp.replace("webrtc-datachannel", "something-else")),
        Signal::Answer(sdp.replace("a=fingerprint", "a=footprint")),
        Signal::Answer(format!("{sdp}m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n")),
        Signal::IceCandidate(r#"{"candidate":"candidate:x y z"}"#.into()),
    ];
    for signal in bad {
        let (mut b, _) = Client::coplay(&server, "/r").await;
        a.hears(ServerMessage::NewPeer(b.me)).await;
        b.signal(a.me, signal).await;
        let (error, code) = b.dismissed().await;
        assert!(matches!(error, SignalError::Malformed { .. }) && code == 4400, "{error}");
        a.hears(ServerMessage::PeerLeft(b.me)).await;
    }
}

#[tokio::test]
async fn opaque_signals_are_passed_on_as_they_are_within_the_room() {
    let server = start(Config { opaque_signals: true, ..Config::local().stun(Stun::Off) });
    let (mut a, _) = Client::coplay(&server, "/r").await;
    let (mut b, _) = Client::coplay(&server, "/r").await;
    a.hears(ServerMessage::NewPeer(b.me)).await;
    let (a_id, b_id) = (uuid::Uuid::from(a.me), uuid::Uuid::from(b.me));
    b.say(format!(r#"{{"Signal":{{"receiver":"{a_id}","data":{{"mine": [1, null]}}}}}}"#)).await;
    let expected = format!(r#"{{"Signal":{{"sender":"{b_id}","data":{{"mine": [1, null]}}}}}}"#);
    assert_eq!(a.text().await, expected);
    let (mut mallory, _) = Client::coplay(&server, "/another").await;
    mallory.say(format!(r#"{{"Signal":{{"receiver":"{a_id}","data":1}}}}"#)).await;
    mallory.say(format!(r#"{{"Signal":{{"receiver":"{}","data":1}}}}"#, uuid::Uuid::from(mallory.me))).await;
    assert_eq!(mallory.closed().await, Some(4400), "to oneself is never of use");
    b.reaches(&mut a).await;
}
