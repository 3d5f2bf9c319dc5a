//! By which addresses of this machine is a peer reached? Its own, and those that it is told of.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
};

use rtc_shared::ifaces::ifaces;
use socket2::SockRef;

use super::rtc::candidate::Local;
use crate::PathKind;

/// Systems give 208 KiB, often: a burst overflows it, and what is lost from the end of a burst costs a reliable message most.
const SOCKET_BUFFER: usize = 1024 * 1024;
/// The most addresses of this machine that are used.
const MAX_ADDRESSES: usize = 12;

/// A socket, and the address of this machine that it is bound to.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) socket: Arc<tokio::net::UdpSocket>,
    pub(super) local: Local,
}

impl Listening {
    pub(super) fn new(socket: Arc<tokio::net::UdpSocket>, address: SocketAddr, rank: u16) -> Self {
        Self { socket, local: Local { kind: PathKind::Host, address, base: address, rank } }
    }
}

/// Listens on every interface, each at any port.
pub(super) fn listen() -> io::Result<Vec<Listening>> {
    let mut listening = Vec::new();
    let mut error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for (ip, rank) in addresses().into_iter().zip(0..) {
        match open(SocketAddr::new(ip, 0)) {
            Ok((socket, address)) => listening.push(Listening::new(Arc::new(socket), address, rank)),
            Err(failed) => error = failed,
        }
    }
    if listening.is_empty() { Err(error) } else { Ok(listening) }
}

/// Opens a socket, at any port if that is 0, and says where it is.
pub(super) fn open(address: SocketAddr) -> io::Result<(tokio::net::UdpSocket, SocketAddr)> {
    bind(address).inspect_err(|error| {
        tracing::debug!(%address, %error, "an address of this machine cannot be listened at");
    })
}

fn bind(address: SocketAddr) -> io::Result<(tokio::net::UdpSocket, SocketAddr)> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    let options = SockRef::from(&socket);
    // The system may give less, which is no reason to fail.
    let _ = options.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = options.set_send_buffer_size(SOCKET_BUFFER);
    let address = socket.local_addr()?;
    Ok((tokio::net::UdpSocket::from_std(socket)?, address))
}

/// Those of the machine's addresses by which others may reach it, and loopback last, so that peers on a machine without any
/// network reach each other.
pub(super) fn addresses() -> Vec<IpAddr> {
    let mut seen = BTreeSet::new();
    let all = ifaces().unwrap_or_else(|error| {
        tracing::debug!(%error, "the interfaces of this machine cannot be listed");
        Vec::new()
    });
    let ips = all.into_iter().filter_map(|interface| Some(interface.addr?.ip()));
    let mut addresses: Vec<IpAddr> = ips.filter(|ip| is_of_use(*ip) && seen.insert(*ip)).take(MAX_ADDRESSES).collect();
    addresses.push(Ipv4Addr::LOCALHOST.into());
    addresses
}

/// Link-local addresses mean nothing without the interface.
fn is_of_use(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || link_local)
}

/// From which of them the system sends to an address: where its interface is not among them, from any of the family.
pub(super) fn base(listening: &[Listening], to: SocketAddr) -> Option<SocketAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // Sends nothing: it is asked which way it would go.
    let ip = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(to)?;
        socket.local_addr()
    });
    let mut bases = listening.iter().map(|it| it.local.base);
    let routed = ip.ok().and_then(|ip| bases.clone().find(|base| base.ip() == ip.ip()));
    routed.or_else(|| {
        bases.find(|base| base.is_ipv4() == to.is_ipv4() && base.ip().is_loopback() == to.ip().is_loopback())
    })
}

/// The external addresses, and what was said of them: where a NAT in between passes the same ports on.
#[derive(Debug, Default)]
pub(super) struct External {
    ips: Vec<IpAddr>,
    told: BTreeSet<SocketAddr>,
}

impl External {
    pub(super) fn new(ips: Vec<IpAddr>) -> Self {
        Self { ips, told: BTreeSet::new() }
    }

    /// The addresses that follow from one of this machine's own, each once.
    pub(super) fn addresses(&mut self, host: &Local) -> Vec<Local> {
        let own = host.address;
        if host.kind != PathKind::Host || own.ip().is_loopback() {
            return Vec::new();
        }
        let fit = self.ips.iter().filter(|ip| ip.is_ipv4() == own.is_ipv4() && **ip != own.ip());
        let fit: Vec<_> = fit.map(|ip| SocketAddr::new(*ip, own.port())).collect();
        let new = fit.into_iter().filter(|address| self.told.insert(*address));
        new.map(|address| Local { kind: PathKind::ServerReflexive, address, ..*host }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(address: &str, kind: PathKind) -> Local {
        let address = SocketAddr::new(address.parse().expect("an address"), 5000);
        Local { kind, address, base: address, rank: 1 }
    }

    #[test]
    fn an_address_of_this_machine_is_told_by_its_external_one_too() {
        let ips = ["198.51.100.7", "2001:db8::7"].map(|ip| ip.parse().expect("an address"));
        let mut external = External::new(ips.to_vec());
        let host = |address| local(address, PathKind::Host);
        let own = host("10.0.0.5");
        let [told] = external.addresses(&own)[..] else { panic!("one of the same family") };
        assert_eq!((told.address.to_string().as_str(), told.kind), ("198.51.100.7:5000", PathKind::ServerReflexive));
        assert_eq!(told.base, own.address);
        assert!(external.addresses(&host("10.0.0.6")).is_empty(), "known already");
        assert_eq!(external.addresses(&host("fd00::5"))[0].address.ip().to_string(), "2001:db8::7");
        assert!(external.addresses(&host("127.0.0.1")).is_empty(), "loopback is behind no NAT");
        assert!(External::new(ips.to_vec()).addresses(&local("10.0.0.5", PathKind::Relay)).is_empty());
    }

    #[tokio::test]
    async fn every_machine_listens_at_loopback_at_least_and_sends_from_where_it_listens() {
        let listening = listen().expect("loopback");
        let last = listening.last().expect("one").local;
        assert!(last.address.ip().is_loopback() && last.address.port() != 0);
        assert!(listening.iter().all(|it| it.local.address == it.socket.local_addr().expect("bound")));
        let to = SocketAddr::from(([127, 0, 0, 1], 9));
        assert_eq!(base(&listening, to), Some(last.address));
        assert_eq!(open(last.address).expect_err("it is taken").kind(), io::ErrorKind::AddrInUse);
    }
}
