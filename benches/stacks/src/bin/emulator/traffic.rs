//! To which path does an IP packet belong, and what is counted of it?

use std::net::Ipv4Addr;

use serde::Serialize;

/// IP's numbers of the protocols.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The two ends that talk, whichever of them sends: a pair of peers has one path, and no other pair's traffic stands in
/// its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Flow {
    protocol: u8,
    ends: [(Ipv4Addr, u16); 2],
}

impl Flow {
    /// Of what is no TCP or UDP over IPv4, all between two addresses is one flow.
    pub(super) fn of(packet: &[u8]) -> Self {
        let address = |at: usize| {
            let bytes: Option<[u8; 4]> = packet.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            Ipv4Addr::from(bytes.unwrap_or_default())
        };
        let protocol = protocol(packet);
        let ports = matches!(protocol, TCP | UDP);
        let header = usize::from(packet.first().unwrap_or(&0) & 0xf) * 4;
        let port = |at: usize| {
            let bytes: Option<[u8; 2]> = packet.get(at..at + 2).and_then(|bytes| bytes.try_into().ok());
            if ports { u16::from_be_bytes(bytes.unwrap_or_default()) } else { 0 }
        };
        let mut ends = [(address(12), port(header)), (address(16), port(header + 2))];
        ends.sort_unstable();
        Self { protocol, ends }
    }

    pub(super) const fn is_tcp(&self) -> bool {
        self.protocol == TCP
    }
}

/// To whom an IPv4 packet goes, by the last byte of the address.
pub(super) fn destination(packet: &[u8]) -> Option<u8> {
    packet.get(19).filter(|_| protocol(packet) != 0).copied()
}

/// The protocol of an IPv4 packet; 0 of what is none.
fn protocol(packet: &[u8]) -> u8 {
    if packet.first().is_some_and(|first| first >> 4 == 4) { packet.get(9).copied().unwrap_or_default() } else { 0 }
}

/// What was sent in one direction so far, whether or not it arrived. Bytes are those of IP packets, headers included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counters {
    pub(super) udp_packets: u64,
    pub(super) udp_bytes: u64,
    pub(super) tcp_packets: u64,
    pub(super) tcp_bytes: u64,
    /// Lost by chance, or in a burst.
    pub(super) lost: u64,
    /// Lost for want of room before the narrow place.
    pub(super) dropped: u64,
    /// The most bytes that waited on one path since this was last told.
    pub(super) most_queued: u64,
}

impl Counters {
    pub(super) fn count(&mut self, packet: &[u8]) {
        let (packets, bytes) = match protocol(packet) {
            TCP => (&mut self.tcp_packets, &mut self.tcp_bytes),
            UDP => (&mut self.udp_packets, &mut self.udp_bytes),
            _ => return,
        };
        *packets += 1;
        *bytes += packet.len() as u64;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An IPv4 packet with nothing in it but what is looked at, and so many bytes in all.
    pub(in super::super) fn packet(protocol: u8, from: (u8, u16), to: (u8, u16), bytes: usize) -> Vec<u8> {
        let mut packet = vec![0; bytes.max(24)];
        (packet[0], packet[9]) = (0x45, protocol);
        packet[12..16].copy_from_slice(&[10, 0, 0, from.0]);
        packet[16..20].copy_from_slice(&[10, 0, 0, to.0]);
        packet[20..22].copy_from_slice(&from.1.to_be_bytes());
        packet[22..24].copy_from_slice(&to.1.to_be_bytes());
        packet
    }

    #[test]
    fn both_directions_are_one_flow_and_other_ports_another() {
        let there = Flow::of(&packet(UDP, (1, 4000), (2, 5000), 60));
        assert_eq!(there, Flow::of(&packet(UDP, (2, 5000), (1, 4000), 900)));
        assert_ne!(there, Flow::of(&packet(UDP, (1, 4001), (2, 5000), 60)));
        let tcp = packet(TCP, (1, 4000), (2, 5000), 60);
        assert_ne!(there, Flow::of(&tcp));
        assert!(Flow::of(&tcp).is_tcp() && !there.is_tcp());
        assert_eq!((destination(&tcp), destination(&[0x60; 40])), (Some(2), None));
        // ICMP has no ports.
        assert_eq!(Flow::of(&packet(1, (1, 7), (2, 8), 60)), Flow::of(&packet(1, (2, 9), (1, 10), 60)));
    }

    #[test]
    fn what_is_no_packet_is_a_flow_of_its_own_kind_and_not_counted() {
        let mut counters = Counters::default();
        for garbage in [&[][..], &[0x45], &[0x60; 40], &[0x4f; 9]] {
            let _ = Flow::of(garbage);
            counters.count(garbage);
        }
        assert_eq!(counters, Counters::default());
        counters.count(&packet(UDP, (1, 1), (2, 2), 100));
        assert_eq!((counters.udp_packets, counters.udp_bytes, counters.tcp_bytes), (1, 100, 0));
    }
}
