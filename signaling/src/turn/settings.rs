//! What can an embedded TURN server be told before it starts?

use std::{net::IpAddr, ops::RangeInclusive, time::Duration};

use crate::Secret;

/// An embedded TURN server (RFC 8656, UDP): pairs of peers that cannot reach each other exchange their data through it.
/// It shares the UDP port of the embedded STUN server. Made for up to a few hundred pairs; coturn is for more.
#[derive(Clone, Debug)]
pub struct EmbeddedTurn {
    /// The secrets that credentials are signed with: the first is used for new ones, all are accepted, so that a secret
    /// can be exchanged while peers hold credentials by the old one. Default none: one is drawn at each start.
    pub secrets: Vec<Secret>,
    /// How long credentials last; what a peer relays ends with them, within a second. Default 12 hours.
    pub ttl: Duration,
    /// The UDP ports of the relays, one for each allocation; all of them must reach this machine. Default 61000 to 61999,
    /// above those that Linux gives to outgoing connections.
    pub ports: RangeInclusive<u16>,
    /// The addresses by which the internet reaches this machine, at most one of each family. Default none: the address
    /// that it listens at, or that its default route has, which is right only where no NAT is in between.
    pub external_ips: Vec<IpAddr>,
    /// Relay to private addresses and those of this machine too: for a network without internet, and tests. A peer can
    /// then send datagrams to whatever this machine reaches. Default false.
    pub allow_private: bool,
    /// Allocations at once of one peer. Default 16: a peer makes one for each peer it meets and each network interface,
    /// whether it comes to be used or not, and the other's is enough for a pair. More are refused with 486.
    pub peer_allocations: u32,
    /// Allocations at once of one address, or of one IPv6 network of 64 bits, whatever peers they are for: whoever comes to
    /// signaling again and again has credentials of as many peers. Default 64, for four players behind one router or more.
    /// More are refused with 486.
    pub address_allocations: u32,
    /// Allocations at once of all peers. Default 1,000. More are refused with 486.
    pub allocations: u32,
    /// What one allocation relays each second, either way; more is dropped. Default 250,000 bytes (2 Mbit/s) in 2,000
    /// packets.
    pub rate: RelayRate,
}

impl Default for EmbeddedTurn {
    fn default() -> Self {
        Self {
            secrets: Vec::new(),
            ttl: Duration::from_secs(12 * 3600),
            ports: 61_000..=61_999,
            external_ips: Vec::new(),
            allow_private: false,
            peer_allocations: 16,
            address_allocations: 64,
            allocations: 1_000,
            rate: RelayRate { bytes: 250_000, packets: 2_000 },
        }
    }
}

/// How much is relayed each second. As much may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayRate {
    /// Bytes of payload.
    pub bytes: u32,
    /// Datagrams.
    pub packets: u32,
}
