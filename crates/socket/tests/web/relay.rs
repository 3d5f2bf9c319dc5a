//! The contract where everything is relayed by signaling, and the way from there to WebRTC, in a browser.

use std::time::Duration;

use bytes::Bytes;
use coplay_proto::{Lane, signal::relay::RelayOffer};
use coplay_socket::{PathKind, RelayPolicy, Rendezvous, SendError, SocketConfig};
use wasm_bindgen_test::wasm_bindgen_test;

use crate::{
    Page,
    contract::{self, Peer, connected, until},
};

/// A page whose signaling relays, more than any test sends.
fn page(config: SocketConfig) -> Page {
    let offer = RelayOffer { bytes: 64 * 1024 * 1024, frames: 100_000 };
    Page { rendezvous: Rendezvous::relaying(offer), config }
}

macro_rules! cases {
    ($($case:ident)*) => {
        $(#[wasm_bindgen_test]
        async fn $case() {
            contract::$case(&page(SocketConfig { relay: RelayPolicy::Only, ..SocketConfig::default() })).await;
        })*
    };
}

cases! {
    opens_and_delivers_on_both_lanes
    reliable_datagrams_arrive_once_and_in_order
    datagrams_up_to_the_lanes_limits_arrive
    nothing_is_sent_to_unknown_peers
    disconnecting_one_peer_leaves_the_others
    a_dropped_socket_is_closed_on_every_other
    what_was_sent_before_a_disconnect_arrives
    the_path_is_reported
}

/// Says the next number reliably, if there is room.
fn say(from: &mut Peer, to: &Peer, next: &mut u32) {
    match from.socket.send(to.id(), Lane::Reliable, Bytes::copy_from_slice(&next.to_be_bytes())) {
        Ok(()) => *next += 1,
        Err(error) => assert_eq!(error, SendError::Full),
    }
}

#[wasm_bindgen_test]
async fn a_pair_goes_over_to_webrtc_with_nothing_lost() {
    // By the relay at once, and by WebRTC as soon as it is there.
    let page = page(SocketConfig {
        relay_after: Duration::ZERO,
        handshake_timeout: Duration::from_secs(10),
        ..SocketConfig::default()
    });
    let [mut a, mut b] = connected(&page).await;
    let (a_id, b_id) = (a.id(), b.id());
    let (mut relayed, mut direct, mut sent) = (false, 0, [0, 0]);
    until(&page, "both by WebRTC", &mut [&mut a, &mut b], |peers| {
        let [a, b] = peers else { unreachable!() };
        say(a, b, &mut sent[0]);
        say(b, a, &mut sent[1]);
        let kinds = [a.socket.path(b_id), b.socket.path(a_id)].map(|path| path.map(|path| path.kind));
        relayed |= kinds.contains(&Some(PathKind::WebSocket));
        direct += u32::from(kinds.iter().all(|kind| kind.is_some_and(|kind| kind != PathKind::WebSocket)));
        direct > 100
    })
    .await;
    assert!(relayed, "it was relayed at first");
    until(&page, "everything to arrive", &mut [&mut a, &mut b], |peers| {
        let [a, b] = peers else { unreachable!() };
        [b.from(a_id, Lane::Reliable).len(), a.from(b_id, Lane::Reliable).len()] == sent.map(|sent| sent as usize)
    })
    .await;
    for (to, from, sent) in [(&b, a_id, sent[0]), (&a, b_id, sent[1])] {
        let expected: Vec<Bytes> = (0..sent).map(|n| Bytes::copy_from_slice(&n.to_be_bytes())).collect();
        assert!(to.from(from, Lane::Reliable) == expected, "once each and in order");
        assert!(to.closed.is_empty());
    }
}
