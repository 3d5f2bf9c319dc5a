//! Do our native sockets and unmodified `matchbox_socket` peers use each other's channels, whoever offers, to whatever end?
//!
//! Raw channels, with nothing of ours in them: channel 0 is the unreliable lane, channel 1 the reliable one.
#![cfg(all(feature = "matchbox", not(target_arch = "wasm32")))]

use std::time::{Duration, Instant};

use bytes::Bytes;
use coplay_proto::{Lane, PeerId, link::CloseReason};
use coplay_signaling::{Config, Running, Signaling};
use coplay_socket::{
    Dialect, MAX_RELIABLE, MAX_UNRELIABLE, SendError, Socket, SocketConfig, SocketEvent, connect, now,
};
use matchbox_socket::{ChannelConfig, PeerState, RtcIceServerConfig, WebRtcSocket};
use tokio::task::JoinHandle;

/// For anything that is to happen on one machine, a busy one included.
const PATIENCE: Duration = Duration::from_secs(30);

/// Our socket, and an unmodified one, in one room.
struct Pair {
    ours: Box<dyn Socket>,
    theirs: WebRtcSocket,
    /// Theirs runs here.
    message_loop: JoinHandle<()>,
    /// What ours calls theirs.
    them: PeerId,
    /// What theirs calls ours.
    us: matchbox_socket::PeerId,
    received: Vec<(Lane, Bytes)>,
    closed: Option<CloseReason>,
    _server: Running,
}

/// Looks until there is something: matchbox sockets can only be polled.
async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

impl Pair {
    /// Who is in the room first makes the offer.
    async fn meet(we_offer: bool, dialect: Dialect) -> Self {
        let server = Signaling::spawn(Config::local()).expect("a server");
        let url = format!("{}/room", server.url());
        let ours = || connect(SocketConfig { dialect: Some(dialect), ..SocketConfig::new(&url) });
        let theirs = || {
            let (socket, message_loop) = WebRtcSocket::builder(&url)
                .ice_server(RtcIceServerConfig { urls: vec![], username: None, credential: None })
                .add_channel(ChannelConfig::unreliable())
                .add_channel(ChannelConfig::reliable())
                .build();
            let running = async { message_loop.await.expect("theirs has no reason to fail") };
            (socket, tokio::spawn(running))
        };
        let (mut ours, (mut theirs, message_loop)) = if we_offer {
            let mut ours = ours();
            let entered = || matches!(ours.poll(now()), Some(SocketEvent::Entered(_))).then_some(());
            until("ours in the room", entered).await;
            (ours, theirs())
        } else {
            let (mut theirs, message_loop) = theirs();
            until("theirs in the room", || theirs.id()).await;
            (ours(), (theirs, message_loop))
        };
        let (mut them, mut us) = (None, None);
        until("both connected", || {
            // matchbox does all its work on its own threads and task.
            match ours.poll(now()) {
                Some(SocketEvent::Opened(peer)) => them = Some(peer),
                Some(SocketEvent::Closed(_, reason)) => panic!("not connected: {reason}"),
                _ => {}
            }
            let connected = |(peer, state)| (state == PeerState::Connected).then_some(peer);
            let connected = theirs.update_peers().into_iter().find_map(connected);
            us = us.or(connected);
            them.zip(us)
        })
        .await;
        let (them, us) = them.zip(us).expect("both connected");
        Self { ours, theirs, message_loop, them, us, received: Vec::new(), closed: None, _server: server }
    }

    /// Takes what came for ours.
    fn pump(&mut self) {
        while let Some(event) = self.ours.poll(now()) {
            match event {
                SocketEvent::Received(peer, lane, bytes) => {
                    assert_eq!(peer, self.them);
                    self.received.push((lane, bytes));
                }
                SocketEvent::Closed(peer, reason) => {
                    assert_eq!(peer, self.them);
                    self.closed = Some(reason);
                }
                _ => {}
            }
        }
    }

    /// What came for ours on a lane.
    fn ours_heard(&mut self, lane: Lane) -> Vec<Bytes> {
        self.pump();
        self.received.extract_if(.., |(on, _)| *on == lane).map(|(_, bytes)| bytes).collect()
    }

    /// What came for theirs on a lane.
    fn theirs_heard(&mut self, lane: Lane) -> Vec<Bytes> {
        self.theirs.channel_mut(lane as usize).receive().into_iter().map(|(_, bytes)| bytes).collect()
    }
}

/// Each test for both who may offer, ours with each dialect of signaling.
macro_rules! both_ways {
    ($($case:ident)*) => { $(mod $case {
        use super::{Dialect, Pair};

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn where_ours_offers() {
            super::$case(Pair::meet(true, Dialect::Coplay).await).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn where_theirs_offers() {
            super::$case(Pair::meet(false, Dialect::Matchbox).await).await;
        }
    })* };
}

both_ways! {
    both_lanes_deliver_in_both_directions
    reliable_datagrams_arrive_once_and_in_order
    the_largest_datagrams_arrive
    theirs_hears_that_ours_disconnected
    theirs_hears_that_ours_was_dropped
    ours_hears_that_theirs_was_dropped
}

async fn both_lanes_deliver_in_both_directions(mut pair: Pair) {
    for lane in [Lane::Reliable, Lane::Unreliable] {
        let mut heard = (Vec::new(), Vec::new());
        let mut said = false;
        until("a word each way", || {
            // An unreliable datagram may be lost, so it is said again; a reliable one must not need to be.
            if lane == Lane::Unreliable || !std::mem::replace(&mut said, true) {
                pair.ours.send(pair.them, lane, Bytes::from_static(b"from ours")).expect("open");
                pair.theirs.channel_mut(lane as usize).send(Bytes::from_static(b"from theirs"), pair.us);
            }
            heard.0.extend(pair.ours_heard(lane));
            heard.1.extend(pair.theirs_heard(lane));
            (!heard.0.is_empty() && !heard.1.is_empty()).then_some(())
        })
        .await;
        assert!(heard.0.iter().all(|bytes| bytes == "from theirs"), "{:?}", heard.0);
        assert!(heard.1.iter().all(|bytes| bytes == "from ours"), "{:?}", heard.1);
    }
}

async fn reliable_datagrams_arrive_once_and_in_order(mut pair: Pair) {
    const COUNT: u32 = 300;
    let datagram = |n: u32| {
        let mut bytes = vec![n as u8; if n.is_multiple_of(3) { MAX_RELIABLE } else { 4 }];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        Bytes::from(bytes)
    };
    let expected: Vec<Bytes> = (0..COUNT).map(datagram).collect();
    for n in 0..COUNT {
        pair.theirs.channel_mut(1).send(datagram(n), pair.us);
    }
    let (mut ours, mut theirs, mut next) = (Vec::new(), Vec::new(), 0);
    until("all of them", || {
        while next < COUNT {
            match pair.ours.send(pair.them, Lane::Reliable, datagram(next)) {
                Ok(()) => next += 1,
                Err(error) => {
                    assert_eq!(error, SendError::Full);
                    break;
                }
            }
        }
        ours.extend(pair.ours_heard(Lane::Reliable));
        theirs.extend(pair.theirs_heard(Lane::Reliable));
        (ours.len() >= expected.len() && theirs.len() >= expected.len()).then_some(())
    })
    .await;
    assert!(ours == expected && theirs == expected, "once each and in order");
}

async fn the_largest_datagrams_arrive(mut pair: Pair) {
    for (lane, most) in [(Lane::Unreliable, MAX_UNRELIABLE), (Lane::Reliable, MAX_RELIABLE)] {
        let largest = Bytes::from((0..most).map(|n| (n % 251) as u8).collect::<Vec<u8>>());
        let mut heard = (Vec::new(), Vec::new());
        until("the largest each way", || {
            let _ = pair.ours.send(pair.them, lane, largest.clone());
            pair.theirs.channel_mut(lane as usize).send(largest.clone(), pair.us);
            heard.0.extend(pair.ours_heard(lane));
            heard.1.extend(pair.theirs_heard(lane));
            (!heard.0.is_empty() && !heard.1.is_empty()).then_some(())
        })
        .await;
        assert!(heard.0.iter().chain(&heard.1).all(|bytes| *bytes == largest));
    }
}

/// What theirs says that became of ours.
async fn gone(theirs: &mut WebRtcSocket, us: matchbox_socket::PeerId) {
    until("theirs learns that ours is gone", || {
        theirs.update_peers().contains(&(us, PeerState::Disconnected)).then_some(())
    })
    .await;
}

async fn theirs_hears_that_ours_disconnected(mut pair: Pair) {
    pair.ours.send(pair.them, Lane::Reliable, Bytes::from_static(b"the last words")).expect("open");
    pair.ours.disconnect(pair.them);
    gone(&mut pair.theirs, pair.us).await;
    assert_eq!(pair.theirs_heard(Lane::Reliable), ["the last words"], "what was sent before still comes");
    pair.pump();
    assert_eq!(pair.closed, Some(CloseReason::Local));
    let late = pair.ours.send(pair.them, Lane::Reliable, Bytes::from_static(b"too late"));
    assert_eq!(late, Err(SendError::UnknownPeer));
}

async fn theirs_hears_that_ours_was_dropped(pair: Pair) {
    let Pair { ours, mut theirs, us, _server: server, .. } = pair;
    drop(ours);
    gone(&mut theirs, us).await;
    drop(server);
}

async fn ours_hears_that_theirs_was_dropped(pair: Pair) {
    let Pair { mut ours, theirs, message_loop, them, _server: server, .. } = pair;
    drop(theirs);
    // It ends by itself, and closes the connection.
    message_loop.await.expect("it does not panic");
    let reason = until("ours learns that theirs is gone", || match ours.poll(now()) {
        Some(SocketEvent::Closed(peer, reason)) => Some((peer, reason)),
        _ => None,
    })
    .await;
    assert_eq!(reason, (them, CloseReason::Goodbye));
    drop(server);
}
