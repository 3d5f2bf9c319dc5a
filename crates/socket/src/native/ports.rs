//! At which UDP ports does a socket listen? All of its attempts at one, if it is given some; else each at ports of its own.
//!
//! ```text
//!   attempt ─┐                                  ┌─▶ attempt
//!   attempt ─┼─▶ one port, at every address ──▶ Demux ─▶ attempt
//!   attempt ─┘                                  └─▶ attempt
//! ```

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    task::{AbortHandle, yield_now},
    time::sleep,
};

use super::{
    demux::Demux,
    gather::{Listening, addresses, listen, open},
    sockets::{BATCH, DATAGRAM, Sockets},
};

/// How long the first attempt waits for a port, which a socket that was dropped just before gives back within a second, and
/// how often it looks.
const PATIENCE: Duration = Duration::from_millis(1250);
const LOOK: Duration = Duration::from_millis(50);

/// The ports of a socket; any, without a range.
#[derive(Debug)]
pub(super) struct Ports {
    range: Option<RangeInclusive<u16>>,
    port: Mutex<Port>,
    demux: Demux,
}

/// The port that all attempts share, once one needed it: it is kept as long as the socket lives.
#[derive(Debug, Default)]
struct Port {
    number: Option<u16>,
    bound: BTreeMap<IpAddr, Bound>,
}

/// A socket at one of the machine's addresses, and the task that reads from it.
#[derive(Debug)]
struct Bound {
    socket: Arc<UdpSocket>,
    reader: AbortHandle,
}

impl Ports {
    pub(super) fn new(range: Option<RangeInclusive<u16>>) -> Arc<Self> {
        Arc::new(Self { range, port: Mutex::default(), demux: Demux::default() })
    }

    /// The sockets of another attempt, which its peer calls by this name; or why there are none.
    pub(super) async fn sockets(&self, ufrag: &str) -> Result<Sockets, String> {
        let Some(range) = &self.range else {
            return listen().map(Sockets::own).map_err(|error| format!("no UDP socket can be opened: {error}"));
        };
        let mut looked = Duration::ZERO;
        loop {
            match self.share(range.clone(), &addresses()) {
                Ok(listening) => return Ok(Sockets::shared(listening, self.demux.enter(ufrag))),
                Err(why) if looked >= PATIENCE => return Err(why),
                Err(_) => {}
            }
            looked += LOOK;
            sleep(LOOK).await;
        }
    }

    /// The one port at those addresses of the machine that can be bound. Where it is new, it is bound; where it is gone and
    /// nobody uses it any more, it is given up.
    fn share(&self, range: RangeInclusive<u16>, ips: &[IpAddr]) -> Result<Vec<Listening>, String> {
        let mut port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        let number = match port.number {
            Some(number) => {
                port.bound.retain(|ip, bound| ips.contains(ip) || bound.is_used());
                let new: Vec<IpAddr> = ips.iter().copied().filter(|ip| !port.bound.contains_key(ip)).collect();
                for ip in new {
                    if let Ok((socket, here)) = open(SocketAddr::new(ip, number)) {
                        port.bound.insert(ip, self.read(socket, here));
                    }
                }
                number
            }
            None => {
                let (number, sockets) = choose(range, ips)?;
                port.bound = sockets.into_iter().map(|(socket, here)| (here.ip(), self.read(socket, here))).collect();
                *port.number.insert(number)
            }
        };
        let listening = ips.iter().zip(0..).filter_map(|(ip, rank)| {
            let socket = port.bound.get(ip)?.socket.clone();
            Some(Listening::new(socket, SocketAddr::new(*ip, number), rank))
        });
        Ok(listening.collect())
    }

    fn read(&self, socket: UdpSocket, here: SocketAddr) -> Bound {
        let socket = Arc::new(socket);
        let reader = tokio::spawn(read(socket.clone(), here, self.demux.clone())).abort_handle();
        Bound { socket, reader }
    }
}

impl Bound {
    /// By others than this and its reader.
    fn is_used(&self) -> bool {
        Arc::strong_count(&self.socket) > 2
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The first of the ports that is free at all addresses that can be bound at all, with sockets there.
fn choose(range: RangeInclusive<u16>, ips: &[IpAddr]) -> Result<(u16, Vec<(UdpSocket, SocketAddr)>), String> {
    let (first, last) = (*range.start(), *range.end());
    let mut failed = None;
    for number in range.filter(|number| *number != 0) {
        let mut sockets = Vec::new();
        let mut taken = false;
        for ip in ips {
            match open(SocketAddr::new(*ip, number)) {
                Ok(socket) => sockets.push(socket),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    taken = true;
                    break;
                }
                Err(error) => failed = Some(error),
            }
        }
        if !taken && !sockets.is_empty() {
            return Ok((number, sockets));
        }
    }
    let failed = failed.map_or_else(String::new, |error| format!(" ({error})"));
    Err(format!(
        "no UDP port from {first} to {last} is free{failed}: each socket with udp_ports takes one of them for all of its \
         peers, so end what else uses them, or give udp_ports another or more"
    ))
}

/// Hands what comes to a shared socket to the attempts, until the socket is no more.
async fn read(socket: Arc<UdpSocket>, here: SocketAddr, demux: Demux) {
    let mut buffer = vec![0; DATAGRAM];
    while socket.readable().await.is_ok() {
        for _ in 0..BATCH {
            match socket.try_recv_from(&mut buffer) {
                Ok((size, from)) => demux.arrived(here, from, buffer.get(..size).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Such as that nobody listened where something was sent to.
                Err(_) => {}
            }
        }
        // The attempts take their turn, so that what there is no room for now has room then.
        yield_now().await;
    }
}

#[cfg(test)]
mod tests;
