//! How much may be asked by those who have no allocation? So little for each network and in all that a flood of them,
//! from whatever addresses it claims to come, costs neither memory nor much time, nor makes this server flood another.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
};

use tokio::time::Instant;

use super::tokens::{Refill, Tokens};

/// How many budgets there are. Networks share them by a hash that nobody outside knows, so what is kept never grows.
const SLOTS: usize = 4_096;

/// Budgets by network (IPv4 by /24, IPv6 by /64), and one for all.
#[derive(Debug)]
pub(crate) struct Strangers {
    each: Refill,
    all: Refill,
    slots: Vec<Tokens>,
    total: Tokens,
    hash: RandomState,
}

impl Strangers {
    pub(crate) fn new(each: Refill, all: Refill, now: Instant) -> Self {
        let slots = vec![Tokens::full(each, now); SLOTS];
        Self { each, all, slots, total: Tokens::full(all, now), hash: RandomState::new() }
    }

    /// Whether one more is let through that claims to come from `from`.
    pub(crate) fn admit(&mut self, from: IpAddr, now: Instant) -> bool {
        let slot = self.hash.hash_one(network(from)) % SLOTS as u64;
        // The network first: one that asks too much does not use up what is there for the others.
        self.slots.get_mut(slot as usize).is_some_and(|slot| slot.take(1, self.each, now))
            && self.total.take(1, self.all, now)
    }
}

fn network(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => u64::from(ip.to_bits() >> 8),
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;

    const EACH: Refill = Refill { burst: 5, rate: 1 };

    #[test]
    fn a_network_has_a_budget_and_so_have_all() {
        let now = Instant::now();
        let mut strangers = Strangers::new(EACH, Refill { burst: 12, rate: 1 }, now);
        let admitted = |strangers: &mut Strangers, ip: [u8; 4], now| strangers.admit(IpAddr::from(ip), now);
        let from_one = (0..100).filter(|n| admitted(&mut strangers, [192, 0, 2, *n], now)).count();
        assert_eq!(from_one, 5, "all of a /24 together");
        let from_all = (0..100).filter(|n| admitted(&mut strangers, [10, 0, *n, 1], now)).count();
        assert_eq!(from_all, 7, "what was refused for its network cost the others nothing");
        assert!(!admitted(&mut strangers, [11, 0, 0, 1], now));
        assert!(admitted(&mut strangers, [11, 0, 0, 1], now + Duration::from_secs(1)));
    }

    #[test]
    fn ten_thousand_addresses_are_no_more_to_keep_than_one() {
        let now = Instant::now();
        let mut strangers = Strangers::new(EACH, Refill { burst: 1_000, rate: 1 }, now);
        let admitted = (0..10_000).filter(|n| strangers.admit(Ipv4Addr::from_bits(n << 8).into(), now)).count();
        assert_eq!(admitted, 1_000);
        assert_eq!(strangers.slots.len(), SLOTS);
    }

    #[test]
    fn networks_are_told_apart_by_what_a_provider_gives_out() {
        let v6 = |text: &str| network(text.parse().unwrap());
        assert_eq!(v6("2001:db8::1"), v6("2001:db8::ffff:1"));
        assert_ne!(v6("2001:db8::1"), v6("2001:db8:0:1::1"));
        assert_eq!(v6("::ffff:192.0.2.1"), v6("192.0.2.200"));
    }
}
