//! How much may come from one address? Buckets for what costs the server something, and a cap on what is open at once.
//!
//! An IPv6 address counts by its /64, which is what one customer has at least (RFC 6177, section 2). Loopback counts
//! not: whoever is on this machine can do worse.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::shares::household;

/// The most addresses that are remembered. Beyond it, those that are new share one set of buckets.
const MAX_ADDRESSES: usize = 65_536;
/// How often it is looked which of them can be forgotten, when there are that many.
const SWEEP: Duration = Duration::from_secs(1);

/// How much may come from one address (IPv6: one /64). Behind one there may be a school, so the defaults are for a few
/// hundred players each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressLimits {
    /// Connections at once that are no WebSocket (yet). Default 128. More are closed at once. Trusted proxies, which
    /// many come through, are not counted.
    pub connections: u32,
    /// Peers at once, each with a WebSocket. Default 512.
    pub peers: u32,
    /// Requests for a WebSocket, let in or not. Default 512 at once, then 600 a minute.
    pub joins: Pace,
    /// Rooms made. Default 64 at once, then 60 a minute.
    pub rooms: Pace,
    /// Codes, passwords and tickets that were wrong. Default 20 at once, then 10 a minute: at that, a guess at a code
    /// meets one of 10,000 rooms of 1.9e8 codes once in 30 hours.
    pub failures: Pace,
}

impl Default for AddressLimits {
    fn default() -> Self {
        Self {
            connections: 128,
            peers: 512,
            joins: Pace { burst: 512, per_minute: 600 },
            rooms: Pace { burst: 64, per_minute: 60 },
            failures: Pace { burst: 20, per_minute: 10 },
        }
    }
}

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// So often at once.
    pub burst: u32,
    /// So often a minute, after that.
    pub per_minute: u32,
}

/// What was done from where.
#[derive(Debug)]
pub(crate) struct Addresses {
    limits: AddressLimits,
    book: Mutex<Book>,
}

#[derive(Debug)]
struct Book {
    entries: HashMap<IpAddr, Entry>,
    /// Of those for whom there is no place.
    rest: Entry,
    swept: Instant,
}

#[derive(Debug)]
struct Entry {
    connections: u32,
    peers: u32,
    joins: Tokens,
    rooms: Tokens,
    failures: Tokens,
}

/// What is left of a pace.
#[derive(Clone, Copy, Debug)]
struct Tokens {
    left: f64,
    filled: Instant,
}

impl Addresses {
    pub(crate) fn new(limits: AddressLimits, now: Instant) -> Self {
        let book = Book { entries: HashMap::new(), rest: Entry::new(&limits, now), swept: now };
        Self { limits, book: Mutex::new(book) }
    }

    /// A connection from `address` that is no WebSocket yet; it counts until the guard is dropped. `None` if there are
    /// too many.
    pub(crate) fn connect(self: &Arc<Self>, address: IpAddr, now: Instant) -> Option<Open> {
        self.open(Some(address), now, Count::Connections)
    }

    /// Who asks for a WebSocket from `address`, which counts as such. `None` if that was asked for too often.
    pub(crate) fn visit(self: &Arc<Self>, address: Option<IpAddr>, now: Instant) -> Option<Visitor> {
        let pace = self.limits.joins;
        self.with(address, now, |entry| entry.joins.take(pace, now))
            .then(|| Visitor { addresses: self.clone(), address })
    }

    fn open(self: &Arc<Self>, address: Option<IpAddr>, now: Instant, count: Count) -> Option<Open> {
        let most = match count {
            Count::Connections => self.limits.connections,
            Count::Peers => self.limits.peers,
        };
        let counted = self.with(address, now, |entry| {
            let open = entry.count(count);
            *open < most && {
                *open += 1;
                true
            }
        });
        counted.then(|| Open { addresses: self.clone(), address, count })
    }

    /// What `change` says of the entry of `address`; yes for one that does not count.
    fn with(&self, address: Option<IpAddr>, now: Instant, change: impl FnOnce(&mut Entry) -> bool) -> bool {
        match address.and_then(key) {
            Some(key) => change(self.lock().entry(key, &self.limits, now)),
            None => true,
        }
    }

    /// Held for a look-up only. Nothing in here panics; if it did, the book would still be whole.
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody at an address who wants in.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    addresses: Arc<Addresses>,
    address: Option<IpAddr>,
}

impl Visitor {
    /// From where, if that is known.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// A place for its WebSocket, counted until the guard is dropped.
    pub(crate) fn stay(&self) -> Option<Open> {
        self.addresses.open(self.address, Instant::now(), Count::Peers)
    }

    /// Whether it may make a room, which counts as one made.
    pub(crate) fn may_open_room(&self) -> bool {
        let (pace, now) = (self.addresses.limits.rooms, Instant::now());
        self.addresses.with(self.address, now, |entry| entry.rooms.take(pace, now))
    }

    /// Whether it may try another code, password or ticket.
    pub(crate) fn may_guess(&self) -> bool {
        let (pace, now) = (self.addresses.limits.failures, Instant::now());
        self.addresses.with(self.address, now, |entry| entry.failures.left(pace, now) >= 1.0)
    }

    /// It tried one that was wrong.
    pub(crate) fn failed(&self) {
        let (pace, now) = (self.addresses.limits.failures, Instant::now());
        self.addresses.with(self.address, now, |entry| entry.failures.take(pace, now));
    }
}

/// Something open, which counts for its address until this is dropped.
#[derive(Debug)]
pub(crate) struct Open {
    addresses: Arc<Addresses>,
    address: Option<IpAddr>,
    count: Count,
}

#[derive(Clone, Copy, Debug)]
enum Count {
    Connections,
    Peers,
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(key) = self.address.and_then(key) else { return };
        let mut book = self.addresses.lock();
        let book = &mut *book;
        let entry = book.entries.get_mut(&key).unwrap_or(&mut book.rest);
        let open = entry.count(self.count);
        *open = open.saturating_sub(1);
    }
}

impl Book {
    fn entry(&mut self, key: IpAddr, limits: &AddressLimits, now: Instant) -> &mut Entry {
        if self.entries.len() >= MAX_ADDRESSES && !self.entries.contains_key(&key) {
            if now.duration_since(self.swept) >= SWEEP {
                self.swept = now;
                self.entries.retain(|_, entry| !entry.is_idle(limits, now));
            }
            if self.entries.len() >= MAX_ADDRESSES {
                return &mut self.rest;
            }
        }
        self.entries.entry(key).or_insert_with(|| Entry::new(limits, now))
    }
}

impl Entry {
    fn new(limits: &AddressLimits, now: Instant) -> Self {
        let full = |pace: Pace| Tokens { left: pace.burst.into(), filled: now };
        let AddressLimits { joins, rooms, failures, .. } = *limits;
        Self { connections: 0, peers: 0, joins: full(joins), rooms: full(rooms), failures: full(failures) }
    }

    fn count(&mut self, count: Count) -> &mut u32 {
        match count {
            Count::Connections => &mut self.connections,
            Count::Peers => &mut self.peers,
        }
    }

    /// Whether it is as good as a new one.
    fn is_idle(&self, limits: &AddressLimits, now: Instant) -> bool {
        let full = |tokens: Tokens, pace: Pace| tokens.left(pace, now) >= f64::from(pace.burst);
        self.connections == 0
            && self.peers == 0
            && full(self.joins, limits.joins)
            && full(self.rooms, limits.rooms)
            && full(self.failures, limits.failures)
    }
}

impl Tokens {
    fn left(&self, pace: Pace, now: Instant) -> f64 {
        let minutes = now.duration_since(self.filled).as_secs_f64() / 60.0;
        f64::from(pace.per_minute).mul_add(minutes, self.left).min(pace.burst.into())
    }

    /// Takes one, if there is one.
    fn take(&mut self, pace: Pace, now: Instant) -> bool {
        let left = self.left(pace, now);
        let may = left >= 1.0;
        if may {
            *self = Self { left: left - 1.0, filled: now };
        }
        may
    }
}

/// What an address counts as; `None` if it does not count.
fn key(address: IpAddr) -> Option<IpAddr> {
    let address = household(address);
    (!address.is_loopback() && address != household(Ipv6Addr::LOCALHOST.into())).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn addresses(joins: Pace) -> (Arc<Addresses>, Instant) {
        let now = Instant::now();
        (Arc::new(Addresses::new(AddressLimits { joins, peers: 2, ..AddressLimits::default() }, now)), now)
    }

    #[test]
    fn an_address_has_a_burst_and_then_its_pace() {
        let (addresses, start) = addresses(Pace { burst: 3, per_minute: 6 });
        let visit =
            |from: &str, seconds| addresses.visit(Some(at(from)), start + Duration::from_secs(seconds)).is_some();
        assert!((0..3).all(|_| visit("192.0.2.1", 0)) && !visit("192.0.2.1", 0), "three at once");
        assert!(visit("192.0.2.2", 0), "another address is another's");
        assert!(!visit("192.0.2.1", 9) && visit("192.0.2.1", 11) && !visit("192.0.2.1", 11), "one each ten seconds");
        assert!((0..3).all(|_| visit("192.0.2.1", 9999)) && !visit("192.0.2.1", 9999), "rest saves one burst");
    }

    #[test]
    fn ipv6_counts_by_the_64_and_mapped_ipv4_as_ipv4() {
        let (addresses, now) = addresses(Pace { burst: 1, per_minute: 1 });
        let visit = |from: &str| addresses.visit(Some(at(from)), now).is_some();
        assert!(visit("2001:db8:0:1::1") && !visit("2001:db8:0:1:ffff::2") && visit("2001:db8:0:2::1"));
        assert!(visit("192.0.2.1") && !visit("::ffff:192.0.2.1"));
        assert!((0..9).all(|_| visit("127.0.0.1") && visit("::1")), "loopback is not limited");
    }

    #[test]
    fn what_is_open_counts_until_it_is_closed() {
        let (addresses, now) = addresses(Pace { burst: 9, per_minute: 1 });
        let visitor = addresses.visit(Some(at("192.0.2.1")), now).unwrap();
        let (one, _two) = (visitor.stay().unwrap(), visitor.stay().unwrap());
        assert!(visitor.stay().is_none());
        drop(one);
        assert!(visitor.stay().is_some());
    }

    #[test]
    fn failures_stop_guessing_and_not_what_is_right() {
        let (addresses, now) = addresses(Pace { burst: 9, per_minute: 1 });
        let visitor = addresses.visit(Some(at("192.0.2.1")), now).unwrap();
        for _ in 0..AddressLimits::default().failures.burst {
            assert!(visitor.may_guess() && visitor.may_guess(), "asking costs nothing");
            visitor.failed();
        }
        assert!(!visitor.may_guess());
    }

    #[test]
    fn the_book_does_not_grow_without_end_and_forgets_who_rests() {
        let (addresses, start) = addresses(Pace { burst: 1, per_minute: 60 });
        let from = |n: u32| IpAddr::from((0x0b00_0000 + n).to_be_bytes());
        let most = u32::try_from(MAX_ADDRESSES).unwrap();
        for n in 0..most {
            assert!(addresses.visit(Some(from(n)), start).is_some());
        }
        assert!(addresses.visit(Some(from(most)), start).is_some(), "the rest shares a bucket");
        assert!(addresses.visit(Some(from(most + 1)), start).is_none());
        assert_eq!(addresses.lock().entries.len(), MAX_ADDRESSES);
        let later = start + Duration::from_secs(5);
        assert!(addresses.visit(Some(from(most + 1)), later).is_some());
        assert_eq!(addresses.lock().entries.len(), 1, "all others had rested");
    }
}
