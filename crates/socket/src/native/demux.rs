//! For which attempt is a datagram that came to a port that many share? For whom it names, answers, or may come from.
//!
//! ```text
//!   STUN  request      the attempt whose name is in it (RFC 8445, section 7.2.2)
//!         response     the attempt that asked, by the transaction
//!         indication   those to whom its address belongs
//!   DTLS  data         those of them who are done with the handshake: who lacks the keys drops it
//!         handshake    the newest of them
//! ```
//!
//! An address belongs to an attempt that sent it an answer that ICE gave, so a request from there was authentic, or DTLS, so
//! there is a path. It may belong to two: while a connection takes the place of another between the same two ports, both
//! carry. And who forges an address, in a request with the keys of a connection of its own, may disturb a handshake from there,
//! as whoever forges it can without a shared port, and nothing that is open.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use self::packet::{Packet, Transaction};

mod packet;

/// The most datagrams that wait for one attempt; more are lost, as with a socket of its own whose buffer is full. That is
/// 1 MiB of the largest.
const QUEUE: usize = 512;
/// The most requests of one attempt whose answers find it: what ICE asks in 2 s where there are most pairs of addresses.
const TRANSACTIONS: usize = 1024;
/// The most addresses of one attempt; those that were used longest ago are forgotten first.
const ADDRESSES: usize = 32;

/// All attempts that share sockets. Its clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Demux(Arc<Mutex<Table>>);

/// A datagram, and the address of ours that it came to.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) here: SocketAddr,
    pub(super) from: SocketAddr,
    pub(super) bytes: Bytes,
}

/// The place of one attempt, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    demux: Demux,
    number: u64,
    /// What came for it.
    pub(super) arrived: mpsc::Receiver<Arrived>,
    /// The address that was used last.
    last: Option<SocketAddr>,
}

#[derive(Debug, Default)]
struct Table {
    /// By their numbers, which are counted up.
    attempts: BTreeMap<u64, Entry>,
    newest: u64,
    ufrags: HashMap<Vec<u8>, u64>,
    transactions: HashMap<Transaction, u64>,
    addresses: HashMap<SocketAddr, Vec<u64>>,
}

#[derive(Debug)]
struct Entry {
    ufrag: Vec<u8>,
    queue: mpsc::Sender<Arrived>,
    /// The oldest first.
    transactions: VecDeque<Transaction>,
    addresses: VecDeque<SocketAddr>,
    /// Done with the handshake.
    secure: bool,
}

impl Demux {
    /// Another attempt, by the name that its peer calls it.
    pub(super) fn enter(&self, ufrag: &str) -> Seat {
        let (queue, arrived) = mpsc::channel(QUEUE);
        let mut table = self.table();
        table.newest += 1;
        let (number, ufrag) = (table.newest, ufrag.as_bytes().to_vec());
        table.ufrags.insert(ufrag.clone(), number);
        let (transactions, addresses) = (VecDeque::new(), VecDeque::new());
        table.attempts.insert(number, Entry { ufrag, queue, transactions, addresses, secure: false });
        drop(table);
        Seat { demux: self.clone(), number, arrived, last: None }
    }

    /// Hands a datagram that came to `here` to whom it is for; if there is nobody, it is dropped.
    pub(super) fn arrived(&self, here: SocketAddr, from: SocketAddr, bytes: &[u8]) {
        let Some(packet) = Packet::read(bytes) else { return };
        let table = self.table();
        let takers = table.takers(packet, from);
        if takers.is_empty() {
            return;
        }
        let bytes = Bytes::copy_from_slice(bytes);
        for taker in takers {
            // What it has no room for is lost.
            let _ = taker.queue.try_send(Arrived { here, from, bytes: bytes.clone() });
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Notes what the attempt sends by a shared socket, so that what comes back finds it.
    pub(super) fn sends(&mut self, to: SocketAddr, bytes: &[u8]) {
        match Packet::read(bytes) {
            Some(Packet::Request { transaction, .. }) => self.demux.table().asks(self.number, transaction),
            Some(Packet::Response { success: true, .. } | Packet::Handshake | Packet::Data)
                if self.last != Some(to) =>
            {
                self.last = Some(to);
                self.demux.table().has(self.number, to);
            }
            _ => {}
        }
    }

    /// The attempt is done with the handshake of DTLS.
    pub(super) fn secured(&self) {
        if let Some(entry) = self.demux.table().attempts.get_mut(&self.number) {
            entry.secure = true;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.demux.table().leave(self.number);
    }
}

impl Table {
    /// For whom a packet is that comes from there.
    fn takers(&self, packet: Packet<'_>, from: SocketAddr) -> Vec<&Entry> {
        let one = |number: Option<&u64>| number.and_then(|number| self.attempts.get(number)).into_iter().collect();
        let numbers = self.addresses.get(&from).map_or(&[][..], Vec::as_slice);
        let of_address = || numbers.iter().filter_map(|number| self.attempts.get(number));
        match packet {
            Packet::Request { ufrag, .. } => one(ufrag.and_then(|ufrag| self.ufrags.get(ufrag))),
            Packet::Response { transaction, .. } => one(self.transactions.get(&transaction)),
            Packet::Indication => of_address().collect(),
            Packet::Data if of_address().any(|attempt| attempt.secure) => {
                of_address().filter(|attempt| attempt.secure).collect()
            }
            Packet::Data | Packet::Handshake => one(numbers.iter().max()),
        }
    }

    fn asks(&mut self, number: u64, transaction: Transaction) {
        let Some(entry) = self.attempts.get_mut(&number) else { return };
        if self.transactions.insert(transaction, number).is_some() {
            // It asks again.
            return;
        }
        entry.transactions.push_back(transaction);
        if entry.transactions.len() > TRANSACTIONS
            && let Some(oldest) = entry.transactions.pop_front()
        {
            self.transactions.remove(&oldest);
        }
    }

    fn has(&mut self, number: u64, address: SocketAddr) {
        let Some(entry) = self.attempts.get_mut(&number) else { return };
        let known = entry.addresses.iter().position(|known| *known == address);
        entry.addresses.push_back(address);
        match known {
            Some(known) => _ = entry.addresses.remove(known),
            None => self.addresses.entry(address).or_default().push(number),
        }
        if entry.addresses.len() > ADDRESSES
            && let Some(oldest) = entry.addresses.pop_front()
        {
            self.forget(number, oldest);
        }
    }

    fn forget(&mut self, number: u64, address: SocketAddr) {
        if let Some(numbers) = self.addresses.get_mut(&address) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.addresses.remove(&address);
            }
        }
    }

    fn leave(&mut self, number: u64) {
        let Some(entry) = self.attempts.remove(&number) else { return };
        self.ufrags.remove(&entry.ufrag);
        for transaction in &entry.transactions {
            self.transactions.remove(transaction);
        }
        for address in entry.addresses {
            self.forget(number, address);
        }
    }
}

#[cfg(test)]
mod tests;
