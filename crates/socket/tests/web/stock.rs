//! What may a peer do that is no socket of ours?

use bytes::Bytes;
use coplay_proto::{
    Lane, PeerId,
    link::CloseReason,
    signal::{ServerMessage, Signal},
};
use js_sys::{Function, Promise};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;
use wasm_bindgen_test::wasm_bindgen_test;

use super::{
    Page,
    contract::{self, connected, talk, until},
};

/// Someone in the room with a bare connection of the browser's own, which does what no socket of ours does.
struct Stock {
    signals: contract::Intruder,
    me: PeerId,
}

impl Stock {
    /// Before the others, so that offers are its to make.
    fn enter(page: &Page) -> Self {
        let signals = contract::Intruder::enter(&page.rendezvous);
        let me = signals.me.expect("entered");
        Self { signals, me }
    }

    /// Connects with `peers[0]`, by a new connection; `opened` is a script for when its reliable channel is open.
    async fn connect(&mut self, page: &Page, peers: &mut [&mut contract::Peer], opened: &str) {
        let to = peers[0].id();
        let script = format!(
            "const c = globalThis.stock = new RTCPeerConnection();
             const unreliable = c.createDataChannel('matchbox_socket_0',
                 {{negotiated: true, id: 0, ordered: false, maxRetransmits: 0}});
             const reliable = c.createDataChannel('matchbox_socket_1', {{negotiated: true, id: 1}});
             reliable.onopen = () => {{ {opened} }};
             return c.createOffer().then(offer => c.setLocalDescription(offer))
                 .then(() => new Promise(done => c.onicecandidate = e => e.candidate || done()))
                 .then(() => c.localDescription.sdp);"
        );
        let offer = Function::new_no_args(&script).call0(&JsValue::UNDEFINED).expect("it runs");
        let offer = JsFuture::from(Promise::from(offer)).await.expect("an offer").as_string().expect("a text");
        self.signals.say(to, Signal::Offer(offer));
        let mut answer = None;
        until(page, "an answer", peers, |_| {
            while let Some(message) = self.signals.hear() {
                if let ServerMessage::Signal { data: Signal::Answer(sdp), sender } = message
                    && sender == to
                {
                    answer = Some(sdp);
                }
            }
            answer.is_some()
        })
        .await;
        let accept = Function::new_with_args("sdp", "return stock.setRemoteDescription({type: 'answer', sdp})");
        let accepted = accept.call1(&JsValue::UNDEFINED, &answer.expect("it came").into()).expect("it runs");
        JsFuture::from(Promise::from(accepted)).await.expect("a usable answer");
    }
}

#[wasm_bindgen_test]
async fn a_fresh_offer_connects_anew() {
    let page = Page::new();
    let mut stock = Stock::enter(&page);
    let it = stock.me;
    let [mut a, mut b] = connected(&page).await;
    for number in 1..=3 {
        let opened = format!("reliable.send(new Uint8Array([{number}]))");
        stock.connect(&page, &mut [&mut a, &mut b], &opened).await;
        until(&page, "what is sent by the new connection", &mut [&mut a, &mut b], |peers| {
            peers[0].from(it, Lane::Reliable).last().is_some_and(|last| **last == [number])
        })
        .await;
        let before = a.closed.get(&it);
        let anew = matches!(before, Some(CloseReason::Failed(why)) if why.contains("anew"));
        assert!(anew == (number > 1), "{before:?}");
    }
    talk(&page, &mut a, &mut b).await;
}

#[wasm_bindgen_test]
async fn text_is_passed_over() {
    let page = Page::new();
    let mut stock = Stock::enter(&page);
    let it = stock.me;
    let [mut a, mut b] = connected(&page).await;
    stock.connect(&page, &mut [&mut a, &mut b], "reliable.send('text'); reliable.send(new Uint8Array([7]))").await;
    until(&page, "the byte", &mut [&mut a, &mut b], |peers| {
        peers[0].from(it, Lane::Reliable) == [Bytes::from_static(&[7])]
    })
    .await;
}

#[wasm_bindgen_test]
async fn more_bytes_than_a_lane_takes_cost_only_the_link() {
    for too_much in ["reliable.send(new Uint8Array(16385))", "unreliable.send(new Uint8Array(1151))"] {
        let page = Page::new();
        let mut stock = Stock::enter(&page);
        let it = stock.me;
        let [mut a, mut b] = connected(&page).await;
        stock.connect(&page, &mut [&mut a, &mut b], too_much).await;
        until(
            &page,
            "the link is closed",
            &mut [&mut a, &mut b],
            |peers| matches!(peers[0].closed.get(&it), Some(CloseReason::Failed(why)) if why.contains("at once")),
        )
        .await;
        assert!(a.from(it, Lane::Reliable).is_empty() && a.from(it, Lane::Unreliable).is_empty());
        talk(&page, &mut a, &mut b).await;
    }
}
