//! Are the words that we share with `matchbox_socket` the same to the byte?

use coplay_proto::{
    PeerId,
    signal::{ClientMessage, ServerMessage, Signal},
};
use matchbox_protocol::{JsonPeerEvent, JsonPeerRequest};
use serde_json::json;
use uuid::Uuid;

use crate::client::*;

fn signals() -> [Signal; 4] {
    [
        offer("\"ä\\"),
        answer("b"),
        Signal::IceCandidate(r#"{"candidate":""}"#.into()),
        Signal::IceCandidate("null".into()),
    ]
}

#[test]
fn our_messages_are_those_of_matchbox() {
    let id = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
    let (ours, theirs) = (PeerId::from(id), matchbox_protocol::PeerId(id));
    let mut events = vec![
        (ServerMessage::IdAssigned(ours), JsonPeerEvent::IdAssigned(theirs)),
        (ServerMessage::NewPeer(ours), JsonPeerEvent::NewPeer(theirs)),
        (ServerMessage::PeerLeft(ours), JsonPeerEvent::PeerLeft(theirs)),
    ];
    let mut requests = vec![(ClientMessage::KeepAlive, JsonPeerRequest::KeepAlive)];
    for signal in signals() {
        let data = json!(signal);
        events.push((
            ServerMessage::Signal { sender: ours, data: signal.clone() },
            JsonPeerEvent::Signal { sender: theirs, data: data.clone() },
        ));
        requests.push((
            ClientMessage::Signal { receiver: ours, data: signal },
            JsonPeerRequest::Signal { receiver: theirs, data },
        ));
    }
    for (ours, theirs) in events {
        let text = serde_json::to_string(&ours).unwrap();
        assert_eq!(text, theirs.to_string());
        assert_eq!(text.parse::<JsonPeerEvent>().unwrap(), theirs);
        assert_eq!(serde_json::from_str::<ServerMessage>(&theirs.to_string()).unwrap(), ours);
    }
    for (ours, theirs) in requests {
        let text = serde_json::to_string(&ours).unwrap();
        assert_eq!(text, theirs.to_string());
        assert_eq!(text.parse::<JsonPeerRequest>().unwrap(), theirs);
        assert_eq!(serde_json::from_str::<ClientMessage>(&theirs.to_string()).unwrap(), ours);
    }
}

#[tokio::test]
async fn everything_a_stock_peer_is_sent_is_a_matchbox_event() {
    let server = plain();
    let mut a = Client::stock(&server, "/r").await;
    let (mut b, _) = Client::coplay(&server, "/r").await;
    let b_id = matchbox_protocol::PeerId(b.me.into());
    assert_eq!(a.text().await.parse::<JsonPeerEvent>().unwrap(), JsonPeerEvent::NewPeer(b_id));
    for signal in signals() {
        // The one that came first offers; the stock peer here.
        let (from, to) = if matches!(signal, Signal::Answer(_)) { (&mut b, &mut a) } else { (&mut a, &mut b) };
        let sender = matchbox_protocol::PeerId(from.me.into());
        let request =
            JsonPeerRequest::Signal { receiver: matchbox_protocol::PeerId(to.me.into()), data: json!(signal) };
        from.say(request.to_string()).await;
        let event = JsonPeerEvent::Signal { sender, data: json!(signal) };
        assert_eq!(to.text().await, event.to_string());
    }
    // A leader changes, of which a stock peer hears nothing: the next is the leaving of c.
    let (c, _) = Client::coplay(&server, "/r").await;
    let c_id = matchbox_protocol::PeerId(c.me.into());
    assert_eq!(a.text().await.parse::<JsonPeerEvent>().unwrap(), JsonPeerEvent::NewPeer(c_id));
    b.leave().await;
    assert_eq!(a.text().await.parse::<JsonPeerEvent>().unwrap(), JsonPeerEvent::PeerLeft(b_id));
    c.leave().await;
    assert_eq!(a.text().await.parse::<JsonPeerEvent>().unwrap(), JsonPeerEvent::PeerLeft(c_id));
}
