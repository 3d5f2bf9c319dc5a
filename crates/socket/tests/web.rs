//! Does the browser's socket keep the contract, in a real browser? And what only concerns browsers.
#![cfg(target_arch = "wasm32")]

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use contract::{Platform, connected, talk, until};
use coplay_proto::{Lane, PeerId, link::CloseReason};
use coplay_socket::{
    MAX_RELIABLE, PathKind, Rendezvous, Socket, SocketConfig, SocketError, SocketEvent, Waker, connect, connect_by,
};
use js_sys::Promise;
use wasm_bindgen_futures::JsFuture;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

#[path = "common/contract.rs"]
#[allow(unreachable_pub, reason = "each platform's tests use a part of it")]
mod contract;
#[path = "web/links.rs"]
mod links;
#[path = "web/relay.rs"]
mod relay;
#[path = "web/stock.rs"]
mod stock;

wasm_bindgen_test_configure!(run_in_browser);

/// The page that the tests run in; signals go by memory.
struct Page {
    rendezvous: Rendezvous,
    config: SocketConfig,
}

impl Page {
    fn new() -> Self {
        let config = SocketConfig { handshake_timeout: Duration::from_secs(3), ..SocketConfig::default() };
        Self { rendezvous: Rendezvous::new(), config }
    }

    /// The same with connections by `matchbox_socket`, which signals in larger steps.
    #[cfg(feature = "matchbox")]
    fn by_matchbox() -> Self {
        let (transport, handshake_timeout) = (coplay_socket::Transport::Matchbox, Duration::from_secs(6));
        let config = SocketConfig { transport, handshake_timeout, ..Self::new().config };
        Self { rendezvous: Rendezvous::new(), config }
    }
}

impl Platform for Page {
    fn enter(&self) -> Box<dyn Socket> {
        connect_by(self.config.clone(), self.rendezvous.signaller())
    }

    fn now(&self) -> Duration {
        coplay_socket::now()
    }

    async fn turn(&self) {
        sleep(1).await;
    }

    fn rendezvous(&self) -> Option<&Rendezvous> {
        Some(&self.rendezvous)
    }

    fn config(&self) -> SocketConfig {
        self.config.clone()
    }
}

async fn sleep(milliseconds: i32) {
    let promise = Promise::new(&mut |resolve, _| {
        let window = web_sys::window().expect("a page");
        window.set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, milliseconds).expect("a timer");
    });
    JsFuture::from(promise).await.expect("it is never rejected");
}

macro_rules! cases {
    ($page:expr; $($case:ident)*) => {
        $(#[wasm_bindgen_test]
        async fn $case() {
            crate::contract::$case(&$page).await;
        })*
    };
}

cases! { Page::new();
    opens_and_delivers_on_both_lanes
    reliable_datagrams_arrive_once_and_in_order
    datagrams_up_to_the_lanes_limits_arrive
    nothing_is_sent_to_unknown_peers
    disconnecting_one_peer_leaves_the_others
    a_dropped_socket_is_closed_on_every_other
    what_was_sent_before_a_disconnect_arrives
    the_path_is_reported
    blobs_go_both_ways_beside_messages
    a_blob_fails_on_both_sides_when_either_cancels_or_leaves
    garbage_signals_hurt_no_other_link
    garbage_offers_hurt_no_other_link
    a_silent_peer_is_given_up
    links_live_on_without_signaling
    candidates_before_their_description_are_kept
    a_handshake_that_does_not_open_is_started_again
    only_relayed_paths_and_no_turn_server_is_a_reason
    ice_servers_that_are_of_no_use_keep_nobody_apart
    spoiled_signals_hurt_no_other_link
}

#[cfg(feature = "matchbox")]
mod matchbox {
    use coplay_proto::signal::IceServer;
    use coplay_socket::{IceTransportPolicy, SocketConfig, SocketError, SocketEvent, Transport, connect};
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::{Page, connected, talk};

    cases! { Page::by_matchbox();
        opens_and_delivers_on_both_lanes
        reliable_datagrams_arrive_once_and_in_order
        datagrams_up_to_the_lanes_limits_arrive
        nothing_is_sent_to_unknown_peers
        disconnecting_one_peer_leaves_the_others
        a_dropped_socket_is_closed_on_every_other
        what_was_sent_before_a_disconnect_arrives
        the_path_is_reported
        blobs_go_both_ways_beside_messages
        a_blob_fails_on_both_sides_when_either_cancels_or_leaves
        garbage_signals_hurt_no_other_link
        garbage_offers_hurt_no_other_link
        a_silent_peer_is_given_up
        links_live_on_without_signaling
        a_handshake_that_does_not_open_is_started_again
        spoiled_signals_hurt_no_other_link
    }

    #[wasm_bindgen_test]
    async fn a_lot_that_was_sent_before_a_disconnect_arrives() {
        super::a_lot_arrives(&Page::by_matchbox()).await;
    }

    #[wasm_bindgen_test]
    async fn what_nobody_polls_is_held_within_bounds() {
        super::held_within_bounds(&Page::by_matchbox()).await;
    }

    /// On one of which matchbox would panic. Servers that do not answer are another matter: it waits for them.
    #[wasm_bindgen_test]
    async fn urls_that_are_of_no_ice_server_are_left_out() {
        let mut page = Page::by_matchbox();
        let urls = ["nonsense", "", "http://example.org", "turn:192.0.2.1"].map(str::to_owned).to_vec();
        page.config.ice_servers = vec![IceServer { urls, ..IceServer::default() }];
        let [mut a, mut b] = connected(&page).await;
        talk(&page, &mut a, &mut b).await;
    }

    #[wasm_bindgen_test]
    fn a_setting_that_it_cannot_honour_is_a_typed_error() {
        let transport = Transport::Matchbox;
        let asked = SocketConfig::new("ws://localhost/room");
        let config = SocketConfig { transport, ice_transport_policy: IceTransportPolicy::Relay, ..asked };
        let error = SocketError::Unsupported { setting: "ice_transport_policy", transport };
        assert_eq!(connect(config).poll(coplay_socket::now()), Some(SocketEvent::Failed(error)));
    }
}

#[wasm_bindgen_test]
async fn the_path_names_addresses_and_a_round_trip() {
    let page = Page::new();
    let [mut a, mut b] = connected(&page).await;
    let b_id = b.id();
    until(&page, "a round trip by ICE", &mut [&mut a, &mut b], |peers| {
        peers[0].socket.path(b_id).is_some_and(|path| path.rtt.is_some())
    })
    .await;
    let path = a.socket.path(b_id).expect("it was there");
    assert!(path.kind == PathKind::Host || path.kind == PathKind::PeerReflexive, "{path:?}");
    assert!(path.local.starts_with("udp ") && path.remote.starts_with("udp "), "{path:?}");
    assert!(path.rtt.is_some_and(|rtt| rtt < Duration::from_secs(1)), "{path:?}");
}

/// A peer that is polled by its waker alone: it says back what it hears, and counts.
struct Echo {
    socket: RefCell<Box<dyn Socket>>,
    heard: Cell<u32>,
}

impl Echo {
    fn start(page: &Page) -> Rc<Self> {
        let echo = Rc::new(Self { socket: RefCell::new(page.enter()), heard: Cell::new(0) });
        let awake = Rc::downgrade(&echo);
        echo.socket.borrow_mut().set_waker(Rc::new(move || {
            let Some(echo) = awake.upgrade() else { return };
            // This panics if the socket wakes us from within one of its own calls.
            let mut socket = echo.socket.borrow_mut();
            while let Some(event) = socket.poll(coplay_socket::now()) {
                match event {
                    SocketEvent::Opened(peer) => {
                        socket.send(peer, Lane::Reliable, Bytes::from_static(b"ball")).expect("open");
                    }
                    SocketEvent::Received(peer, lane, bytes) => {
                        echo.heard.set(echo.heard.get() + 1);
                        // The other one may be gone.
                        let _ = socket.send(peer, lane, bytes);
                    }
                    _ => {}
                }
            }
        }));
        echo
    }
}

#[wasm_bindgen_test]
async fn the_waker_is_called_where_bytes_arrive_and_never_within_a_call() {
    let page = Page::new();
    let echoes = [Echo::start(&page), Echo::start(&page), Echo::start(&page)];
    let end = page.now() + Duration::from_secs(30);
    // Timers alone would not be enough: the socket's own ring about once a second.
    while echoes.iter().any(|echo| echo.heard.get() < 1000) {
        assert!(page.now() < end, "{:?}", echoes.map(|echo| echo.heard.get()));
        sleep(20).await;
    }
    let [a, ..] = &echoes;
    // Closing wakes, too, and may be done while awake.
    a.socket.borrow_mut().disconnect(PeerId::from_u128(2 << 96 | 1));
}

#[wasm_bindgen_test]
async fn a_socket_may_be_dropped_by_its_own_waker() {
    let page = Page::new();
    let mut other = page.enter();
    let socket = Rc::new(RefCell::new(Some(page.enter())));
    let dropping = socket.clone();
    let waker: Waker = Rc::new(move || {
        let mut socket = dropping.borrow_mut();
        let events = socket.iter_mut().flat_map(|socket| std::iter::from_fn(|| socket.poll(coplay_socket::now())));
        // Within the browser's call of a function that belongs to the socket.
        if events.collect::<Vec<_>>().iter().any(|event| matches!(event, SocketEvent::Received(..))) {
            drop(socket.take());
        }
    });
    socket.borrow_mut().as_mut().expect("there").set_waker(waker);
    let end = page.now() + Duration::from_secs(30);
    let mut closed = None;
    while closed.is_none() {
        assert!(page.now() < end, "it was not dropped");
        while let Some(event) = other.poll(page.now()) {
            match event {
                SocketEvent::Opened(peer) => {
                    other.send(peer, Lane::Reliable, Bytes::from_static(b"fall")).expect("open");
                }
                SocketEvent::Closed(_, reason) => closed = Some(reason),
                _ => {}
            }
        }
        page.turn().await;
    }
    assert_eq!(closed, Some(CloseReason::Goodbye));
    assert!(socket.borrow().is_none());
}

#[wasm_bindgen_test]
async fn a_lot_that_was_sent_before_a_disconnect_arrives() {
    a_lot_arrives(&Page::new()).await;
}

async fn a_lot_arrives(page: &Page) {
    const COUNT: usize = 32;
    let [mut a, mut b] = connected(page).await;
    let (a_id, b_id) = (a.id(), b.id());
    for _ in 0..COUNT {
        a.socket.send(b_id, Lane::Reliable, Bytes::from(vec![1; MAX_RELIABLE])).expect("there is room");
    }
    a.socket.disconnect(b_id);
    until(page, "closed on both sides", &mut [&mut a, &mut b], |peers| {
        peers.iter().all(|peer| !peer.closed.is_empty())
    })
    .await;
    assert_eq!(b.from(a_id, Lane::Reliable).len(), COUNT);
}

#[wasm_bindgen_test]
async fn what_nobody_polls_is_held_within_bounds() {
    held_within_bounds(&Page::new()).await;
}

async fn held_within_bounds(page: &Page) {
    let [mut a, mut b] = connected(page).await;
    let (a_id, b_id) = (a.id(), b.id());
    // More unreliable ones than are kept: that is a loss.
    for round in 0..40 {
        for _ in 0..50 {
            let _ = a.socket.send(b_id, Lane::Unreliable, Bytes::from(vec![round; 1000]));
        }
        sleep(10).await;
    }
    talk(page, &mut a, &mut b).await;
    // More reliable ones: the link is given up, rather than to lose one or to keep them all.
    let end = page.now() + Duration::from_secs(30);
    let mut sent = 0;
    while a.closed.is_empty() && sent < 512 {
        assert!(page.now() < end, "{sent} sent");
        while sent < 512 && a.socket.send(b_id, Lane::Reliable, Bytes::from(vec![1; MAX_RELIABLE])).is_ok() {
            sent += 1;
        }
        a.pump(page.now());
        page.turn().await;
    }
    until(page, "the link is given up", &mut [&mut a, &mut b], |peers| !peers[1].closed.is_empty()).await;
    assert!(
        matches!(&b.closed[&a_id], CloseReason::Failed(why) if why.contains("more than was taken")),
        "{:?}",
        b.closed
    );
    let taken = b.from(a_id, Lane::Reliable).len();
    assert!(taken > 100 && taken < 140, "{taken} of {sent}");
}

#[wasm_bindgen_test]
async fn signaling_that_is_not_there_is_a_typed_error() {
    // The tests' own page is served here, and speaks no WebSocket; and addresses that are none.
    let origin = web_sys::window().and_then(|window| window.location().host().ok()).expect("a page");
    for url in [format!("ws://{origin}/room"), "ws://host:99999/room".into(), "localhost:3536/room".into()] {
        let mut socket = connect(SocketConfig { signaling_attempts: 2, ..SocketConfig::new(url.clone()) });
        let end = coplay_socket::now() + Duration::from_secs(20);
        let error = loop {
            assert!(coplay_socket::now() < end, "no error for {url}");
            match socket.poll(coplay_socket::now()) {
                Some(SocketEvent::Failed(error)) => break error,
                Some(_) => {}
                None => sleep(5).await,
            }
        };
        match &error {
            SocketError::Address { .. } => assert!(error.to_string().contains("write ws://localhost:3536,"), "{error}"),
            SocketError::Unreachable { url: at, reason } => assert!(*at == url && !reason.is_empty(), "{error}"),
            _ => panic!("{error}"),
        }
        assert_eq!(matches!(error, SocketError::Address { .. }), !url.starts_with("ws:"), "{error}");
    }
}
