//! What does a relay let through, and where does it listen? The sockets of allocations, behind the rules.

use std::{
    any::Any,
    fmt,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{net::UdpSocket, time::Instant};
use turn::relay::RelayAddressGenerator;
use uuid::Uuid;
use webrtc_util::Conn;

use super::{
    RelayRate,
    counters::{Counters, count, count_bytes},
    ledger::Lease,
    rules::Rules,
    tokens::{Refill, Tokens},
};

/// Waited after a relay's socket reported an error, so that one that lasts does not take a whole core.
const AFTER_ERROR: Duration = Duration::from_millis(20);

/// Where the relays of one family of addresses are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Family {
    /// Where they listen.
    pub(crate) bind: IpAddr,
    /// Where others reach them.
    pub(crate) external: IpAddr,
    /// Where they reach each other, by no way that a NAT could block.
    pub(crate) internal: IpAddr,
}

/// Opens relays.
pub(crate) struct Harbour {
    pub(crate) v4: Option<Family>,
    pub(crate) v6: Option<Family>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) rate: RelayRate,
    /// Whose relay the next one is. Requests are answered one after the other.
    next: Mutex<Option<Lease>>,
}

impl fmt::Debug for Harbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harbour").field("v4", &self.v4).field("v6", &self.v6).finish_non_exhaustive()
    }
}

impl Harbour {
    pub(crate) fn new(
        [v4, v6]: [Option<Family>; 2],
        rules: Arc<Rules>,
        counters: Arc<Counters>,
        rate: RelayRate,
    ) -> Arc<Self> {
        Arc::new(Self { v4, v6, rules, counters, rate, next: Mutex::default() })
    }

    /// The relay that is opened next belongs to `lease`; or to nobody, and none is.
    pub(crate) fn expect(&self, lease: Option<Lease>) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = lease;
    }

    fn open(self: &Arc<Self>, ipv4: bool) -> Result<(Relay, SocketAddr), turn::Error> {
        let refused = |why: &str| turn::Error::Other(why.to_owned());
        let family = if ipv4 { self.v4 } else { self.v6 }.ok_or_else(|| refused("no relays of this family"))?;
        let lease = self.next.lock().unwrap_or_else(PoisonError::into_inner).take();
        let lease = lease.ok_or_else(|| refused("a relay for nobody"))?;
        let socket = self.bind(family.bind).ok_or_else(|| refused("every port is taken"))?;
        let relay =
            SocketAddr::new(family.external, socket.local_addr().map_err(|error| refused(&error.to_string()))?.port());
        lease.settle(relay);
        let now = Instant::now();
        let pipe = || Mutex::new(Pipe::new(self.rate, now));
        Ok((
            Relay { socket, address: relay, family, out: pipe(), back: pipe(), harbour: self.clone(), _lease: lease },
            relay,
        ))
    }

    /// A socket at one of the ports, if any of them is free. To try one takes a system call.
    fn bind(&self, ip: IpAddr) -> Option<UdpSocket> {
        // The low 62 bits of a version 4 UUID are random (RFC 9562, section 5.4).
        let random = Uuid::new_v4().as_u64_pair().1;
        order(&self.rules.ports, random as u32, (random >> 32) as u32 & (u32::MAX >> 2)).find_map(|port| {
            let socket = std::net::UdpSocket::bind((ip, port)).ok()?;
            socket.set_nonblocking(true).ok()?;
            UdpSocket::from_std(socket).ok()
        })
    }
}

/// All of the ports, each once, from one of them in steps of a size, both by random numbers: so that nobody knows which is
/// next, and that those in use, which lie anywhere, are no block to be walked through.
fn order(ports: &RangeInclusive<u16>, start: u32, step: u32) -> impl Iterator<Item = u16> {
    let first = u32::from(*ports.start());
    let count = u32::from(ports.end().saturating_sub(*ports.start())) + 1;
    // Steps with no factor in common with the number of ports come to all of them. One port more has none.
    let step = (1 + step % count..=count + 1).find(|step| gcd(*step, count) == 1).unwrap_or(1);
    let mut at = start % count;
    (0..count).filter_map(move |_| {
        let port = u16::try_from(first + at).ok();
        at = (at + step) % count;
        port
    })
}

fn gcd(one: u32, other: u32) -> u32 {
    if other == 0 { one } else { gcd(other, one % other) }
}

/// [`Harbour`], as the allocations know it.
pub(crate) struct Opener(pub(crate) Arc<Harbour>);

#[async_trait]
impl RelayAddressGenerator for Opener {
    fn validate(&self) -> Result<(), turn::Error> {
        Ok(())
    }

    async fn allocate_conn(
        &self,
        use_ipv4: bool,
        _requested_port: u16,
    ) -> Result<(Arc<dyn Conn + Send + Sync>, SocketAddr), turn::Error> {
        let (relay, address) = self.0.open(use_ipv4)?;
        // Until the runtime has heard once that the socket takes datagrams, it gives none to it.
        relay.socket.writable().await?;
        Ok((Arc::new(relay), address))
    }
}

/// What one direction of a relay may still pass on.
#[derive(Debug)]
struct Pipe {
    bytes: Tokens,
    packets: Tokens,
    rate: RelayRate,
}

impl Pipe {
    fn new(rate: RelayRate, now: Instant) -> Self {
        let full = |rate| Tokens::full(Refill { burst: rate, rate }, now);
        Self { bytes: full(rate.bytes), packets: full(rate.packets), rate }
    }

    fn take(&mut self, bytes: usize, now: Instant) -> bool {
        let refill = |rate| Refill { burst: rate, rate };
        self.packets.take(1, refill(self.rate.packets), now)
            && self.bytes.take(u32::try_from(bytes).unwrap_or(u32::MAX), refill(self.rate.bytes), now)
    }
}

/// The socket of one allocation. The allocation is over when this is dropped.
struct Relay {
    socket: UdpSocket,
    address: SocketAddr,
    family: Family,
    out: Mutex<Pipe>,
    back: Mutex<Pipe>,
    harbour: Arc<Harbour>,
    _lease: Lease,
}

impl Relay {
    /// Whether a datagram to or from `peer` may pass, and how large a piece of the rate is left for it.
    fn lets(&self, peer: SocketAddr, pipe: &Mutex<Pipe>, bytes: usize) -> bool {
        let Harbour { rules, counters, .. } = &*self.harbour;
        if !rules.permit(peer) {
            count(&counters.refused_address);
            return false;
        }
        let enough = pipe.lock().unwrap_or_else(PoisonError::into_inner).take(bytes, Instant::now());
        if !enough {
            count(&counters.dropped_rate);
        }
        enough
    }

    /// Where a datagram to `peer` goes: to another relay of this server within the machine.
    fn inward(&self, peer: SocketAddr) -> SocketAddr {
        match self.harbour.rules.is_relay(peer) && peer.ip() == self.family.external {
            true => SocketAddr::new(self.family.internal, peer.port()),
            false => peer,
        }
    }

    /// By which address the client knows where a datagram came from.
    fn outward(&self, from: SocketAddr) -> SocketAddr {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        match from.ip() == self.family.internal && self.harbour.rules.ports.contains(&from.port()) {
            true => SocketAddr::new(self.family.external, from.port()),
            false => from,
        }
    }
}

#[async_trait]
impl Conn for Relay {
    async fn recv_from(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr), webrtc_util::Error> {
        loop {
            match self.socket.recv_from(buffer).await {
                Ok((bytes, from)) => {
                    let from = self.outward(from);
                    if self.lets(from, &self.back, bytes) {
                        count_bytes(&self.harbour.counters.bytes_to_clients, bytes);
                        return Ok((bytes, from));
                    }
                }
                // Some systems report here that a peer refused an earlier datagram.
                Err(error) => {
                    tracing::debug!(%error, relay = %self.address, "a relay's socket");
                    tokio::time::sleep(AFTER_ERROR).await;
                }
            }
        }
    }

    async fn send_to(&self, bytes: &[u8], peer: SocketAddr) -> Result<usize, webrtc_util::Error> {
        if self.lets(peer, &self.out, bytes.len()) {
            count_bytes(&self.harbour.counters.bytes_from_clients, bytes.len());
            // What does not fit into the socket's buffer is lost, so that nobody waits for it.
            if let Err(error) = self.socket.try_send_to(bytes, self.inward(peer)) {
                tracing::trace!(%error, %peer, "not relayed");
            }
        }
        Ok(bytes.len())
    }

    fn local_addr(&self) -> Result<SocketAddr, webrtc_util::Error> {
        Ok(self.address)
    }

    async fn connect(&self, _: SocketAddr) -> Result<(), webrtc_util::Error> {
        Err(unconnected())
    }

    async fn recv(&self, _: &mut [u8]) -> Result<usize, webrtc_util::Error> {
        Err(unconnected())
    }

    async fn send(&self, _: &[u8]) -> Result<usize, webrtc_util::Error> {
        Err(unconnected())
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }

    async fn close(&self) -> Result<(), webrtc_util::Error> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// What a socket says that is not connected to anyone.
pub(super) fn unconnected() -> webrtc_util::Error {
    webrtc_util::Error::Other("not connected".into())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, net::Ipv4Addr};

    use super::*;

    #[test]
    fn every_port_is_tried_once_wherever_it_begins() {
        for count in (1..=130).chain([997, 1_000, 65_535]) {
            let ports = u16::MAX - (count - 1)..=u16::MAX;
            for (start, step) in [(0, 0), (1, 1), (7, 59), (u32::MAX, u32::MAX), (64, 999)] {
                let tried: Vec<_> = order(&ports, start, step).collect();
                assert_eq!(tried.len(), usize::from(count), "{start} {step}");
                let different: BTreeSet<_> = tried.into_iter().collect();
                assert!(different.len() == usize::from(count) && different.iter().all(|port| ports.contains(port)));
            }
        }
        let ports = 61_000..=61_999;
        let starts: BTreeSet<_> = (0..1_000).flat_map(|start| order(&ports, start, 3).next()).collect();
        let steps: BTreeSet<_> = (0..1_000).flat_map(|step| order(&ports, 0, step).nth(1)).collect();
        assert_eq!((starts.len(), steps.len()), (1_000, 400), "as many as have no factor in common with 1,000");
    }

    #[tokio::test]
    async fn the_last_free_port_is_found() {
        // One that no other test gives ports back of meanwhile, where there is one: only Linux has all of 127.0.0.0/8.
        let here = if cfg!(target_os = "linux") { Ipv4Addr::new(127, 1, 2, 3) } else { Ipv4Addr::LOCALHOST };
        // The others of the range are taken, by this test or by whoever has them.
        let own = std::net::UdpSocket::bind((here, 0)).unwrap();
        let last = own.local_addr().unwrap().port();
        let ports = last.saturating_sub(399).max(1)..=last;
        let taken: Vec<_> = ports.clone().filter_map(|port| std::net::UdpSocket::bind((here, port)).ok()).collect();
        let rules = Rules { allow_private: false, own: Vec::new(), relays: Vec::new(), ports };
        let rate = RelayRate { bytes: 1, packets: 1 };
        let harbour = Harbour::new([None, None], Arc::new(rules), Arc::default(), rate);
        assert!(harbour.bind(here.into()).is_none());
        drop(own);
        for _ in 0..20 {
            let found = harbour.bind(here.into()).and_then(|socket| socket.local_addr().ok());
            assert_eq!(found.map(|address| address.port()), Some(last), "of {}", taken.len());
        }
    }

    #[test]
    fn each_direction_passes_its_rate() {
        let now = Instant::now();
        let rate = RelayRate { bytes: 1_000, packets: 5 };
        let mut pipe = Pipe::new(rate, now);
        assert_eq!((0..10).filter(|_| pipe.take(10, now)).count(), 5, "packets");
        let mut pipe = Pipe::new(rate, now);
        assert_eq!((0..10).filter(|_| pipe.take(400, now)).count(), 2, "bytes");
        assert!(pipe.take(400, now + Duration::from_secs(1)));
    }
}
