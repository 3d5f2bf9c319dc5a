//! How does a connection to one peer come to be, carry messages, and end? ICE, DTLS and SCTP, one above the other.
//!
//! ```text
//!   new ──▶ describe ──▶ (signaling) ──▶ accept ──▶ handle_input, handle_timeout, send ──▶ close
//!                                          └─▶ poll_transmit, poll_event, receive: until there is nothing more
//! ```
//!
//! Pure: no sockets, no clock. What came, and what happened, is taken after each call that takes the time. An attempt to
//! connect has one of these; a new attempt, as after a change of networks, has another.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use coplay_proto::Lane;
use rtc_ice::candidate::Candidate;

use super::{
    candidate::{Local, Remote},
    description::{Description, DescriptionError, SCTP_PORT, Setup},
    dtls::{Dtls, Fingerprint, Heard, Identity},
    ice::{Ice, News},
    sctp::{Said, Sctp},
};
use crate::{Path, native::quiet::quiet};

/// The most bytes of messages that wait here to be taken. Beyond, they wait in SCTP, and so on the other side; but what waits
/// there is forgotten when the peer ends it.
const RECEIVED: usize = 256 * 1024;

/// The most checks that are kept until the peer's answer is here. Signaling takes longer than a direct way, and who answered
/// checks at once.
const EARLY: usize = 8;

/// A datagram that is to be sent.
#[derive(Debug)]
pub(in crate::native) struct Transmit {
    /// The address of ours that it goes from: of a socket, or one that is relayed.
    pub(in crate::native) from: SocketAddr,
    pub(in crate::native) to: SocketAddr,
    pub(in crate::native) bytes: BytesMut,
}

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::native) enum Event {
    /// There is a path.
    Reached,
    /// The peer is who it is to be, and messages can be sent. The first ones go along with the third packet of SCTP (RFC 9260,
    /// section 5.1), and need not wait for its handshake.
    Open,
    /// The peer ended it.
    Closed,
    /// It cannot be made, or is lost; why.
    Failed(String),
}

/// Why the peer's description was not accepted.
#[derive(Debug, thiserror::Error)]
pub(in crate::native) enum AcceptError {
    #[error(transparent)]
    Description(#[from] DescriptionError),
    #[error("it is the second of its kind")]
    Again,
    #[error("both sides want to begin DTLS, or to wait for it")]
    SameSetup,
    #[error("{0}")]
    Ice(String),
}

/// What the peer said of itself.
struct Peer {
    fingerprints: Arc<[Fingerprint]>,
    sctp_port: u16,
    /// Whether this side begins DTLS.
    client: bool,
    mid: String,
}

/// See the top of the file.
pub(in crate::native) struct Connection {
    identity: Arc<Identity>,
    ice: Ice,
    offers: bool,
    peer: Option<Peer>,
    dtls: Option<Dtls>,
    sctp: Option<Sctp>,
    /// Checks of a peer whose answer is still on its way: where they came to, from where, and what.
    early: Vec<(SocketAddr, SocketAddr, BytesMut)>,
    /// By which way the peer's last packet came, while none is chosen.
    heard: Option<(SocketAddr, SocketAddr)>,
    received: VecDeque<(Lane, Bytes)>,
    received_bytes: usize,
    out: VecDeque<Transmit>,
    events: VecDeque<Event>,
    open: bool,
    over: bool,
}

impl Connection {
    /// `offers`: whether this side makes the offer, and so decides on the path.
    ///
    /// # Errors
    /// The random numbers cannot be had.
    pub(in crate::native) fn new(now: Instant, identity: Arc<Identity>, offers: bool) -> Result<Self, String> {
        let _quiet = quiet();
        let ice = Ice::new(now, &identity, offers).map_err(|error| error.to_string())?;
        Ok(Self {
            identity,
            ice,
            offers,
            peer: None,
            dtls: None,
            sctp: None,
            early: Vec::new(),
            heard: None,
            received: VecDeque::new(),
            received_bytes: 0,
            out: VecDeque::new(),
            events: VecDeque::new(),
            open: false,
            over: false,
        })
    }

    /// What this side says of itself: the offer, or the answer to what was accepted.
    pub(in crate::native) fn describe(&self) -> Description {
        let (ufrag, password) = self.ice.credentials();
        let setup = match &self.peer {
            None => Setup::Either,
            Some(peer) if peer.client => Setup::Active,
            Some(_) => Setup::Passive,
        };
        Description {
            mid: self.mid().to_owned(),
            ufrag: ufrag.to_owned(),
            password: password.to_owned(),
            fingerprints: vec![self.identity.fingerprint()],
            setup,
            sctp_port: SCTP_PORT,
            candidates: Vec::new(),
        }
    }

    /// The name by which the peer's checks call this side (RFC 8445, section 7.2.2): another for each connection.
    pub(in crate::native) fn ufrag(&self) -> &str {
        self.ice.credentials().0
    }

    /// What a candidate of ours is told with.
    pub(in crate::native) fn tell(&self, local: &Local) -> String {
        local.json(self.mid(), self.ufrag())
    }

    fn mid(&self) -> &str {
        self.peer.as_ref().map_or("0", |peer| &peer.mid)
    }

    /// Takes the peer's description, an offer or an answer, and begins to connect. The addresses that it has are returned.
    pub(in crate::native) fn accept(&mut self, now: Instant, sdp: &str) -> Result<Vec<Remote>, AcceptError> {
        let _quiet = quiet();
        let said = Description::read(sdp)?;
        if self.peer.is_some() {
            return Err(AcceptError::Again);
        }
        // Who answers begins (RFC 8842, section 5.3), unless the offer wants to.
        let client = match (said.setup, self.offers) {
            (Setup::Active, _) => false,
            (Setup::Passive, _) | (Setup::Either, false) => true,
            (Setup::Either, true) => return Err(AcceptError::SameSetup),
        };
        self.ice.start(now, said.ufrag, said.password).map_err(|error| AcceptError::Ice(error.to_string()))?;
        self.peer =
            Some(Peer { fingerprints: said.fingerprints.into(), sctp_port: said.sctp_port, client, mid: said.mid });
        for (here, from, bytes) in std::mem::take(&mut self.early) {
            self.ice.handle_input(now, here, from, &bytes);
        }
        self.advance(now);
        Ok(said.candidates.iter().filter_map(|line| Remote::read_line(line)).collect())
    }

    /// Adds an address that this side can send from.
    pub(in crate::native) fn add_local(&mut self, now: Instant, local: Local) {
        let _quiet = quiet();
        self.ice.add_local(local);
        self.advance(now);
    }

    /// Adds an address of the peer. False if it is known already.
    pub(in crate::native) fn add_remote(&mut self, now: Instant, candidate: Candidate) -> bool {
        let _quiet = quiet();
        let added = self.ice.add_remote(candidate);
        self.advance(now);
        added
    }

    /// Takes in a datagram that came to `here`, a socket's address or one that is relayed.
    pub(in crate::native) fn handle_input(&mut self, now: Instant, here: SocketAddr, from: SocketAddr, bytes: &[u8]) {
        let _quiet = quiet();
        if self.over {
            return;
        }
        match bytes.first() {
            Some(0..=3) if self.peer.is_some() => self.ice.handle_input(now, here, from, bytes),
            Some(0..=3) if self.early.len() < EARLY => self.early.push((here, from, bytes.into())),
            Some(20..=63) if self.peer.is_some() && self.ice.is_peer(now, here, from) => {
                self.heard = Some((here, from));
                self.secure_input(now, bytes);
            }
            _ => return,
        }
        self.advance(now);
    }

    pub(in crate::native) fn handle_timeout(&mut self, now: Instant) {
        let _quiet = quiet();
        if self.over {
            return;
        }
        self.ice.handle_timeout(now);
        if let Some(dtls) = &mut self.dtls
            && let Err(error) = dtls.handle_timeout(now)
        {
            self.fail(error.to_string());
        }
        if let Some(sctp) = &mut self.sctp {
            sctp.handle_timeout(now);
        }
        self.advance(now);
    }

    pub(in crate::native) fn poll_timeout(&mut self) -> Option<Instant> {
        if self.over {
            return None;
        }
        let dtls = self.dtls.as_ref().and_then(Dtls::poll_timeout);
        let sctp = self.sctp.as_ref().and_then(Sctp::poll_timeout);
        self.ice.poll_timeout().into_iter().chain(dtls).chain(sctp).min()
    }

    /// Sends a message, once [`Event::Open`] came. On the reliable lane [`Self::has_room`] says whether there is room; on the
    /// other, what there is no room for is lost.
    pub(in crate::native) fn send(&mut self, now: Instant, lane: Lane, bytes: &Bytes) {
        let _quiet = quiet();
        if let Some(sctp) = self.sctp.as_mut().filter(|_| self.open && !self.over) {
            sctp.send(now, lane, bytes);
            self.flush(now);
        }
    }

    /// Whether another reliable message may be sent now.
    pub(in crate::native) fn has_room(&self) -> bool {
        self.open && self.sctp.as_ref().is_some_and(Sctp::has_room)
    }

    /// Whether nothing that was sent is still on its way.
    pub(in crate::native) fn is_idle(&self) -> bool {
        self.over || self.sctp.as_ref().is_none_or(Sctp::is_idle)
    }

    /// The next message that came.
    pub(in crate::native) fn receive(&mut self) -> Option<(Lane, Bytes)> {
        let _quiet = quiet();
        let next = self.received.pop_front();
        if let Some((_, bytes)) = &next {
            self.received_bytes -= bytes.len();
            self.take();
        }
        next
    }

    pub(in crate::native) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.pop_front()
    }

    pub(in crate::native) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// How the peer is reached, once that is decided.
    pub(in crate::native) fn path(&self, now: Instant) -> Option<Path> {
        self.ice.path(now)
    }

    /// Ends it: the peer is told, once by each layer. What was not acked may not arrive.
    pub(in crate::native) fn close(&mut self, now: Instant) {
        let _quiet = quiet();
        if let Some(sctp) = &mut self.sctp {
            sctp.close();
        }
        self.flush(now);
        if let Some(dtls) = &mut self.dtls {
            dtls.close(now);
        }
        self.transmit();
        self.over = true;
    }

    fn secure_input(&mut self, now: Instant, bytes: &[u8]) {
        let Some(dtls) = &mut self.dtls else { return };
        let heard = match dtls.handle_input(now, bytes) {
            Ok(heard) => heard,
            Err(error) => return self.fail(error.to_string()),
        };
        for heard in heard {
            match heard {
                Heard::Secure => {
                    let port = self.peer.as_ref().map_or(SCTP_PORT, |peer| peer.sctp_port);
                    self.sctp = Some(Sctp::connect(now, port, self.ice.round_trip(now)));
                    self.open = true;
                    self.events.push_back(Event::Open);
                }
                Heard::Data(packet) => {
                    if let Some(sctp) = &mut self.sctp {
                        sctp.handle_input(now, &packet);
                        self.take();
                    }
                }
                Heard::Closed => self.closed(),
            }
        }
    }

    /// Has each layer do what the one below made possible.
    fn advance(&mut self, now: Instant) {
        while let Some(news) = self.ice.poll_news() {
            match news {
                News::Reached => self.events.push_back(Event::Reached),
                News::Lost => self.fail("the peer does not answer ICE any more".into()),
            }
        }
        self.begin_dtls(now);
        self.flush(now);
    }

    /// Who begins DTLS does so as soon as there is a way; who waits is ready as soon as it knows for whom.
    fn begin_dtls(&mut self, now: Instant) {
        let Some(peer) = self.peer.as_ref().filter(|_| self.dtls.is_none() && !self.over) else { return };
        if peer.client && self.ice.route().is_none() {
            return;
        }
        let round_trip = self.ice.round_trip(now);
        match Dtls::new(now, &self.identity, peer.client, peer.fingerprints.clone(), round_trip) {
            Ok(dtls) => self.dtls = Some(dtls),
            Err(error) => self.fail(error.to_string()),
        }
    }

    /// Moves what each layer has to say to the one below, and out.
    fn flush(&mut self, now: Instant) {
        let Self { sctp, dtls, .. } = self;
        let mut closed = false;
        if let (Some(sctp), Some(dtls)) = (sctp, dtls) {
            while let Some(said) = sctp.poll() {
                match said {
                    Said::Packet(packet) => dtls.send(now, &packet),
                    Said::Closed => closed = true,
                }
            }
        }
        self.transmit();
        if closed {
            self.closed();
        }
    }

    fn transmit(&mut self) {
        while let Some((from, to, bytes)) = self.ice.poll_transmit() {
            self.out.push_back(Transmit { from, to, bytes });
        }
        if let Some(dtls) = &mut self.dtls {
            let route = self.ice.route().or(self.heard);
            while let Some(bytes) = dtls.poll_transmit() {
                // Without a way it is as lost as on one.
                if let Some((from, to)) = route {
                    self.out.push_back(Transmit { from, to, bytes });
                }
            }
        }
    }

    /// Takes messages from SCTP, as far as there is room.
    fn take(&mut self) {
        let Some(sctp) = &mut self.sctp else { return };
        while self.received_bytes < RECEIVED
            && let Some((lane, bytes)) = sctp.receive()
        {
            self.received_bytes += bytes.len();
            self.received.push_back((lane, bytes));
        }
    }

    fn closed(&mut self) {
        if !self.over {
            self.over = true;
            self.events.push_back(Event::Closed);
        }
    }

    fn fail(&mut self, why: String) {
        if !self.over {
            // Such as an alert that says so.
            self.transmit();
            self.over = true;
            self.events.push_back(Event::Failed(why));
        }
    }
}

#[cfg(test)]
mod tests;
