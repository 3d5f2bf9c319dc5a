//! Who has which allocations, and may they have one more?

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use coplay_proto::PeerId;
use stun::agent::TransactionId;
use tokio::time::Instant;

use super::tokens::{Refill, Tokens};
use crate::shares::household;

/// The most addresses that one allocation has permissions for at once, and channels to.
const MAX_REMOTES: usize = 64;
/// How long a permission and a channel last (RFC 8656, sections 9 and 12).
const PERMISSION: Duration = Duration::from_secs(5 * 60);
pub(crate) const CHANNEL: Duration = Duration::from_secs(10 * 60);

/// How many allocations there may be at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quotas {
    pub(crate) peer: u32,
    /// Of one address, however many ids it has credentials of: each visit of signaling is another.
    pub(crate) address: u32,
    pub(crate) total: u32,
}

/// All allocations of a server.
#[derive(Debug)]
pub(crate) struct Ledger {
    quotas: Quotas,
    packets: Refill,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    accounts: HashMap<SocketAddr, Account>,
    peers: HashMap<PeerId, u32>,
    /// By [`household`].
    addresses: HashMap<IpAddr, u32>,
    next: u64,
}

/// One allocation, by the client that has it.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    number: u64,
    pub(crate) peer: PeerId,
    pub(crate) username: String,
    /// The request that it was made for, which may come again if the answer was lost.
    pub(crate) request: TransactionId,
    /// Its relay, once there is one.
    pub(crate) relay: Option<SocketAddr>,
    permissions: Recent<IpAddr>,
    channels: Recent<SocketAddr>,
    packets: Tokens,
}

/// Keeps an allocation in the ledger. Its relay holds it.
#[derive(Debug)]
pub(crate) struct Lease {
    ledger: Arc<Ledger>,
    client: SocketAddr,
    number: u64,
}

impl Ledger {
    /// For so many allocations, each of which may send so many packets of whatever kind.
    pub(crate) fn new(quotas: Quotas, packets: Refill) -> Arc<Self> {
        Arc::new(Self { quotas, packets, books: Mutex::default() })
    }

    /// Enters an allocation, unless that is one too many.
    pub(crate) fn open(
        self: &Arc<Self>,
        client: SocketAddr,
        peer: PeerId,
        username: String,
        request: TransactionId,
        now: Instant,
    ) -> Option<Lease> {
        let mut books = self.lock();
        let address = household(client.ip());
        let held = books.peers.get(&peer).copied().unwrap_or(0);
        let nearby = books.addresses.get(&address).copied().unwrap_or(0);
        let Quotas { peer: most, address: most_nearby, total } = self.quotas;
        let is_full = held >= most || nearby >= most_nearby || books.accounts.len() >= total as usize;
        if is_full || books.accounts.contains_key(&client) {
            return None;
        }
        let number = books.next;
        books.next += 1;
        books.peers.insert(peer, held + 1);
        books.addresses.insert(address, nearby + 1);
        let (permissions, channels) = (Recent::new(PERMISSION), Recent::new(CHANNEL));
        let packets = Tokens::full(self.packets, now);
        let account = Account { number, peer, username, request, relay: None, permissions, channels, packets };
        books.accounts.insert(client, account);
        Some(Lease { ledger: self.clone(), client, number })
    }

    /// The allocation of a client.
    pub(crate) fn of(&self, client: SocketAddr) -> Option<Account> {
        self.lock().accounts.get(&client).cloned()
    }

    /// Whether one more packet of a client is looked at; `None` if it has no allocation.
    pub(crate) fn admit(&self, client: SocketAddr, now: Instant) -> Option<bool> {
        Some(self.lock().accounts.get_mut(&client)?.packets.take(1, self.packets, now))
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().accounts.len()
    }

    /// The names by which allocations were made for peers that `wanted` takes.
    pub(crate) fn names(&self, wanted: impl Fn(PeerId) -> bool) -> Vec<String> {
        let books = self.lock();
        let mut names: Vec<_> = books.accounts.values().filter(|account| wanted(account.peer)).collect();
        names.sort_by(|one, other| one.username.cmp(&other.username));
        names.dedup_by(|one, other| one.username == other.username);
        names.into_iter().map(|account| account.username.clone()).collect()
    }

    /// Strikes the allocations out that go by a name, whose relays are just being closed.
    pub(crate) fn close_named(&self, username: &str) {
        let mut books = self.lock();
        let named = books.accounts.iter().filter(|(_, account)| account.username == username);
        let clients: Vec<_> = named.map(|(client, _)| *client).collect();
        let closed: Vec<_> =
            clients.into_iter().filter_map(|client| Some((client, books.close(client, None)?))).collect();
        drop(books);
        for (client, account) in closed {
            account.ended(client);
        }
    }

    /// Strikes an allocation out whose relay is just being closed.
    pub(crate) fn close(&self, client: SocketAddr) {
        let closed = self.lock().close(client, None);
        if let Some(account) = closed {
            account.ended(client);
        }
    }

    /// Notes permissions for these addresses; false if that is too many.
    pub(crate) fn permit(&self, client: SocketAddr, addresses: &[IpAddr], now: Instant) -> bool {
        let mut books = self.lock();
        let Some(account) = books.accounts.get_mut(&client) else { return false };
        addresses.iter().all(|address| account.permissions.note(*address, now))
    }

    /// Notes a channel to this address; false if that is one too many.
    pub(crate) fn bind(&self, client: SocketAddr, address: SocketAddr, now: Instant) -> bool {
        let mut books = self.lock();
        let Some(account) = books.accounts.get_mut(&client) else { return false };
        account.permissions.note(address.ip(), now) && account.channels.note(address, now)
    }

    /// Held for a look-up only. Nothing in here panics; if it did, the books would still be whole.
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    /// Says that it is over, if it ever began.
    fn ended(&self, client: SocketAddr) {
        if let Some(relay) = self.relay {
            tracing::debug!(id = %self.peer, from = %client, %relay, "a TURN allocation ended");
        }
    }
}

impl Books {
    fn close(&mut self, client: SocketAddr, number: Option<u64>) -> Option<Account> {
        let closes = |account: &Account| number.is_none_or(|number| account.number == number);
        if !self.accounts.get(&client).is_some_and(closes) {
            return None;
        }
        let account = self.accounts.remove(&client)?;
        release(&mut self.peers, account.peer);
        release(&mut self.addresses, household(client.ip()));
        Some(account)
    }
}

/// One less; who has none is forgotten.
fn release<K: Eq + Hash>(held: &mut HashMap<K, u32>, of: K) {
    if let Entry::Occupied(mut count) = held.entry(of) {
        *count.get_mut() = count.get().saturating_sub(1);
        if *count.get() == 0 {
            count.remove();
        }
    }
}

impl Lease {
    /// Notes where the relay is.
    pub(crate) fn settle(&self, relay: SocketAddr) {
        let mut books = self.ledger.lock();
        let account = books.accounts.get_mut(&self.client).filter(|account| account.number == self.number);
        if let Some(account) = account {
            account.relay = Some(relay);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let closed = self.ledger.lock().close(self.client, Some(self.number));
        if let Some(account) = closed {
            account.ended(self.client);
        }
    }
}

/// Things that were noted a while ago at most.
#[derive(Clone, Debug)]
struct Recent<T> {
    lifetime: Duration,
    noted: HashMap<T, Instant>,
}

impl<T: Eq + Hash> Recent<T> {
    fn new(lifetime: Duration) -> Self {
        Self { lifetime, noted: HashMap::new() }
    }

    /// Notes a thing, again or for the first time; false if there are too many.
    fn note(&mut self, thing: T, now: Instant) -> bool {
        if self.noted.len() >= MAX_REMOTES && !self.noted.contains_key(&thing) {
            self.noted.retain(|_, since| now.duration_since(*since) < self.lifetime);
            if self.noted.len() >= MAX_REMOTES {
                return false;
            }
        }
        self.noted.insert(thing, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKETS: Refill = Refill { burst: 3, rate: 1 };

    fn client(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn ledger(peer: u32, total: u32) -> Arc<Ledger> {
        Ledger::new(Quotas { peer, address: total, total }, PACKETS)
    }

    fn open(ledger: &Arc<Ledger>, port: u16, peer: u128) -> Option<Lease> {
        let peer = PeerId::from_u128(peer);
        ledger.open(client(port), peer, format!("name of {peer}"), TransactionId::default(), Instant::now())
    }

    #[test]
    fn a_peer_has_so_many_and_all_together_have_so_many() {
        let ledger = ledger(2, 3);
        let mut leases: Vec<_> = [open(&ledger, 1, 7), open(&ledger, 2, 7)].into_iter().flatten().collect();
        assert_eq!(leases.len(), 2);
        assert!(open(&ledger, 3, 7).is_none(), "a third of one peer");
        leases.extend(open(&ledger, 3, 8));
        assert!(open(&ledger, 4, 9).is_none(), "a fourth of all");
        leases.remove(0);
        assert!(ledger.of(client(1)).is_none() && ledger.of(client(3)).is_some());
        assert!(open(&ledger, 2, 9).is_none(), "the client has one");
        assert!(open(&ledger, 1, 9).is_some_and(|_| ledger.count() == 3));
        leases.clear();
        let books = ledger.lock();
        assert_eq!((books.accounts.len(), books.peers.len(), books.addresses.len()), (0, 0, 0), "nothing is left");
    }

    #[test]
    fn an_address_has_so_many_whatever_ids_it_has() {
        let ledger = Ledger::new(Quotas { peer: 2, address: 3, total: 100 }, PACKETS);
        let of = |address: &str, peer| {
            let (peer, client) = (PeerId::from_u128(peer), address.parse().unwrap());
            ledger.open(client, peer, peer.to_string(), TransactionId::default(), Instant::now())
        };
        let mut leases: Vec<_> = (0..10).filter_map(|n: u16| of(&format!("192.0.2.1:{}", n + 1), n.into())).collect();
        assert_eq!(leases.len(), 3);
        assert!(of("[::ffff:192.0.2.1]:9", 9).is_none(), "the same by another socket");
        leases.extend(of("192.0.2.2:1", 20));
        assert_eq!(leases.len(), 4, "a neighbour has its own");
        let network: Vec<_> =
            (0..10).filter_map(|n: u16| of(&format!("[2001:db8::{n}]:1"), 30 + u128::from(n))).collect();
        assert_eq!(network.len(), 3, "an IPv6 network of 64 bits is one");
        leases.remove(0);
        leases.extend(of("192.0.2.1:9", 9));
        assert_eq!(ledger.count(), 7, "what ended makes room");
        drop((leases, network));
        assert!(ledger.lock().addresses.is_empty());
    }

    #[test]
    fn a_relay_that_closes_late_does_not_take_the_next_one_along() {
        let ledger = ledger(1, 1);
        let first = open(&ledger, 1, 7).unwrap();
        ledger.close(client(1));
        let second = open(&ledger, 1, 7).unwrap();
        drop(first);
        assert!(ledger.of(client(1)).is_some());
        second.settle(client(9));
        assert_eq!(ledger.of(client(1)).unwrap().relay, Some(client(9)));
        assert_eq!(ledger.names(|peer| peer == PeerId::from_u128(7)).len(), 1);
        assert!(ledger.names(|peer| peer == PeerId::from_u128(8)).is_empty());
        ledger.close_named(&ledger.of(client(1)).unwrap().username);
        assert_eq!(ledger.count(), 0);
    }

    #[test]
    fn an_allocation_sends_so_many_packets() {
        let ledger = ledger(1, 1);
        let now = Instant::now();
        assert_eq!(ledger.admit(client(1), now), None);
        let _lease = open(&ledger, 1, 7).unwrap();
        let admitted = (0..10).map(|_| ledger.admit(client(1), now)).filter(|admitted| *admitted == Some(true)).count();
        assert_eq!(admitted, 3);
        assert_eq!(ledger.admit(client(1), now + Duration::from_secs(2)), Some(true));
    }

    #[test]
    fn an_allocation_reaches_so_many_at_once() {
        let ledger = ledger(1, 1);
        let _lease = open(&ledger, 1, 7).unwrap();
        let now = Instant::now();
        let ip = |n: u8| IpAddr::from([198, 51, 100, n]);
        assert!((0..64).all(|n| ledger.permit(client(1), &[ip(n)], now)));
        assert!(!ledger.permit(client(1), &[ip(64)], now) && ledger.permit(client(1), &[ip(63)], now));
        assert!(!ledger.bind(client(1), SocketAddr::new(ip(64), 1), now), "a channel is a permission as well");
        assert!((0..64).all(|n| ledger.bind(client(1), SocketAddr::new(ip(1), n), now)));
        assert!(!ledger.bind(client(1), SocketAddr::new(ip(1), 64), now));
        assert!(ledger.permit(client(1), &[ip(64)], now + PERMISSION), "the others have ended");
        assert!(!ledger.permit(client(2), &[ip(1)], now));
    }
}
