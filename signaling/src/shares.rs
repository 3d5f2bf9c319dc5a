//! Which addresses are one household's, and how much has each of them?

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What counts as one address: an IPv4 address, or an IPv6 network of 64 bits, of which whoever has one has 2^64
/// addresses (RFC 6177).
pub(crate) fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// Counts something by address, up to a bound. It holds as many entries as there are [`Share`]s.
#[derive(Debug)]
pub(crate) struct PerAddress {
    most: u32,
    counts: Mutex<HashMap<IpAddr, u32>>,
}

/// One of what is counted; given back by dropping it.
#[derive(Debug)]
pub(crate) struct Share {
    of: Option<(Arc<PerAddress>, IpAddr)>,
}

impl PerAddress {
    pub(crate) fn new(most: u32) -> Arc<Self> {
        Arc::new(Self { most, counts: Mutex::default() })
    }

    /// One more for this address, if it may have one. Where addresses are not known, nothing is counted.
    pub(crate) fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Share> {
        let Some(address) = address.map(household) else { return Some(Share { of: None }) };
        let mut counts = self.lock();
        let count = counts.get(&address).copied().unwrap_or(0);
        if count >= self.most {
            return None;
        }
        counts.insert(address, count + 1);
        Some(Share { of: Some((self.clone(), address)) })
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Held for a look-up only.
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some((counted, address)) = self.of.take() else { return };
        if let Entry::Occupied(mut count) = counted.lock().entry(address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_and_gives_it_back() {
        let counted = PerAddress::new(2);
        let take = |address: &str| counted.take(Some(address.parse().unwrap()));
        let (one, two) = (take("192.0.2.1"), take("::ffff:192.0.2.1"));
        assert!(one.is_some() && two.is_some() && take("192.0.2.1").is_none());
        let (three, four) = (take("2001:db8::1"), take("2001:db8::ffff:0:0:1"));
        assert!(three.is_some() && four.is_some(), "another address");
        assert!(take("2001:db8::2").is_none() && take("2001:db8:0:1::1").is_some(), "64 bits are one");
        drop(one);
        assert!(take("192.0.2.1").is_some());
        assert!((0..10).all(|_| counted.take(None).is_some()), "not known, not counted");
        drop((two, three, four));
        assert!(counted.is_empty());
        let none = PerAddress::new(0);
        assert!(none.take(Some("192.0.2.1".parse().unwrap())).is_none());
        assert!(none.is_empty(), "who has nothing is not remembered");
    }
}
