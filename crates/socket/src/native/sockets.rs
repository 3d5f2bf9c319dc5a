//! From which sockets does one attempt send and receive? From its own, or from those that it shares with others.
//!
//! A TURN server has one allocation for each address that it is asked from (RFC 8656, section 7.2), so who shares sockets
//! has some of its own for that, at any port; its peer is not told of them.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use socket2::SockRef;

use super::{
    demux::{Arrived, Seat},
    gather::{Listening, base, open},
    rtc::{candidate::Local, connection::Transmit},
};

/// The largest datagram that is read: what SCTP sends, and what others may.
pub(super) const DATAGRAM: usize = 2048;
/// How many datagrams are taken from a socket, or messages from the caller, before others have a turn.
pub(super) const BATCH: usize = 64;

/// See the top of the file.
#[derive(Debug)]
pub(super) struct Sockets {
    /// Those that the peer is told of.
    hosts: Vec<Listening>,
    /// What comes to those, where others share them.
    shared: Option<Shared>,
    /// For relays alone, where the others are shared.
    relays: Vec<Listening>,
}

#[derive(Debug)]
struct Shared {
    seat: Seat,
    /// What is to be read next.
    next: Option<Arrived>,
}

/// Where there is something to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Shared,
    Own(usize),
}

impl Sockets {
    /// Of one attempt alone.
    pub(super) fn own(hosts: Vec<Listening>) -> Self {
        Self { hosts, shared: None, relays: Vec::new() }
    }

    /// That others share; what is for this one comes by its seat.
    pub(super) fn shared(hosts: Vec<Listening>, seat: Seat) -> Self {
        Self { hosts, shared: Some(Shared { seat, next: None }), relays: Vec::new() }
    }

    /// The addresses of this machine that the peer is told of.
    pub(super) fn hosts(&self) -> impl Iterator<Item = Local> {
        self.hosts.iter().map(|it| it.local)
    }

    /// Which of the machine's addresses a socket is at.
    pub(super) fn rank(&self, base: SocketAddr) -> u16 {
        let mut all = self.hosts.iter().chain(&self.relays);
        all.find(|it| it.local.base == base).map_or(0, |it| it.local.rank)
    }

    /// From which socket a server at this address is to be asked, for a relay or for how it sees the socket.
    pub(super) fn base(&mut self, to: SocketAddr, relay: bool) -> Option<SocketAddr> {
        let base = base(&self.hosts, to)?;
        if self.shared.is_none() || !relay {
            return Some(base);
        }
        let mut bases = self.relays.iter().map(|it| it.local.base);
        if let Some(own) = bases.find(|own| own.ip() == base.ip()) {
            return Some(own);
        }
        let (socket, address) = open(SocketAddr::new(base.ip(), 0)).ok()?;
        self.relays.push(Listening::new(Arc::new(socket), address, self.rank(base)));
        Some(address)
    }

    /// Where there is something to be read.
    pub(super) async fn readable(&mut self) -> Source {
        poll_fn(|cx| self.poll_readable(cx)).await
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<Source> {
        if let Some(Shared { seat, next }) = &mut self.shared {
            if next.is_none()
                && let Poll::Ready(arrived) = seat.arrived.poll_recv(cx)
            {
                *next = arrived;
            }
            if next.is_some() {
                return Poll::Ready(Source::Shared);
            }
        }
        let ready = self.polled().iter().position(|it| it.socket.poll_recv_ready(cx).is_ready());
        ready.map_or(Poll::Pending, |at| Poll::Ready(Source::Own(at)))
    }

    /// Reads a datagram: how long it is, the address of ours that it came to, and from where.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is no more; others are of one datagram.
    pub(super) fn receive(&mut self, source: Source, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, SocketAddr)> {
        match source {
            Source::Own(at) => {
                let listening = self.polled().get(at).ok_or(io::ErrorKind::WouldBlock)?;
                let (size, from) = listening.socket.try_recv_from(buffer)?;
                Ok((size, listening.local.base, from))
            }
            Source::Shared => {
                let arrived = self
                    .shared
                    .as_mut()
                    .and_then(|Shared { seat, next }| next.take().or_else(|| seat.arrived.try_recv().ok()));
                let Arrived { here, from, bytes } = arrived.ok_or(io::ErrorKind::WouldBlock)?;
                let size = bytes.len().min(buffer.len());
                buffer[..size].copy_from_slice(&bytes[..size]);
                Ok((size, here, from))
            }
        }
    }

    /// Sends a datagram; false if it does not go from a socket. What the system does not take is lost, as on any path.
    pub(super) fn send(&mut self, transmit: &Transmit) -> bool {
        let Transmit { from, to, bytes } = transmit;
        let Self { hosts, shared, relays } = self;
        let at = |listening: &&Listening| listening.local.base == *from;
        let host = hosts.iter().find(at);
        let Some(listening) = host.or_else(|| relays.iter().find(at)) else { return false };
        // Loopback leads nowhere but there.
        if from.ip().is_loopback() == to.ip().is_loopback() {
            if let (Some(_), Some(shared)) = (host, shared) {
                shared.seat.sends(*to, bytes);
            }
            let _ = SockRef::from(&*listening.socket).send_to(bytes, &(*to).into());
        }
        true
    }

    /// DTLS is done with its handshake.
    pub(super) fn secured(&self) {
        if let Some(shared) = &self.shared {
            shared.seat.secured();
        }
    }

    /// Those that no other attempt reads from.
    fn polled(&self) -> &[Listening] {
        if self.shared.is_some() { &self.relays } else { &self.hosts }
    }
}
