//! Which address does a browser hide behind a name? It says so to those in its network who ask by mDNS (RFC 6762).

use std::{
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rtc_mdns::{Mdns, MdnsConfig, MdnsEvent, MulticastSocket};
use rtc_shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use sansio::Protocol;
use tokio::{net::UdpSocket, time::sleep_until};

/// How often it is asked, and how long.
const AGAIN: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks a name up. `None` if nobody answers for it, or mDNS does not work here: on hosts without a multicast route, as in a
/// container, which `broken` remembers. Browsers then learn our address from us, and we theirs from their checks.
pub(super) async fn look_up(name: &str, broken: &AtomicBool) -> Option<IpAddr> {
    if broken.load(Ordering::Relaxed) {
        return None;
    }
    let socket = match MulticastSocket::new().into_std().and_then(UdpSocket::from_std) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::debug!(%error, "mDNS does not work here: hidden addresses will not be looked up");
            broken.store(true, Ordering::Relaxed);
            return None;
        }
    };
    let config = MdnsConfig::new().with_query_interval(AGAIN).with_query_timeout(PATIENCE);
    let mut mdns = Mdns::new(Instant::now(), config);
    let query = mdns.query_now(Instant::now(), name);
    let end = Instant::now() + PATIENCE;
    let mut datagram = [0; 1500];
    while Instant::now() < end {
        while let Some(TaggedBytesMut { transport, message, .. }) = mdns.poll_write() {
            let _ = socket.send_to(&message, transport.peer_addr).await;
        }
        while let Some(event) = mdns.poll_event() {
            match event {
                MdnsEvent::QueryAnswered(answered, address) if answered == query => return Some(address),
                MdnsEvent::QueryTimeout(_) => return None,
                _ => {}
            }
        }
        let due = mdns.poll_timeout().unwrap_or(end).min(end);
        tokio::select! {
            received = socket.recv_from(&mut datagram) => {
                let Ok((size, from)) = received else { continue };
                let local_addr = socket.local_addr().ok()?;
                let transport =
                    TransportContext { local_addr, peer_addr: from, transport_protocol: TransportProtocol::UDP, ecn: None };
                let message = BytesMut::from(datagram.get(..size)?);
                // Others ask and answer, too.
                let _ = mdns.handle_read(TaggedBytesMut { now: Instant::now(), transport, message });
            }
            () = sleep_until(due.into()) => drop(mdns.handle_timeout(Instant::now())),
        }
    }
    None
}
