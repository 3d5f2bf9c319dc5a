//! Do links run by themselves in a page?

use std::time::Duration;

use bytes::Bytes;
use coplay_proto::{
    Channel, PeerId,
    link::{CloseReason, LinkConfig, LinkEvent},
};
use coplay_socket::{Network, NetworkEvent};
use wasm_bindgen_test::wasm_bindgen_test;

use super::{Page, contract::Platform};

/// Two games in one page, which know of each other.
async fn networks(page: &Page) -> [(Network, PeerId); 2] {
    let mut networks = [(); 2].map(|()| Network::start(page.enter(), LinkConfig::default()));
    let mut peers = [None; 2];
    let end = page.now() + Duration::from_secs(30);
    while peers.contains(&None) {
        assert!(page.now() < end, "not connected");
        for (network, peer) in networks.iter_mut().zip(&mut peers) {
            while let Some(event) = network.poll() {
                if let NetworkEvent::Link(id, LinkEvent::Opened) = event {
                    *peer = Some(id);
                }
            }
        }
        page.turn().await;
    }
    let [a, b] = networks;
    let [of_a, of_b] = peers.map(|peer| peer.expect("connected"));
    [(a, of_a), (b, of_b)]
}

async fn closed(page: &Page, network: &mut Network) -> CloseReason {
    let end = page.now() + Duration::from_secs(30);
    loop {
        assert!(page.now() < end, "not closed");
        match network.poll() {
            Some(NetworkEvent::Link(_, LinkEvent::Closed(reason))) => return reason,
            Some(_) => {}
            None => page.turn().await,
        }
    }
}

#[wasm_bindgen_test]
async fn links_run_without_a_frame_and_say_goodbye() {
    const COUNT: u32 = 40;
    let page = Page::new();
    let [(mut a, b_id), (mut b, _)] = networks(&page).await;
    // Far more than goes at once: the acks of the first part make room for the next.
    for n in 0..COUNT {
        a.message(b_id, Channel::Events, Bytes::from(vec![n as u8; 10_000])).expect("there is room");
    }
    a.turn(page.now());
    // The one game does nothing any more, and the other takes what there is, which turns no links.
    let mut heard = Vec::new();
    let end = page.now() + Duration::from_secs(30);
    while heard.len() < COUNT as usize {
        assert!(page.now() < end, "{} came", heard.len());
        match b.poll() {
            Some(NetworkEvent::Link(_, LinkEvent::Message(Channel::Events, bytes))) => heard.push(bytes[0]),
            Some(_) => {}
            None => page.turn().await,
        }
    }
    assert!(heard.iter().map(|&n| u32::from(n)).eq(0..COUNT), "{heard:?}");
    drop(a);
    assert_eq!(closed(&page, &mut b).await, CloseReason::Goodbye);
}

#[wasm_bindgen_test]
async fn a_page_that_goes_says_goodbye() {
    let page = Page::new();
    let [(mut a, _), (mut b, _)] = networks(&page).await;
    let gone = web_sys::Event::new("pagehide").expect("an event");
    web_sys::window().expect("a page").dispatch_event(&gone).expect("dispatched");
    for network in [&mut a, &mut b] {
        assert_eq!(closed(&page, network).await, CloseReason::Local);
    }
}
