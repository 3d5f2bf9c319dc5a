//! What do STUN and TURN servers tell of this machine, and how do packets go by a relay of theirs? By `rtc-turn`.
//!
//! Each server is asked from one socket. A TURN server gives an address (RFC 8656); what is sent from there is wrapped, and what
//! comes there is unwrapped, once the peer's address is permitted. It renews what it was given by itself.

use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    time::Instant,
};

use bytes::BytesMut;
use rtc_shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use rtc_turn::client::{Client, ClientConfig, Event};
use sansio::Protocol;

use super::{connection::Transmit, dtls::Identity};

/// The most servers that are asked.
const MAX_SERVERS: usize = 8;
/// The most addresses of a peer that are permitted.
const MAX_PERMITTED: usize = 96;
/// How long a server may take for the first answer before it is asked again.
const PATIENCE_MS: u64 = 150;

/// What a server told.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::native) enum Told {
    /// By this address it sees the socket at `base`.
    Reflexive { address: SocketAddr, base: SocketAddr },
    /// It relays for this address.
    Relayed { address: SocketAddr, base: SocketAddr },
    /// It does not do what it was asked for; why.
    Failed(String),
}

/// What came by a relay.
#[derive(Debug)]
pub(in crate::native) struct Unwrapped {
    /// The relayed address that it came to.
    pub(in crate::native) here: SocketAddr,
    pub(in crate::native) from: SocketAddr,
    pub(in crate::native) bytes: BytesMut,
}

/// The servers of a connection.
#[derive(Default)]
pub(in crate::native) struct Servers {
    servers: Vec<Server>,
    peers: BTreeSet<SocketAddr>,
    told: VecDeque<Told>,
    unwrapped: VecDeque<Unwrapped>,
}

struct Server {
    client: Client,
    base: SocketAddr,
    address: SocketAddr,
    relayed: Option<SocketAddr>,
}

impl Servers {
    /// Asks a server from the socket at `base`: for a relayed address, with a name and a password, or for the one it sees.
    pub(in crate::native) fn ask(
        &mut self,
        now: Instant,
        identity: &Identity,
        base: SocketAddr,
        address: SocketAddr,
        relay: Option<&(String, String)>,
    ) {
        if self.servers.len() >= MAX_SERVERS {
            return;
        }
        let (username, password) = relay.cloned().unwrap_or_default();
        let server = address.to_string();
        let (stun, turn) = if relay.is_some() { (String::new(), server) } else { (server, String::new()) };
        let config = ClientConfig {
            stun_serv_addr: stun,
            turn_serv_addr: turn,
            local_addr: base,
            transport_protocol: TransportProtocol::UDP,
            username,
            password,
            rto_in_ms: PATIENCE_MS,
            ..ClientConfig::default()
        };
        let asked = Client::new(config, identity.crypto()).and_then(|mut client| {
            if relay.is_some() {
                client.allocate(now)?
            } else {
                client.send_binding_request(now)?
            };
            Ok(client)
        });
        match asked {
            Ok(client) => self.servers.push(Server { client, base, address, relayed: None }),
            Err(error) => self.told.push_back(Told::Failed(error.to_string())),
        }
    }

    /// Permits the peer to send from this address by what is relayed for us.
    pub(in crate::native) fn permit(&mut self, now: Instant, peer: SocketAddr) {
        if self.peers.len() < MAX_PERMITTED && self.peers.insert(peer) {
            for server in &mut self.servers {
                server.permit(now, peer);
            }
        }
    }

    /// Takes in what came to the socket at `here`, if it is of a server; else false.
    pub(in crate::native) fn handle_input(
        &mut self,
        now: Instant,
        here: SocketAddr,
        from: SocketAddr,
        bytes: &[u8],
    ) -> bool {
        let mut any = false;
        for server in self.servers.iter_mut().filter(|server| server.base == here && server.address == from) {
            // What it cannot read is no answer.
            let _ = server.client.handle_read(tagged(now, here, from, bytes));
            any = true;
        }
        if any {
            self.take(now);
        }
        any
    }

    /// Sends from a relayed address. False if it is none.
    pub(in crate::native) fn send(&mut self, now: Instant, transmit: &Transmit) -> bool {
        let Some(server) = self.servers.iter_mut().find(|server| server.relayed == Some(transmit.from)) else {
            return false;
        };
        if let Ok(mut relay) = server.client.relay(transmit.from) {
            // Not yet permitted: lost, as on any path.
            let _ = relay.send_to(now, &transmit.bytes, transmit.to);
        }
        true
    }

    pub(in crate::native) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.servers.iter_mut().find_map(|server| {
            let TaggedBytesMut { transport, message, .. } = server.client.poll_write()?;
            Some(Transmit { from: server.base, to: transport.peer_addr, bytes: message })
        })
    }

    pub(in crate::native) fn poll_told(&mut self) -> Option<Told> {
        self.told.pop_front()
    }

    /// What came by a relay.
    pub(in crate::native) fn receive(&mut self) -> Option<Unwrapped> {
        self.unwrapped.pop_front()
    }

    pub(in crate::native) fn poll_timeout(&mut self) -> Option<Instant> {
        self.servers.iter_mut().filter_map(|server| server.client.poll_timeout()).min()
    }

    pub(in crate::native) fn handle_timeout(&mut self, now: Instant) {
        for server in &mut self.servers {
            let _ = server.client.handle_timeout(now);
        }
        self.take(now);
    }

    /// Gives back what is relayed.
    pub(in crate::native) fn close(&mut self, now: Instant) {
        for server in &mut self.servers {
            if let Some(relayed) = server.relayed.take()
                && let Ok(mut relay) = server.client.relay(relayed)
            {
                let _ = relay.close(now);
            }
        }
    }

    fn take(&mut self, now: Instant) {
        let Self { servers, peers, told, unwrapped } = self;
        for server in servers {
            while let Some(event) = server.client.poll_event() {
                match event {
                    Event::BindingResponse(_, address) => {
                        told.push_back(Told::Reflexive { address, base: server.base });
                    }
                    Event::AllocateResponse(_, address) if server.relayed.is_none() => {
                        server.relayed = Some(address);
                        for peer in peers.iter() {
                            server.permit(now, *peer);
                        }
                        told.push_back(Told::Relayed { address, base: server.base });
                    }
                    Event::DataIndicationOrChannelData(_, from, bytes) => {
                        if let Some(here) = server.relayed {
                            unwrapped.push_back(Unwrapped { here, from, bytes });
                        }
                    }
                    Event::BindingError(_, error) | Event::AllocateError(_, error) => {
                        told.push_back(Told::Failed(format!("{}: {error}", server.address)));
                    }
                    // Who does not answer is asked no more; a peer that is not permitted is not reached.
                    _ => {}
                }
            }
        }
    }
}

impl Server {
    fn permit(&mut self, now: Instant, peer: SocketAddr) {
        let Some(relayed) = self.relayed.filter(|relayed| relayed.is_ipv4() == peer.is_ipv4()) else { return };
        if let Ok(mut relay) = self.client.relay(relayed) {
            let _ = relay.create_permission(now, peer);
        }
    }
}

fn tagged(now: Instant, here: SocketAddr, from: SocketAddr, bytes: &[u8]) -> TaggedBytesMut {
    let transport =
        TransportContext { local_addr: here, peer_addr: from, transport_protocol: TransportProtocol::UDP, ecn: None };
    TaggedBytesMut { now, transport, message: BytesMut::from(bytes) }
}
